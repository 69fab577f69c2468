"""The engines side by side: each turns rows of a scan into matches, packed as `matching.unpack` reads them."""

from collections.abc import Callable

import dask
import numpy as np
from numpy.typing import NDArray

from dpcurate.bad_patterns import unusable
from dpcurate.engine import N_AZIMUTH, N_RADIUS, match_patterns, plate_spots, prepare_engine
from dpcurate.library import TemplateLibrary, build_library, with_spots_beyond, zone_axis_rotations
from dpcurate.matching import innermost_k, match, pack, polar_patterns, polar_templates
from dpcurate.polar import polar_transform
from dpcurate.preprocess import prepare_polar
from dpcurate.recipe import Recipe
from dpcurate.scans import Scan
from dpcurate.schema import PhaseRecord

SPOT_SIGMA_PX = 1.3
"""Standard deviation of a spot in a polar pattern of the fast engine, pixels of a detector 128 across; wider on
larger ones."""

SPOTS_BEYOND = 0.05
"""1/Angstrom beyond the outermost ring whose spots still reach into it."""

Skipped = dict[str, NDArray[np.bool_]]
MatchRows = Callable[[slice], tuple[NDArray[np.float64], Skipped]]


def matcher(scan: Scan, phases: tuple[PhaseRecord, ...], recipe: Recipe, *, k_max: float) -> MatchRows:
    """What matches rows of a scan by the recipe's engine, templates ready: slice -> packed matches, skipped masks."""
    make = {"fast": _fast, "pyxem": _pyxem}[recipe.matching.engine]
    return make(scan, phases, recipe, k_max=k_max)


def _fast(scan: Scan, phases: tuple[PhaseRecord, ...], recipe: Recipe, *, k_max: float) -> MatchRows:
    """Our own engine; of the recipe's preprocessing it takes the radii."""
    calibration, shape = scan.calibration, scan.patterns.shape[2:]
    transform = polar_transform(
        shape,
        center_xy=calibration.center_xy,
        scale_inv_angstrom=calibration.scale_inv_angstrom,
        k_min_inv_angstrom=recipe.preprocess.k_min_inv_angstrom,
        k_max_inv_angstrom=k_max,
        n_radius=N_RADIUS,
        n_azimuth=N_AZIMUTH,
    )
    spacing = recipe.library.spacing_deg
    engine = prepare_engine(
        list(phases),
        [zone_axis_rotations(phase.proper_rotations(), spacing_deg=spacing) for phase in phases],
        spots=plate_spots(
            beam_energy_kev=calibration.beam_energy_kev,
            precession_deg=calibration.precession_deg,
            k_max_inv_angstrom=k_max + SPOTS_BEYOND,
        ),
        transform=transform,
        spot_sigma_inv_angstrom=SPOT_SIGMA_PX * max(shape) / 128 * calibration.scale_inv_angstrom,
        spacing_deg=spacing,
    )
    wanted = recipe.matching

    def match_rows(rows: slice) -> tuple[NDArray[np.float64], Skipped]:
        patterns = np.asarray(scan.patterns[rows].compute())
        skipped = unusable(patterns)
        clean = np.where(np.any(list(skipped.values()), axis=0)[..., None, None], 0, patterns).astype(np.float32)
        found = match_patterns(
            engine, clean.reshape(-1, *shape), n_best=wanted.n_best, runner_up_deg=wanted.runner_up_deg
        )
        packed = pack(found)
        return packed.reshape(*patterns.shape[:2], *packed.shape[1:]), skipped

    return match_rows


def _pyxem(scan: Scan, phases: tuple[PhaseRecord, ...], recipe: Recipe, *, k_max: float) -> MatchRows:
    """Pyxem's matching, corrected."""
    libraries = [_library(phase, scan, recipe, k_max=k_max) for phase in phases]
    templates = [polar_templates(lib, k_max_inv_angstrom=k_max, recipe=recipe.preprocess) for lib in libraries]
    polar = polar_patterns(
        scan.patterns,
        center_xy=scan.calibration.center_xy,
        scale=scan.calibration.scale_inv_angstrom,
        k_max=k_max,
        recipe=recipe.preprocess,
    )

    def match_rows(rows: slice) -> tuple[NDArray[np.float64], Skipped]:
        part = polar.inav[:, rows]
        part.data = part.data.map_blocks(prepare_polar, recipe.preprocess, dtype=np.float32)
        lazy = match(part, libraries, templates=templates, recipe=recipe.matching)
        packed, patterns = dask.compute(lazy, scan.patterns[rows])
        return packed, unusable(patterns)

    return match_rows


def _library(phase: PhaseRecord, scan: Scan, recipe: Recipe, *, k_max: float) -> TemplateLibrary:
    library = build_library(
        phase,
        spacing_deg=recipe.library.spacing_deg,
        beam_energy_kev=scan.calibration.beam_energy_kev,
        precession_deg=scan.calibration.precession_deg,
        k_max_inv_angstrom=k_max,
        max_excitation_error=recipe.library.max_excitation_error,
    )
    return with_spots_beyond(library, innermost_k(k_max, recipe.preprocess))
