"""The numbers of a report: how far orientations are off, over which pixels, and what a guess would give."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from dpcurate.orientations import Array, disorientation_deg, random_uniform
from dpcurate.schema import PhaseRecord
from dptrain.metrics import LARGEST_DEG, WITHIN_DEG

GUESSES = 200_000
"""Pairs of random orientations behind the figures of a guess; their mean is then good to 0.1 degrees."""

GUESS_SEED = 20_240
"""Fixed, so that a page made again shows the same figures."""

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Score:
    """Disorientations of one answer over one group of pixels; shares are of all pixels of the group, 0 to 1."""

    answer: str
    pixels: str
    n_pixels: int
    n_grains: int | None
    within_1_deg: float
    within_3_deg: float
    within_5_deg: float
    within_10_deg: float
    median_deg: float
    mean_deg: float


COLUMNS = tuple(field.name for field in fields(Score))


def map_errors_deg(
    orientation: Array,
    phase_id: NDArray[np.int16],
    reference: Array,
    *,
    phases: Sequence[PhaseRecord],
    reference_phase: NDArray[np.int16] | None = None,
) -> Array:
    """Disorientation of each pixel from a reference, degrees, shape ``(...)``.

    Parameters
    ----------
    orientation, phase_id
        Shapes ``(..., 4)`` and ``(...)``; a pixel of phase -1 has no orientation and counts as 180 degrees off.
    phases
        What ``phase_id`` counts.
    reference
        Shape ``(..., 4)``; where it is NaN the error is NaN.
    reference_phase
        Where it differs from ``phase_id`` the error is 180 degrees. Without it the reference is taken to be of the
        phase that the answer names.
    """
    error = np.full(phase_id.shape, LARGEST_DEG)
    for number, phase in enumerate(phases):
        here = phase_id == number
        if reference_phase is not None:
            here &= reference_phase == number
        error[here] = disorientation_deg(orientation[here], reference[here], phase.proper_rotations())
    return np.where(np.isnan(reference).any(axis=-1), np.nan, error)


def score(error_deg: Array, here: Mask, *, answer: str, pixels: str, grain: NDArray[np.integer] | None) -> Score:
    """The score of an answer with errors ``(...)`` over the pixels ``here`` ``(...)``; NaN errors are left out."""
    here = here & ~np.isnan(error_deg)
    error = error_deg[here]
    n_grains = None if grain is None else len(np.unique(grain[here]))
    told = np.full(len(WITHIN_DEG) + 2, np.nan)
    if len(error):
        told = np.array([*(np.mean(error <= limit) for limit in WITHIN_DEG), np.median(error), error.mean()])
    names = COLUMNS[-len(told) :]
    return Score(answer, pixels, len(error), n_grains, **dict(zip(names, told.tolist(), strict=True)))


def score_groups(
    errors_deg: Mapping[str, Array], groups: Mapping[str, Mask], *, grain: NDArray[np.integer] | None
) -> list[Score]:
    """Scores of every answer over every group that has pixels, group by group."""
    return [
        score(error, here, answer=answer, pixels=pixels, grain=grain)
        for pixels, here in groups.items()
        for answer, error in errors_deg.items()
        if here.any()
    ]


def guess_errors_deg(symmetry: Array) -> Array:
    """Disorientations of random orientations, uniform over all rotations, from others, ``(GUESSES,)``, degrees.

    ``symmetry`` holds the proper rotations of the Laue group, shape ``(n_symmetry, 4)``.
    """
    rng = np.random.default_rng(GUESS_SEED)
    return disorientation_deg(random_uniform(GUESSES, seed=rng), random_uniform(GUESSES, seed=rng), symmetry)


def guess_score(symmetry: Array) -> Score:
    """What random orientations give under one symmetry ``(n_symmetry, 4)``."""
    return score(guess_errors_deg(symmetry), np.ones(GUESSES, bool), answer="random guess", pixels="any", grain=None)


def untrained_grains(grain: NDArray[np.integer], trained: Mask) -> Mask:
    """Pixels of grains of which no pixel is ``trained``, both shapes ``(...)``; a law: no trained pixel is among them.

    ``grain`` is -1 where unknown; such pixels are never among them.
    """
    return np.asarray((grain >= 0) & ~np.isin(grain, np.unique(grain[trained])))
