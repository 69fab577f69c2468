"""From a scan to the ranges of sample and instrument that make simulated patterns look like its own.

Measured in simulated patterns as in the scan's, each range is corrected until both agree. What cannot be measured keeps
the value of the recipe, and mosaic, which costs four times the time, is switched off.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import maximum_filter, minimum_filter

from dpcurate.bad_patterns import unusable
from dpcurate.conditions import SampleModel, draw_conditions
from dpcurate.crystal_maps import IndexResult
from dpcurate.detector import count, render
from dpcurate.errors import InputError
from dpcurate.likeness_fits import (
    QUANTILES,
    scale_error,
    thickness_range,
    weighted_quantiles,
)
from dpcurate.likeness_ranges import background_sum, changed, corrected, first_estimate, instrument_of, with_background
from dpcurate.likeness_theory import THICKNESSES, Beams, beams_of
from dpcurate.orientations import turn_pattern
from dpcurate.pattern_features import PatternFeatures, measure
from dpcurate.scans import Scan, reading
from dpcurate.schema import PhaseRecord
from dpcurate.simulation_plan import Geometry, SimulationPlan, SimulationRecipe
from dpcurate.simulator import draw, make_simulator

Values = NDArray[np.float64]
Pair = tuple[float, float]

SAMPLED = 192
"""Patterns of a scan that are looked at."""

ROUNDS = 3
"""Corrections; the ranges hardly move after the third."""

FARTHEST = 0.9
"""Quantile, over patterns, of the distance of the farthest spot; noise passes for a spot at times."""

SCALE_SPREAD = 0.004
"""About the error of scale that was found: how far off it was on patterns of 64 pixels; at 128 a tenth of that."""


@dataclass(frozen=True)
class ScanSample:
    """Some patterns of a scan, spread evenly over it."""

    patterns: NDArray[Any]
    """Counts, shape (n, rows, columns)."""
    pixel: NDArray[np.intp]
    """Row and column in the scan, (n, 2)."""
    position: Values
    """(column, row), each from 0 to 1 across the scan, (n, 2)."""
    geometry: Geometry


def sample_scan(scan: Scan, number: int = SAMPLED) -> ScanSample:
    """About ``number`` usable patterns of a scan on a regular grid; InputError when there are none."""
    rows, columns = scan.shape
    every = max(1, round(float(np.sqrt(rows * columns / number))))
    with reading(scan.path.name if scan.path else "signal"):
        grid = np.asarray(scan.patterns[every // 2 :: every, every // 2 :: every].compute())
    row, column = np.mgrid[every // 2 : rows : every, every // 2 : columns : every].reshape(2, -1)
    patterns = grid.reshape(-1, *grid.shape[2:])
    good = ~np.any(list(unusable(patterns).values()), axis=0)
    if not good.any():
        raise InputError(f"{scan.path or 'signal'}: none of {len(good)} patterns is usable. Give a scan with patterns.")
    c = scan.calibration
    geometry = Geometry(
        shape=patterns.shape[1:],
        scale_inv_angstrom=c.scale_inv_angstrom,
        center_xy=c.center_xy,
        beam_energy_kev=c.beam_energy_kev,
        precession_deg=c.precession_deg,
    )
    position = np.stack([column / max(columns - 1, 1), row / max(rows - 1, 1)], axis=1)
    return ScanSample(patterns[good], np.stack([row, column], axis=1)[good], position[good], geometry)


def estimate_recipe(
    sample: ScanSample,
    phases: Sequence[PhaseRecord],
    *,
    index: IndexResult | None = None,
    recipe: SimulationRecipe | None = None,
    seed: int = 0,
) -> SimulationRecipe:
    """A recipe that simulates in the likeness of a scan: its sample model, and how far out it has spots.

    Parameters
    ----------
    sample
        From `sample_scan`.
    phases
        What the scan shows; patterns take turns. Not used where ``index`` gives each pixel its own.
    index
        Of the same scan: its orientations give the error of scale and the share of pixels on boundaries, and make the
        thickness surer. Without it, orientations are taken for uniform, and the first two are the recipe's.
    recipe
        Physics, orientations, and all that cannot be measured. A `k_max_inv_angstrom` in it is kept.
    seed
        Of the simulated patterns that the scan's are compared with.
    """
    recipe, geometry = recipe or SimulationRecipe(), sample.geometry
    if index is not None:
        sample, recipe = _indexed(sample, index), _with_boundaries(recipe, index)
    known, gain, faulty = instrument_of(sample.patterns, recipe.sample.instrument, center_xy=geometry.center_xy)
    real = measured(sample.patterns, geometry, gain=gain, faulty=faulty)
    reach = float(np.quantile(real.farthest_spot, FARTHEST))
    recipe = recipe.model_copy(update={"k_max_inv_angstrom": recipe.k_max_inv_angstrom or reach or None})
    model = changed(recipe.sample, mosaic_deg=None, ring_chance=0.0, ring_share=None, instrument=known)
    beams = _theory(recipe, sample, phases, index=index, seed=seed)
    if index is not None:
        model = _with_scale(model, sample, real, beams, gain=gain)
    model, wanted = first_estimate(model, real, geometry), background_sum(real)
    for _ in range(ROUNDS):
        simulated = measured(like(beams, model, geometry, seed=seed), geometry, gain=gain)
        wanted = wanted * np.clip(background_sum(real) / np.maximum(background_sum(simulated), 1e-9), 0.5, 2)
        if recipe.physics == "dynamical":
            model = changed(model, thickness_angstrom=_thickness(model, real, simulated, beams))
        model = corrected(model, real, simulated, position=sample.position, center_xy=geometry.center_xy)
        model = with_background(model, wanted, real, geometry=geometry)
    return recipe.model_copy(update={"sample": model})


def _theory(
    recipe: SimulationRecipe, sample: ScanSample, phases: Sequence[PhaseRecord], *, index: IndexResult | None, seed: int
) -> Beams:
    """Beams of the orientation of each pattern by its index, in the detector's frame, or of as many uniform ones."""
    plan = SimulationPlan(
        recipe=recipe.model_copy(update={"orientations": "uniform"}),
        geometry=sample.geometry,
        seed=seed,
        number=len(sample.patterns),
    )
    simulator = make_simulator(plan, phases if index is None else index.phases)
    if index is None:
        drawn = draw(simulator, np.arange(len(sample.patterns)))
        return beams_of(simulator, drawn.orientation, drawn.phase_id)
    at = tuple(sample.pixel.T)
    orientation = turn_pattern(index.orientation[at], -index.info["calibration"].get("rotation_deg", 0.0))
    return beams_of(simulator, orientation, index.phase_id[at])


def like(beams: Beams, model: SampleModel, geometry: Geometry, *, seed: int) -> NDArray[np.uint16]:
    """Patterns simulated with a model in counts, as many as beams, ``(n, rows, columns)``.

    Quick, for its theory is worked out: each takes the nearest of its thicknesses, and the second grain of a pattern is
    another pattern's. All come from the middle of the scan, so that the centre does not drift.
    """
    n = len(beams.q)
    index = torch.arange(n)
    c = draw_conditions(index, model, seed=seed, position=torch.full((n, 2), 0.5))
    at = np.abs(c.thickness_angstrom.numpy()[:, None] - THICKNESSES).argmin(axis=1)
    other = np.random.default_rng(seed).permutation(n)
    weight = c.first_weight.numpy()
    intensity, direct = beams.intensity[np.arange(n), at], beams.direct[np.arange(n), at]
    intensity = np.concatenate([weight[:, None] * intensity, (1 - weight)[:, None] * intensity[other]], axis=1)
    straight = weight * direct + (1 - weight) * direct[other]
    expected = render(
        torch.as_tensor(np.concatenate([beams.q, beams.q[other]], axis=1)),
        torch.as_tensor(intensity),
        c,
        direct=torch.as_tensor(straight) if straight.any() else None,
        scale_inv_angstrom=geometry.scale_inv_angstrom,
        center_xy=geometry.center_xy,
        beam_energy_kev=geometry.beam_energy_kev,
        shape=geometry.shape,
    )
    return np.asarray(count(expected, c, index, seed=seed).numpy())


def measured(
    patterns: NDArray[Any], geometry: Geometry, *, gain: float = 1.0, faulty: NDArray[np.bool_] | None = None
) -> PatternFeatures:
    """`measure` with a scan's geometry."""
    return measure(
        patterns,
        scale_inv_angstrom=geometry.scale_inv_angstrom,
        center_xy=geometry.center_xy,
        gain=gain,
        faulty=faulty,
    )


def _thickness(model: SampleModel, real: PatternFeatures, simulated: PatternFeatures, beams: Beams) -> Pair:
    """Range of thickness whose beams are shared out as the scan's, what measuring does to shares allowed for."""
    low, high = model.thickness_angstrom
    weight = ((low <= THICKNESSES) & (high >= THICKNESSES)).astype(float)
    weight[np.abs(THICKNESSES - (low + high) / 2).argmin()] += 1e-6
    targets = []
    for share, seen, made in zip(beams.shares(), _shares(real), _shares(simulated), strict=True):
        targets.append(weighted_quantiles(share, weight) + np.quantile(seen, QUANTILES) - np.quantile(made, QUANTILES))
    return thickness_range(beams, (targets[0], targets[1]))


def _shares(features: PatternFeatures) -> tuple[Values, Values]:
    """Direct beam and strongest spot, of what the background leaves, each (n,)."""
    rest = np.maximum(1 - features.background_share, 0.05)
    return features.direct_share / rest, features.spot_share[:, 0] / rest


def _with_scale(
    model: SampleModel, sample: ScanSample, real: PatternFeatures, beams: Beams, *, gain: float
) -> SampleModel:
    """A model with the error of scale of patterns of known orientation."""
    scale = sample.geometry.scale_inv_angstrom
    larger = scale_error(sample.patterns / gain, real, beams, scale_inv_angstrom=scale)
    if larger is None:
        return model
    instrument = changed(model.instrument, scale_error=(larger - SCALE_SPREAD, larger + SCALE_SPREAD))
    return changed(model, instrument=instrument)


def _indexed(sample: ScanSample, index: IndexResult) -> ScanSample:
    """The patterns of a sample whose pixels have an orientation; InputError when the index is of another scan."""
    if (sample.pixel.max(axis=0) >= index.shape).any():
        raise InputError(
            f"{index.folder}: its map is {index.shape}, too small for this scan. Give the scan's own index."
        )
    own = index.phase_id[tuple(sample.pixel.T)] >= 0
    if not own.any():
        raise InputError(f"{index.folder}: no pixel of it is indexed. Index the scan anew, or give none.")
    return ScanSample(sample.patterns[own], sample.pixel[own], sample.position[own], sample.geometry)


def _with_boundaries(recipe: SimulationRecipe, index: IndexResult) -> SimulationRecipe:
    """A recipe in which as many patterns hold two grains as pixels touch another grain, corners included."""
    grain = index.grain_id
    touches = maximum_filter(grain, size=3, mode="nearest") != minimum_filter(grain, size=3, mode="nearest")
    model = changed(recipe.sample, overlap_chance=float(touches.mean()), first_weight=(0.5, 1.0))
    return recipe.model_copy(update={"sample": model})
