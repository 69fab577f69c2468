"""Harmonics on the sphere under rotation and symmetry, in real form, from the generators of rotations alone.

A function of degree l is a vector of 2 l + 1 coefficients (m = 0, cos 1, sin 1, cos 2, sin 2, ...). ``D(r)``, the
matrix that rotates functions by r, is the exponential of the rotation vector times three constant matrices, the
generators; D(r1 r2) = D(r1) D(r2). No table of harmonics is needed.
"""

from collections.abc import Mapping
from functools import cache

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from dpcurate.orientations import Array
from dptrain import rotations

DEGREES = {
    (1, 1): (1,),
    (2, 2): (1, 2),
    (3, 3): (1, 3),
    (4, 4): (1, 4),
    (6, 6): (1, 6),
    (4, 2): (2,),
    (6, 3): (2, 3),
    (8, 4): (2, 4),
    (12, 6): (2, 6),
    (12, 3): (3,),
    (24, 4): (4,),
}
"""Degrees that together tell every orientation apart, by the number of proper rotations of a Laue group and the highest
order of one: -1, 2/m, -3, 4/m, 6/m, mmm, -3m, 4/mmm, 6/mmm, m-3, m-3m. tests/test_harmonics.py holds it for all."""


GRID_DEG = 60.0
"""Spacing of a grid that has several points on every maximum of a function, times its degree."""

GRID_POINTS = 6000
"""Over the zone, at most, where the highest degree is not given."""


@cache
def generators(degree: int) -> Array:
    """Generators of turns about x, y and z in real coefficients, ``(3, 2 l + 1, 2 l + 1)``, antisymmetric.

    From the ladder operators of angular momentum, -i J in the basis of complex harmonics with Condon and Shortley's
    phase, changed to the real ones.
    """
    m = np.arange(-degree, degree + 1)
    raising = np.diag(np.sqrt(degree * (degree + 1) - m[:-1] * (m[:-1] + 1.0)), -1)
    momentum = [(raising + raising.T) / 2, (raising - raising.T) / 2j, np.diag(m.astype(complex))]
    real = np.zeros((2 * degree + 1, 2 * degree + 1), complex)
    real[0, degree] = 1
    for order in range(1, degree + 1):
        plus, minus, sign = degree + order, degree - order, (-1) ** order
        real[2 * order - 1, [plus, minus]] = np.array([sign, 1]) / np.sqrt(2)
        real[2 * order, [plus, minus]] = np.array([sign, -1]) * 1j / np.sqrt(2)
    return np.stack([(real @ (-1j * part) @ real.conj().T).real for part in momentum])


def turned(q: Tensor, degree: int) -> Tensor:
    """Matrices ``D(q)`` ``(..., 2 l + 1, 2 l + 1)`` of unit quaternions ``(..., 4)``, in their dtype."""
    constant = torch.tensor(generators(degree), dtype=q.dtype, device=q.device)
    return torch.matrix_exp(torch.einsum("...k,kij->...ij", rotations.turn_vector(q), constant))


def invariants(symmetry: ArrayLike, degree: int) -> Array:
    """Orthonormal functions of one degree that all ``symmetry`` ``(n_symmetry, 4)`` leaves alone, ``(k, 2 l + 1)``."""
    mean = turned(torch.tensor(np.asarray(symmetry, float)), degree).mean(dim=0).numpy()
    value, vector = np.linalg.eigh((mean + mean.T) / 2)
    return vector[:, value > 0.5].T.copy()


def degrees_of(symmetry: ArrayLike, *, up_to: int | None = None) -> tuple[int, ...]:
    """Degrees that tell all orientations of a phase apart, from the proper rotations of its Laue group.

    The fewest, and all others ``up_to`` a degree that have a function which the symmetry leaves alone. None: up to what
    a grid of `GRID_POINTS` over the zone resolves, from 4 for -1 to 12 for m-3m.
    """
    if up_to is None:
        up_to = int(np.radians(GRID_DEG) * (GRID_POINTS * len(np.asarray(symmetry)) / (8 * np.pi**2)) ** (1 / 3))
    w = np.abs(np.asarray(symmetry, float)[:, 0]).clip(0, 1)
    turn = 2 * np.arccos(w[w < 1 - 1e-9])
    order = round(2 * np.pi / turn.min()) if len(turn) else 1
    more = (degree for degree in range(1, up_to + 1) if len(invariants(symmetry, degree)))
    return tuple(sorted({*DEGREES[len(w), order], *more}))


def orders_of(functions: Mapping[int, Array]) -> list[int]:
    """The azimuthal order m of each number of ``vectors``."""
    return [
        m
        for degree, rows in functions.items()
        for _ in rows
        for m in (0, *(order for order in range(1, degree + 1) for _ in range(2)))
    ]


def mirror_signs_of(functions: Mapping[int, Array]) -> list[int]:
    """What each number of ``vectors`` is multiplied by when the pattern is mirrored, y to -y.

    That is half a turn of the lab about y: (-1)^l for m = 0 and cosines, the opposite for sines.
    """
    return [
        sign * (-1) ** degree
        for degree, rows in functions.items()
        for _ in rows
        for sign in (1, *(one for _ in range(degree) for one in (1, -1)))
    ]


def invariant_functions(symmetry: ArrayLike, *, up_to: int | None = None) -> dict[int, Array]:
    """Of each degree of ``degrees_of``, the functions ``(k, 2 l + 1)``, scaled so that ``vectors`` have length 1.

    Every degree has an equal share of it.
    """
    degrees = degrees_of(symmetry, up_to=up_to)
    found = {degree: invariants(symmetry, degree) for degree in degrees}
    return {degree: rows / np.sqrt(len(degrees) * len(rows)) for degree, rows in found.items()}


def vectors(functions: Mapping[int, Tensor], orientation: Tensor) -> Tensor:
    """Lab-frame coefficients ``(..., width)`` of a crystal's functions at orientations ``(..., 4)``, in their dtype.

    ``functions``: of each degree ``(k, 2 l + 1)``, in the crystal frame. Laws: equivalents have the same vector, others
    have not; a turned pattern has the turned vector.
    """
    parts = []
    for degree, rows in functions.items():
        matrix = turned(rotations.conjugate(orientation), degree)
        parts.append(torch.einsum("...ij,kj->...ki", matrix, rows.to(orientation.dtype)).flatten(-2))
    return torch.cat(parts, dim=-1)
