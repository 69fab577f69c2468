"""How far out patterns are matched: to the edge of the detector's full circle, or farther where spots still are."""

import numpy as np

from dpcurate.bad_patterns import without_faults
from dpcurate.noise_scores import gain_of
from dpcurate.preprocess import DEFAULT_K_MAX, k_max_of
from dpcurate.recipe import Recipe
from dpcurate.scan_sample import ScanSample, sample_scan, spot_sigma_px
from dpcurate.scans import Scan
from dpcurate.spots import find_spots

STRAY = 5
"""So many spots of the sample may lie farther out: noise, X-rays, or the flanks of spots within."""

FOR_GAIN = 32
"""Patterns from which the gain of the detector is told."""


def with_reach(scan: Scan, recipe: Recipe, *, sample: ScanSample | None = None) -> Recipe:
    """The recipe with its outer radius stated: its own, or where the spots of a scan end.

    The corners of a square detector hold spots that tell orientations best, because they move most. But a template's
    spots out there count against it where an aperture, or a simulation, lets none through; so patterns of a ``sample``,
    read if it is not given, say how far spots reach. Never less than the largest full circle on the detector, and at
    most `preprocess.DEFAULT_K_MAX`. Pyxem's score knows no bins without pixels and keeps to the circle.
    Raises InputError for a scan that cannot be read.
    """
    wanted, calibration = recipe.matching, scan.calibration
    own = wanted.engine == "fast" and wanted.score == "own"
    if recipe.preprocess.k_max_inv_angstrom is not None or not own:
        return recipe
    scale, shape = calibration.scale_inv_angstrom, scan.patterns.shape[2:]
    circle = k_max_of(shape, calibration.center_xy, scale, recipe.preprocess)
    inner = recipe.preprocess.k_min_inv_angstrom
    if not inner < circle < DEFAULT_K_MAX:
        return recipe
    edge = farthest_px(sample or sample_scan(scan), calibration.center_xy, radii_px=(inner / scale, circle / scale))
    k_max = round(float(np.clip(edge * scale, circle, DEFAULT_K_MAX)), 4)
    preprocess = recipe.preprocess.model_copy(update={"k_max_inv_angstrom": k_max})
    return recipe.model_copy(update={"preprocess": preprocess})


def farthest_px(sample: ScanSample, center_xy: tuple[float, float], *, radii_px: tuple[float, float]) -> float:
    """Distance from the direct beam, pixels, that all but `STRAY` spots of a sample keep within; 0 for fewer spots.

    The width of a spot is measured between two radii.
    """
    if not len(sample.patterns):
        return 0.0
    row, column = np.indices(sample.faulty.shape)
    ring = np.asarray(np.round(np.hypot(column - center_xy[0], row - center_xy[1])), np.int64)
    sigma = spot_sigma_px(sample, center_xy=center_xy, inner_px=radii_px[0], outer_px=radii_px[1])
    number = len(sample.patterns)
    electrons = without_faults(sample.patterns.astype(np.float64), sample.faulty)
    electrons /= gain_of(sample.patterns[:FOR_GAIN], ring)
    radius = find_spots(electrons, np.tile(center_xy, (number, 1)), np.full(number, sigma)).radius_px
    return float(np.sort(radius)[-STRAY - 1]) if len(radius) > STRAY else 0.0
