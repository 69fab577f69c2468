"""The results of a study read back, averaged over seeds, and put into sentences."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dpcurate.errors import InputError
from dptrain.scores import Score
from dptrain.study_folder import RESULTS_FILE
from dptrain.study_trial import HELD_OUT, TRAINING

NUMBER_WORDS = {1: "One seed", 2: "Two seeds", 3: "Three seeds"}

AT_CHANCE_DEG = 3.0
"""A mean disorientation less than this below a random guess's is told as no better: held-out grains are so few that
their mean alone is not known better."""


TEXT, WHOLE = ("kind", "pixels"), ("seed", "n_labels", "steps", "n_pixels", "n_grains")
"""Columns that are text, and whole numbers; all others are numbers."""


@dataclass(frozen=True)
class Result:
    """One trial over one group of pixels."""

    kind: str
    seed: int
    min_confidence: float
    n_labels: int
    label_purity: float
    steps: int
    pixels: str
    n_pixels: int
    n_grains: int
    within_1_deg: float
    within_3_deg: float
    within_5_deg: float
    within_10_deg: float
    median_deg: float
    mean_deg: float


def read_results(folder: Path) -> list[Result]:
    """All results of a study; InputError when the table is missing or damaged."""
    path = folder / RESULTS_FILE
    try:
        with path.open(newline="", encoding="utf-8") as stream:
            rows = list(csv.DictReader(stream))
        return [Result(**{name: _read(name, row[name]) for name in Result.__dataclass_fields__}) for row in rows]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: not the results of a study ({error}); run the study again, it goes on.") from error


def _read(name: str, text: str) -> Any:
    return text if name in TEXT else int(text) if name in WHOLE else float(text)


def select(results: Sequence[Result], *, kind: str, pixels: str, min_confidence: float | None = None) -> list[Result]:
    """Results of one kind over one group, by threshold and seed."""
    found = [
        one
        for one in results
        if one.kind == kind and one.pixels == pixels and min_confidence in (None, one.min_confidence)
    ]
    return sorted(found, key=lambda one: (one.min_confidence, one.seed))


def mean(results: Sequence[Result], name: str) -> float:
    """Mean of one number over results."""
    return float(np.mean([getattr(one, name) for one in results]))


def verdicts(results: Sequence[Result], guess: Score | None) -> list[str]:
    """What the study says, first on held-out grains, then on the grains of the training split."""
    seeds = sorted({one.seed for one in results})
    n = len(seeds)
    counted = NUMBER_WORDS.get(n, f"{n} seeds")
    said = [
        f"{counted}: means and single values are shown, no interval. The largest difference between two seeds of one "
        f"setting is {spread(results, pixels=HELD_OUT):.1f} degrees on held-out grains and "
        f"{spread(results, pixels=TRAINING):.1f} degrees on grains of the training split."
        if n > 1
        else f"{counted}: how much a result changes with the seed is not known."
    ]
    for pixels in (HELD_OUT, TRAINING):
        said += _group_verdicts(results, guess, pixels=pixels)
    return said


def spread(results: Sequence[Result], *, pixels: str) -> float:
    """Largest difference of the mean disorientation between seeds of one setting, degrees."""
    settings: dict[tuple[str, float], list[float]] = {}
    for one in results:
        if one.pixels == pixels:
            settings.setdefault((one.kind, one.min_confidence), []).append(one.mean_deg)
    return max(max(values) - min(values) for values in settings.values())


def _group_verdicts(results: Sequence[Result], guess: Score | None, *, pixels: str) -> list[str]:
    """Sentences on one group of pixels."""
    labels = select(results, kind="threshold", pixels=pixels)
    thresholds = sorted({one.min_confidence for one in labels})
    by_threshold = {
        limit: select(labels, kind="threshold", pixels=pixels, min_confidence=limit) for limit in thresholds
    }
    best = min(thresholds, key=lambda limit: mean(by_threshold[limit], "mean_deg"))
    lowest = thresholds[0]
    where = pixels[0].upper() + pixels[1:]
    said = [
        f"{where}: with all labels ({100 * mean(by_threshold[lowest], 'label_purity'):.0f} % right) the mean "
        f"disorientation is {mean(by_threshold[lowest], 'mean_deg'):.1f} degrees and "
        f"{100 * mean(by_threshold[lowest], 'within_5_deg'):.1f} % of the pixels are within 5 degrees; "
        + (
            "no threshold did better."
            if best == lowest
            else f"the best threshold, {best:g} ({100 * mean(by_threshold[best], 'label_purity'):.0f} % right), gave "
            f"{mean(by_threshold[best], 'mean_deg'):.1f} degrees and "
            f"{100 * mean(by_threshold[best], 'within_5_deg'):.1f} %."
        )
    ]
    everything = [one for one in results if one.pixels == pixels]
    if guess is not None and min(one.mean_deg for one in everything) > guess.mean_deg - AT_CHANCE_DEG:
        said.append(
            f"{where}: no run was more than {AT_CHANCE_DEG:g} degrees better than a random guess ({guess.mean_deg:.1f} "
            "degrees on average), so nothing can be said here about the quality of labels. Longer training or more "
            "grains are needed."
        )
        return said
    for limit in thresholds[1:]:
        control = select(results, kind="random", pixels=pixels, min_confidence=limit)
        said.append(
            f"{where}, {_compared(by_threshold[limit], control, f'labels above {limit:g}', 'as many random ones')}"
        )
    for limit in dict.fromkeys((lowest, best)):
        exact = select(results, kind="exact", pixels=pixels, min_confidence=limit)
        name = f"exact labels of the patterns above {limit:g}"
        said.append(f"{where}, {_compared(exact, by_threshold[limit], name, 'their labels')}")
    return said


def _compared(first: Sequence[Result], second: Sequence[Result], name: str, other: str) -> str:
    """One sentence on two settings, seed by seed; the seeds must agree on the sign before one is called better."""
    gain = {one.seed: two.mean_deg - one.mean_deg for one, two in zip(first, second, strict=True)}
    values = ", ".join(f"{value:+.1f}" for value in gain.values())
    text = f"{name} against {other}: mean disorientation {mean(first, 'mean_deg'):.1f} against "
    text += f"{mean(second, 'mean_deg'):.1f} degrees (better by {values} degrees, seed by seed)"
    if len(gain) > 1 and all(value > 0 for value in gain.values()):
        return f"{text}; better with every seed."
    if len(gain) > 1 and all(value < 0 for value in gain.values()):
        return f"{text}; worse with every seed."
    return f"{text}; the seeds do not agree." if len(gain) > 1 else f"{text}."
