"""What multiple scattering in a crystal needs to know: which reflections couple, and how strongly, in torch.

Structure matrix as De Graef, Introduction to Conventional TEM (2003), section 5.5, and as abTEM 1.0.11 ``BlochWaves``.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dpcurate.errors import TooLargeError
from dpcurate.orientations import Array
from dpcurate.reflections import (
    ELECTRON_REST_KEV,
    EXTINCT,
    cell_basis,
    cell_volume,
    lattice_points,
    reciprocal_basis,
    structure_factors,
    wavelength_angstrom,
)
from dpcurate.schema import PhaseRecord

MOST_BEAMS = 2000
"""Beams of one pattern. Beyond it one pattern takes seconds on a CPU."""

PAIR_BYTES = 24
"""Memory for each pair of beams of a pattern in float32: the place of their difference and four numbers."""

LEAST_MARGIN = 0.01
"""1/Angstrom. No smaller largest excitation error makes sense; for the check that is made before any pattern."""

DENSEST_CENTRING = 4
"""Lattice points of a face-centred cell: at least one in so many reflections of a cell can be reached."""


@dataclass(frozen=True)
class ScatteringTable:
    """What all orientations of one phase share at one beam energy; made by `scattering_table`."""

    name: str
    """Of the phase."""
    g: Tensor
    """Reflections that multiple scattering can reach, 000 first, nearest first, crystal frame, float64, (c, 3)."""
    place: Tensor
    """Place of each in ``coupling``, int64, (c,). That of a difference is the difference of places, plus ``zero``."""
    coupling: Tensor
    """U_g / 2 K in 1/Angstrom of every difference of two reflections, 0 at 000; real if the crystal has a centre."""
    zero: int
    """Place of 000."""
    mean: float
    """U_0 / 2 K in 1/Angstrom."""
    wavelength: float
    """Angstrom."""
    k_max_inv_angstrom: float
    """Radius within which reflections were taken."""


def scattering_table(
    phase: PhaseRecord,
    *,
    beam_energy_kev: float,
    k_max_inv_angstrom: float,
    u_iso_angstrom2: float | None = None,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> ScatteringTable:
    """Reflections of a phase and their couplings U_g = gamma F_g / (pi V), ready for `dynamical_spots`.

    Reflections that no chain of allowed ones reaches (those of a centred cell) are left out; those that only multiple
    scattering lights (of glide planes and screw axes) stay. ``u_iso_angstrom2`` replaces each atom's own mean square
    displacement along one axis. ``dtype`` is float32 or float64. Raises InputError when the cell is too large.
    """
    least = expected_beams(
        cell_volume(phase) / DENSEST_CENTRING, k_max_inv_angstrom=k_max_inv_angstrom, max_excitation_error=LEAST_MARGIN
    )
    refuse_too_many(phase.name, least, k_max_inv_angstrom=k_max_inv_angstrom)
    most = 2 * np.floor(np.linalg.norm(cell_basis(phase), axis=1) * k_max_inv_angstrom + 1e-9).astype(int)
    box = np.stack(np.meshgrid(*(np.arange(-m, m + 1) for m in most), indexing="ij"), axis=-1).reshape(-1, 3)
    factor = structure_factors(phase, box, u_iso_angstrom2=u_iso_angstrom2)
    stride = np.array([(2 * most[1] + 1) * (2 * most[2] + 1), 2 * most[2] + 1, 1])
    zero = int(most @ stride)
    allowed = np.abs(factor) > EXTINCT * np.abs(factor[zero])
    hkl = lattice_points(phase, k_max_inv_angstrom)
    hkl = hkl[in_lattice(hkl, generated_lattice(box[allowed]))]
    wavelength = wavelength_angstrom(beam_energy_kev)
    scale = (1 + beam_energy_kev / ELECTRON_REST_KEV) / (math.pi * cell_volume(phase)) * wavelength / 2
    # The potential's coefficient of exp(+2 pi i g r) is the conjugate of F, which sums exp(+2 pi i g r) over atoms.
    coupling = about_inversion_centre(phase, box, factor).conj() * scale
    coupling[zero] = 0
    number = dtype.to_complex() if np.iscomplexobj(coupling) else dtype
    return ScatteringTable(
        name=phase.name,
        g=torch.as_tensor(hkl @ reciprocal_basis(phase), device=device),
        place=torch.as_tensor(hkl @ stride, device=device),
        coupling=torch.as_tensor(coupling, dtype=number, device=device),
        zero=zero,
        mean=float(factor[zero].real * scale),
        wavelength=wavelength,
        k_max_inv_angstrom=k_max_inv_angstrom,
    )


def expected_beams(
    primitive_volume_angstrom3: float, *, k_max_inv_angstrom: float, max_excitation_error: float
) -> float:
    """Beams of a pattern without precession, mean over orientations: lattice points in a slab on the Ewald sphere."""
    return primitive_volume_angstrom3 * 2 * math.pi * k_max_inv_angstrom**2 * max_excitation_error


def refuse_too_many(name: str, n_beams: float, *, k_max_inv_angstrom: float) -> None:
    """Raise TooLargeError when a pattern has more than `MOST_BEAMS` beams; says how many and what memory they take."""
    if n_beams > MOST_BEAMS:
        memory = n_beams**2 * PAIR_BYTES / 2**30
        raise TooLargeError(
            f"phase {name}: a pattern has about {n_beams:.0f} beams within {k_max_inv_angstrom:.3g} 1/Å, which take "
            f"{memory:.2g} GiB; at most {MOST_BEAMS} are computed. Lower k_max or the largest excitation error, "
            "or simulate it kinematically."
        )


def generated_lattice(vectors: NDArray[np.int64]) -> NDArray[np.int64]:
    """Rows that span, with whole coefficients, what the rows ``(n, 3)`` span; upper triangle, ``(3, 3)``.

    Euclid's algorithm on columns: the Hermite normal form up to signs. A row of zeros where a direction is missing.
    """
    rest, basis = np.array(vectors), np.zeros((3, 3), np.int64)
    for column in range(3):
        while len(left := rest[:, column].nonzero()[0]):
            shortest = left[np.abs(rest[left, column]).argmin()]
            basis[column] = rest[shortest]
            others = left[left != shortest]
            rest[others] -= (rest[others, column] // basis[column, column])[:, None] * basis[column]
            if len(others) == 0:
                rest[shortest] = 0
    return basis


def in_lattice(hkl: NDArray[np.int64], basis: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which rows of ``hkl`` (n, 3) are whole combinations of the rows of an upper triangle `generated_lattice`."""
    rest = np.array(hkl)
    for column in range(3):
        step = basis[column, column]
        if step:
            rest -= (rest[:, column] // step)[:, None] * basis[column]
    return (rest == 0).all(axis=1)


def about_inversion_centre(
    phase: PhaseRecord, hkl: NDArray[np.int64], factor: NDArray[np.complex128]
) -> Array | NDArray[np.complex128]:
    """Structure factors ``(n,)`` with the origin moved to an inversion centre, where they are real, if there is one.

    Intensities do not depend on the origin. Real ones are an array of floats; without a centre they come back as given.
    A centre maps the first atom of the rarest element onto one of its kind, so halfway between them it lies.
    """
    elements = [atom.element for atom in phase.atoms]
    rarest = min(sorted(set(elements)), key=elements.count)
    xyz = np.array([(atom.x, atom.y, atom.z) for atom in phase.atoms if atom.element == rarest])
    for centre in (xyz[0] + xyz) / 2:
        moved = factor * np.exp(-2j * np.pi * (hkl @ centre))
        if np.abs(moved.imag).max() <= EXTINCT * np.abs(factor).max():
            return moved.real
    return factor
