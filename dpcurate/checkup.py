"""What a look at some patterns of a scan measures, before anything is indexed: the numbers that `findings` judges."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dpcurate.bad_patterns import dead_pixels, hot_pixels, unusable, usable, without_faults
from dpcurate.calibration import Calibration, beam_of_mean
from dpcurate.pattern_features import CLEAR_OF_BEAM, PatternFeatures, gain_and_noise, measure
from dpcurate.preprocess import k_max_of
from dpcurate.recipe import PreprocessRecipe
from dpcurate.scans import Scan, reading
from dpcurate.schema import PhaseRecord
from dpcurate.spot_geometry import WIDEST_SCALE, Fit, Shells, fit_radii, friedel_center, refined, shells_of
from dpcurate.spots import Spots, find_spots

Values = NDArray[np.float64]

SAMPLED = 300
"""Patterns that are looked at, spread over the scan."""

SAMPLE_PIXELS, FEWEST_SAMPLED = 3 * 2**22, 12
"""Fewer patterns are looked at where they have more pixels than this together; so many at least."""

PILED_UP = 48
"""Pixels at the highest value; of counts as they come, few are the highest."""

LEAST_CEILING = 4
"""Where the highest value is at least so much and `PILED_UP` pixels have it, a ceiling cut them off."""


@dataclass(frozen=True)
class Ceiling:
    """The highest value of a scan, and whether it cuts peaks off."""

    value: float
    count: int
    """Pixels of the sample that have it."""
    patterns: int
    """Patterns of the sample in which it occurs."""
    in_beam: float
    """Share of these pixels within the direct beam."""
    cut_off: bool


@dataclass(frozen=True)
class Checkup:
    """Measurements of n usable patterns of a scan, spread over it."""

    name: str
    shape: tuple[int, int, int, int]
    dtype: str
    calibration: Calibration
    pixel: NDArray[np.int64]
    """Row and column in the scan, (n, 2)."""
    n_sampled: int
    bad: dict[str, int]
    """Patterns of the sample that cannot be used, by reason."""
    mean: Values
    maximum: Values
    """Mean and largest counts of each detector pixel, (h, w)."""
    dead: NDArray[np.bool_]
    hot: NDArray[np.bool_]
    ceiling: Ceiling
    counting: bool
    """Whole counts, one an electron."""
    gain: float
    """Counts per electron."""
    noise: float
    """Readout noise, counts."""
    beam_xy: tuple[float, float]
    """Direct beam of the mean pattern (column, row), pixels."""
    features: PatternFeatures
    spots: Spots
    friedel: tuple[Values, int] | None
    """Centre of symmetry of the spots from the direct beam, pixels, and pairs that agree."""
    phases: tuple[PhaseRecord, ...]
    shells: tuple[Shells, ...]
    """Of each phase."""
    k_min: float
    k_max: float
    """Radii that indexing would use, 1/Angstrom."""
    first_px: float
    reach_px: float
    """Radii in which spots can be seen, pixels."""
    fit: Fit | None
    """Scale and ellipse of all spots; None where there are too few."""
    halves: tuple[Fit, Fit] | None
    """The same of the upper and the lower half of the scan."""

    def mean_profile(self) -> Values:
        """Mean electrons of a pixel in rings 0, 1, ... pixels from the direct beam; 0 where there is none."""
        profile = self.features.profile * self.features.total[:, None]
        known = np.isfinite(profile)
        return np.asarray(np.where(known, profile, 0).sum(axis=0) / np.maximum(known.sum(axis=0), 1))


FEWEST_SPOTS = 60
"""Spots from which scale and ellipse are fitted, of each half of the scan."""


def examine(scan: Scan, phases: Sequence[PhaseRecord], recipe: PreprocessRecipe, *, sampled: int = SAMPLED) -> Checkup:
    """Measurements of about ``sampled`` patterns of a scan, with what the phases say about their spots.

    Raises InputError when a file is damaged or not one of the patterns can be used.
    """
    raw, pixel = read_sample(scan, sampled)
    reasons = unusable(raw)
    good = usable(reasons, name=scan.name)
    raw, pixel = raw[good], pixel[good]
    dead, hot = dead_pixels(raw), hot_pixels(raw)
    mean = np.where(np.isfinite(raw), raw, 0).mean(axis=0, dtype=np.float64)
    beam = beam_of_mean(np.where(dead | hot, np.median(mean), mean))
    gain, noise = gain_and_noise(raw, center_xy=beam)
    counting = bool(np.issubdtype(raw.dtype, np.integer) and 0.5 < gain < 1.5 and noise < 1)
    gain = 1.0 if counting else gain
    c = scan.calibration
    electrons = without_faults(np.asarray(raw, np.float64) / gain, dead | hot)
    features = measure(electrons, scale_inv_angstrom=c.scale_inv_angstrom, center_xy=beam)
    spots = find_spots(electrons, features.center_xy, features.direct_sigma_px)
    reach = float(min(beam[0], beam[1], raw.shape[2] - 1 - beam[0], raw.shape[1] - 1 - beam[1]) - 2)
    first = CLEAR_OF_BEAM * float(np.median(features.direct_sigma_px)) * 1.4 + 2
    shells = tuple(shells_of(phase, reach * c.scale_inv_angstrom * np.exp(WIDEST_SCALE)) for phase in phases)
    fit, halves = _fits(spots, pixel, shells, scale=c.scale_inv_angstrom, first_px=first, reach_px=reach)
    return Checkup(
        name=scan.name,
        shape=(*scan.shape, *scan.patterns.shape[2:]),
        dtype=str(scan.patterns.dtype),
        calibration=c,
        pixel=pixel,
        n_sampled=len(good),
        bad={reason: int(mask.sum()) for reason, mask in reasons.items() if mask.any()},
        mean=mean,
        maximum=np.asarray(raw.max(axis=0), np.float64),
        dead=dead,
        hot=hot,
        ceiling=ceiling_of(raw, features, faulty=dead | hot),
        counting=counting,
        gain=gain,
        noise=noise,
        beam_xy=beam,
        features=features,
        spots=spots,
        friedel=friedel_center(spots),
        phases=tuple(phases),
        shells=shells,
        k_min=recipe.k_min_inv_angstrom,
        k_max=k_max_of(raw.shape[1:], c.center_xy, c.scale_inv_angstrom, recipe),
        first_px=first,
        reach_px=reach,
        fit=fit,
        halves=halves,
    )


def read_sample(scan: Scan, number: int) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Patterns ``(n, h, w)`` on a regular grid over the scan, and their rows and columns ``(n, 2)``."""
    rows, columns = scan.shape
    most = int(np.clip(SAMPLE_PIXELS // np.prod(scan.patterns.shape[2:]), FEWEST_SAMPLED, number))
    every = max(1, round(float(np.sqrt(rows * columns / most))))
    first = [min(every // 2, (size - 1) // 2) for size in (rows, columns)]
    with reading(scan.name):
        grid = np.asarray(scan.patterns[first[0] :: every, first[1] :: every].compute())
    row, column = np.mgrid[first[0] : rows : every, first[1] : columns : every].reshape(2, -1)
    return grid.reshape(-1, *grid.shape[2:]), np.stack([row, column], axis=1)


def ceiling_of(raw: NDArray[Any], features: PatternFeatures, *, faulty: NDArray[np.bool_]) -> Ceiling:
    """The highest value of patterns ``(n, h, w)``: it cuts off when it is the dtype's, or when pixels pile up there."""
    inside = np.where(faulty, 0, raw)
    top = inside.max()
    at_top = inside == top
    full = np.issubdtype(raw.dtype, np.integer) and top == np.iinfo(raw.dtype).max
    pattern, row, column = np.nonzero(at_top)
    center, sigma = features.center_xy[pattern], features.direct_sigma_px[pattern]
    near = np.hypot(column - center[:, 0], row - center[:, 1]) <= CLEAR_OF_BEAM * sigma + 1
    piled = top >= LEAST_CEILING and at_top.sum() >= PILED_UP
    return Ceiling(
        value=float(top),
        count=int(at_top.sum()),
        patterns=len(np.unique(pattern)),
        in_beam=float(near.mean()),
        cut_off=bool(top > 0 and (full or piled)),
    )


def union(shells: Sequence[Shells]) -> Shells | None:
    """Shells of several phases together, each phase's weights summing to the same; None of none."""
    if not shells:
        return None
    radius = np.concatenate([some.radius for some in shells])
    weight = np.concatenate([some.weight / some.weight.sum() for some in shells])
    order = np.argsort(radius)
    return Shells(radius[order], weight[order])


def _fits(
    spots: Spots, pixel: NDArray[np.int64], shells: Sequence[Shells], *, scale: float, first_px: float, reach_px: float
) -> tuple[Fit | None, tuple[Fit, Fit] | None]:
    """Fits of all spots, and of those in the upper and in the lower half of the scan."""
    inside = (spots.radius_px >= first_px) & (spots.radius_px <= reach_px)
    upper = spots.pattern < len(pixel) / 2

    known, limits = union(shells), {"scale_inv_angstrom": scale, "first_px": first_px, "reach_px": reach_px}
    if inside.sum() < FEWEST_SPOTS:
        return None, None
    whole = fit_radii(spots.place_px[inside], known, **limits)
    if min((inside & upper).sum(), (inside & ~upper).sum()) < FEWEST_SPOTS:
        return whole, None
    first, second = (
        fit_radii(some, None, **limits) if known is None else refined(whole, some, known, **limits)
        for some in (spots.place_px[inside & upper], spots.place_px[inside & ~upper])
    )
    return whole, (first, second)
