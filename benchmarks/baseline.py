"""Label accuracy and speed of the pyxem engine, as pyxem documents it and with its traps mended, in one run.

Example: python benchmarks/baseline.py --data scan_dev.hspy --phase datasets/phases/LiNiO2.cif --every 2
The scan is a .hspy with NAME.truth.npz beside it; benchmarks/convert_scan.py makes one of an .npz. Prints Markdown.

Rows: "documented" takes the square root of the pattern and templates as diffsims gives them, 10 % of them past pyxem's
prefilter; "tuned" takes off the radial median, raises both sides to the power 0.25, subtracts the mean, no prefilter.
Both feed the pattern flipped along its columns, since pyxem otherwise returns every match mirrored. "mended" decodes a
mirrored match as g * C2y. The last row is dpcurate's own door to the same kernel: no flip, no dropped or shifted bins.
"""

import argparse
import os
import platform
import time
from dataclasses import dataclass, replace

import dask.array as da
import hyperspy.api as hs
import numpy as np
from diffsims.generators.simulation_generator import SimulationGenerator
from orix.quaternion import Rotation
from orix.sampling import get_sample_reduced_fundamental

from dpcurate.library import build_library
from dpcurate.matching import match, polar_patterns, polar_templates, unpack
from dpcurate.orientations import disorientation_deg, mirror_pattern, turn_pattern
from dpcurate.phases import orix_phase, read_cif
from dpcurate.pipeline import match_scan
from dpcurate.preprocess import k_max_of, prepare_polar
from dpcurate.recipe import Recipe, load_recipe
from dpcurate.scans import Scan, open_scan
from dpcurate.schema import PhaseRecord
from dpcurate.truth import Truth, read_truth

SPACING_DEG = 2.0
RECIPE = Recipe()


@dataclass(frozen=True)
class Case:
    """One scan, in memory, with its truth at the pixels used."""

    scan: Scan
    patterns: np.ndarray
    quat: np.ndarray
    inside: np.ndarray
    phase: PhaseRecord
    k_max: float


def simulated(case: Case, *, power: float) -> object:
    """Return diffsims' library as pyxem's users make it, intensities raised to ``power``."""
    c = case.scan.calibration
    phase = orix_phase(case.phase)
    simulation = SimulationGenerator(c.beam_energy_kev, precession_angle=c.precession_deg).calculate_diffraction2d(
        phase,
        rotation=get_sample_reduced_fundamental(SPACING_DEG, point_group=phase.point_group),
        reciprocal_radius=case.k_max,
        max_excitation_error=RECIPE.library.max_excitation_error,
        with_direct_beam=False,
    )
    for vectors in simulation.coordinates:
        vectors.intensity = (np.asarray(vectors.intensity) / np.max(vectors.intensity)) ** power
    return simulation


def by_pyxem(case: Case, *, tuned: bool) -> dict[str, tuple[np.ndarray, float, float]]:
    """Match with pyxem's own calls; orientations with its decoding and with the mended one, and both speeds."""
    c = case.scan.calibration
    simulation = simulated(case, power=RECIPE.preprocess.power if tuned else 1.0)
    signal = hs.signals.Signal2D(np.asarray(case.patterns[..., ::-1], np.float32))
    signal.set_signal_type("electron_diffraction")
    x, y = c.center_xy
    signal.calibration(center=(case.patterns.shape[-1] - 1 - x, y), scale=c.scale_inv_angstrom)
    n, start = case.quat[..., 0].size, time.perf_counter()
    polar = (signal if tuned else signal**0.5).get_azimuthal_integral2d(
        npt=RECIPE.preprocess.n_radius,
        npt_azim=RECIPE.preprocess.n_azimuth,
        radial_range=(RECIPE.preprocess.k_min_inv_angstrom, case.k_max),
        mean=True,
        inplace=False,
    )
    polar_rate = n / (time.perf_counter() - start)
    if tuned:
        polar.data = prepare_polar(polar.data, RECIPE.preprocess)
    start = time.perf_counter()
    found = polar.get_orientation(simulation, n_best=2, frac_keep=1.0 if tuned else 0.1)
    match_rate = n / (time.perf_counter() - start)
    rows = found.data[..., 0, :]
    own = found.to_rotation(flatten=True).data.reshape(*rows.shape[:2], -1, 4)[..., 0, :]
    template = Rotation(simulation.rotations.data[rows[..., 0].astype(int)]).data
    mirrored = rows[..., 3:] < 0
    turned = np.where(mirrored, mirror_pattern(template), template)
    mended = turn_pattern(turned, rows[..., 2])
    kind = "tuned" if tuned else "documented"
    return {
        f"{kind}, pyxem's mirror": (own, polar_rate, match_rate),
        f"{kind}, mirror mended": (mended, polar_rate, match_rate),
    }


def by_dpcurate(case: Case) -> dict[str, tuple[np.ndarray, float, float]]:
    """Match as `dpcurate index` does."""
    c = case.scan.calibration
    library = build_library(
        case.phase,
        spacing_deg=SPACING_DEG,
        beam_energy_kev=c.beam_energy_kev,
        precession_deg=c.precession_deg,
        k_max_inv_angstrom=case.k_max,
        max_excitation_error=RECIPE.library.max_excitation_error,
    )
    templates = polar_templates(library, k_max_inv_angstrom=case.k_max, recipe=RECIPE.preprocess)
    lazy = da.from_array(case.patterns, chunks=(4, -1, -1, -1))
    n, start = case.quat[..., 0].size, time.perf_counter()
    polar = polar_patterns(
        lazy, center_xy=c.center_xy, scale=c.scale_inv_angstrom, k_max=case.k_max, recipe=RECIPE.preprocess
    )
    polar.data = polar.data.map_blocks(prepare_polar, RECIPE.preprocess, dtype=np.float32).persist()
    polar_rate = n / (time.perf_counter() - start)
    start = time.perf_counter()
    matches = unpack(match(polar, [library], templates=[templates], recipe=RECIPE.matching).compute())
    rate = n / (time.perf_counter() - start)
    return {"dpcurate --engine pyxem": (matches.orientation[..., 0, :], polar_rate, rate)}


def by_fast(case: Case) -> dict[str, tuple[np.ndarray, float, float]]:
    """Match as `dpcurate index --engine fast` does; the polar transform is part of the matching."""
    scan = replace(case.scan, patterns=da.from_array(case.patterns))
    found = match_scan(scan, (case.phase,), load_recipe(matching__engine="fast"))
    rate = case.quat[..., 0].size / found.seconds["matching"]
    return {"dpcurate --engine fast": (found.matches.orientation[..., 0, :], np.nan, rate)}


def load(path: str, cif: str, every: int) -> Case:
    """Return the scan's every n-th pixel along both axes, in memory."""
    scan, truth = open_scan(path), read_truth(path)
    if not isinstance(truth, Truth):
        raise SystemExit(f"{path}: no truth file beside it")
    chosen = np.s_[::every, ::every]
    c = scan.calibration
    k_max = k_max_of(scan.patterns.shape[2:], c.center_xy, c.scale_inv_angstrom, RECIPE.preprocess)
    patterns = scan.patterns[chosen].compute()
    return Case(scan, patterns, truth.quat[chosen], truth.inside[chosen], read_cif(cif), k_max)


def main() -> None:
    """Run every row on one scan and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--phase", required=True)
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--fast", action="store_true", help="only the fast engine")
    arguments = parser.parse_args()
    case = load(arguments.data, arguments.phase, arguments.every)
    rows = {} if arguments.fast else by_pyxem(case, tuned=False) | by_pyxem(case, tuned=True) | by_dpcurate(case)
    rows |= by_fast(case)
    print(
        f"{arguments.data}, every {arguments.every} pixel, {case.quat[..., 0].size} patterns, "
        f"grid {SPACING_DEG} degrees"
    )
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}\n")
    print("| matching | within 3°, all | inside grains | median | polar patterns/s | matched patterns/s |")
    print("| --- | --- | --- | --- | --- | --- |")
    for name, (orientation, polar_rate, rate) in rows.items():
        error = disorientation_deg(orientation, case.quat, case.phase.proper_rotations())
        right = error < 3
        print(
            f"| {name} | {right.mean():.1%} | {right[case.inside].mean():.1%} | {np.median(error):.2f}° "
            f"| {'with matching' if np.isnan(polar_rate) else format(polar_rate, '.0f')} | {rate:.0f} |"
        )


if __name__ == "__main__":
    main()
