"""What kind of wrong an indexed orientation is: the neighbour grain's, half a turn off, pseudo-symmetric, or other.

Near a zone axis the zero-order Laue zone has an inversion centre: turned by half a turn about that axis, a crystal
gives nearly the same pattern. A layered rock salt (R-3m, c/a near 2 sqrt 6) is nearly cubic: three quarters of the
cubic rotations are none of its own, and bring nearly the same strong spots.
"""

import numpy as np
from scipy.spatial.transform import Rotation

from dpcurate.orientations import conjugate, disorientation_deg, multiply, to_matrix
from dpcurate.schema import PhaseRecord

WITHIN_DEG = 3.0
"""An answer is right, or right but for a variant, within this angle."""

NEAR_DEG = 10.0
"""Up to this angle an answer is near, not of another kind."""

ZONE_WITHIN_DEG = 8.0
"""How far from the beam the axis of a half turn may lie. A random answer is then one of half a turn by 1 in 500 for
-3m, by 1 in 130 for the cubic group."""

CLASSES = (
    "right",
    "near",
    "second grain",
    "half turn",
    "pseudo-symmetric",
    "both",
    "other",
    "wrong phase",
    "not indexed",
)
"""An answer counts as the first of the first seven that it belongs to. Near: 3 to 10 degrees. Second grain: right for
the other grain in the probe. Both: pseudo-symmetric and half a turn off."""

LAYERED_RATIO = (4.75, 5.05)
"""c/a of layered rock salts in their hexagonal cell; 2 sqrt 6 = 4.90 is the cubic one."""

CUBE_DIAGONAL, IN_PLANE = np.array([1.0, 1.0, 1.0]), np.array([1.0, -1.0, 0.0])
"""Of the cubic cell: c and a of the layered cell, in the obverse setting of R. Its oxygen layers follow each other by
(2/3, 1/3, 2/3) of a cell half as high, which is the reverse setting of the face-centred lattice."""


def pseudo_cubic_rotations(phase: PhaseRecord) -> np.ndarray:
    """The 24 rotations of the cubic parent in the frame of a layered rock salt, (24, 4); of other phases none, (0, 4).

    The frame is x along a, z along c. Six of the 24 are the crystal's own.
    """
    a, _, c, *_ = phase.lattice
    if phase.space_group != 166 or not LAYERED_RATIO[0] < c / a < LAYERED_RATIO[1]:
        return np.zeros((0, 4))
    axes = np.array([IN_PLANE, np.cross(CUBE_DIAGONAL, IN_PLANE), CUBE_DIAGONAL])
    axes /= np.linalg.norm(axes, axis=1, keepdims=True)
    cubic = np.array([matrix for matrix in _signed_permutations() if np.linalg.det(matrix) > 0])
    return Rotation.from_matrix(axes @ cubic @ axes.T).as_quat(scalar_first=True)


def half_turn_about_zone(orientation: np.ndarray, truth: np.ndarray, symmetry: np.ndarray) -> np.ndarray:
    """Whether orientations are the truth turned by 180 degrees about an axis near the beam, bool (n,).

    The turn is exact to `WITHIN_DEG`, its axis lies within `ZONE_WITHIN_DEG` of the beam.
    """
    delta = multiply(symmetry, multiply(orientation, conjugate(truth))[:, None])
    beam = to_matrix(truth)[:, :, 2]
    along = np.abs(np.einsum("nsi,ni->ns", delta[..., 1:], beam)) / np.linalg.norm(delta[..., 1:], axis=-1).clip(1e-9)
    half = np.abs(delta[..., 0]) < np.sin(np.radians(WITHIN_DEG / 2))
    return (half & (along > np.cos(np.radians(ZONE_WITHIN_DEG)))).any(axis=1)


def failure_classes(
    orientation: np.ndarray,
    phase_id: np.ndarray,
    *,
    truth: tuple[np.ndarray, np.ndarray],
    second: tuple[np.ndarray, np.ndarray],
    phases: list,
) -> np.ndarray:
    """Index into `CLASSES` of each pixel, (n,), from orientations (n, 4) and phases (n,).

    ``truth`` and ``second`` are orientations and phases of the two grains in the probe, as in a truth file.
    """
    found = np.full(len(orientation), CLASSES.index("wrong phase"))
    for number, phase in enumerate(phases):
        here = (phase_id == number) & (truth[1] == number)
        other = second[0][here], second[1][here] == number
        found[here] = _of_one_phase(orientation[here], truth[0][here], *other, phase)
        there = (phase_id == number) & (truth[1] != number) & (second[1] == number)
        right = disorientation_deg(orientation[there], second[0][there], phase.proper_rotations()) < WITHIN_DEG
        found[np.flatnonzero(there)[right]] = CLASSES.index("second grain")
    found[phase_id < 0] = CLASSES.index("not indexed")
    return found


def _of_one_phase(
    orientation: np.ndarray, truth: np.ndarray, second: np.ndarray, same_phase: np.ndarray, phase: PhaseRecord
) -> np.ndarray:
    """The first seven classes."""
    own, cubic = phase.proper_rotations(), pseudo_cubic_rotations(phase)
    error = disorientation_deg(orientation, truth, own)
    is_second = same_phase & (disorientation_deg(orientation, second, own) < WITHIN_DEG)
    belongs = [error < WITHIN_DEG, error < NEAR_DEG, is_second, half_turn_about_zone(orientation, truth, own)]
    if len(cubic):
        belongs += [
            disorientation_deg(orientation, truth, cubic) < WITHIN_DEG,
            half_turn_about_zone(orientation, truth, cubic),
        ]
    belongs = np.stack(belongs)
    return np.where(belongs.any(axis=0), belongs.argmax(axis=0), CLASSES.index("other"))


def _signed_permutations() -> list[np.ndarray]:
    """The 48 matrices that map a cube onto itself."""
    orders = [(0, 1, 2), (1, 2, 0), (2, 0, 1), (0, 2, 1), (2, 1, 0), (1, 0, 2)]
    signs = [np.diag((x, y, z)) for x in (1.0, -1.0) for y in (1.0, -1.0) for z in (1.0, -1.0)]
    return [sign @ np.eye(3)[list(order)] for order in orders for sign in signs]
