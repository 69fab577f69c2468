"""What score noise alone reaches: patterns without any spot, matched like those of the scan."""

import numpy as np
from numpy.typing import NDArray

from dpcurate.engine import Engine, match_patterns
from dpcurate.scan_sample import ScanSample

DRAWN = 32
"""Patterns of noise that are matched for each of `THINNED`."""

THINNED = (1.0, 0.5)
"""Backgrounds that are tried, as shares of the scan's: a hole scatters less than the crystal beside it."""

SIGMAS = 2.5
"""The limit lies so many standard deviations above the mean score of noise."""

ENOUGH_COUNTS = 5.0
"""Counts from which a ring's scatter tells the gain of the detector."""


def noise_score(engine: Engine, sample: ScanSample, *, center_xy: tuple[float, float], seed: int = 0) -> float:
    """Score that patterns of noise practically never exceed: those of the scan's background and of thinner ones.

    Lower counts are noisier, and their best score is higher; the highest limit is returned. 0 for an empty sample.
    """
    if not len(sample.patterns):
        return 0.0
    rng = np.random.default_rng(seed)
    row, column = np.indices(sample.faulty.shape)
    ring = np.round(np.hypot(column - center_xy[0], row - center_xy[1])).astype(int)
    background = background_of(sample.patterns, ring)[ring]
    gain = gain_of(sample.patterns[:DRAWN], ring)
    limits = []
    for share in THINNED:
        noise = rng.poisson(share * background / gain, (DRAWN, *ring.shape)) * gain
        score = match_patterns(engine, noise.astype(np.float32), n_best=1).score[:, 0]
        limits.append(float(score.mean() + SIGMAS * score.std()))
    return max(limits)


def background_of(patterns: NDArray[np.float32], ring: NDArray[np.int64]) -> NDArray[np.float64]:
    """Counts of each ring (rings,) where there are few spots: the lower quartile over patterns (n, h, w)."""
    number = np.bincount(ring.ravel())
    means = [np.bincount(ring.ravel(), pattern.ravel()) / np.maximum(number, 1) for pattern in patterns]
    return np.quantile(means, 0.25, axis=0)


def gain_of(patterns: NDArray[np.float32], ring: NDArray[np.int64]) -> float:
    """Counts an electron: scatter of neighbouring pixels over their mean, in the outer half of patterns (n, h, w).

    The median over rings of the variance of differences between pixels side by side, halved, over the mean; medians
    and the darkest four fifths leave spots out. 1 where all is dark.
    """
    ratios = []
    both = (ring[:, 1:] == ring[:, :-1]) & (ring[:, 1:] > ring.max() // 3)
    for pattern in patterns:
        step, mean = pattern[:, 1:] - pattern[:, :-1], (pattern[:, 1:] + pattern[:, :-1]) / 2
        for number in np.unique(ring[:, 1:][both])[::4]:
            here = both & (ring[:, 1:] == number)
            middle = float(np.median(mean[here]))
            if middle >= ENOUGH_COUNTS:
                ratios.append((1.4826 * float(np.median(np.abs(step[here])))) ** 2 / 2 / middle)
    return max(1.0, float(np.median(ratios))) if ratios else 1.0
