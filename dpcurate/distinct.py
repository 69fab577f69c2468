"""Distinct answers among a pattern's candidates: by falling score, without those that say the same again."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dpcurate.orientations import Array

DISTINCT_DEG = 3.0
"""Candidates nearer to a better one than this are the same answer."""


def distinct(
    orientation: Array,
    score: Tensor,
    phase_id: NDArray[np.int16],
    *,
    symmetries: tuple[Array, ...],
    n_best: int,
    runner_up_deg: float,
) -> tuple[Array, NDArray[np.float32], NDArray[np.int16], NDArray[np.float32]]:
    """The ``n_best`` candidates by falling score, distinct while there are such, and the score of the best rival.

    Candidates are ``(b, c, 4)``, ``(b, c)``, ``(b, c)``; a rival is of another phase or over ``runner_up_deg`` away.
    Returns orientation, score, phase and rival, of shapes (b, n_best, 4), (b, n_best), (b, n_best) and (b,).
    """
    order = score.argsort(dim=1, descending=True, stable=True)
    score = score.gather(1, order)
    index = order.cpu().numpy()
    orientation = np.take_along_axis(orientation, index[..., None], axis=1)
    phase_id = np.take_along_axis(phase_id, index, axis=1)
    cosine = half_angle_cosines(torch.as_tensor(orientation), torch.as_tensor(phase_id), symmetries)
    near = (cosine > np.cos(np.radians(DISTINCT_DEG / 2))).numpy()
    again = np.zeros(index.shape, bool)
    for later in range(1, index.shape[1]):
        again[:, later] = (near[:, later, :later] & ~again[:, :later]).any(axis=1)
    keep = np.argsort(again, axis=1, kind="stable")[:, :n_best]
    keep = np.sort(keep, axis=1)
    far = (cosine[:, 0] < np.cos(np.radians(runner_up_deg / 2))).numpy()
    values = np.maximum(score.cpu().numpy(), 0)
    rival = np.where(far, values, 0).max(axis=1)
    best = (np.take_along_axis(values, keep, 1), np.take_along_axis(phase_id, keep, 1))
    return np.take_along_axis(orientation, keep[..., None], axis=1), *best, rival


def half_angle_cosines(orientation: Tensor, phase_id: Tensor, symmetries: tuple[Array, ...]) -> Tensor:
    """Cosines of half the disorientation between candidates ``(b, c, 4)`` of each pattern, ``(b, c, c)``."""
    return cosines_between(orientation, phase_id, orientation, phase_id, symmetries)


def cosines_between(
    first: Tensor, first_phase: Tensor, second: Tensor, second_phase: Tensor, symmetries: tuple[Array, ...]
) -> Tensor:
    """Cosines of half the disorientation of orientations ``(b, c, 4)`` from ``(b, d, 4)``, shape ``(b, c, d)``.

    -1 between phases ``(b, c)`` and ``(b, d)``. The real part of conj(q) s p is the four-dimensional scalar product of
    q and s p.
    """
    cosine = torch.full((*first.shape[:2], second.shape[1]), -1.0)
    for number, symmetry in enumerate(symmetries):
        from_left = torch.as_tensor(multiplication_matrices(symmetry), dtype=torch.float32)
        images = torch.einsum("sij,bcj->bcsi", from_left, first.float())
        b, c, s, _ = images.shape
        product = torch.bmm(images.view(b, c * s, 4), second.float().mT).view(b, c, s, -1).abs().amax(dim=2)
        both = (first_phase == number)[:, :, None] & (second_phase == number)[:, None]
        cosine = torch.where(both, product, cosine)
    return cosine


def multiplication_matrices(q: Array) -> Array:
    """Matrices ``(n, 4, 4)`` that multiply quaternions by ``q`` (n, 4) from the left."""
    w, x, y, z = np.moveaxis(q, -1, 0)
    rows = [[w, -x, -y, -z], [x, w, -z, y], [y, z, w, -x], [z, -y, x, w]]
    return np.stack([np.stack(row, axis=-1) for row in rows], axis=-2)
