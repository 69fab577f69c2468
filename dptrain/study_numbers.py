"""The results of a study read back, averaged over seeds, and put into sentences."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dpcurate.errors import InputError
from dptrain.study_folder import RESULTS_FILE
from dptrain.study_trial import HELD_OUT, TRAINING

NUMBER_WORDS = {1: "One seed", 2: "Two seeds", 3: "Three seeds"}

CHANCE_SIGMAS = 2.0
"""A mean disorientation must lie so many standard deviations of a guess below it to be told as better than a guess."""

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


@dataclass(frozen=True)
class Chance:
    """Mean and standard deviation of a uniform random guess's disorientation, degrees."""

    mean_deg: float
    sd_deg: float

    def limit_deg(self, n_grains: int) -> float:
        """Mean disorientation below which ``n_grains`` grains, each guessed as a whole, are hardly found by chance."""
        return self.mean_deg - CHANCE_SIGMAS * self.sd_deg / n_grains**0.5


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


def verdicts(results: Sequence[Result], chance: Chance | None) -> list[str]:
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
        said += _group_verdicts(results, chance, pixels=pixels)
    return said


def spread(results: Sequence[Result], *, pixels: str) -> float:
    """Largest difference of the mean disorientation between seeds of one setting, degrees."""
    settings: dict[tuple[str, float], list[float]] = {}
    for one in results:
        if one.pixels == pixels:
            settings.setdefault((one.kind, one.min_confidence), []).append(one.mean_deg)
    return max(max(values) - min(values) for values in settings.values())


def _group_verdicts(results: Sequence[Result], chance: Chance | None, *, pixels: str) -> list[str]:
    """Sentences on one group of pixels."""
    where = pixels[0].upper() + pixels[1:]
    everything = [one for one in results if one.pixels == pixels]
    if chance is not None and all(one.mean_deg > chance.limit_deg(one.n_grains) for one in everything):
        fewest = min(one.n_grains for one in everything)
        return [
            f"{where}: no run can be told from a random guess, which is off by {chance.mean_deg:.1f} degrees on "
            f"average and by less than {chance.limit_deg(fewest):.1f} on so few grains ({fewest}) by rare luck only. "
            "So nothing can be said here about the quality of labels; longer training or more grains are needed."
        ]
    labels = select(results, kind="threshold", pixels=pixels)
    thresholds = sorted({one.min_confidence for one in labels})
    by_threshold = {
        limit: select(labels, kind="threshold", pixels=pixels, min_confidence=limit) for limit in thresholds
    }
    best = min(thresholds, key=lambda limit: mean(by_threshold[limit], "mean_deg"))
    lowest = thresholds[0]
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
    for limit in thresholds[1:]:
        control = select(results, kind="random", pixels=pixels, min_confidence=limit)
        said.append(
            f"{where}, "
            + _compared(by_threshold[limit], control, name=f"labels above {limit:g}", other="as many random ones")
        )
    for limit in dict.fromkeys((lowest, best)):
        exact = select(results, kind="exact", pixels=pixels, min_confidence=limit)
        name = f"exact labels of the patterns above {limit:g}" if limit else "exact labels of all patterns"
        said.append(f"{where}, {_compared(exact, by_threshold[limit], name=name, other='their labels')}")
    return said


def _compared(first: Sequence[Result], second: Sequence[Result], *, name: str, other: str) -> str:
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
