"""The engines side by side: each turns rows of a scan into matches, packed as `matching.unpack` reads them."""

from collections.abc import Callable

import dask
import numpy as np
import torch
from matplotlib.image import imread
from numpy.typing import NDArray

from dpcurate.bad_patterns import unusable
from dpcurate.engine import N_AZIMUTH, N_RADIUS, Engine, Scoring, match_patterns
from dpcurate.equivalent import by_fourier
from dpcurate.errors import InputError
from dpcurate.library import TemplateLibrary, build_library, with_spots_beyond
from dpcurate.matching import Kernel, by_pyxem, innermost_k, match, pack, polar_patterns, polar_templates
from dpcurate.polar import LEAST_SIGMA_PIXELS, polar_transform
from dpcurate.preprocess import prepare_polar
from dpcurate.recipe import Recipe
from dpcurate.scan_sample import ScanSample, sample_scan, spot_sigma_px
from dpcurate.scans import Scan
from dpcurate.schema import PhaseRecord
from dpcurate.templates import cached_engine

Skipped = dict[str, NDArray[np.bool_]]
MatchRows = Callable[[slice], tuple[NDArray[np.float64], Skipped]]


def matcher(scan: Scan, phases: tuple[PhaseRecord, ...], recipe: Recipe, *, k_max: float) -> MatchRows:
    """What matches rows of a scan by the recipe's engine, templates ready: slice -> packed matches, skipped masks."""
    if recipe.matching.engine == "fast" and recipe.matching.score == "own":
        return _fast(scan, phases, recipe, k_max=k_max)
    kernel = by_fourier if recipe.matching.engine == "fast" else by_pyxem
    return _pyxem(scan, phases, recipe, k_max=k_max, kernel=kernel)


def _fast(scan: Scan, phases: tuple[PhaseRecord, ...], recipe: Recipe, *, k_max: float) -> MatchRows:
    """Our own engine; of the recipe's preprocessing it takes all but bins and mean."""
    engine, shape, wanted = engine_of(scan, phases, recipe, k_max=k_max), scan.patterns.shape[2:], recipe.matching

    def match_rows(rows: slice) -> tuple[NDArray[np.float64], Skipped]:
        patterns = np.asarray(scan.patterns[rows].compute())
        skipped = unusable(patterns)
        bad = np.any(list(skipped.values()), axis=0)
        clean = np.where(bad[..., None, None], 0, patterns) if bad.any() else patterns
        found = match_patterns(
            engine, clean.reshape(-1, *shape), n_best=wanted.n_best, runner_up_deg=wanted.runner_up_deg
        )
        packed = pack(found)
        return packed.reshape(*patterns.shape[:2], *packed.shape[1:]), skipped

    return match_rows


def engine_of(
    scan: Scan,
    phases: tuple[PhaseRecord, ...],
    recipe: Recipe,
    *,
    k_max: float,
    sample: ScanSample | None = None,
) -> Engine:
    """The fast engine for a scan and a recipe, up to ``k_max`` in 1/Angstrom.

    Spot width and faulty pixels come from a ``sample`` of the scan, which is read if it is not given.
    """
    calibration, shape, preprocess = scan.calibration, scan.patterns.shape[2:], recipe.preprocess
    sample, scale = sample or sample_scan(scan), calibration.scale_inv_angstrom
    transform = polar_transform(
        shape,
        center_xy=calibration.center_xy,
        scale_inv_angstrom=scale,
        k_min_inv_angstrom=preprocess.k_min_inv_angstrom,
        k_max_inv_angstrom=k_max,
        n_radius=N_RADIUS,
        n_azimuth=N_AZIMUTH,
        ellipse=calibration.ellipse,
        mask=sample.faulty | read_mask(preprocess.mask, shape),
        device=device_of(recipe.matching.device),
    )
    sigma = spot_sigma_px(
        sample,
        center_xy=calibration.center_xy,
        inner_px=preprocess.k_min_inv_angstrom / scale,
        outer_px=k_max / scale,
    )
    return cached_engine(
        phases,
        transform=transform,
        spot_sigma_inv_angstrom=round(float(np.hypot(sigma, LEAST_SIGMA_PIXELS)), 1) * scale,
        spacing_deg=recipe.library.spacing_deg,
        beam_energy_kev=calibration.beam_energy_kev,
        precession_deg=calibration.precession_deg,
        scoring=Scoring(
            background=preprocess.background == "radial-median",
            floor=preprocess.floor,
            power=preprocess.power if preprocess.intensity == "power" else None,
            ring_power=preprocess.ring_power,
            template_power=preprocess.power,
            thickness_angstrom=recipe.library.thickness_angstrom,
        ),
    )


def read_mask(path: str | None, shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Detector pixels that do not count, (h, w), from a .npy file or an image in which they are not 0; None: none."""
    if path is None:
        return np.zeros(shape, bool)
    try:
        mask = np.load(path) if path.endswith(".npy") else imread(path)
    except (OSError, ValueError, EOFError, SyntaxError) as error:
        raise InputError(
            f"preprocess.mask: {path} cannot be read ({str(error)[:100]}). "
            "Give a .npy file or an image of the detector's size, in which pixels that do not count are not 0."
        ) from error
    mask = mask[..., :3].max(axis=-1) if mask.ndim == 3 else mask  # an image may have colours and an opacity
    if mask.shape != shape:
        raise InputError(
            f"preprocess.mask: {path} is {mask.shape}, and the patterns are {shape} (rows, columns). "
            "Give a mask of their size."
        )
    return np.asarray(mask != 0)


def device_of(name: str) -> torch.device:
    """The device of this name; InputError where there is none."""
    if name == "cuda" and not torch.cuda.is_available():
        raise InputError('matching.device: "cuda", and no GPU is seen here. Take "cpu", or a node that has one.')
    return torch.device(name)


def _pyxem(scan: Scan, phases: tuple[PhaseRecord, ...], recipe: Recipe, *, k_max: float, kernel: Kernel) -> MatchRows:
    """Pyxem's matching, corrected; by its own kernel or by ours."""
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
        lazy = match(part, libraries, templates=templates, recipe=recipe.matching, kernel=kernel)
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
