"""What is measured of patterns without knowing their crystal: counts, direct beam, spots, background, detector.

Patterns have axes (n, rows, columns); electrons are counts over the gain. What is faint is lost in noise, here as
anywhere: compare with simulated patterns measured in the same way.
"""

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import gaussian_filter, maximum_filter, median_filter

Values = NDArray[np.float64]

TOP = 12
"""Strongest spots whose shares are kept."""

BLOCK = 64
"""Patterns measured at once."""

WINDOW = 0.1
"""The direct beam is looked for within this part of the frame around its nominal place."""

MOMENT_ROUNDS = 12
"""Rounds of the adaptive moments; the width has settled to about 1e-3 by then."""

MASK_ROUNDS = 4
"""Rounds in which spots are masked, each with the background that the one before has left."""

MASK_SIGMA, SPOT_SIGMA = 3.0, 4.0
"""Standard deviations of the smoothed background above which a pixel is masked, and a maximum is a spot. To spots'
threshold Bernstein's term is added, SPOT_SIGMA^2 / 3 times the weight of one electron, for where few are counted."""

CLEAR_OF_BEAM = 4.0
"""Standard deviations of the direct beam, and a pixel more, within which nothing else is measured."""


@dataclass(frozen=True)
class PatternFeatures:
    """Measurements of n patterns; shares are of all electrons of the pattern."""

    total: Values
    """Electrons, (n,)."""
    center_xy: Values
    """Place of the direct beam (column, row), pixels, (n, 2)."""
    direct_sigma_px: Values
    """Standard deviation of the direct beam, along one axis, (n,)."""
    direct_share: Values
    """Within `CLEAR_OF_BEAM` standard deviations and a pixel of the direct beam, what lies under it included, (n,)."""
    spot_count: Values
    """Maxima above the noise, outside the direct beam, (n,)."""
    spot_share: Values
    """Shares of the `TOP` strongest of them, strongest first, 0 where there are fewer, (n, TOP)."""
    spot_sigma_px: Values
    """Standard deviation of the spots, weighted by their electrons, NaN without any, (n,)."""
    farthest_spot: Values
    """Distance of the farthest of them from the direct beam, 1/Angstrom, 0 without any, (n,)."""
    background_share: Values
    """Electrons outside spots, carried on under spots and direct beam, (n,)."""
    background_radius: Values
    """Mean distance of these electrons from the direct beam, 1/Angstrom, (n,)."""
    profile: Values
    """Mean share of a pixel in each ring, one pixel wide, around the direct beam, (n, rings); NaN outside the frame."""
    background: Values
    """The same outside spots, carried on where there is nothing else, (n, rings)."""
    ring_median: Values
    """Median share of a smoothed pixel in each ring around the nominal centre, (n, rings); NaN outside the frame."""
    pixels: Values
    """Pixels of each ring, (n, rings)."""

    def __len__(self) -> int:
        """Number of patterns."""
        return len(self.total)


def measure(
    patterns: ArrayLike,
    *,
    scale_inv_angstrom: float,
    center_xy: tuple[float, float],
    gain: float = 1.0,
    faulty: NDArray[np.bool_] | None = None,
) -> PatternFeatures:
    """Measurements of patterns ``(n, rows, columns)`` in counts, with the nominal place of the direct beam.

    ``gain`` is counts per electron. Pixels in ``faulty`` (rows, columns) become the median of those around.
    """
    counts = np.asarray(patterns)
    far = (max(c, size - c) for c, size in zip(center_xy, counts.shape[:0:-1], strict=True))
    rings = int(np.ceil(np.hypot(*far))) + 2
    parts = []
    for start in range(0, len(counts), BLOCK):
        electrons = counts[start : start + BLOCK].astype(np.float64) / gain
        mended = electrons if faulty is None or not faulty.any() else _mended(electrons, faulty)
        parts.append(_measure(mended, scale=scale_inv_angstrom, center_xy=center_xy, rings=rings))
    return PatternFeatures(
        **{f.name: np.concatenate([getattr(p, f.name) for p in parts]) for f in fields(PatternFeatures)}
    )


def direct_beam(electrons: Values, *, center_xy: tuple[float, float]) -> tuple[Values, Values]:
    """Place (column, row) ``(n, 2)`` and standard deviation ``(n,)`` of the direct beam, pixels.

    Adaptive moments: weighted by a Gaussian of the width that they find, so that background and halo hardly count
    (Bernstein and Jarvis, Astron. J. 123 (2002) 583, section 3). The brightest smoothed pixel near the nominal place is
    where they start.
    """
    n, height, width = electrons.shape
    half = max(5, round(WINDOW * min(height, width)))
    x, y = (int(np.clip(round(c), half, size - half - 1)) for c, size in zip(center_xy, (width, height), strict=True))
    piece = electrons[:, y - half : y + half + 1, x - half : x + half + 1]
    peak = gaussian_filter(piece, (0, 1, 1)).reshape(n, -1).argmax(axis=1)
    along = np.arange(-half, half + 1)
    place = np.stack([along[peak % len(along)], along[peak // len(along)]], axis=1).astype(float)
    variance = np.full(n, 2.0)
    for _ in range(MOMENT_ROUNDS):
        dx, dy = along - place[:, :1], along - place[:, 1:]
        weight = piece * np.exp(-(dy[:, :, None] ** 2 + dx[:, None] ** 2) / (2 * variance[:, None, None]))
        mass = np.maximum(weight.sum(axis=(1, 2)), 1e-9)
        columns, lines = weight.sum(axis=1), weight.sum(axis=2)
        shift = np.stack([(columns * dx).sum(axis=1), (lines * dy).sum(axis=1)], axis=1) / mass[:, None]
        second = ((columns * dx**2).sum(axis=1) + (lines * dy**2).sum(axis=1)) / mass / 2
        # a Gaussian under a Gaussian weight of its own width has half its variance
        variance = np.clip(1 / np.maximum(1 / np.maximum(second, 1e-3) - 1 / variance, 1e-3), 0.1, (half / 2) ** 2)
        place = np.clip(place + 2 * shift, -half, half)
    return place + np.array([x, y]), np.sqrt(variance)


def gain_and_noise(patterns: ArrayLike, *, center_xy: tuple[float, float]) -> tuple[float, float]:
    """Counts per electron, and standard deviation of the readout noise in counts, of patterns ``(n, rows, columns)``.

    Photon transfer (Janesick, 2007, chapter 5): the variance of neighbours' differences against the mean, ring by ring,
    where no spot is near; its slope is the gain, what is left at zero the noise. Good to about 10 %.
    """
    counts = np.asarray(patterns, np.float64)
    smooth = gaussian_filter(counts, (0, 1.5, 1.5))
    ring = np.round(_radius(counts.shape, np.broadcast_to(center_xy, (1, 2)))[0] / 2).astype(int)
    edge = WINDOW * min(counts.shape[1:])
    mean, variance, weight = [], [], []
    for number in range(int(np.ceil(edge / 2)), int(ring.max()) + 1):
        inside = np.flatnonzero((ring == number).ravel()[:-1])
        values, level = counts.reshape(len(counts), -1), smooth.reshape(len(counts), -1)[:, inside]
        flat = level <= 2 * np.median(level, axis=1, keepdims=True)
        step = (values[:, inside + 1] - values[:, inside])[flat]
        if step.size > 100 and values[:, inside][flat].any():
            mean.append(np.mean((values[:, inside + 1] + values[:, inside])[flat]) / 2)
            variance.append(np.mean(step**2) / 2)
            weight.append(step.size**0.5 / max(variance[-1], 1e-9))
    if len(mean) < 2:
        return 1.0, 0.0
    slope, rest = np.polyfit(mean, variance, 1, w=weight)
    if rest <= 0 or slope <= 0:
        slope, rest = float(np.average(np.divide(variance, np.maximum(mean, 1e-9)), weights=mean)), 0.0
    return float(slope), float(np.sqrt(rest))


def _measure(electrons: Values, *, scale: float, center_xy: tuple[float, float], rings: int) -> PatternFeatures:
    """`measure` of one block."""
    n = len(electrons)
    total = np.maximum(electrons.sum(axis=(1, 2)), 1e-9)
    center, sigma = direct_beam(electrons, center_xy=center_xy)
    radius = _radius(electrons.shape, center)
    ring = np.minimum(np.round(radius).astype(np.int64), rings - 1)
    place = (ring + rings * np.arange(n)[:, None, None]).ravel()
    blur = max(1.0, float(np.median(sigma)))
    near = radius <= (CLEAR_OF_BEAM * sigma + 1)[:, None, None]
    under_beam = radius <= (CLEAR_OF_BEAM * np.hypot(sigma, blur) + 1)[:, None, None]
    smooth = gaussian_filter(electrons, (0, blur, blur))
    background, level = _background(electrons, smooth, place=place, near=near, rings=rings, blur=blur)
    pixels = _sums(place, np.ones_like(electrons), (n, rings))
    peak, share, width = _spots(electrons, smooth, level, near=under_beam, sigma=sigma, blur=blur)
    outside = background * pixels
    with np.errstate(invalid="ignore", divide="ignore"):
        profile = _sums(place, electrons, (n, rings)) / pixels / total[:, None]
    return PatternFeatures(
        total=total,
        center_xy=center,
        direct_sigma_px=sigma,
        direct_share=(electrons * near).sum(axis=(1, 2)) / total,
        spot_count=peak.sum(axis=(1, 2)).astype(float),
        farthest_spot=(peak * radius).max(axis=(1, 2)) * scale,
        spot_share=share / total[:, None],
        spot_sigma_px=width,
        background_share=outside.sum(axis=1) / total,
        background_radius=(outside @ np.arange(rings)) / np.maximum(outside.sum(axis=1), 1e-9) * scale,
        profile=profile,
        background=background / total[:, None],
        ring_median=_ring_medians(smooth / total[:, None, None], center_xy, rings),
        pixels=pixels,
    )


def _background(
    electrons: Values, smooth: Values, *, place: NDArray[np.int64], near: NDArray[np.bool_], rings: int, blur: float
) -> tuple[Values, Values]:
    """Mean electrons of a pixel outside spots, ``(n, rings)``, and the same at each pixel ``(n, rows, columns)``."""
    n, free = len(electrons), ~near
    level = np.zeros((n, rings))
    for _ in range(MASK_ROUNDS):
        inside = _sums(place, free, level.shape)
        for row, sums in enumerate(_sums(place, electrons * free, level.shape)):
            known = np.flatnonzero(inside[row] > 3)
            if len(known):
                level[row] = np.interp(np.arange(rings), known, sums[known] / inside[row, known])
        everywhere = level.ravel()[place].reshape(electrons.shape)
        high = smooth > everywhere + MASK_SIGMA * _deviation(everywhere, blur)
        free = ~(near | maximum_filter(high, size=(1, 3, 3)))
    return level, everywhere


def _spots(
    electrons: Values, smooth: Values, level: Values, *, near: NDArray[np.bool_], sigma: Values, blur: float
) -> tuple[NDArray[np.bool_], Values, Values]:
    """Where spots peak (mask), electrons of the strongest ``(n, TOP)``, their standard deviation in pixels ``(n,)``.

    A Gaussian of N electrons and variance v, smoothed with b^2, peaks at N / (2 pi (v + b^2)); its peak when smoothed
    with 3 b^2 gives v.
    """
    above, wider = smooth - level, gaussian_filter(electrons - level, (0, 3**0.5 * blur, 3**0.5 * blur))
    size = 2 * int(np.ceil(1.5 * blur)) + 1
    high = above > SPOT_SIGMA * _deviation(level, blur) + SPOT_SIGMA**2 / 3 / (2 * np.pi * blur**2)
    peak = high & (above == maximum_filter(above, size=(1, size, size))) & ~near
    electrons_of, width = np.zeros((len(electrons), TOP)), np.full(len(electrons), np.nan)
    for row in np.flatnonzero(peak.any(axis=(1, 2))):
        height = above[row][peak[row]]
        strongest = np.sort(height)[::-1][:TOP]
        electrons_of[row, : len(strongest)] = strongest * (2 * np.pi * (sigma[row] ** 2 + blur**2))
        ratio = height.sum() / max(wider[row][peak[row]].sum(), 1e-9)
        width[row] = blur * np.sqrt(np.clip((3 - ratio) / max(ratio - 1, 1e-3), 0, 100))
    return peak, electrons_of, width


def _deviation(level: Values, blur: float) -> Values:
    """Standard deviation of a smoothed background of so many electrons a pixel, at least that of one electron."""
    area = 4 * np.pi * blur**2
    return np.sqrt(np.maximum(level, 1 / area) / area)


def _ring_medians(images: Values, center_xy: tuple[float, float], rings: int) -> Values:
    """Median of each ring around the nominal centre, ``(n, rings)``, NaN where it has no pixel."""
    ring = np.round(_radius(images.shape, np.array([center_xy]))[0]).astype(int).ravel()
    flat, medians = images.reshape(len(images), -1), np.full((len(images), rings), np.nan)
    order = np.argsort(ring, kind="stable")
    numbers, start = np.unique(ring[order], return_index=True)
    for number, inside in zip(numbers, np.split(order, start[1:]), strict=True):
        medians[:, number] = np.median(flat[:, inside], axis=1)
    return medians


def _sums(place: NDArray[np.int64], values: ArrayLike, shape: tuple[int, int]) -> Values:
    """Sums over the rings of each pattern, ``(n, rings)``."""
    n, rings = shape
    return np.bincount(place, np.ravel(values), minlength=n * rings).reshape(n, rings).astype(np.float64)


def _radius(shape: tuple[int, ...], center: Values) -> Values:
    """Distance of each pixel from centres ``(n, 2)`` (column, row), ``(n, rows, columns)``."""
    y = np.arange(shape[1]) - center[:, 1:]
    x = np.arange(shape[2]) - center[:, :1]
    return np.hypot(y[:, :, None], x[:, None])


def _median_of_neighbours(images: Values) -> Values:
    """Median of the 5 x 5 pixels around each, of images ``(..., rows, columns)``."""
    return np.asarray(median_filter(images, size=(1,) * (images.ndim - 2) + (5, 5)))


def _mended(electrons: Values, faulty: NDArray[np.bool_]) -> Values:
    """Patterns with the faulty pixels replaced."""
    return np.where(faulty, _median_of_neighbours(electrons), electrons)
