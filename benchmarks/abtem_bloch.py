"""Time dynamical patterns against abTEM's Bloch waves on the same beams, in one run, and compare the intensities.

Example: python benchmarks/abtem_bloch.py --python abtem_env/bin/python --phase datasets/phases/LiNiO2.cif
abTEM 1.0.11 cannot share an environment with pyxem 0.21 (zarr), so it runs in its own, whose Python is given.
"""

import argparse
import json
import subprocess
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dpcurate.bloch import DynamicalSpots, dynamical_spots
from dpcurate.orientations import random_uniform, to_matrix
from dpcurate.phases import read_cif
from dpcurate.reflections import cell_basis, wavelength_angstrom
from dpcurate.scattering import scattering_table
from dpcurate.schema import PhaseRecord

ENERGY_KEV, K_MAX, MARGIN, U_ISO = 200.0, 1.3, 0.04, 0.0064

AGAINST_THE_BEAM = np.diag([1.0, -1.0, -1.0])
"""abTEM's electrons travel along +z, ours along -z: half a turn about x."""

THEIRS = """
import json, sys, time
import numpy as np
from ase import Atoms
from abtem.bloch import BlochWaves, StructureFactor
from abtem.core import config

task = json.load(sys.stdin)
config.set({"precision": "float64"})
atoms = Atoms(task["elements"], scaled_positions=task["positions"], cell=task["cell"], pbc=True)
# Its default cutoff tapers the couplings of opposite beams off: intensities up to 5 per cent apart.
factor = StructureFactor(atoms, g_max=2 * task["k_max"], thermal_sigma=task["sigma"], parametrization="lobato",
                         cutoff="hard")
factor = factor.build(lazy=False)

def pattern(matrix):
    waves = BlochWaves(factor, energy=task["energy"], sg_max=task["margin"], g_max=task["k_max"],
                       orientation_matrix=np.array(matrix), centering="P")
    spots = waves.calculate_diffraction_patterns(task["thickness"], lazy=False)
    return waves, np.asarray(spots.array)

pattern(task["matrices"][0])
start = time.perf_counter()
found = [pattern(matrix) for matrix in task["matrices"]]
seconds = time.perf_counter() - start
json.dump({"seconds": seconds, "g": [w.g_vec.tolist() for w, _ in found], "intensity": [a.tolist() for _, a in found]},
          sys.stdout)
"""


def run_abtem(python: Path, phase: PhaseRecord, orientation: np.ndarray, thickness: list[float]) -> dict[str, Any]:
    """Seconds for all patterns, and of each its beams' vectors and intensities (thickness, beam), by abTEM."""
    task = {
        "elements": [atom.element for atom in phase.atoms],
        "positions": [(atom.x, atom.y, atom.z) for atom in phase.atoms],
        "cell": cell_basis(phase).tolist(),
        "matrices": (AGAINST_THE_BEAM @ to_matrix(orientation).swapaxes(1, 2)).tolist(),
        "thickness": thickness,
        "energy": ENERGY_KEV * 1e3,
        "k_max": K_MAX,
        "margin": MARGIN,
        "sigma": U_ISO**0.5,
    }
    command = [str(python), "-W", "ignore", "-c", THEIRS]
    done = subprocess.run(command, input=json.dumps(task), stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout)


def largest_difference(theirs: dict[str, Any], ours: DynamicalSpots) -> float:
    """Largest relative difference of the beams above 1e-3, abTEM's amplitudes turned into currents."""
    worst = 0.0
    for k, g in enumerate(map(np.array, theirs["g"])):
        current = np.array(theirs["intensity"][k]) * (1 + g[:, 2] * wavelength_angstrom(ENERGY_KEV))
        place = np.linalg.norm(ours.q[k].numpy() - (g @ AGAINST_THE_BEAM)[:, None, :2], axis=2)
        matched = ours.intensity[k].numpy() @ (place < 1e-4).T
        strong = (current > 1e-3) & (np.abs(g).sum(axis=1) > 0)
        worst = max(worst, np.abs(matched[strong] / current[strong] - 1).max(initial=0))
    return worst


def main() -> None:
    """Time both, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--python", required=True, type=Path, help="Python of the environment with abTEM")
    parser.add_argument("--phase", required=True, type=Path)
    parser.add_argument("--patterns", type=int, default=100, help="for abTEM; ours takes ten times as many")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    phase, thickness = read_cif(arguments.phase), [100.0, 300.0, 600.0]
    orientation = random_uniform(10 * arguments.patterns, seed=1)
    theirs = run_abtem(arguments.python, phase, orientation[: arguments.patterns], thickness)
    table = scattering_table(phase, beam_energy_kev=ENERGY_KEV, k_max_inv_angstrom=K_MAX, u_iso_angstrom2=U_ISO)
    ours = dynamical_spots(table, orientation, thickness_angstrom=thickness, max_excitation_error=MARGIN)
    start = time.perf_counter()
    dynamical_spots(table, orientation, thickness_angstrom=thickness, max_excitation_error=MARGIN)
    rates = arguments.patterns / theirs["seconds"], len(orientation) / (time.perf_counter() - start)
    print(f"{phase.name}, {len(thickness)} thicknesses, beams up to {K_MAX} 1/Angstrom, no precession, CPU:")
    print(f"abTEM: {rates[0]:.1f} patterns/s, {np.mean([len(g) for g in theirs['g']]):.1f} beams on average")
    print(f"dpcurate, {arguments.threads} threads: {rates[1]:.0f} patterns/s, {rates[1] / rates[0]:.0f} times as many")
    print(f"largest relative difference of a beam above 1e-3: {largest_difference(theirs, ours):.1e}")


if __name__ == "__main__":
    main()
