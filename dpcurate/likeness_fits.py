"""Fits that turn measurements of a scan's patterns into numbers of a sample: background, disks, thickness, scale."""

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import gaussian_filter, map_coordinates
from scipy.optimize import curve_fit, minimize
from scipy.special import erfc

from dpcurate.likeness_theory import Beams
from dpcurate.pattern_features import PatternFeatures

Values = NDArray[np.float64]
Pair = tuple[float, float]

QUANTILES = np.linspace(0.05, 0.95, 19)
"""Where distributions are compared."""

NEARLY_AS_GOOD = 1.1
"""Times the smallest difference. On a scan of 150 to 500 Angstrom the best range was 250 to 350, a hair better."""

SCALES = np.linspace(-0.03, 0.03, 31)
"""Errors of scale that are tried."""


def background_gaussians(electrons: ArrayLike, pixels: ArrayLike, *, first_ring: int, least_px: float) -> Values:
    """Three round Gaussians that sum to a background: rows (electrons, standard deviation in pixels), narrow to wide.

    ``electrons`` and ``pixels`` are the sums over rings 0, 1, ... pixels from the direct beam, those before
    ``first_ring`` not looked at. Likeliest under Poisson's statistics. Three describe an exponential fall over five
    decades to a few per cent; two are 10 to 20 % off.
    """
    n, area = np.asarray(electrons, float), np.asarray(pixels, float)
    rings = np.arange(len(n))
    use = (rings >= first_ring) & (area > 0)
    r2, n, area = rings[use] ** 2, n[use], area[use]
    if n.sum() <= 0:
        return np.array([[0.0, least_px], [0.0, 2 * least_px], [0.0, 4 * least_px]])
    widest = max(float(rings[use].max()), 4 * least_px)

    def level(p: Values) -> Values:
        s2 = np.exp(2 * p[3:])
        return np.asarray((np.exp(p[:3] - r2[:, None] / (2 * s2)) / (2 * np.pi * s2)).sum(axis=1) * area + 1e-12)

    def loss(p: Values) -> float:
        found = level(p)
        return float((found - n * np.log(found)).sum() / n.sum())

    start = np.log(np.geomspace(1.2 * least_px, 0.5 * widest, 3))
    bounds = [(np.log(n.sum()) - 9, np.log(n.sum()) + 3)] * 3 + [(np.log(least_px), np.log(widest))] * 3
    best = minimize(loss, np.r_[np.full(3, np.log(n.sum() / 3)), start], bounds=bounds, method="L-BFGS-B").x
    parts = np.stack([np.exp(best[:3]), np.exp(best[3:])], axis=1)
    return parts[np.argsort(parts[:, 1])]


def disk_radius(profile: ArrayLike, *, sigma_px: float) -> tuple[float, float]:
    """Radius and blur (standard deviation) in pixels of the direct beam's disk from its mean profile; radius 0: none.

    ``profile`` is the mean share of a pixel in rings 0, 1, ... pixels from the centre. A disk blurred along its radius
    is compared with a Gaussian; a disk under 2.5 pixels cannot be told from one.
    """
    reach = int(np.ceil(3 * sigma_px + 2))
    y = np.nan_to_num(np.asarray(profile, float))[: reach + 1]
    y = (y - y[-1]) / max(y[0] - y[-1], 1e-12)
    r = np.arange(len(y), dtype=float)

    def gaussian(r: Values, height: float, sigma: float) -> Values:
        return np.asarray(height * np.exp(-(r**2) / (2 * sigma**2)))

    def disk(r: Values, height: float, radius: float, blur: float) -> Values:
        return np.asarray(height / 2 * erfc((r - radius) / (blur * 2**0.5)))

    try:
        (_, sigma), _ = curve_fit(gaussian, r, y, p0=[1, sigma_px], bounds=([0, 0.2], [3, 5 * sigma_px]))
        limits = ([0, 0, 0.2], [3, 4 * sigma_px, 3 * sigma_px])
        (height, radius, blur), _ = curve_fit(disk, r, y, p0=[1, 1.7 * sigma_px, 0.5 * sigma_px], bounds=limits)
    except RuntimeError:
        return 0.0, sigma_px
    misfit = ((gaussian(r, 1, sigma) - y) ** 2).sum(), ((disk(r, height, radius, blur) - y) ** 2).sum()
    if radius < max(2.5, blur) or misfit[1] > 0.5 * misfit[0]:
        return 0.0, sigma_px
    return float(radius), float(np.sqrt(max(blur**2 - 1 / 12, 0.04)))


def thickness_range(beams: Beams, targets: tuple[Values, Values]) -> tuple[float, float]:
    """Range (low, high) of thickness, Angstrom, whose beams are shared out as ``targets`` say.

    These are values at `QUANTILES` of the shares of the direct beam and of the strongest spot. Each pair of the
    theory's thicknesses is tried, uniform between them. Shares tell the mean thickness and hardly its range: the
    widest comes back of those nearly as good as the best, by the mean absolute difference at the quantiles.
    """
    t = beams.thickness_angstrom
    pairs = [(low, high) for low in range(len(t)) for high in range(low, len(t))]
    apart = np.zeros(len(pairs))
    for number, (low, high) in enumerate(pairs):
        weight = _uniform_weight(t, low, high)
        for share, target in zip(beams.shares(), targets, strict=True):
            apart[number] += np.abs(weighted_quantiles(share, weight) - target).mean()
    good = [pair for pair, off in zip(pairs, apart, strict=True) if off <= NEARLY_AS_GOOD * apart.min()]
    low, high = max(good, key=lambda pair: t[pair[1]] - t[pair[0]])
    return float(t[low]), float(t[high])


def weighted_quantiles(values: Values, weight: Values) -> Values:
    """Values at `QUANTILES` of ``values`` (n, t), column j with weight j."""
    order = np.argsort(values, axis=None)
    below = np.cumsum(np.broadcast_to(weight, values.shape).ravel()[order])
    return np.asarray(values.ravel()[order][np.minimum(np.searchsorted(below, QUANTILES * below[-1]), values.size - 1)])


def heights(
    electrons: Values, features: PatternFeatures, q: Values, *, scale_inv_angstrom: float, larger: float = 0.0
) -> Values:
    """Electrons of the spots at ``q`` (n, k, 2), 1/Angstrom, above the background, (n, k).

    ``larger`` is the error of scale.
    """
    blur = max(1.0, float(np.median(features.direct_sigma_px)))
    smooth = gaussian_filter(electrons, (0, blur, blur))
    found = np.empty(q.shape[:2])
    for row, center in enumerate(features.center_xy):
        offset = q[row] * ((1 + larger) / scale_inv_angstrom)
        height = map_coordinates(smooth[row], (offset + center).T[::-1], order=1, cval=0.0)
        level = np.interp(np.hypot(*offset.T), np.arange(features.background.shape[1]), features.background[row])
        found[row] = height - level * features.total[row]
    return found * (2 * np.pi * (features.direct_sigma_px[:, None] ** 2 + blur**2))


def scale_error(
    electrons: Values, features: PatternFeatures, beams: Beams, *, scale_inv_angstrom: float
) -> float | None:
    """By how much patterns are larger than their calibration says, from spots whose places are known.

    At the scale that comes back theory's spots, weighted by the root of their mean intensity over thicknesses, meet
    most electrons, by their root; None when the score is highest at the end of `SCALES`.
    """
    weight = np.sqrt(beams.intensity.mean(axis=1))
    score = []
    for larger in SCALES:
        met = heights(electrons, features, beams.q, scale_inv_angstrom=scale_inv_angstrom, larger=larger)
        score.append(float((weight * np.sqrt(np.maximum(met, 0))).sum()))
    best = int(np.argmax(score))
    if best in (0, len(SCALES) - 1):
        return None
    before, here, after = score[best - 1 : best + 2]
    step = SCALES[1] - SCALES[0]
    return float(SCALES[best] + step * (before - after) / (2 * (before - 2 * here + after)))


def _uniform_weight(t: Values, low: int, high: int) -> Values:
    """Share of each of the thicknesses ``t`` in a uniform distribution from one of them to another, (t,)."""
    edges = np.concatenate([t[:1], (t[1:] + t[:-1]) / 2, t[-1:]])
    weight = np.clip(np.minimum(edges[1:], t[high]) - np.maximum(edges[:-1], t[low]), 0, None)
    weight[low] += 1e-9
    return np.asarray(weight / weight.sum())
