"""How far kinematical and dynamical patterns are apart, against thickness, with and without precession.

Example: python benchmarks/dynamics.py --phase datasets/phases/LiNiO2.cif datasets/phases/Ni.cif --out docs/results
With --patterns bloch_patterns.npz also: how well simulated spots meet patterns of an independent program.
"""

import argparse
from pathlib import Path

import matplotlib as mpl
import numpy as np
import torch
from numpy.typing import NDArray

from dpcurate.bloch import dynamical_spots
from dpcurate.kinematic import kinematic_spots
from dpcurate.orientation_sampling import uniform_in_zone
from dpcurate.orientations import mirror_pattern
from dpcurate.phases import phase_from_cell, read_cif
from dpcurate.reflections import reflections
from dpcurate.scattering import scattering_table
from dpcurate.schema import PhaseRecord

mpl.use("Agg")
import matplotlib.pyplot as plt

THICKNESSES = np.array([10, 25, 50, 100, 150, 200, 300, 400, 500, 650, 800, 1000.0])
N = 200
K_MAX, U_ISO, ENERGY_KEV = 1.3, 0.006, 200.0
PRECESSIONS_DEG = (0.0, 0.4, 0.8)
VISIBLE = 1e-3
"""Share of the incident beam from which a spot counts: ten electrons at a dose of 10,000."""

WINDOW = 2
"""Pixels on each side of a spot's place over which its counts are summed; a ring one pixel wider is background."""


def on_common_beams(q: torch.Tensor, intensity: torch.Tensor, k: torch.Tensor, other: torch.Tensor) -> NDArray:
    """Dynamical intensities (b, t, k) and, at the same places, kinematical ones (b, 1, k); those with none are 0."""
    near = torch.cdist(q.double(), k.double()) < 1e-4
    found = (near.double() @ other.double()[..., None])[..., 0]
    return np.concatenate([intensity.numpy(), found.float().numpy()[:, None]], axis=1)


def correlations(phase: PhaseRecord, *, precession_deg: float) -> NDArray:
    """Correlation coefficient of the two theories' intensities over the visible spots, (N, thicknesses).

    NaN where fewer than five are.
    """
    orientation = uniform_in_zone(np.arange(N), phase.proper_rotations(), seed=0)
    table = scattering_table(phase, beam_energy_kev=ENERGY_KEV, k_max_inv_angstrom=K_MAX, u_iso_angstrom2=U_ISO)
    dynamical = dynamical_spots(
        table, orientation, thickness_angstrom=THICKNESSES, precession_deg=precession_deg, n_azimuths=32
    )
    known = reflections(phase, K_MAX, u_iso_angstrom2=U_ISO)
    result = np.empty((N, len(THICKNESSES)))
    for i, thickness in enumerate(THICKNESSES):
        kinematical = kinematic_spots(
            known,
            orientation,
            beam_energy_kev=ENERGY_KEV,
            precession_deg=precession_deg,
            max_excitation_error=0.04,
            thickness_angstrom=float(thickness),
        )
        both = on_common_beams(
            dynamical.q, dynamical.intensity[:, i : i + 1], kinematical.q, kinematical.intensity
        ).clip(0)
        scale = both[:, 0].sum(axis=1) / both[:, 1].sum(axis=1)
        first, second = both[:, 0], both[:, 1] * scale[:, None]
        seen = (first > VISIBLE) | (second > VISIBLE)
        result[:, i] = [
            np.corrcoef(a[u], b[u])[0, 1] if u.sum() >= 5 else np.nan
            for a, b, u in zip(first, second, seen, strict=True)
        ]
    return result


def thickness_study(phases: list[PhaseRecord], out: Path) -> None:
    """Print and draw median and quartiles of the correlation against thickness."""
    figure, axes = plt.subplots(1, len(phases), figsize=(5 * len(phases), 4), sharey=True, squeeze=False)
    print("phase, precession: median correlation at " + ", ".join(f"{t:g}" for t in THICKNESSES) + " Angstrom")
    for axis, phase in zip(axes[0], phases, strict=True):
        for number, precession in enumerate(PRECESSIONS_DEG):
            low, middle, high = np.nanpercentile(correlations(phase, precession_deg=precession), [25, 50, 75], axis=0)
            print(f"{phase.name}, {precession:g} deg: " + " ".join(f"{value:.2f}" for value in middle), flush=True)
            axis.plot(THICKNESSES, middle, color=f"C{number}", label=f"precession {precession:g}°", marker="o", ms=3)
            axis.fill_between(THICKNESSES, low, high, color=f"C{number}", alpha=0.15, lw=0)
        axis.set(title=phase.name, xlabel="thickness (Å)", ylim=(-0.2, 1.02))
        axis.grid(alpha=0.3)
    axes[0, 0].set_ylabel("correlation of kinematical\nand dynamical intensities")
    axes[0, 0].legend(frameon=False)
    figure.tight_layout()
    figure.savefig(out / "dynamics_thickness.png", dpi=110)


def picture(q: NDArray, intensity: NDArray, *, scale: float, center: NDArray, sigma: float = 1.2) -> NDArray:
    """Spots drawn as round Gaussians on 128 x 128 pixels."""
    y, x = np.mgrid[:128, :128]
    image = np.zeros((128, 128))
    for (u, v), value in zip(q / scale + center, intensity, strict=True):
        if value > 0 and -4 < u < 132 and -4 < v < 132:
            image += value * np.exp(-((x - u) ** 2 + (y - v) ** 2) / (2 * sigma**2))
    return image


def counted(pattern: NDArray, q: NDArray, *, scale: float, center: NDArray) -> NDArray:
    """Counts of a pattern in a window at each spot, less the background around it; NaN off the frame or near 000."""
    place = np.round(q / scale + center).astype(int)
    reach = WINDOW + 1
    inside = ((place >= reach) & (place < 128 - reach)).all(axis=1) & (np.linalg.norm(q, axis=1) > 0.2)
    result = np.full(len(q), np.nan)
    for k in np.flatnonzero(inside):
        column, row = place[k]
        wide = pattern[row - reach : row + reach + 1, column - reach : column + reach + 1].astype(float)
        core = wide[1:-1, 1:-1]
        result[k] = core.sum() - (wide.sum() - core.sum()) / (wide.size - core.size) * core.size
    return result


def against_patterns(path: Path, out: Path, *, n_azimuths: int) -> None:
    """Compare with an independent program's patterns of LiNiO2: right frame, mirrored, and kinematical."""
    sites = [("Li", 0, 0, 0.5), ("Ni", 0, 0, 0), ("O", 0, 0, 0.2585)]
    phase = phase_from_cell("LiNiO2", 166, lattice=(2.878, 2.878, 14.19, 90, 90, 120), sites=sites)
    file = np.load(path)
    scale, center = float(file["scale_inv_angstrom_per_pixel"]), file["center_xy"]
    table = scattering_table(phase, beam_energy_kev=200, k_max_inv_angstrom=K_MAX, u_iso_angstrom2=0.0064)
    known = reflections(phase, K_MAX, u_iso_angstrom2=0.0064)
    shown = []
    print("thickness, precession: correlation of simulated intensities with counts of the independent patterns")
    for condition, patterns in enumerate(file["patterns"]):
        thickness, precession = float(file["thickness_angstrom"][condition]), float(file["precession_deg"][condition])
        settings = {"precession_deg": precession, "max_excitation_error": 0.04}
        found = {}
        for name, q0 in (("dynamical", file["quaternions"]), ("mirrored", mirror_pattern(file["quaternions"]))):
            spots = dynamical_spots(table, q0, thickness_angstrom=[thickness], n_azimuths=n_azimuths, **settings)
            found[name] = spots.q.numpy(), spots.intensity[:, 0].numpy()
        spots = kinematic_spots(
            known, file["quaternions"], beam_energy_kev=200, thickness_angstrom=thickness, **settings
        )
        total = found["dynamical"][1].sum(axis=1) / spots.intensity.numpy().sum(axis=1)
        found["kinematical"] = spots.q.numpy(), spots.intensity.numpy() * total[:, None]
        told = []
        for name, (q, intensity) in found.items():
            pairs = []
            for k, pattern in enumerate(patterns):
                counts = counted(pattern, q[k], scale=scale, center=center)
                used = np.isfinite(counts) & (intensity[k] > VISIBLE)
                pairs.append(np.stack([intensity[k][used], counts[used]]))
            told.append(f"{name} {np.corrcoef(np.concatenate(pairs, axis=1))[0, 1]:.3f}")
        print(f"{thickness:g} Angstrom, {precession:g} deg: {', '.join(told)}", flush=True)
        for k in range(2):
            q, intensity = found["dynamical"]
            drawn = picture(q[k], intensity[k], scale=scale, center=center)
            shown.append((patterns[k], drawn, f"{thickness:g} Å, {precession:g}°"))
    draw_pairs(shown, out / "bloch_patterns.png")


def draw_pairs(shown: list[tuple[NDArray, NDArray, str]], path: Path) -> None:
    """Independent patterns above, simulated spots below."""
    figure, axes = plt.subplots(2, len(shown), figsize=(1.5 * len(shown), 3.4))
    for column, (pattern, drawn, title) in enumerate(shown):
        for row, image in enumerate((pattern.astype(float), drawn)):
            image = np.sqrt(image)
            limit = np.partition(image.ravel(), -60)[-60]
            axes[row, column].imshow(image, vmax=max(limit, 1e-9), cmap="magma")
            axes[row, column].set(xticks=[], yticks=[])
        axes[0, column].set_title(title, fontsize=8)
    axes[0, 0].set_ylabel("abTEM, counts", fontsize=8)
    axes[1, 0].set_ylabel("this simulator", fontsize=8)
    figure.tight_layout(pad=0.4)
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--phase", nargs="*", default=[])
    parser.add_argument("--patterns", type=Path)
    parser.add_argument("--azimuths", type=int, default=64, help="steps of the precession, with --patterns")
    parser.add_argument("--out", type=Path, required=True)
    chosen = parser.parse_args()
    chosen.out.mkdir(parents=True, exist_ok=True)
    if chosen.phase:
        thickness_study([read_cif(path) for path in chosen.phase], chosen.out)
    if chosen.patterns:
        against_patterns(chosen.patterns, chosen.out, n_azimuths=chosen.azimuths)
