"""Spots of diffraction patterns with their places, found without knowing the crystal."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, maximum_filter

from dpcurate.pattern_features import CLEAR_OF_BEAM, SPOT_SIGMA

Values = NDArray[np.float64]

MOST_SPOTS = 150
"""Strongest spots of a pattern that are kept."""


@dataclass(frozen=True)
class Spots:
    """Spots of n patterns, one after another."""

    pattern: NDArray[np.int64]
    """Number of the pattern of each spot, rising, (m,)."""
    place_px: Values
    """Column and row from the pattern's direct beam, pixels, (m, 2)."""
    height: Values
    """Of the smoothed spot above its ring's median, electrons a pixel, (m,)."""
    n_patterns: int

    @property
    def radius_px(self) -> Values:
        """Distance from the direct beam, pixels, (m,)."""
        return np.asarray(np.hypot(*self.place_px.T))

    @property
    def azimuth(self) -> Values:
        """Angle from x towards y, radians, (m,)."""
        return np.asarray(np.arctan2(self.place_px[:, 1], self.place_px[:, 0]))

    def of(self, chosen: NDArray[np.bool_]) -> "Spots":
        """The spots of a mask (m,)."""
        return Spots(self.pattern[chosen], self.place_px[chosen], self.height[chosen], self.n_patterns)


def find_spots(electrons: Values, center_xy: Values, sigma_px: Values) -> Spots:
    """Spots of patterns ``(n, h, w)`` around direct beams ``(n, 2)`` (column, row) of standard deviation ``(n,)``.

    A spot is a maximum of the smoothed pattern that stands out of the median of its ring by `SPOT_SIGMA` standard
    deviations of Poisson noise, Bernstein's term added (`pattern_features`); a parabola gives the fraction of a pixel.
    What lies within `CLEAR_OF_BEAM` standard deviations of the direct beam is part of it.
    """
    blur = max(1.0, float(np.median(sigma_px)))
    found = [
        _spots(pattern, center, clear=CLEAR_OF_BEAM * float(np.hypot(sigma, blur)) + 1, blur=blur)
        for pattern, center, sigma in zip(electrons, center_xy, sigma_px, strict=True)
    ]
    place, height = (np.concatenate(column) for column in zip(*found, strict=True))
    pattern = np.repeat(np.arange(len(found)), [len(some[1]) for some in found])
    return Spots(pattern, place, height, len(found))


def _spots(pattern: Values, center: Values, *, clear: float, blur: float) -> tuple[Values, Values]:
    """Places from the direct beam (m, 2) and heights (m,) of one pattern's spots."""
    smooth = gaussian_filter(pattern, blur)
    y, x = np.indices(pattern.shape)
    radius = np.hypot(x - center[0], y - center[1])
    level = ring_medians(smooth, radius)
    above, area = smooth - level, 4 * np.pi * blur**2
    noise = np.sqrt(np.maximum(level, 1 / area) / area)
    size = 2 * int(np.ceil(1.5 * blur)) + 1
    peak = (above > SPOT_SIGMA * noise + SPOT_SIGMA**2 / 3 / (area / 2)) & (above == maximum_filter(above, size=size))
    peak &= radius > clear
    peak[[0, -1]], peak[:, [0, -1]] = False, False
    row, column = np.nonzero(peak)
    strongest = np.argsort(-above[row, column], kind="stable")[:MOST_SPOTS]
    row, column = row[strongest], column[strongest]
    place = [
        at + _summit(above[row - dy, column - dx], above[row, column], above[row + dy, column + dx])
        for at, dx, dy in ((column, 1, 0), (row, 0, 1))
    ]
    return np.stack(place, axis=1) - center, above[row, column]


def ring_medians(image: Values, radius: Values) -> Values:
    """Median of the rings, one pixel wide, between which each pixel lies, by its radius, shaped as the image."""
    ring, values = np.round(radius).astype(np.int64).ravel(), image.ravel()
    low = values.min()
    step = 2 * (values.max() - low) + 1
    ordered = np.sort(ring * step + (values - low))  # sorts by ring, then by value, without an index
    count = np.bincount(ring)
    there = np.flatnonzero(count)
    start = (np.cumsum(count) - count)[there]
    middle = ordered[start + (count[there] - 1) // 2] + ordered[start + count[there] // 2]
    median = middle / 2 - there * step + low
    return np.interp(radius, there, median)


def _summit(before: Values, here: Values, after: Values) -> Values:
    """Place of a parabola's summit from three values one apart, from the middle one, within half a pixel."""
    curve = before - 2 * here + after
    return np.clip((before - after) / (2 * np.where(curve < 0, curve, -1)), -0.5, 0.5)
