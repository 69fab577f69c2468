"""What a report says of its numbers: plain sentences, each made from the scores it tells of."""

from collections.abc import Sequence

from dptrain.scores import Score

ALL, INSIDE, CONFIDENT = "all pixels", "inside grains", "labels with confidence 0.8 and above"
WRONG, WRONG_DEG = "wrong labels", 3.0
SEEN, UNSEEN, UNSEEN_INSIDE = "grains trained on", "grains not trained on", "grains not trained on, inside"

MEANING = {
    ALL: "every pixel of the scan",
    INSIDE: "pixels whose exact truth gives one grain more than 97 % of the pattern",
    CONFIDENT: "pixels whose template-matching label has confidence 0.8 or above",
    WRONG: f"pixels whose template-matching label is more than {WRONG_DEG:g} degrees from the exact truth",
    SEEN: "pixels of grains of which at least one pixel is in the training split",
    UNSEEN: "pixels of grains of which no pixel is in the training split",
    UNSEEN_INSIDE: "the same, inside the grains only",
}

FEW_GRAINS = 20
"""With fewer grains a sentence warns that these, and not the pixels, are the independent cases."""


def percent(share: float) -> str:
    """A share from 0 to 1 as a percentage."""
    return f"{100 * share:.1f} %"


def pick(scores: Sequence[Score], answer: str, pixels: str) -> Score | None:
    """The score of an answer over a group of pixels, if there is one with pixels."""
    found = (one for one in scores if one.answer == answer and one.pixels == pixels and one.n_pixels)
    return next(found, None)


def accuracy_sentences(scores: Sequence[Score], guess: Score | None) -> list[str]:
    """What scores against the exact truth say: over all pixels, then on grains that were not trained on."""
    said = []
    for pixels in (ALL, INSIDE):
        network, labels = pick(scores, "network", pixels), pick(scores, "labels", pixels)
        if network:
            said.append(_compared(network, labels, where=f"Over {_counted(network)} ({pixels})"))
    network, labels = pick(scores, "network", UNSEEN), pick(scores, "labels", UNSEEN)
    if not network:
        return [
            *said,
            "Every grain of this scan has a pixel in the training split, so nothing here tells how the network does on "
            "grains it has not seen. The numbers above include pixels it was trained on.",
        ]
    honest = _compared(network, labels, where=f"On grains it was not trained on ({_counted(network)})")
    said.append(honest + (f" {_guess(guess)}" if guess else ""))
    if network.n_grains is not None and network.n_grains < FEW_GRAINS:
        said.append(
            f"The pixels of a grain share its orientation: {network.n_grains} such grains are {network.n_grains} "
            f"independent cases, not {network.n_pixels}. Other grains could give quite other numbers."
        )
    return said


def agreement_sentences(scores: Sequence[Score], guess: Score | None) -> list[str]:
    """What is known without a truth: how far the network is from the labels, which can be wrong themselves."""
    said = [
        "The exact truth of this scan is not known. What follows is the disorientation between network and "
        "template-matching labels; where they differ, either can be wrong, and where they agree, both can."
    ]
    for pixels in (ALL, CONFIDENT, UNSEEN):
        one = pick(scores, "network against labels", pixels)
        if one:
            said.append(
                f"{_counted(one)} ({pixels}): {percent(one.within_5_deg)} agree within 5 degrees, median "
                f"{one.median_deg:.2f} degrees."
            )
    return [*said, _guess(guess)] if guess else said


def head_cards(scores: Sequence[Score], guess: Score | None) -> list[tuple[str, str]]:
    """The three numbers to see first: network and labels where the network was not trained, and a random guess."""
    pixels = UNSEEN if pick(scores, "network", UNSEEN) else ALL
    shown = []
    for answer in ("network", "labels", "network against labels"):
        one = pick(scores, answer, pixels if answer != "network against labels" else ALL)
        if one:
            shown.append((percent(one.within_5_deg), f"{answer}: within 5 degrees, {one.pixels} ({_counted(one)})"))
    if guess and shown:
        shown.append(
            (percent(guess.within_5_deg), f"random guess: within 5 degrees; {guess.mean_deg:.1f}° off on average")
        )
    return shown


def _compared(network: Score, labels: Score | None, *, where: str) -> str:
    text = f"{where} the network is within 5 degrees of the truth for {percent(network.within_5_deg)} of them, "
    text += f"median {network.median_deg:.2f} degrees"
    if labels is None:
        return text + "."
    return (
        text
        + f"; the labels of the same pixels for {percent(labels.within_5_deg)}, median {labels.median_deg:.2f} degrees."
    )


def _guess(guess: Score) -> str:
    return (
        f"A uniform random guess under this symmetry is off by {guess.mean_deg:.1f} degrees on average and within 5 "
        f"degrees for {percent(guess.within_5_deg)} (computed from random pairs, fixed seed)."
    )


def _counted(one: Score) -> str:
    grains = "" if one.n_grains is None else f" of {one.n_grains} grain{'s' if one.n_grains != 1 else ''}"
    return f"{one.n_pixels} pixel{'s' if one.n_pixels != 1 else ''}{grains}"
