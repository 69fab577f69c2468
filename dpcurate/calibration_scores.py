"""How well a confidence keeps its word: reliability diagrams, calibration error, risk against coverage."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]
Right = NDArray[np.bool_]

RIGHT_DEG = 3.0
"""A label is right within this angle of the truth."""

BINS = 10
"""Equal bins of confidence from 0 to 1."""

RESAMPLED = 500
"""Draws of grains for an interval."""


@dataclass(frozen=True)
class Reliability:
    """A reliability diagram; bins without labels are left out."""

    confidence: Values
    """Mean confidence of each bin, (b,)."""
    right: Values
    """Share of right labels, (b,)."""
    share: Values
    """Of all labels, (b,)."""

    @property
    def error(self) -> float:
        """Expected calibration error: mean distance of the two over all labels."""
        return float((self.share * np.abs(self.right - self.confidence)).sum())


def reliability_diagram(confidence: Values, right: Right) -> Reliability:
    """Confidence and share of right labels in `BINS` equal bins, for labels (n,)."""
    bins = np.clip((confidence * BINS).astype(int), 0, BINS - 1)
    number = np.bincount(bins, minlength=BINS)
    there = number > 0
    mean = np.bincount(bins, confidence, minlength=BINS)[there] / number[there]
    share = np.bincount(bins, right, minlength=BINS)[there] / number[there]
    return Reliability(confidence=mean, right=share, share=number[there] / max(len(confidence), 1))


def risk_coverage(value: Values, right: Right) -> tuple[Values, Values]:
    """Coverage and risk when labels (n,) are kept from the highest ``value`` down, each (n,): ties in random order."""
    order = np.lexsort((np.random.default_rng(0).random(len(value)), -value))
    kept = np.arange(1, len(value) + 1)
    return kept / len(value), 1 - np.cumsum(right[order]) / kept


def risk_area(value: Values, right: Right) -> float:
    """Area under the risk-coverage curve: mean risk over all coverages."""
    return float(risk_coverage(value, right)[1].mean())


def kept_at(confidence: Values, right: Right, threshold: float) -> tuple[float, float]:
    """Share of right labels among those kept, NaN if none is, and share of all labels that is kept."""
    keep = confidence >= threshold
    return (float(right[keep].mean()) if keep.any() else float("nan")), float(keep.mean())


def over_grains(
    group: NDArray[np.integer], confidence: Values, right: Right, *, threshold: float, seed: int = 0
) -> dict[str, tuple[float, float]]:
    """95 % intervals of calibration error, precision and coverage when grains (n,) are drawn anew, with replacement."""
    rng = np.random.default_rng(seed)
    _, member = np.unique(group, return_inverse=True)
    rows = np.split(np.argsort(member, kind="stable"), np.cumsum(np.bincount(member))[:-1])
    found = []
    for _ in range(RESAMPLED):
        drawn = np.concatenate([rows[k] for k in rng.integers(0, len(rows), len(rows))])
        c, r = confidence[drawn], right[drawn]
        found.append((reliability_diagram(c, r).error, *kept_at(c, r, threshold)))
    low, high = np.nanquantile(np.array(found), [0.025, 0.975], axis=0)
    names = ("calibration error", "precision", "coverage")
    return {name: (float(a), float(b)) for name, a, b in zip(names, low, high, strict=True)}
