"""Index real precession patterns of silver and compare with their known zone axes; draw the matches.

Example: python benchmarks/silver.py --data SPED_Ag_labels_sum_signal.hspy --cif crystals_Ag.cif --out docs/results
The patterns (TEM-Gemini-Centre/nordtemhub_4DSTEMworkshop_2024, commit 8b6bbd9) carry no licence and are not shipped.
"""

import argparse
from pathlib import Path

import hyperspy.api as hs
import numpy as np
from matplotlib.figure import Figure

from dpcurate.crystal_maps import IndexResult
from dpcurate.library import simulate_spots
from dpcurate.orientations import to_matrix
from dpcurate.pipeline import index_scan
from dpcurate.recipe import load_recipe

SCALE, CENTER, PRECESSION_DEG, ENERGY_KEV = 0.026728, (56.0, 56.0), 1.0, 200.0
KNOWN = [(1, 1, 0), (1, 1, 0), (4, 1, 1), (1, 1, 0), (1, 1, 0)]
"""Zone axes of the five grains, as their authors give them. The beam energy is not stated; 200 keV is assumed."""


def zone_axis_error_deg(result: IndexResult) -> np.ndarray:
    """Angle between each found beam direction in the crystal and the nearest equivalent of the known zone axis."""
    beam = to_matrix(result.orientation[0])[:, :, 2]
    symmetry = to_matrix(result.phases[0].proper_rotations())
    error = []
    for found, known in zip(beam, KNOWN, strict=True):
        axes = symmetry @ (np.array(known) / np.linalg.norm(known))
        error.append(np.degrees(np.arccos(np.clip(np.abs(axes @ found).max(), 0, 1))))
    return np.array(error)


def draw(patterns: np.ndarray, result: IndexResult, error: np.ndarray, path: Path) -> None:
    """Draw each pattern with the spots of its match as rings."""
    spots = simulate_spots(
        result.phases[0],
        result.orientation[0],
        beam_energy_kev=ENERGY_KEV,
        precession_deg=PRECESSION_DEG,
        k_max_inv_angstrom=1.45,
        max_excitation_error=0.02,
    )
    figure = Figure(figsize=(15, 3.6), layout="constrained")
    for k, axes in enumerate(figure.subplots(1, len(patterns))):
        axes.imshow(np.clip(patterns[k], 0, None) ** 0.25, cmap="gray_r")
        strong = spots.intensity[k] > 1e-3 * spots.intensity[k].max()
        x, y = (spots.q[k][strong] / SCALE + CENTER).T
        axes.scatter(x, y, s=60, facecolors="none", edgecolors="tab:red", linewidths=0.9)
        axes.set_title(f"{k}: known <{''.join(map(str, KNOWN[k]))}>, off by {error[k]:.1f}°", fontsize=10)
        axes.set_xlim(-0.5, patterns.shape[2] - 0.5)
        axes.set_ylim(patterns.shape[1] - 0.5, -0.5)
        axes.axis("off")
    figure.savefig(path, dpi=110)


def main() -> None:
    """Index, compare, draw."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True)
    parser.add_argument("--cif", required=True)
    parser.add_argument("--out", required=True, type=Path)
    arguments = parser.parse_args()
    patterns = hs.load(arguments.data).data
    recipe = load_recipe(
        phases=[arguments.cif],
        scan__scale_inv_angstrom=SCALE,
        scan__center_xy=CENTER,
        scan__beam_energy_kev=ENERGY_KEV,
        scan__precession_deg=PRECESSION_DEG,
        library__spacing_deg=1.0,
    )
    result = index_scan(hs.signals.Signal2D(patterns[None]), recipe)
    error = zone_axis_error_deg(result)
    for k, known in enumerate(KNOWN):
        print(
            f"pattern {k}: known <{known[0]}{known[1]}{known[2]}>, found {error[k]:.2f} degrees from it, "
            f"correlation {result.correlation[0, k]:.3f}"
        )
    draw(patterns, result, error, arguments.out / "silver.png")


if __name__ == "__main__":
    main()
