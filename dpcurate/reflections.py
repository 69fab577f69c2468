"""Reflections of a phase: reciprocal lattice, structure factors, electron wavelength. Needs numpy only.

Scattering factors are those of the phase record (Lobato & Van Dyck, Acta Cryst. A70 (2014) 636, as tabulated by
diffsims 0.7), so that whoever has a dataset can simulate its phases without diffsims.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dpcurate.errors import InputError
from dpcurate.orientations import Array
from dpcurate.schema import PhaseRecord

PLANCK_C_KEV_ANGSTROM = 12.398420
"""h c, CODATA 2018."""

ELECTRON_REST_KEV = 510.99895
"""m c^2 of the electron, CODATA 2018."""

EXTINCT = 1e-6
"""Share of F(000) below which a reflection is forbidden: sums that cancel leave about 1e-9."""


@dataclass(frozen=True)
class Reflections:
    """Reflections of one phase in the crystal frame (x along a, z along c*), shortest first, without 000."""

    hkl: NDArray[np.int64]
    """Miller indices, shape (n, 3)."""
    g: Array
    """Reciprocal lattice vectors in 1/Angstrom, 1/d without 2 pi, shape (n, 3)."""
    factor: NDArray[np.complex128]
    """Structure factor of the whole cell in Angstrom, shape (n,)."""


def wavelength_angstrom(beam_energy_kev: float) -> float:
    """Relativistic electron wavelength, Angstrom."""
    return float(PLANCK_C_KEV_ANGSTROM / np.sqrt(beam_energy_kev * (beam_energy_kev + 2 * ELECTRON_REST_KEV)))


def reciprocal_basis(phase: PhaseRecord) -> Array:
    """Rows a*, b*, c* in the crystal frame, 1/Angstrom, shape (3, 3); z runs along c*, a lies along x."""
    return np.asarray(np.linalg.inv(cell_basis(phase)).T, float)


def cell_basis(phase: PhaseRecord) -> Array:
    """Rows a, b, c in the crystal frame, Angstrom, shape (3, 3); a along x, b in the plane of x and y."""
    a, b, c = phase.lattice[:3]
    cos_alpha, cos_beta, cos_gamma = np.cos(np.radians(phase.lattice[3:]))
    sin_gamma = np.sqrt(1 - cos_gamma**2)
    c_y = (cos_alpha - cos_beta * cos_gamma) / sin_gamma
    return np.array(
        [
            [a, 0, 0],
            [b * cos_gamma, b * sin_gamma, 0],
            [c * cos_beta, c * c_y, c * np.sqrt(1 - cos_beta**2 - c_y**2)],
        ]
    )


def cell_volume(phase: PhaseRecord) -> float:
    """Volume of the unit cell, cubic Angstrom."""
    return float(np.linalg.det(cell_basis(phase)))


def lattice_points(phase: PhaseRecord, k_max_inv_angstrom: float) -> NDArray[np.int64]:
    """Miller indices of all lattice points up to a radius, 000 included, nearest first, shape ``(n, 3)``."""
    most = np.floor(np.linalg.norm(cell_basis(phase), axis=1) * k_max_inv_angstrom + 1e-9).astype(int)
    hkl = np.stack(np.meshgrid(*(np.arange(-m, m + 1) for m in most), indexing="ij"), axis=-1).reshape(-1, 3)
    length = np.linalg.norm(hkl @ reciprocal_basis(phase), axis=1)
    order = np.argsort(length, kind="stable")
    return hkl[order[: np.searchsorted(length[order], k_max_inv_angstrom, side="right")]]


def reflections(phase: PhaseRecord, k_max_inv_angstrom: float, *, u_iso_angstrom2: float | None = None) -> Reflections:
    """Reflections of a phase up to a radius in 1/Angstrom, forbidden ones left out.

    Parameters
    ----------
    phase
        With its scattering factors; see `structure_factors`.
    k_max_inv_angstrom
        Radius of the sphere in reciprocal space.
    u_iso_angstrom2
        Mean square displacement of every atom; default: each atom's own.
    """
    hkl = lattice_points(phase, k_max_inv_angstrom)
    factor = structure_factors(phase, hkl, u_iso_angstrom2=u_iso_angstrom2)
    hkl, allowed, factor = hkl[1:], np.abs(factor[1:]) > EXTINCT * np.abs(factor[0]), factor[1:]
    if not allowed.any():
        raise InputError(
            f"phase {phase.name}: no reflection within {k_max_inv_angstrom:.3g} 1/Å. Check its cell and the scale."
        )
    hkl = hkl[allowed]
    return Reflections(hkl=hkl, g=hkl @ reciprocal_basis(phase), factor=factor[allowed])


def structure_factors(
    phase: PhaseRecord, hkl: ArrayLike, *, u_iso_angstrom2: float | None = None
) -> NDArray[np.complex128]:
    """Electron structure factors in Angstrom, shape ``(n,)``: sum of f(g) exp(-B g^2 / 4) exp(2 pi i hkl . xyz).

    f is the scattering factor of Lobato & Van Dyck 2014, eq. 16; B = 8 pi^2 u_iso. Friedel's law holds: the factor of
    -hkl is the complex conjugate. Raises InputError when an element has no scattering factor.
    """
    hkl = np.asarray(hkl)
    g2 = np.square(hkl @ reciprocal_basis(phase)).sum(axis=1)
    of_element = {known.element: scattering_factor(known.terms, g2) for known in phase.scattering}
    missing = sorted({atom.element for atom in phase.atoms} - of_element.keys())
    if missing:
        raise InputError(f"phase {phase.name}: no scattering factor of {', '.join(missing)}. Read its CIF again.")
    total = np.zeros(len(hkl), complex)
    for atom in phase.atoms:
        u = atom.u_iso_angstrom2 if u_iso_angstrom2 is None else u_iso_angstrom2
        wave = np.exp(2j * np.pi * (hkl @ [atom.x, atom.y, atom.z]) - 2 * np.pi**2 * u * g2)
        total += atom.occupancy * of_element[atom.element] * wave
    return total


def scattering_factor(terms: Iterable[float], g2: Array) -> Array:
    """Electron scattering factor in Angstrom at g^2 in 1/Angstrom^2: sum of a (2 + b g^2) / (1 + b g^2)^2.

    ``terms`` are the five pairs a, b of an element, one after another.
    """
    pairs = np.asarray(tuple(terms), float).reshape(-1, 2)
    scaled = pairs[:, 1] * g2[..., None]
    return np.asarray((pairs[:, 0] * (2 + scaled) / np.square(1 + scaled)).sum(axis=-1))
