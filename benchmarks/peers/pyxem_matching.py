"""Index the patterns of a job with pyxem's own calls, as documented or tuned.

Example: python benchmarks/peers/pyxem_matching.py --job job.npz --out answer.npz --settings '{"tuned": true}'
What a job and an answer hold: benchmarks/index_methods.py. "Documented": square root of the pattern, templates as
diffsims gives them, 10 % past pyxem's prefilter. "Tuned": the radial median taken off, both sides raised to a power,
the mean taken off, no prefilter. Both feed the pattern flipped along its columns: pyxem's azimuth runs against the
detector's, and without the flip every match comes back mirrored. `mended` holds the orientations with a mirrored match
decoded as g * C2y instead of by pyxem's decoding.
"""

import argparse
import json
import time
from pathlib import Path

import hyperspy.api as hs
import numpy as np
from diffsims.generators.simulation_generator import SimulationGenerator
from orix.quaternion import Rotation
from orix.sampling import get_sample_reduced_fundamental

from dpcurate.orientations import mirror_pattern, turn_pattern
from dpcurate.phases import orix_phase
from dpcurate.preprocess import prepare_polar
from dpcurate.recipe import PreprocessRecipe
from dpcurate.schema import PhaseRecord

DEFAULTS = {"tuned": False, "power": 0.25, "max_excitation_error": 0.02, "n_radius": 100, "n_azimuth": 360}
WARM_UP = 4
"""Patterns matched before the clock starts: functions are compiled at their first call."""


def simulated(phase: PhaseRecord, job: dict, settings: dict) -> object:
    """Return diffsims' library as pyxem's users make it, intensities raised to the power."""
    own = orix_phase(phase)
    generator = SimulationGenerator(float(job["beam_energy_kev"]), precession_angle=float(job["precession_deg"]))
    simulation = generator.calculate_diffraction2d(
        own,
        rotation=get_sample_reduced_fundamental(float(job["spacing_deg"]), point_group=own.point_group),
        reciprocal_radius=float(job["k_max_inv_angstrom"]),
        max_excitation_error=settings["max_excitation_error"],
        with_direct_beam=False,
    )
    power = settings["power"] if settings["tuned"] else 1.0
    for vectors in simulation.coordinates:
        vectors.intensity = (np.asarray(vectors.intensity) / np.max(vectors.intensity)) ** power
    return simulation


def polar_of(patterns: np.ndarray, job: dict, settings: dict) -> object:
    """Polar patterns, ready to match."""
    signal = hs.signals.Signal2D(np.asarray(patterns[..., ::-1], np.float32))
    signal.set_signal_type("electron_diffraction")
    x, y = job["center_xy"]
    signal.calibration(center=(patterns.shape[-1] - 1 - x, y), scale=float(job["scale_inv_angstrom"]))
    polar = (signal if settings["tuned"] else signal**0.5).get_azimuthal_integral2d(
        npt=settings["n_radius"],
        npt_azim=settings["n_azimuth"],
        radial_range=(float(job["k_min_inv_angstrom"]), float(job["k_max_inv_angstrom"])),
        mean=True,
        inplace=False,
    )
    if settings["tuned"]:
        polar.data = prepare_polar(polar.data, PreprocessRecipe(power=settings["power"]))
    return polar


def match(polar: object, simulation: object, *, tuned: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Orientations by pyxem's decoding (n, 4), with its mirror mended (n, 4), and scores (n,)."""
    found = polar.get_orientation(simulation, n_best=2, frac_keep=1.0 if tuned else 0.1)
    rows = found.data[..., 0, :]
    own = found.to_rotation(flatten=True).data.reshape(*rows.shape[:2], -1, 4)[..., 0, :]
    template = Rotation(simulation.rotations.data[rows[..., 0].astype(int)]).data
    mended = turn_pattern(np.where(rows[..., 3:] < 0, mirror_pattern(template), template), rows[..., 2])
    return own.reshape(-1, 4), mended.reshape(-1, 4), rows[..., 1].ravel()


def main() -> None:
    """Read a job, match, write an answer."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--job", required=True, type=Path)
    parser.add_argument("--out", required=True, type=Path)
    parser.add_argument("--settings", type=json.loads, default={})
    arguments = parser.parse_args()
    settings = DEFAULTS | arguments.settings
    hs.preferences.General.show_progressbar = False
    with np.load(arguments.job) as file:
        job = dict(file)
    patterns = job["patterns"].reshape(*job["shape"], *job["patterns"].shape[1:])
    phases = [PhaseRecord.model_validate(phase) for phase in json.loads(str(job["phases"]))]
    start = time.perf_counter()
    simulations = [simulated(phase, job, settings) for phase in phases]
    seconds = {"library": time.perf_counter() - start}
    few = polar_of(patterns[:2, : WARM_UP // 2], job, settings)
    match(few, simulations[0], tuned=settings["tuned"])
    start = time.perf_counter()
    polar = polar_of(patterns, job, settings)
    seconds["preparation"] = time.perf_counter() - start
    start = time.perf_counter()
    found = [match(polar, simulation, tuned=settings["tuned"]) for simulation in simulations]
    seconds["matching"] = time.perf_counter() - start
    score = np.stack([each[2] for each in found])
    best = score.argmax(axis=0), np.arange(score.shape[1])
    np.savez(
        arguments.out,
        orientation=np.stack([each[0] for each in found])[best],
        mended=np.stack([each[1] for each in found])[best],
        phase_id=best[0],
        seconds=json.dumps(seconds),
    )


if __name__ == "__main__":
    main()
