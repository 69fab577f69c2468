"""Index a semi-real scan of silver, real patterns times real masks of their grains plus Poisson noise; draw the maps.

Example: python benchmarks/silver_scan.py --patterns SPED_Ag_labels_sum_signal.hspy --masks SPED_Ag_labels.hspy \
    --cif crystals_Ag.cif --out results
Every pixel of a grain has the grain's mean pattern, at each of several doses. Pixels of no grain are empty. Prints how
many pixels have the known zone axis, and how many the orientation (in the plane too) that the pattern has without
noise, to 3 degrees. The files
(TEM-Gemini-Centre/nordtemhub_4DSTEMworkshop_2024, commit 8b6bbd9) carry no licence and are not shipped.
"""

import argparse
from pathlib import Path

import hyperspy.api as hs
import numpy as np
from matplotlib.figure import Figure
from orix.plot import IPFColorKeyTSL
from orix.quaternion import symmetry
from orix.vector import Vector3d
from silver import CENTER, ENERGY_KEV, KNOWN, PRECESSION_DEG, SCALE

from dpcurate.orientations import disorientation_deg, to_matrix
from dpcurate.pipeline import index_scan
from dpcurate.recipe import load_recipe

DOSES = (100, 300, 1000, 10000)
"""Electrons a pattern, direct beam included."""

SEED = 5
WITHIN_DEG = (1.0, 2.0, 3.0)
LARGEST_DEG = 5.0
"""At which the colours of the error end."""


def semi_real(patterns: np.ndarray, grain: np.ndarray, dose: float, seed: int) -> np.ndarray:
    """Counts (rows, columns, h, w) of a scan whose pixels have the patterns (n, h, w) of their grains, -1: none."""
    expected = patterns / patterns.sum(axis=(1, 2), keepdims=True) * dose
    expected = np.concatenate([expected, np.zeros_like(expected[:1])])
    return np.random.default_rng(seed).poisson(expected[grain]).astype(np.uint16)


def zone_error_deg(beam: np.ndarray, grain: np.ndarray, rotations: np.ndarray) -> np.ndarray:
    """Angle between beam directions (rows, columns, 3) and the nearest equivalent of the known zone axis of the grain.

    NaN where there is no grain.
    """
    error = np.full(grain.shape, np.nan)
    for number, known in enumerate(KNOWN):
        axes = to_matrix(rotations) @ (np.array(known) / np.linalg.norm(known))
        cosine = np.abs(beam[grain == number] @ axes.T).max(axis=1)
        error[grain == number] = np.degrees(np.arccos(np.clip(cosine, 0, 1)))
    return error


def colors_of(direction: np.ndarray, there: np.ndarray) -> np.ndarray:
    """Colours of crystal directions in the standard triangle; pale grey where there is none."""
    key = IPFColorKeyTSL(symmetry.Oh)
    colors = np.full((*there.shape, 3), 0.86)
    colors[there] = key.direction_color_key.direction2color(Vector3d(direction[there]))
    return colors


def draw(grain: np.ndarray, clean: np.ndarray, maps: dict[int, tuple[np.ndarray, np.ndarray]], path: Path) -> None:
    """Draw the known zones, and for each dose the found direction along x and the angle from the known zone."""
    figure = Figure(figsize=(8.4, 1.55 * (1 + len(maps))), layout="constrained")
    axes = figure.subplots(1 + len(maps), 2)
    axes[0, 0].imshow(clean)
    axes[0, 0].set_title("crystal direction along x, patterns without noise", fontsize=9)
    axes[0, 1].imshow(np.where(grain < 0, np.nan, grain), cmap="Set2", vmin=0, vmax=7)
    axes[0, 1].set_title("grains and their known zone axes", fontsize=9)
    for number, zone in enumerate(KNOWN):
        pixels = np.argwhere(grain == number)
        row, column = pixels[((pixels - pixels.mean(axis=0)) ** 2).sum(axis=1).argmin()]
        axes[0, 1].annotate(f"<{''.join(map(str, zone))}>", (column, row), ha="center", va="center", fontsize=6.5)
    for (left, right), (dose, (colors, error)) in zip(axes[1:], maps.items(), strict=True):
        left.imshow(colors)
        left.set_title(f"with {dose:,} electrons a pattern", fontsize=9)
        image = right.imshow(error, cmap="viridis", vmin=0, vmax=LARGEST_DEG)
        share = (error[grain >= 0] < WITHIN_DEG[-1]).mean()
        right.set_title(f"{share:.1%} within {WITHIN_DEG[-1]:g}° of the known zone", fontsize=9)
    for each in axes.flat:
        each.set(xticks=[], yticks=[])
    bar = figure.colorbar(image, ax=axes[1:, 1], fraction=0.03, aspect=35, extend="max")
    bar.set_label("angle from the known zone axis (°)", fontsize=9)
    bar.ax.tick_params(labelsize=8)
    figure.savefig(path, dpi=140)


def main() -> None:
    """Make the scan at every dose, index it, print shares, draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--patterns", required=True)
    parser.add_argument("--masks", required=True)
    parser.add_argument("--cif", required=True)
    parser.add_argument("--out", required=True, type=Path)
    parser.add_argument("--every", type=int, default=2, help="use every n-th pixel of the masks")
    wanted = parser.parse_args()
    masks = hs.load(wanted.masks).data[:, :: wanted.every, :: wanted.every]
    grain = np.where(masks.any(axis=0), masks.argmax(axis=0), -1)
    recipe = load_recipe(
        phases=[wanted.cif],
        scan__scale_inv_angstrom=SCALE,
        scan__center_xy=CENTER,
        scan__beam_energy_kev=ENERGY_KEV,
        scan__precession_deg=PRECESSION_DEG,
        matching__engine="fast",
    )
    patterns, maps = hs.load(wanted.patterns).data.astype(float), {}
    clean = index_scan(hs.signals.Signal2D(patterns[None].astype(np.float32)), recipe).orientation[0][grain]
    print(f"{(grain >= 0).sum()} pixels of {len(KNOWN)} grains, {(grain < 0).sum()} empty")
    print(
        "| electrons a pattern | "
        + " | ".join(f"within {limit:g}°" for limit in WITHIN_DEG)
        + " | median | as without noise |"
    )
    print("| --- " * (3 + len(WITHIN_DEG)) + "|")
    for dose in DOSES:
        found = index_scan(hs.signals.Signal2D(semi_real(patterns, grain, dose, SEED)), recipe)
        there, rotations = (grain >= 0) & (found.phase_id >= 0), found.phases[0].proper_rotations()
        error = zone_error_deg(to_matrix(found.orientation)[..., 2], grain, rotations)
        error[(grain >= 0) & ~there] = 90.0
        maps[dose] = colors_of(to_matrix(found.orientation)[..., 0], there), error
        alike = there & (disorientation_deg(found.orientation, clean, rotations) < WITHIN_DEG[-1])
        values = error[grain >= 0]
        shares = " | ".join(f"{(values < limit).mean():.1%}" for limit in WITHIN_DEG)
        print(f"| {dose:,} | {shares} | {np.median(values):.2f}° | {alike[grain >= 0].mean():.1%} |", flush=True)
    wanted.out.mkdir(parents=True, exist_ok=True)
    draw(grain, colors_of(to_matrix(clean)[..., 0], grain >= 0), maps, wanted.out / "silver_scan.png")


if __name__ == "__main__":
    main()
