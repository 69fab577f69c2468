"""Crystal frames and Euler angles of other file formats: where x and z lie in a cell, and Bunge's angles.

This project and orix have x along a and z along c*. Two formats differ for some lattices. Where the turn between the
frames is the identity (cubic, tetragonal and orthorhombic cells), nothing can go wrong; elsewhere a file that is
written and read with the same mistake still comes back unchanged, so the tests compare with axes in the lab.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial.transform import Rotation

from dpcurate.errors import InputError
from dpcurate.orientations import Array, conjugate, multiply
from dpcurate.schema import PhaseRecord

HEXAGONAL_AXES = ("-3", "-3m", "6/m", "6/mmm")
"""Laue groups whose cells the formats know in hexagonal axes only."""

A_STAR_C = {"ctf": None, "ang": ("2/m",)}
"""Formats with x along a* and z along c, and the Laue groups for which they have it so; None: for all.

As MTEX reads them: interfaces/loadEBSD_ctf.m (x||a*, z||c for every lattice) and loadEBSD_ang.m (x||a, z||c* for
trigonal, hexagonal and triclinic cells, x||a*, z||c for monoclinic ones).
"""

IDENTITY = np.array([1.0, 0, 0, 0])


def cell_axes(lattice: Sequence[float]) -> Array:
    """Axes a, b, c of a cell (Angstrom, then degrees) as rows, x along a and z along c*, in Angstrom, shape (3, 3)."""
    a, b, c, *angles = lattice
    cos_alpha, cos_beta, cos_gamma = np.cos(np.radians(angles))
    sin_gamma = np.sin(np.radians(angles[2]))
    y = (cos_alpha - cos_beta * cos_gamma) / sin_gamma
    z = np.sqrt(1 - cos_beta**2 - y**2)
    return np.array([[a, 0, 0], [b * cos_gamma, b * sin_gamma, 0], [c * cos_beta, c * y, c * z]])


def file_turn(phase: PhaseRecord, file_format: str) -> Array:
    """Quaternion r with which ``r * g`` is orientation g in the crystal frame of a format, shape (4,).

    ``file_format`` is "ctf" or "ang"; every other has this project's frame, and r is the identity.
    """
    groups = A_STAR_C.get(file_format, ())
    if groups is not None and phase.point_group not in groups:
        return IDENTITY
    _, b, c = cell_axes(phase.lattice)
    x, z = np.cross(b, c), c
    x, z = x / np.linalg.norm(x), z / np.linalg.norm(z)
    return np.asarray(Rotation.from_matrix(np.stack([x, np.cross(z, x), z])).as_quat(canonical=True, scalar_first=True))


def to_file(orientation: Array, phase_id: NDArray[np.int16], phases: Sequence[PhaseRecord], file_format: str) -> Array:
    """Orientations (..., 4) in the crystal frame of a format, "ctf" or "ang", of labels in this project's frame.

    Raises InputError for a trigonal or hexagonal phase in other than hexagonal axes: no reader would expect them.
    """
    return _turned(orientation, phase_id, [_checked_turn(phase, file_format) for phase in phases])


def from_file(
    orientation: Array, phase_id: NDArray[np.int16], phases: Sequence[PhaseRecord], file_format: str
) -> Array:
    """Orientations (..., 4) in this project's frame of those that a file holds: undoes `to_file`, raises the same."""
    return _turned(orientation, phase_id, [conjugate(_checked_turn(phase, file_format)) for phase in phases])


def _turned(orientation: Array, phase_id: NDArray[np.int16], turns: Sequence[Array]) -> Array:
    """Each orientation, multiplied from the left by the turn of its phase; others as they are."""
    turned = np.array(orientation, float)
    for index, turn in enumerate(turns):
        here = phase_id == index
        turned[here] = multiply(turn, turned[here])
    return turned


def _checked_turn(phase: PhaseRecord, file_format: str) -> Array:
    a, b, _, *angles = phase.lattice
    hexagonal = np.allclose([a, *angles], [b, 90, 90, 120], atol=1e-3)
    if file_format in A_STAR_C and phase.point_group in HEXAGONAL_AXES and not hexagonal:
        raise InputError(
            f"phase {phase.name}: its cell has rhombohedral axes, and .{file_format} files hold trigonal phases in "
            "hexagonal axes. Use a CIF in hexagonal axes, or the format h5."
        )
    return file_turn(phase, file_format)


def euler_deg(g: ArrayLike) -> NDArray[np.float64]:
    """Bunge's Euler angles phi1, Phi, phi2 in degrees of orientations (..., 4), lab to crystal, shape (..., 3).

    phi1 and phi2 from 0 to below 360, Phi from 0 to 180; phi2 is 0 where only the sum or the difference is defined.
    The same as orix 0.15 ``Rotation.to_euler``.
    """
    w, x, y, z = np.moveaxis(np.asarray(g, float), -1, 0)
    flat, upright = np.hypot(x, y), np.hypot(w, z)
    tilt = 2 * np.arctan2(flat, upright)
    total, difference = 2 * np.arctan2(-z, w), 2 * np.arctan2(-y, -x)
    first, second = (total + difference) / 2, (total - difference) / 2
    first = np.where(flat < 1e-12, total, np.where(upright < 1e-12, difference, first))
    second = np.where((flat < 1e-12) | (upright < 1e-12), 0, second)
    turns = np.mod(np.degrees(np.stack([first, second], axis=-1)), 360)
    turns[turns >= 360] = 0
    return np.stack([turns[..., 0], np.degrees(tilt), turns[..., 1]], axis=-1)
