"""How far predicted orientations are off: sums and counts that are added over batches and processes, divided once."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dpcurate import orientations
from dpcurate.schema import PhaseRecord

WITHIN_DEG = (1.0, 3.0, 5.0, 10.0)
"""Disorientations within which the share of patterns is reported."""

BIN_DEG = 0.05
"""Width of the bins from which the median is read."""

LARGEST_DEG = 180.0
"""A pattern whose phase is wrong counts as this far off: no orientation of its phase was found."""

N_BINS = round(LARGEST_DEG / BIN_DEG) + 1
N_TALLY = 2 + len(WITHIN_DEG) + N_BINS


@dataclass(frozen=True)
class Accuracy:
    """Number of patterns, mean and median disorientation, share of patterns within each of ``WITHIN_DEG``."""

    n: int
    mean_deg: float
    median_deg: float
    within: tuple[float, ...]


def errors_deg(
    predicted: ArrayLike,
    truth: ArrayLike,
    *,
    predicted_phase: ArrayLike,
    phase: ArrayLike,
    phases: Sequence[PhaseRecord],
) -> NDArray[np.float64]:
    """Disorientation of each prediction from the truth in float64 degrees, ``(n,)``, under the true phase's symmetry.

    ``predicted`` and ``truth`` are ``(n, 4)``, the phases ``(n,)``. Where the phase is wrong it is ``LARGEST_DEG``;
    where the truth is not known (NaN) it is NaN.
    """
    predicted, truth = np.asarray(predicted, np.float64), np.asarray(truth, np.float64)
    predicted_phase, phase = np.asarray(predicted_phase), np.asarray(phase)
    error = np.full(len(truth), LARGEST_DEG)
    for index, record in enumerate(phases):
        rows = np.flatnonzero((phase == index) & (predicted_phase == index))
        error[rows] = orientations.disorientation_deg(predicted[rows], truth[rows], record.proper_rotations())
    return np.where(np.isnan(truth).any(axis=-1), np.nan, error)


def tally(error_deg: ArrayLike) -> NDArray[np.float64]:
    """What has to be known of errors ``(n,)``, as one vector ``(N_TALLY,)`` that may be added; NaNs are left out.

    Law: the tally of all is the sum of the tallies of the parts.
    """
    error = np.asarray(error_deg, np.float64)
    error = error[~np.isnan(error)]
    within = [np.count_nonzero(error <= limit) for limit in WITHIN_DEG]
    bins = np.bincount((error / BIN_DEG).astype(np.int64), minlength=N_BINS)
    return np.concatenate([[len(error), error.sum()], within, bins]).astype(np.float64)


def accuracy(total: NDArray[np.float64]) -> Accuracy:
    """The accuracy that a sum of tallies stands for, the median within ``BIN_DEG``; NaN where nothing was counted."""
    n, error_sum = total[:2]
    within = total[2 : 2 + len(WITHIN_DEG)]
    if n == 0:
        return Accuracy(0, float("nan"), float("nan"), (float("nan"),) * len(WITHIN_DEG))
    half = np.searchsorted(np.cumsum(total[2 + len(WITHIN_DEG) :]), n / 2)
    return Accuracy(int(n), float(error_sum / n), float((half + 0.5) * BIN_DEG), tuple((within / n).tolist()))
