"""Disorientations of networks over groups of pixels: their numbers, and paired intervals over grains and seeds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dpcurate.orientations import Array

WITHIN_DEG = (1.0, 2.0, 3.0, 5.0, 10.0)
"""Disorientations within which the share of pixels is told."""

RESAMPLES = 2000
"""Of a bootstrap; the ends of a 95 % interval then rest on 50 resamples each."""

BOOTSTRAP_SEED = 20_241

MIN_SEEDS = 2
"""With fewer, nothing is known of how much a result changes with the seed, and no interval is given."""

METRICS = ("median_deg", "mean_deg", "p95_deg", *(f"within_{limit:g}_deg" for limit in WITHIN_DEG))


@dataclass(frozen=True)
class Interval:
    """A difference of two settings, and the ends of its 95 % interval; both ends None with fewer than two seeds."""

    value: float
    low: float | None
    high: float | None

    @property
    def sign(self) -> int:
        """1 or -1 where the whole interval lies on one side of zero, else 0."""
        if self.low is None or self.high is None:
            return 0
        return int(self.low > 0) - int(self.high < 0)


def numbers(error_deg: Array) -> dict[str, float]:
    """Every one of ``METRICS`` for disorientations ``(n,)``; shares are 0 to 1, NaN where there is no pixel."""
    if not len(error_deg):
        return dict.fromkeys(METRICS, float("nan"))
    middle = {
        "median_deg": float(np.median(error_deg)),
        "mean_deg": float(error_deg.mean()),
        "p95_deg": float(np.quantile(error_deg, 0.95)),
    }
    return middle | {f"within_{limit:g}_deg": float(np.mean(error_deg <= limit)) for limit in WITHIN_DEG}


def paired_interval(
    first: Mapping[int, Array], second: Mapping[int, Array], grain: Mapping[int, NDArray[np.integer]]
) -> Interval:
    """Mean of ``first`` minus that of ``second``, with a 95 % bootstrap interval.

    Parameters
    ----------
    first, second
        For each seed, a number for every pixel ``(n,)``, such as the disorientation, of two settings at the same
        pixels.
    grain
        For each seed, the grain of every pixel ``(n,)``.

    Notes
    -----
    Pixels of a grain share an orientation, and runs of a seed share split and sample, so both are drawn anew: seeds
    with replacement, then in each seed grains with replacement, each with all its pixels (Davison and Hinkley,
    Bootstrap Methods, 1997, section 3.8). Law: the interval of a setting against itself is zero.
    """
    parts = [_sums(first[seed] - second[seed], grain[seed]) for seed in sorted(first)]
    value = float(np.mean([total.sum() / size.sum() for total, size in parts]))
    if len(parts) < MIN_SEEDS:
        return Interval(value, None, None)
    rng = np.random.default_rng(BOOTSTRAP_SEED)
    means = np.stack([_resampled(*part, rng=rng) for part in parts])
    chosen = rng.integers(len(parts), size=(RESAMPLES, len(parts)))
    low, high = np.quantile(means[chosen, np.arange(RESAMPLES)[:, None]].mean(axis=1), (0.025, 0.975))
    return Interval(value, float(low), float(high))


def mean_interval(values: Mapping[int, Array], grain: Mapping[int, NDArray[np.integer]]) -> Interval:
    """Mean over all seeds of a number for every pixel ``(n,)``, with its interval; as ``paired_interval``."""
    return paired_interval(values, {seed: np.zeros_like(value) for seed, value in values.items()}, grain)


def _sums(value: Array, grain: NDArray[np.integer]) -> tuple[Array, Array]:
    """Sum and number of the values of each grain."""
    _, member = np.unique(grain, return_inverse=True)
    size: Array = np.bincount(member).astype(np.float64)
    total: Array = np.bincount(member, weights=value).astype(np.float64)
    return total, size


def _resampled(total: Array, size: Array, *, rng: np.random.Generator) -> Array:
    """Means of one seed with its grains drawn with replacement, ``(RESAMPLES,)``."""
    chosen = rng.integers(len(total), size=(RESAMPLES, len(total)))
    return np.asarray(total[chosen].sum(axis=1) / size[chosen].sum(axis=1))


def spread(values: Sequence[float]) -> float:
    """Largest difference between values, 0 with fewer than two."""
    return max(values) - min(values) if len(values) > 1 else 0.0
