"""Index the patterns of a job with py4DSTEM's ACOM, in an environment that holds py4DSTEM.

Example: python benchmarks/peers/py4dstem_acom.py --job job.npz --out answer.npz --settings '{"corr_kernel_size": 0.08}'
What a job and an answer hold: benchmarks/index_methods.py. Imports nothing of this project. py4DSTEM's x runs down the
rows: with its orientation matrix M, ours is -M [[0, 1, 0], [1, 0, 0], [0, 0, 1]].
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
from ase.data import atomic_numbers
from emdfile import PointList
from py4DSTEM.braggvectors import find_Bragg_disks
from py4DSTEM.process.diffraction import Crystal
from scipy.ndimage import gaussian_filter, maximum_filter
from scipy.spatial.transform import Rotation

DEFAULTS = {
    "corr_kernel_size": 0.08,
    "power_radial": 1.0,
    "power_intensity": 0.25,
    "power_intensity_experiment": 0.25,
    "sigma_excitation_error": 0.02,
    "precession": False,
    "finder": "maxima",
    "blur_px": 1.0,
    "least_counts": 1.0,
}
"""py4DSTEM's own defaults, and a plain peak finder. `precession`: tell it the precession angle."""

PROBE_SIGMA_PX, AROUND_PROBE_SIGMA_PX = 1.3, 3.0
"""Of the Gaussian that disks are found with, and of the negative ring around it."""

PEAK = np.dtype([("qx", "<f8"), ("qy", "<f8"), ("intensity", "<f8")])
EDGE_PX = 3
REFERENCE_MATRIX = np.array([[0, 1, 0], [1, 0, 0], [0, 0, 1]])


def crystal_of(phase: dict, k_max: float) -> Crystal:
    """A py4DSTEM crystal of a phase record."""
    atoms = phase["atoms"]
    crystal = Crystal(
        np.array([[atom["x"], atom["y"], atom["z"]] for atom in atoms]),
        np.array([atomic_numbers[atom["element"]] for atom in atoms]),
        list(phase["lattice"]),
    )
    crystal.calculate_structure_factors(k_max + 0.1)
    return crystal


def plan(crystal: Crystal, job: dict, settings: dict) -> None:
    """Compute the library over the zone that py4DSTEM takes from the point group."""
    voltage = float(job["beam_energy_kev"]) * 1e3
    crystal.setup_diffraction(voltage)
    crystal.orientation_plan(
        zone_axis_range="auto",
        angle_step_zone_axis=float(job["spacing_deg"]),
        angle_step_in_plane=float(job["spacing_deg"]),
        accel_voltage=voltage,
        corr_kernel_size=settings["corr_kernel_size"],
        sigma_excitation_error=settings["sigma_excitation_error"],
        power_radial=settings["power_radial"],
        power_intensity=settings["power_intensity"],
        power_intensity_experiment=settings["power_intensity_experiment"],
        precession_angle_degrees=float(job["precession_deg"]) if settings["precession"] else None,
        progress_bar=False,
    )


def maxima(image: np.ndarray, settings: dict) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns with a fraction of a pixel, and heights, of maxima of the blurred pattern."""
    blurred = gaussian_filter(image, settings["blur_px"])
    blurred = blurred - np.median(blurred)
    peak = (blurred == maximum_filter(blurred, 5)) & (blurred > settings["least_counts"])
    place = np.argwhere(peak)
    inside = ((place >= EDGE_PX) & (place < np.array(image.shape) - EDGE_PX)).all(axis=1)
    place = place[inside]
    step = np.arange(-2, 3)
    rows, columns = place[:, 0, None, None] + step[:, None], place[:, 1, None, None] + step[None, :]
    weight = np.clip(blurred[rows, columns], 0, None)
    total = weight.sum(axis=(1, 2))
    centre = np.stack([(weight * axis).sum(axis=(1, 2)) / total for axis in (rows, columns)], axis=1)
    return centre, blurred[place[:, 0], place[:, 1]]


def disks(image: np.ndarray, settings: dict) -> tuple[np.ndarray, np.ndarray]:
    """The same by py4DSTEM's own disk detection, with a Gaussian as probe."""
    y, x = (np.minimum(np.arange(n), n - np.arange(n)) for n in image.shape)
    probe = np.exp(-(y[:, None] ** 2 + x[None] ** 2) / (2 * PROBE_SIGMA_PX**2))
    probe = (probe - gaussian_filter(probe, AROUND_PROBE_SIGMA_PX, mode="wrap")) / probe.sum()
    found = find_Bragg_disks(
        image,
        probe,
        corrPower=1.0,
        sigma_cc=settings["blur_px"],
        subpixel="poly",
        minAbsoluteIntensity=settings["least_counts"],
        minRelativeIntensity=0.0,
        minPeakSpacing=3,
        edgeBoundary=EDGE_PX,
        maxNumPeaks=120,
    )
    return np.stack([found.data["qx"], found.data["qy"]], axis=1), found.data["intensity"]


def peaks_of(image: np.ndarray, job: dict, settings: dict) -> PointList:
    """Peaks of a pattern outside the direct beam as py4DSTEM reads them."""
    finder = {"maxima": maxima, "disks": disks}[settings["finder"]]
    place, height = finder(image, settings)
    q = (place - job["center_xy"][::-1]) * float(job["scale_inv_angstrom"])
    outside = np.hypot(*q.T) > float(job["k_min_inv_angstrom"])
    peaks = np.zeros(int(outside.sum()), PEAK)
    peaks["qx"], peaks["qy"], peaks["intensity"] = q[outside, 0], q[outside, 1], height[outside]
    return PointList(peaks)


def match(crystal: Crystal, peaks: list[PointList]) -> tuple[np.ndarray, np.ndarray]:
    """Orientation matrices (n, 3, 3) in our frame and correlations (n,); 0 where there were too few peaks."""
    matrix, score = np.tile(np.eye(3), (len(peaks), 1, 1)), np.zeros(len(peaks))
    for number, some in enumerate(peaks):
        found = crystal.match_single_pattern(some, num_matches_return=1, verbose=False)
        if found.corr[0] > 0:
            matrix[number], score[number] = -found.matrix[0] @ REFERENCE_MATRIX, found.corr[0]
    return matrix, score


def main() -> None:
    """Read a job, match, write an answer."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--job", required=True, type=Path)
    parser.add_argument("--out", required=True, type=Path)
    parser.add_argument("--settings", type=json.loads, default={})
    arguments = parser.parse_args()
    settings = DEFAULTS | arguments.settings
    with np.load(arguments.job) as file:
        job = dict(file)
    start = time.perf_counter()
    crystals = [crystal_of(phase, float(job["k_max_inv_angstrom"])) for phase in json.loads(str(job["phases"]))]
    for crystal in crystals:
        plan(crystal, job, settings)
    seconds = {"library": time.perf_counter() - start}
    start = time.perf_counter()
    peaks = [peaks_of(image.astype(float), job, settings) for image in job["patterns"]]
    seconds["preparation"] = time.perf_counter() - start
    start = time.perf_counter()
    found = [match(crystal, peaks) for crystal in crystals]
    seconds["matching"] = time.perf_counter() - start
    score = np.stack([each[1] for each in found])
    phase_id = score.argmax(axis=0)
    matrix = np.stack([each[0] for each in found])[phase_id, np.arange(score.shape[1])]
    quaternion = np.roll(Rotation.from_matrix(matrix).as_quat(), 1, axis=1)
    best = score.max(axis=0)
    np.savez(
        arguments.out,
        orientation=quaternion,
        phase_id=np.where(best > 0, phase_id, -1),
        seconds=json.dumps(seconds),
        n_peaks=np.mean([len(some.data) for some in peaks]),
    )


if __name__ == "__main__":
    main()
