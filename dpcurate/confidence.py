"""What a label has going for it by itself: its lead over rivals and its neighbours, and a confidence of the two.

Indexes on which neighbours agreed have a calibrated confidence (`calibrator`); this one is for patterns that speak for
themselves.
"""

import numpy as np
from numpy.typing import NDArray

from dpcurate.orientations import Array, disorientation_deg

ALONE = {"intercept": -2.46, "reliability": 1.45, "agreement": 5.94}
"""Coefficients where every pixel was matched by itself; docs/results/baseline.md says how they were found."""

Float = NDArray[np.float32]


def reliability(score: Float, runner_up_score: Float) -> Float:
    """1 - rival / best for the best rival far away; 0 if nothing matched, shape (...).

    The R of ASTAR divided by 100: Rauch & Dupuy, Arch. Metall. Mater. 50 (2005) 87, R = 100 (1 - Q2 / Q1).
    """
    best = np.where(score > 0, score, 1)
    return np.where(score > 0, np.clip(1 - runner_up_score / best, 0, 1), 0).astype(np.float32)


def neighbour_agreement(
    orientation: Array, phase_id: NDArray[np.int16], *, symmetries: list[Array], boundary_deg: float
) -> Float:
    """Share of the up to eight neighbours of the same phase within ``boundary_deg``, shape (rows, columns).

    Parameters
    ----------
    orientation, phase_id
        Maps of shape (rows, columns, 4) and (rows, columns); phase -1 is not indexed and agrees with nothing.
    symmetries
        Proper rotations of each phase, each (n_symmetry, 4).
    boundary_deg
        Disorientation from which neighbours disagree, degrees.
    """
    agree = np.zeros(phase_id.shape)
    count = np.zeros(phase_id.shape)
    for shift in ((0, 1), (1, 0), (1, 1), (1, -1)):
        here, there = shifted_slices(shift)
        alike = same_orientation(orientation, phase_id, shift, symmetries=symmetries, boundary_deg=boundary_deg)
        for side in (here, there):
            agree[side] += alike
            count[side] += 1
    return (agree / np.maximum(count, 1)).astype(np.float32)


def same_orientation(
    orientation: Array,
    phase_id: NDArray[np.int16],
    shift: tuple[int, int],
    *,
    symmetries: list[Array],
    boundary_deg: float,
) -> NDArray[np.bool_]:
    """Whether each pixel and its neighbour at ``shift`` (rows, columns) share phase and orientation."""
    here, there = shifted_slices(shift)
    alike = np.zeros(phase_id[here].shape, bool)
    for phase, symmetry in enumerate(symmetries):
        both = (phase_id[here] == phase) & (phase_id[there] == phase)
        angle = disorientation_deg(orientation[here][both], orientation[there][both], symmetry)
        alike[both] = angle < boundary_deg
    return alike


def shifted_slices(shift: tuple[int, int]) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Slices of a map for each pixel that has a neighbour at ``shift``, and for that neighbour."""
    pairs = [(slice(max(0, -s), -s if s > 0 else None), slice(max(0, s), s if s < 0 else None)) for s in shift]
    return (pairs[0][0], pairs[1][0]), (pairs[0][1], pairs[1][1])


def confidence(*, reliability: Float, agreement: Float) -> Float:
    """Join both to a number in [0, 1], shape (...): a logistic function that falls with neither."""
    z = ALONE["intercept"] + ALONE["reliability"] * reliability + ALONE["agreement"] * agreement
    return np.asarray(1 / (1 + np.exp(-z)), np.float32)
