"""What a pixel's own candidates say of a label that others give it."""

import numpy as np
from numpy.typing import NDArray

from dpcurate.matching import Matches
from dpcurate.neighbourhood import WITHIN_DEG, half_cosines_from
from dpcurate.orientations import Array

SURE = 0.15
"""A pixel that scores so much less, as a share, as its grain than by itself is no pixel of that grain."""


def as_crystal(
    matches: Matches,
    at: tuple[NDArray[np.int64], ...],
    orientation: Array,
    phase: int,
    *,
    symmetries: tuple[Array, ...],
    within_deg: float,
) -> Array:
    """Pixels' own candidates that are nearest to an orientation (4,) or (n, 4), or that where none is near, (n, 4)."""
    expected = np.broadcast_to(orientation, (len(at[0]), 4))
    cosine = _half_cosines_at(matches, at, expected, phase, symmetries)
    best = cosine.argmax(axis=1)
    near = cosine[np.arange(len(best)), best] > half_cosine(within_deg)
    return np.where(near[:, None], matches.orientation[(*at, best)], expected)


def sure(
    matches: Matches, at: tuple[NDArray[np.int64], ...], own: Array, phase: int, symmetries: tuple[Array, ...]
) -> NDArray[np.bool_]:
    """Whether pixels score much less as what they are to become than by themselves."""
    same = _half_cosines_at(matches, at, own, phase, symmetries) > half_cosine(WITHIN_DEG)
    score = np.where(same, matches.score[at], 0).max(axis=1, initial=0)
    return np.asarray(score < (1 - SURE) * matches.score[at][:, 0])


def _half_cosines_at(
    matches: Matches, at: tuple[NDArray[np.int64], ...], expected: Array, phase: int, symmetries: tuple[Array, ...]
) -> NDArray[np.float32]:
    of_phase = np.full(len(expected), phase)
    return half_cosines_from(expected, of_phase, matches.orientation[at], matches.phase_id[at], symmetries=symmetries)


def half_cosine(angle_deg: float) -> float:
    """Cosine of half an angle, as `neighbourhood.half_cosines_from` gives them."""
    return float(np.cos(np.radians(angle_deg / 2)))


def label_score(
    matches: Matches, orientation: Array, phase_id: NDArray[np.int16], *, symmetries: list[Array]
) -> NDArray[np.float32]:
    """Score that each pixel's own pattern gives its label (rows, columns): of its nearest candidate, or of its last."""
    cosine = half_cosines_from(
        orientation, phase_id, matches.orientation, matches.phase_id, symmetries=tuple(symmetries)
    )
    best = cosine.argmax(axis=-1)[..., None]
    near = np.take_along_axis(cosine, best, axis=-1) > half_cosine(WITHIN_DEG)
    return np.where(near, np.take_along_axis(matches.score, best, axis=-1), matches.score[..., -1:])[..., 0]
