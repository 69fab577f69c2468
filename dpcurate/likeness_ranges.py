"""Ranges of a sample model from measurements: a first estimate, and corrections until measurements agree.

Corrections compare the scan's patterns with simulated ones that were measured in the same way, at `USUAL` quantiles.
"""

from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from dpcurate.bad_patterns import dead_pixels, hot_pixels
from dpcurate.conditions import InstrumentModel, SampleModel
from dpcurate.likeness_fits import background_gaussians, disk_radius
from dpcurate.pattern_features import CLEAR_OF_BEAM, PatternFeatures, gain_and_noise
from dpcurate.reflections import wavelength_angstrom
from dpcurate.simulation_plan import Geometry

Values = NDArray[np.float64]
Pair = tuple[float, float]
R = TypeVar("R", SampleModel, InstrumentModel)

USUAL = (0.1, 0.9)
"""Quantiles at which ranges are corrected: extremes of few patterns say little."""

LEAST_SCATTER_PX = 0.03
"""Scatter of the centre below which it counts as none."""

LEAST_DRIFT_PX, SIGNIFICANT = 0.1, 3.0
"""The same for its drift over the scan; or so many standard errors, if they are more."""

NARROWEST = 2.5
"""Standard deviations of the direct beam below which a part of the background would pass for the beam itself."""

COUNTING_GAIN, COUNTING_NOISE = (0.75, 1.25), 0.5
"""Whole counts with a gain and a readout noise (counts) inside these come from a counting detector."""

MOST_SHARE = 0.9
"""A background may have so much of a pattern."""


def instrument_of(
    patterns: NDArray[Any], base: InstrumentModel, *, center_xy: tuple[float, float]
) -> tuple[InstrumentModel, float, NDArray[np.bool_]]:
    """The detector that took patterns ``(n, rows, columns)``, its counts per electron, its faulty pixels (mask)."""
    hot, dead = hot_pixels(patterns), dead_pixels(patterns)
    gain, noise = gain_and_noise(patterns, center_xy=center_xy)
    whole = bool((patterns == np.round(patterns)).all() and patterns.min() >= 0)
    counting = whole and COUNTING_GAIN[0] <= gain <= COUNTING_GAIN[1] and noise < COUNTING_NOISE
    gain = 1.0 if counting else gain
    number = np.asarray(patterns[:, hot], float).mean(axis=0) / gain if hot.any() else np.array(base.hot_electrons)
    instrument = changed(
        base,
        detector="counting" if counting else "integrating",
        gain_counts_per_electron=None if counting else (gain, gain),
        readout_noise_counts=None if counting or noise == 0 else (noise, noise),
        hot_fraction=_fixed(hot.mean()) if hot.any() else None,
        hot_electrons=(max(float(number.min()), 1e-3), max(float(number.max()), 1e-3)),
        dead_fraction=_fixed(dead.mean()) if dead.any() else None,
        point_spread_sigma_px=None,
        beam_stop_radius_px=None,
    )
    return instrument, gain, hot | dead


def first_estimate(model: SampleModel, real: PatternFeatures, geometry: Geometry) -> SampleModel:
    """Ranges read straight off the measurements of a scan, where they can be."""
    sigma = float(np.median(real.direct_sigma_px))
    radius, blur = disk_radius(np.nan_to_num(real.profile).mean(axis=0), sigma_px=sigma)
    mrad = radius * geometry.scale_inv_angstrom * wavelength_angstrom(geometry.beam_energy_kev) * 1e3
    spread = (blur, blur) if radius else _between(np.sqrt(np.maximum(real.direct_sigma_px**2 - 1 / 12, 0.04)))
    low, high = _between(real.total)
    instrument = changed(
        model.instrument,
        dose_electrons=(min(low, 1e8), min(high, 1e8)),
        spot_sigma_px=_inside(spread, 0.2, 100),
        convergence_mrad=(mrad, mrad) if radius else None,
        descan_px=None,
    )
    share = real.direct_share / np.maximum(1 - real.background_share, 0.05)
    model = changed(
        model,
        instrument=instrument,
        direct_share=_inside(_between(share), 0, 1),
        diffuse_share=_inside(_between(real.background_share), 0, MOST_SHARE),
        diffuse_width_inv_angstrom=_between(real.background_radius / np.sqrt(np.pi / 2)),
        center_shift_px=None,
    )
    return with_background(model, background_sum(real), real, geometry=geometry)


def corrected(
    model: SampleModel, real: PatternFeatures, simulated: PatternFeatures, *, position: Values, center_xy: Pair
) -> SampleModel:
    """Ranges moved by what separates a scan's patterns, from ``position`` (n, 2), from those simulated with them.

    The simulated ones come from one place, so that the drift of the centre does not scatter them.
    """
    drift, apart = scatter(real.center_xy, position, center_xy=center_xy)
    old, made = model.instrument, np.hypot(*(simulated.center_xy - np.asarray(center_xy)).T)
    shift = _moved(model.center_shift_px or (0.0, 0.0), apart, made, least=0)
    squares = (old.spot_sigma_px[0] ** 2, old.spot_sigma_px[1] ** 2)
    sigma = _moved(squares, real.direct_sigma_px**2, simulated.direct_sigma_px**2, least=0.04)
    log_dose = (float(np.log(old.dose_electrons[0])), float(np.log(old.dose_electrons[1])))
    dose = np.exp(_moved(log_dose, np.log(real.total), np.log(simulated.total)))
    instrument = changed(
        old,
        dose_electrons=(float(min(dose[0], 1e8)), float(min(dose[1], 1e8))),
        spot_sigma_px=old.spot_sigma_px if old.convergence_mrad else (sigma[0] ** 0.5, sigma[1] ** 0.5),
        descan_px=_fixed(drift) if drift else None,
    )
    ratio = [f.direct_share / np.maximum(1 - f.background_share, 0.05) for f in (real, simulated)]
    diffuse = _moved(model.diffuse_share or (0.0, 0.0), real.background_share, simulated.background_share)
    width = _moved(model.diffuse_width_inv_angstrom, real.background_radius, simulated.background_radius, least=1e-3)
    return changed(
        model,
        instrument=instrument,
        direct_share=_inside(_moved(model.direct_share, *ratio), 0, 1),
        diffuse_share=_inside(diffuse, 0, MOST_SHARE),
        diffuse_width_inv_angstrom=width,
        center_shift_px=shift if shift[1] > LEAST_SCATTER_PX else None,
    )


def with_background(model: SampleModel, electrons: Values, real: PatternFeatures, *, geometry: Geometry) -> SampleModel:
    """A model whose background has, on average, so many electrons in each ring, ``(rings,)``, sums over patterns.

    The narrowest of three Gaussians becomes the halo around every beam, most of which lies around the direct one. The
    relative spread of share and width from pattern to pattern stays that of ``model``.
    """
    sigma = float(np.median(real.direct_sigma_px))
    parts = background_gaussians(
        electrons / len(real),
        real.pixels.mean(axis=0),
        first_ring=int(CLEAR_OF_BEAM * sigma + 2),
        least_px=NARROWEST * sigma,
    )
    share = parts[:, 0] / real.total.mean()
    share *= min(1.0, MOST_SHARE / max(float(share.sum()), 1e-9))
    width = parts[:, 1] * geometry.scale_inv_angstrom
    wide = float(share[1:].sum())
    core = share[1] / max(wide, 1e-9)
    return changed(
        model,
        diffuse_share=_inside(_about(model.diffuse_share or (0.0, 0.0), wide), 0, MOST_SHARE),
        diffuse_width_inv_angstrom=_about(model.diffuse_width_inv_angstrom, width[2]),
        diffuse_core_share=_fixed(core),
        diffuse_core_width_inv_angstrom=_fixed(width[1]),
        inelastic_share=_fixed(share[0] / max(1 - wide, 0.05)),
        inelastic_sigma_px=_fixed(parts[0, 1]),
    )


def background_sum(features: PatternFeatures) -> Values:
    """Electrons of the background in each ring, sums over patterns, ``(rings,)``."""
    return np.asarray((features.background * features.pixels * features.total[:, None]).sum(axis=0))


def scatter(centers: Values, position: Values, *, center_xy: Pair) -> tuple[float, Values]:
    """Drift of the centre from edge to edge of a scan, pixels, and how far each is off its course, ``(n,)``.

    Least squares of ``centers`` (n, 2) against places in the scan (n, 2), 0 to 1; the course passes the nominal centre
    where the fit passes the mean one, so that a wrong nominal centre counts as scatter.
    """
    away = centers - np.asarray(center_xy)
    middle = position - 0.5
    design = np.column_stack([middle, np.ones(len(middle))])
    fit = np.linalg.lstsq(design, away, rcond=None)[0]
    drift = float(np.sqrt((fit[:2] ** 2).sum() / 2))
    error = (away - design @ fit).std() / np.sqrt(max((middle**2).sum() / 2, 1e-9))
    if drift < max(LEAST_DRIFT_PX, SIGNIFICANT * error):
        return 0.0, np.hypot(*away.T)
    return drift, np.hypot(*(away - middle @ fit[:2]).T)


def _moved(pair: Pair, real: Values, simulated: Values, *, least: float = -np.inf) -> Pair:
    """A range whose ends move as far as the `USUAL` quantiles are apart; one value where they would cross."""
    low, high = np.asarray(pair) + np.quantile(real, USUAL) - np.quantile(simulated, USUAL)
    if low > high:
        low = high = (low + high) / 2
    return max(float(low), least), max(float(high), least)


def _between(values: Values) -> Pair:
    """The `USUAL` quantiles as a range."""
    low, high = np.quantile(values, USUAL)
    return float(low), float(high)


def _about(pair: Pair, middle: float) -> Pair:
    """A range with the same relative width about another middle."""
    ratio = (pair[1] - pair[0]) / max(pair[1] + pair[0], 1e-9)
    return float(middle * (1 - ratio)), float(middle * (1 + ratio))


def _inside(pair: Pair, low: float, high: float) -> Pair:
    """A range cut to its bounds."""
    return float(np.clip(pair[0], low, high)), float(np.clip(pair[1], low, high))


def _fixed(value: float) -> Pair:
    """A range of one value."""
    return float(value), float(value)


def changed(record: R, **changes: Any) -> R:
    """A record with other values, checked."""
    return type(record).model_validate(
        {**{name: getattr(record, name) for name in type(record).model_fields}, **changes}
    )
