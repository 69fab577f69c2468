"""The files of a dataset that people and search engines read: its cards and its Croissant metadata."""

import hashlib
from collections.abc import Mapping

from dpcurate.card import card_text, rules_of
from dpcurate.card_examples import best_and_worst, examples, repairs_of, some_repairs
from dpcurate.card_figures import confidence_picture, density_picture, examples_picture, kept_picture
from dpcurate.card_page import Picture, page
from dpcurate.choosing import Story
from dpcurate.croissant import CROISSANT, croissant_text
from dpcurate.labels import Labels
from dpcurate.store import Dataset
from dpcurate.verifying import CARD

PAGE = "card.html"

CIRCLES = "Counts to the power 0.5, blurred; circles: where the label predicts spots."


def documents(dataset: Dataset, *, labels: Labels, story: Story | None) -> Mapping[str, str]:
    """Text of each file by its name; ``story`` is what became of the scans, None where there are none."""
    manifest = dataset.manifest
    card = card_text(manifest, labels)
    digest = hashlib.sha256(card.encode()).hexdigest()
    metadata = croissant_text(manifest, license_name=rules_of(manifest).license, card=card, card_sha256=digest)
    return {CARD: card, PAGE: page(card, pictures(dataset, labels, story)), CROISSANT: metadata}


def pictures(dataset: Dataset, labels: Labels, story: Story | None) -> dict[str, list[Picture]]:
    """The pictures of a card by the heading that they stand under."""
    manifest = dataset.manifest
    shows = (
        "Density of crystal directions along the beam over the fundamental sector, smoothed by 5 degrees, upper sphere."
    )
    found = {"Phases": [Picture(density_picture(manifest, labels), shows)]}
    if story is None:
        return found
    found["Kept and dropped"] = [
        Picture(kept_picture(story, scan=number), f"What was kept of {index.info['scan']['path']}, with its grains.")
        for number, index in enumerate(story.indexes)
    ]
    repairs = repairs_of(manifest, labels, story)
    best, worst = best_and_worst(labels)
    kinds = [
        (best, f"The most confident labels, of a grain each. {CIRCLES}"),
        (worst, f"The least confident labels. {CIRCLES}"),
        (
            some_repairs(repairs),
            f"Some of {len(repairs.row)} repaired labels: not what their single patterns match best, which the crosses "
            f"show. {CIRCLES}",
        ),
    ]
    found["Confidence of the labels"] = [
        Picture(confidence_picture(story), "Confidence of the labels that were kept and of those that were not."),
        *(
            Picture(examples_picture(manifest, examples(dataset, labels, rows, repairs)), words)
            for rows, words in kinds
            if len(rows)
        ),
    ]
    return found
