"""Orientation mathematics: unit quaternions, symmetry, disorientation.

Convention (docs/conventions.md): quaternions are (w, x, y, z) as in orix, lab to crystal, so a crystal vector v lies
at ``to_matrix(g).T @ v`` in the lab; symmetry operations multiply from the left. Needs numpy only.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]

HALF_TURN_Y = np.array([0.0, 0.0, 1.0, 0.0])
"""C2y. The pattern mirrored y -> -y is exactly that of ``g * C2y`` in every Laue group (inversion does the rest)."""

CHUNK = 2_000_000
"""Quaternion pairs that are compared at a time, to bound memory."""


def multiply(q1: ArrayLike, q2: ArrayLike) -> Array:
    """Hamilton product ``q1 * q2``, shapes ``(..., 4)`` broadcast against each other."""
    w1, x1, y1, z1 = np.moveaxis(np.asarray(q1, float), -1, 0)
    w2, x2, y2, z2 = np.moveaxis(np.asarray(q2, float), -1, 0)
    return np.stack(
        [
            w1 * w2 - x1 * x2 - y1 * y2 - z1 * z2,
            w1 * x2 + x1 * w2 + y1 * z2 - z1 * y2,
            w1 * y2 - x1 * z2 + y1 * w2 + z1 * x2,
            w1 * z2 + x1 * y2 - y1 * x2 + z1 * w2,
        ],
        axis=-1,
    )


def conjugate(q: ArrayLike) -> Array:
    """Inverse of unit quaternions, shape ``(..., 4)``."""
    return np.asarray(q, float) * np.array([1.0, -1.0, -1.0, -1.0])


def to_matrix(q: ArrayLike) -> Array:
    """Rotation matrices ``(..., 3, 3)`` of unit quaternions ``(..., 4)``; equal to orix' ``Rotation.to_matrix``."""
    w, x, y, z = np.moveaxis(np.asarray(q, float), -1, 0)
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    return np.stack([np.stack(row, axis=-1) for row in rows], axis=-2)


def about_z(angle_deg: ArrayLike) -> Array:
    """Quaternions ``(..., 4)`` of turns by ``angle_deg`` about the lab's z axis."""
    half = np.radians(np.asarray(angle_deg, float)) / 2
    zero = np.zeros_like(half)
    return np.stack([np.cos(half), zero, zero, np.sin(half)], axis=-1)


def turn_pattern(g: ArrayLike, angle_deg: ArrayLike) -> Array:
    """Orientation whose pattern is that of ``g`` turned by ``angle_deg`` from x towards y, shape ``(..., 4)``."""
    return multiply(g, conjugate(about_z(angle_deg)))


def mirror_pattern(g: ArrayLike) -> Array:
    """Orientation whose pattern is that of ``g`` mirrored y -> -y, shape ``(..., 4)``."""
    return multiply(g, HALF_TURN_Y)


def random_uniform(n: int, *, seed: int | np.random.Generator) -> Array:
    """``n`` orientations drawn uniformly from all rotations, shape ``(n, 4)``."""
    q = np.random.default_rng(seed).normal(size=(n, 4))
    return q / np.linalg.norm(q, axis=1, keepdims=True)


def equivalents(g: ArrayLike, symmetry: ArrayLike) -> Array:
    """All symmetric equivalents ``s * g``, shape ``(..., n_symmetry, 4)``."""
    return multiply(np.asarray(symmetry, float), np.asarray(g, float)[..., None, :])


def disorientation_deg(g1: ArrayLike, g2: ArrayLike, symmetry: ArrayLike) -> Array:
    """Smallest angle between two orientations of one phase, in degrees, shape ``(...)``.

    Parameters
    ----------
    g1, g2
        Unit quaternions (w, x, y, z), lab to crystal, shapes ``(..., 4)`` that broadcast.
    symmetry
        Proper rotations of the Laue group, shape ``(n_symmetry, 4)``.

    Notes
    -----
    Laws: symmetric in g1 and g2; unchanged when either is replaced by a symmetric equivalent, or when the lab is
    turned. As orix 0.15 ``Orientation.angle_with``; the sine is used near zero, where arccos loses digits.
    """
    symmetry = np.asarray(symmetry, float)
    delta = multiply(g1, conjugate(g2))
    best = np.abs(delta @ conjugate(symmetry).T).argmax(axis=-1)
    smallest = multiply(symmetry[best], delta)
    return np.degrees(2 * np.arctan2(np.linalg.norm(smallest[..., 1:], axis=-1), np.abs(smallest[..., 0])))


def nearest(g: ArrayLike, grid: ArrayLike, symmetry: ArrayLike) -> tuple[NDArray[np.int64], Array]:
    """For each orientation ``(n, 4)``: index of the nearest point of ``grid`` ``(m, 4)`` and its angle in degrees."""
    g, grid = np.atleast_2d(np.asarray(g, float)), np.asarray(grid, float)
    spread = equivalents(grid, symmetry).reshape(-1, 4)
    index, cosine = np.empty(len(g), np.int64), np.empty(len(g))
    step = max(1, CHUNK // len(spread))
    for start in range(0, len(g), step):
        w = np.abs(g[start : start + step] @ spread.T)
        best = w.argmax(axis=1)
        index[start : start + step] = best // len(np.asarray(symmetry))
        cosine[start : start + step] = w[np.arange(len(w)), best]
    return index, np.degrees(2 * np.arccos(np.clip(cosine, 0, 1)))


def zone_representative(g: ArrayLike, symmetry: ArrayLike) -> Array:
    """The equivalent of each orientation with the smallest rotation angle and w >= 0, shape ``(..., 4)``."""
    every = equivalents(g, symmetry)
    best = np.abs(every[..., 0]).argmax(axis=-1)[..., None, None]
    chosen = np.take_along_axis(every, best, axis=-2)[..., 0, :]
    return np.where(chosen[..., :1] < 0, -chosen, chosen)
