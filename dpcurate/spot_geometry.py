"""What the places of spots say about the calibration: centre, scale, ellipse, and how well a phase explains them.

Nothing here needs an orientation: a phase says how far from the direct beam its spots lie, whatever its orientation.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import gaussian_filter, gaussian_filter1d
from scipy.optimize import minimize

from dpcurate.reflections import reflections
from dpcurate.schema import PhaseRecord
from dpcurate.spots import Spots

Values = NDArray[np.float64]

SPOT_ERROR_PX = 0.5
"""Standard deviation that is allowed for the place of a spot, pixels."""

BIN_PX = 0.25
"""Bins of spot radii, pixels."""

ENVELOPE = 12
"""Bins times this many: standard deviation of the smooth part of a distribution of radii, which says nothing."""

WIDEST_SCALE = 0.2
"""Errors of the scale up to this share are looked for."""

WIDEST_ELLIPSE = 0.04
"""Long over short axis of what should be a circle is looked for up to 1 plus twice this."""

PROMISING = 12
"""Scales whose radii correlate best, for which it is counted how many spots the phase explains."""

ROUNDER = 2.0
"""A search prefers round patterns: a score counts 1 - `ROUNDER` e times as much. Real ellipses gain far more."""

FRIEDEL_PX = 8.0
"""Centres of symmetry are looked for so near to the direct beam, pixels."""


@dataclass(frozen=True)
class Shells:
    """Distances from the direct beam at which a phase has spots."""

    radius: Values
    """1/Angstrom, rising, (k,)."""
    weight: Values
    """How often a spot is to be expected there, (k,)."""


def shells_of(phase: PhaseRecord, k_max_inv_angstrom: float) -> Shells:
    """Shells of a phase's reflections up to a radius.

    Expected: the sum of |F| over the reflections of a shell, over its radius; in random orientations the chance to
    come near the Ewald sphere falls with 1 / |g|.
    """
    found = reflections(phase, k_max_inv_angstrom)
    length = np.linalg.norm(found.g, axis=1)
    radius, which = np.unique(length.round(4), return_inverse=True)
    return Shells(radius, np.bincount(which, abs(found.factor)) / radius)


def friedel_center(spots: Spots) -> tuple[Values, int] | None:
    """Centre of symmetry of the spots from the direct beam, (x, y) in pixels, and how many pairs agree on it.

    Friedel's law puts a spot opposite to every spot, so that the middles of all pairs of a pattern heap up in the
    centre. None where fewer than ten pairs do.
    """
    middles = []
    for number in np.unique(spots.pattern):
        place = spots.place_px[spots.pattern == number]
        first, second = np.triu_indices(len(place), 1)
        middles.append((place[first] + place[second]) / 2)
    middle = np.concatenate(middles) if middles else np.zeros((0, 2))
    middle = middle[np.abs(middle).max(axis=1) < FRIEDEL_PX] if len(middle) else middle
    edges = np.arange(-FRIEDEL_PX, FRIEDEL_PX + BIN_PX / 2, BIN_PX)
    heap = gaussian_filter(np.histogram2d(middle[:, 0], middle[:, 1], bins=(edges, edges))[0], 2)
    peak = np.array(np.unravel_index(heap.argmax(), heap.shape))
    center = edges[peak] + BIN_PX / 2
    for _ in range(3):
        near = np.hypot(*(middle - center).T) < 1.0
        if near.sum() < 10:
            return None
        center = middle[near].mean(axis=0)
    return center, int(near.sum())


def rounded(place_px: Values, ellipse: tuple[float, float]) -> Values:
    """Radii (m,) of places (m, 2) after a distortion of radii by 1 + e cos 2 (azimuth - axis) is taken back.

    ``ellipse`` is e times the cosine and the sine of twice the axis.
    """
    radius, twice = np.hypot(*place_px.T), 2 * np.arctan2(place_px[:, 1], place_px[:, 0])
    return np.asarray(radius / (1 + ellipse[0] * np.cos(twice) + ellipse[1] * np.sin(twice)))


def radius_histogram(radius_px: Values, reach_px: float, weight: Values | None = None) -> Values:
    """Root of the smoothed distribution of radii up to ``reach_px``, its smooth envelope taken off, (bins,).

    The root keeps the few strongest rings from outvoting all others.
    """
    edges = np.arange(0, reach_px + BIN_PX, BIN_PX)
    count = np.histogram(radius_px, edges, weights=weight)[0].astype(float)
    sharp = np.sqrt(gaussian_filter1d(count, SPOT_ERROR_PX / BIN_PX, mode="constant"))
    return np.asarray(sharp - gaussian_filter1d(sharp, ENVELOPE, mode="constant"))


@dataclass(frozen=True)
class Fit:
    """Scale and ellipse that the radii of spots ask for."""

    factor: float
    """By which the scale (1/Angstrom a pixel) has to be multiplied; 1 without a phase."""
    ellipse: tuple[float, float]
    """e times cosine and sine of twice the axis, see `rounded`."""
    score: float
    """Correlation of the radii with those of the phase times the share of explained spots beyond chance; without a
    phase, how sharp the distribution of radii is."""

    @property
    def ratio(self) -> float:
        """Long over short axis."""
        e = float(np.hypot(*self.ellipse))
        return (1 + e) / (1 - e)

    @property
    def axis_deg(self) -> float:
        """Azimuth of the long axis from x towards y, degrees, 0 to 180."""
        return float(np.degrees(np.arctan2(self.ellipse[1], self.ellipse[0])) / 2 % 180)


def fit_radii(
    place_px: Values, shells: Shells | None, *, scale_inv_angstrom: float, first_px: float, reach_px: float
) -> Fit:
    """Scale and ellipse from places of spots (m, 2): with a phase's shells where they fit best, without where sharpest.

    A search over all errors up to `WIDEST_SCALE` and `WIDEST_ELLIPSE`, then a simplex from the best. Radii from
    ``first_px`` to ``reach_px`` take part.
    """
    steps = np.arange(-WIDEST_ELLIPSE, WIDEST_ELLIPSE + 1e-9, 0.01)
    tried = [(float(x), float(y)) for x in steps for y in steps if np.hypot(x, y) <= WIDEST_ELLIPSE + 1e-9]
    if shells is None:
        return _sharpest(place_px, tried, first_px=first_px, reach_px=reach_px)
    use = slice(int(first_px / BIN_PX), None)
    factors = np.exp(np.arange(-WIDEST_SCALE, WIDEST_SCALE + 1e-9, 0.0025))
    scales = factors * scale_inv_angstrom
    expected = np.array([_unit(radius_histogram(shells.radius / s, reach_px, shells.weight)[use]) for s in scales])
    near = [_NearShell(shells, s, first_px=first_px, reach_px=reach_px) for s in scales]
    best = Fit(1.0, (0.0, 0.0), -1.0)
    for ellipse in tried:
        radius = rounded(place_px, ellipse)
        alike = expected @ _unit(radius_histogram(radius, reach_px)[use])
        for number in np.argsort(-alike)[:PROMISING]:
            score = float(alike[number] * max(near[number].beyond_chance(radius), 0))
            if score * (1 - ROUNDER * np.hypot(*ellipse)) > best.score * (1 - ROUNDER * np.hypot(*best.ellipse)):
                best = Fit(float(factors[number]), ellipse, score)
    return refined(best, place_px, shells, scale_inv_angstrom=scale_inv_angstrom, first_px=first_px, reach_px=reach_px)


class _NearShell:
    """Which radii lie within two `SPOT_ERROR_PX` of a shell, looked up in bins of a tenth of a pixel."""

    def __init__(self, shells: Shells, scale: float, *, first_px: float, reach_px: float) -> None:
        bins = np.arange(0, reach_px, 0.1)
        place = np.concatenate([[-np.inf], np.sort(shells.radius) / scale, [np.inf]])
        at = np.searchsorted(place, bins)
        self.near = np.minimum(place[at] - bins, bins - place[at - 1]) <= 2 * SPOT_ERROR_PX
        self.limits = first_px, reach_px
        self.chance = float(self.near[int(first_px / 0.1) :].mean())

    def share(self, radius_px: Values) -> float:
        """Share of the radii near a shell."""
        inside = radius_px[(radius_px >= self.limits[0]) & (radius_px <= self.limits[1])]
        number = np.clip(np.round(inside / 0.1).astype(int), 0, len(self.near) - 1)
        return float(self.near[number].mean()) if len(inside) else 0.0

    def beyond_chance(self, radius_px: Values) -> float:
        """The same, 0 where chance would give as much, 1 where all are."""
        return (self.share(radius_px) - self.chance) / max(1 - self.chance, 1e-9)


def explained(
    radius_px: Values, shells: Shells, scale: float, *, first_px: float, reach_px: float
) -> tuple[float, float]:
    """Share of the radii within two `SPOT_ERROR_PX` of a shell, and the share that chance would put there."""
    near = _NearShell(shells, scale, first_px=first_px, reach_px=reach_px)
    return near.share(radius_px), near.chance


def _sharpest(place_px: Values, tried: list[tuple[float, float]], *, first_px: float, reach_px: float) -> Fit:
    """The ellipse that makes the distribution of radii sharpest, whatever the phase."""
    use = slice(int(first_px / BIN_PX), None)

    def blunt(p: ArrayLike) -> float:
        x, y = np.asarray(p)
        if np.hypot(x, y) > WIDEST_ELLIPSE + 0.01:
            return 0.0
        return float(-np.square(radius_histogram(rounded(place_px, (x, y)), reach_px)[use]).sum() / len(place_px))

    start = np.array(min(tried, key=blunt))
    free = start + np.array([[0, 0], [0.005, 0], [0, 0.005]])
    best = minimize(blunt, start, method="Nelder-Mead", options={"initial_simplex": free, "xatol": 1e-4, "fatol": 1e-6})
    return Fit(1.0, (float(best.x[0]), float(best.x[1])), -float(best.fun))


def refined(
    fit: Fit, place_px: Values, shells: Shells, *, scale_inv_angstrom: float, first_px: float, reach_px: float
) -> Fit:
    """A fit between the points of the search: most spots as near as can be to a shell, by a simplex.

    A spot d pixels from the nearest shell counts exp(-d^2 / 2 / `SPOT_ERROR_PX`^2), so that those of no shell do not
    pull.
    """
    radius = np.hypot(*place_px.T)
    place_px = place_px[(radius >= first_px) & (radius <= reach_px)]
    shell = np.concatenate([[-np.inf], np.unique(shells.radius), [np.inf]])

    def apart(p: ArrayLike) -> float:
        factor, x, y = np.asarray(p)
        found, scale = rounded(place_px, (x, y)) * scale_inv_angstrom * factor, scale_inv_angstrom * factor
        at = np.searchsorted(shell, found)
        distance = np.minimum(shell[at] - found, found - shell[at - 1]) / scale
        return float(-np.exp(-np.square(distance / SPOT_ERROR_PX) / 2).mean())

    start = np.array([fit.factor, *fit.ellipse])
    free = start + np.array([[0, 0, 0], [0.002, 0, 0], [0, 0.005, 0], [0, 0, 0.005]])
    best = minimize(apart, start, method="Nelder-Mead", options={"initial_simplex": free, "xatol": 1e-5, "fatol": 1e-7})
    moved = np.abs(best.x - start)
    if moved[0] > 0.01 or moved[1:].max() > 0.02:
        return fit
    return Fit(float(best.x[0]), (float(best.x[1]), float(best.x[2])), fit.score)


def _unit(values: Values) -> Values:
    """Zero mean and unit norm."""
    centred = values - values.mean()
    norm = np.linalg.norm(centred)
    return np.asarray(centred / norm if norm > 0 else centred)
