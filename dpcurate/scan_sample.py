"""Some patterns spread over a scan, and what they say of the detector and the beam before anything is matched."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import curve_fit

from dpcurate.bad_patterns import faulty_pixels, unusable
from dpcurate.scans import Scan, reading

SAMPLED = 256
"""Patterns that are read, about, spread over the scan."""

SAMPLE_BYTES = 2**28
"""Fewer are read where they would take more than this."""

FEWEST = 16

FOR_WIDTH = 64
"""Patterns from which the width of a spot is measured."""

REACH_SIGMAS = 5.0
"""Lags up to so many widths of a spot are looked at."""

USUAL_SIGMA = 1.1 / 128
"""Of a spot, in widths of the detector; taken where nothing can be measured."""


@dataclass(frozen=True)
class ScanSample:
    """Usable patterns of a scan, on a regular grid over it."""

    patterns: NDArray[np.float32]
    """Counts, shape (n, h, w); faulty pixels are 0."""
    faulty: NDArray[np.bool_]
    """Detector pixels that are dead or hot, (h, w); see `bad_patterns.faulty_pixels`."""


def sample_scan(scan: Scan, number: int = SAMPLED) -> ScanSample:
    """Read about ``number`` patterns of a scan, the unusable ones left out. Raises InputError for a damaged file."""
    rows, columns, *shape = scan.patterns.shape
    most = int(np.clip(SAMPLE_BYTES // (np.prod(shape) * scan.patterns.dtype.itemsize), FEWEST, number))
    every = max(1, int(np.ceil(np.sqrt(rows * columns / most))))
    first = [min(every // 2, (size - 1) // 2) for size in (rows, columns)]
    with reading(scan.name):
        raw = np.asarray(scan.patterns[first[0] :: every, first[1] :: every].compute()).reshape(-1, *shape)
    good = raw[~np.any(list(unusable(raw).values()), axis=0)].astype(np.float32)
    faulty = faulty_pixels(good) if len(good) else np.zeros(shape, bool)
    return ScanSample(patterns=np.where(faulty, np.float32(0), good), faulty=faulty)


def spot_sigma_px(sample: ScanSample, *, center_xy: tuple[float, float], inner_px: float, outer_px: float) -> float:
    """Standard deviation of a diffraction spot in pixels, from spots between two radii around the direct beam.

    The mean autocorrelation of patterns, without their background, has a peak of the same shape, sqrt(2) times as wide,
    on a pedestal that pairs of different spots make. The noise of counts adds to lag 0 alone, which is left out. Where
    no peak is found, `USUAL_SIGMA`.
    """
    shape = sample.faulty.shape
    usual = USUAL_SIGMA * max(shape)
    row, column = np.indices(shape)
    radius = np.hypot(column - center_xy[0], row - center_xy[1])
    inside = (radius > inner_px) & (radius < outer_px) & ~sample.faulty
    total = np.zeros((2 * shape[0], 2 * shape[1]))
    ring = np.round(radius).astype(int)
    for pattern in sample.patterns[:: max(1, len(sample.patterns) // FOR_WIDTH)]:
        clear = np.where(inside, pattern - ring_medians(pattern, ring, inside)[ring], 0)
        power = np.abs(np.fft.rfft2(clear, total.shape)) ** 2
        total += np.fft.irfft2(power, total.shape) / max(float(np.square(clear).sum()), 1e-30)
    reach = int(np.ceil(REACH_SIGMAS * usual))
    lag = np.arange(-reach, reach + 1)
    near = np.roll(total, (reach, reach), axis=(0, 1))[: 2 * reach + 1, : 2 * reach + 1]
    apart = np.hypot(*np.meshgrid(lag, lag))
    chosen = (apart > 0) & (apart <= reach)
    return _width(apart[chosen], near[chosen], usual=usual)


def _width(lag: NDArray[np.float64], value: NDArray[np.float64], *, usual: float) -> float:
    """Width of the spots whose autocorrelation has these values; the usual one where they have no such peak."""

    def peak(r: Any, height: float, sigma: float, floor: float) -> Any:
        return height * np.exp(-np.square(r) / (4 * sigma**2)) + floor

    start = (max(float(np.ptp(value)), 1e-12), usual, float(value.min()))
    try:
        height, sigma, _ = curve_fit(peak, lag, value, p0=start)[0]
    except (RuntimeError, ValueError):
        return usual
    return abs(float(sigma)) if height > 0 and usual / 3 < abs(sigma) < 4 * usual else usual


def ring_medians(
    pattern: NDArray[np.float32], ring: NDArray[np.int64], inside: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Median of the pixels of each ring, 0 for rings without one."""
    order = np.lexsort((pattern[inside], ring[inside]))
    numbers, values = ring[inside][order], pattern[inside][order]
    found = np.zeros(int(ring.max()) + 1)
    first = np.searchsorted(numbers, np.arange(len(found)))
    count = np.searchsorted(numbers, np.arange(len(found)), side="right") - first
    there = count > 0
    found[there] = values[(first + count // 2)[there]]
    return found
