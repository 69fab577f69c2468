"""Evidence of neighbours: candidates that touching pixels share, and their scores pooled around each pixel."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dpcurate.confidence import shifted_slices
from dpcurate.distinct import cosines_between
from dpcurate.orientations import Array

WITHIN_DEG = 2.5
"""Candidates of touching pixels nearer than this are the same crystal: twice the error of a match, and some bending."""

ROUNDS = 8
"""Evidence comes from so many pixels away, with falling weight."""

STEPS = ((0, 1), (1, 0), (1, 1), (1, -1))
"""To four of the eight neighbours; the others lie opposite."""

PIXELS_AT_ONCE = 4096
"""Pairs of pixels whose candidates are compared at a time: 25 MB at 20 candidates and 6 symmetries."""

Links = dict[tuple[int, int], NDArray[np.int16]]
"""For each step (rows, columns) to a neighbour, which of its candidates is each candidate's, (rows, columns, n).

-1 where it has none, or there is no such neighbour."""


def links(
    orientation: Array, phase_id: NDArray[np.int16], *, symmetries: tuple[Array, ...], within_deg: float = WITHIN_DEG
) -> Links:
    """Which candidates of touching pixels are the same; candidates are ``(rows, columns, n, 4)`` and ``(..., n)``."""
    found = {}
    least = float(np.cos(np.radians(within_deg / 2)))
    for step in STEPS:
        here, there = shifted_slices(step)
        forth, back = (np.full(phase_id.shape, -1, np.int16) for _ in range(2))
        found[step], found[-step[0], -step[1]] = forth, back
        pairs = (orientation[here], phase_id[here], orientation[there], phase_id[there])
        shape = pairs[1].shape
        if not pairs[1].size:  # a map of one row or column
            continue
        flat = [torch.as_tensor(part.reshape(-1, *part.shape[2:])) for part in pairs]
        first, second = list[Tensor](), list[Tensor]()
        for a, p, b, q in zip(*(part.split(PIXELS_AT_ONCE) for part in flat), strict=True):
            cosine = cosines_between(a, p, b, q, symmetries)
            for dim, side in ((2, first), (1, second)):
                best, place = cosine.max(dim=dim)
                side.append(torch.where(best > least, place, -1).to(torch.int16))
        forth[here] = torch.cat(first).view(shape).numpy()
        back[there] = torch.cat(second).view(shape).numpy()
    return found


def pooled(score: NDArray[np.float32], links: Links, *, rounds: int = ROUNDS) -> NDArray[np.float32]:
    """Scores of candidates ``(rows, columns, n)``, each the mean over a neighbourhood of pixels that share it.

    In each round a candidate's score becomes the mean of its own first score and what the eight neighbours have for
    it now. A neighbour that does not have it counts with the score of its own last candidate. Pixels without any score
    have no say.
    """
    own = torch.as_tensor(score)
    counts = own[..., 0] > 0
    last = own[..., -1]
    now = own
    for _ in range(rounds):
        total, number = own.clone(), torch.ones(own.shape[:2])
        for step, index in links.items():
            here, there = shifted_slices(step)
            place = torch.as_tensor(index[here]).long()
            value = now[there].gather(2, place.clamp(min=0))
            value = torch.where(place >= 0, value, last[there][..., None])
            total[here] += value * counts[there][..., None]
            number[here] += counts[there]
        now = total / number[..., None]
    return now.numpy()


def half_cosines_from(
    expected: Array,
    expected_phase: NDArray[np.integer],
    orientation: Array,
    phase_id: NDArray[np.int16],
    *,
    symmetries: tuple[Array, ...],
) -> NDArray[np.float32]:
    """Cosines of half the disorientation of each pixel's candidates from what is expected there, (..., n).

    Expected orientations are (..., 4), of phases (...), candidates (..., n, 4) and (..., n); -1 for those of another
    phase.
    """
    found = np.empty((expected_phase.size, phase_id.shape[-1]), np.float32)
    a, p = expected.reshape(-1, 1, 4), expected_phase.reshape(-1, 1)
    b, q = orientation.reshape(*found.shape, 4), phase_id.reshape(found.shape)
    for start in range(0, len(found), PIXELS_AT_ONCE):
        part = slice(start, start + PIXELS_AT_ONCE)
        tensors = [torch.as_tensor(np.array(array[part])) for array in (a, p, b, q)]
        found[part] = cosines_between(tensors[0], tensors[1], tensors[2], tensors[3], symmetries)[:, 0].numpy()
    return found.reshape(phase_id.shape)
