"""Maps of small turns of the lattice: kernel average misorientation, deviation from the grain's mean orientation."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dpcurate.confidence import shifted_slices
from dpcurate.orientations import Array, conjugate, disorientation_deg, multiply, zone_representative

KERNEL_THRESHOLD_DEG = 5.0
"""Neighbours further apart belong to another grain or are misindexed; EBSD programs take 5 degrees as a rule."""

OUTLIER_DEG = (3.0, 15.0)
"""Pixels further from their grain's mean than some limit are misindexed ones that joined it, and no part of the mean.

The limit is `OUTLIER_MEDIANS` times the grain's median deviation, but between these two. An evenly bent grain reaches 2
medians, normally distributed turns 3; one misindexed pixel 14 degrees off in 55 would move a mean by 0.25 degrees.
"""

OUTLIER_MEDIANS = 4.0

SAMPLES = 24
"""Pixels of a grain among which the start of its mean is chosen."""

ROUNDS = 4
"""Of the mean. From the start it moves by less than its spread; later rounds only settle which pixels count."""

PAIRS = 250_000
"""Pairs of orientations that are compared at a time: 24 symmetry operations take 200 MB."""


@dataclass(frozen=True)
class GrainDeviation:
    """Mean orientation of each grain and what its pixels deviate from it; n grains, axes (rows, columns)."""

    mean: Array
    """Shape (n, 4), lab to crystal, the equivalent nearest the identity; NaN for a grain without an indexed pixel."""
    phase_id: NDArray[np.int16]
    """Phase of most of its pixels, shape (n,); -1 for a grain without an indexed pixel."""
    deviation_deg: Array
    """Grain reference orientation deviation (GROD), shape (rows, columns); NaN outside grains and for other phases."""
    spread_deg: Array
    """Grain orientation spread (GOS): mean deviation of the pixels that make the mean, shape (n,)."""


def kernel_average_misorientation(
    orientation: Array,
    phase_id: NDArray[np.int16],
    *,
    symmetries: Sequence[Array],
    order: int = 1,
    threshold_deg: float = KERNEL_THRESHOLD_DEG,
) -> Array:
    """Mean disorientation of each pixel from its neighbours in degrees (KAM), shape (rows, columns).

    Parameters
    ----------
    orientation, phase_id
        Maps of shape (rows, columns, 4) and (rows, columns); phase -1 is not indexed.
    symmetries
        Proper rotations of each phase, each (n_symmetry, 4).
    order
        Neighbours are the pixels that are reached in so many steps across pixel edges: 4 for order 1, 12 for order 2.
    threshold_deg
        Neighbours of the same phase count up to this disorientation; NaN where none is left.

    Unchanged when a pixel's orientation is replaced by a symmetric equivalent or the lab is turned.
    """
    if order < 1:
        raise ValueError(f"order {order}: expected 1 or more steps")
    total, count = np.zeros(phase_id.shape), np.zeros(phase_id.shape)
    for shift in _half_kernel(order, phase_id.shape):
        here, there = shifted_slices(shift)
        angle = disorientation_map(orientation[here], orientation[there], phase_id[here], phase_id[there], symmetries)
        counts = angle <= threshold_deg
        for side in (here, there):
            total[side] += np.where(counts, angle, 0)
            count[side] += counts
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def grain_deviation(
    orientation: Array, phase_id: NDArray[np.int16], grain_id: NDArray[np.int32], *, symmetries: Sequence[Array]
) -> GrainDeviation:
    """Mean orientation of every grain, and each pixel's deviation from that of its grain.

    Parameters
    ----------
    orientation, phase_id, grain_id
        Maps of shape (rows, columns, 4), (rows, columns) and (rows, columns); grains count from 0, -1 is none.
    symmetries
        Proper rotations of each phase, each (n_symmetry, 4).

    Notes
    -----
    The mean is the eigenvector of the largest eigenvalue of the sum of outer products q q', after each orientation was
    replaced by its equivalent nearest to the last mean. It starts from the pixel that is nearest to a sample of the
    others, so a misindexed pixel cannot start it. Pixels of another phase than the grain's take no part. Unchanged when
    a pixel's orientation is replaced by a symmetric equivalent.
    """
    flat, phase, grain = orientation.reshape(-1, 4), phase_id.ravel(), grain_id.ravel()
    n_grains = max(0, int(grain.max(initial=-1)) + 1)
    phase_of_grain = _phase_of_grain(phase, grain, n_grains=n_grains, n_phases=len(symmetries))
    own = (grain >= 0) & (phase >= 0) & (phase == phase_of_grain[grain])
    mean, spread = np.full((n_grains, 4), np.nan), np.full(n_grains, np.nan)
    deviation = np.full(len(grain), np.nan)
    for index, symmetry in enumerate(symmetries):
        pixels = np.flatnonzero(own & (phase == index))
        if not len(pixels):
            continue
        pixels = pixels[np.argsort(grain[pixels], kind="stable")]
        grains, member = np.unique(grain[pixels], return_inverse=True)
        found = _means(flat[pixels], member, symmetry)
        angle = _angles(flat[pixels], found[member], symmetry)
        counts = angle <= _limits(angle, member)[member]
        mean[grains] = zone_representative(found, symmetry)
        spread[grains] = np.bincount(member, angle * counts) / np.bincount(member, counts)
        deviation[pixels] = angle
    return GrainDeviation(mean, phase_of_grain[:n_grains], deviation.reshape(phase_id.shape), spread)


def disorientation_map(
    first: Array,
    second: Array,
    first_phase: NDArray[np.int16],
    second_phase: NDArray[np.int16],
    symmetries: Sequence[Array],
) -> Array:
    """Disorientation of two maps pixel by pixel in degrees; NaN where the phases differ or are -1, shape (...)."""
    angle = np.full(first_phase.shape, np.nan)
    for index, symmetry in enumerate(symmetries):
        both = (first_phase == index) & (second_phase == index)
        if both.any():
            angle[both] = _angles(first[both], second[both], symmetry)
    return angle


def _angles(first: Array, second: Array, symmetry: Array) -> Array:
    """Disorientations of two lists (n, 4) in degrees, some at a time, to bound memory."""
    steps = range(0, len(first), PAIRS)
    return np.concatenate([disorientation_deg(first[k : k + PAIRS], second[k : k + PAIRS], symmetry) for k in steps])


def _half_kernel(order: int, shape: tuple[int, ...]) -> list[tuple[int, int]]:
    """One of each two opposite shifts (rows, columns) within ``order`` steps that fit in the map."""
    steps = range(-order, order + 1)
    near = [(r, c) for r in steps for c in steps if 0 < abs(r) + abs(c) <= order and (r, c) > (0, 0)]
    return [(r, c) for r, c in near if abs(r) < shape[0] and abs(c) < shape[1]]


def _phase_of_grain(
    phase: NDArray[np.int16], grain: NDArray[np.int32], *, n_grains: int, n_phases: int
) -> NDArray[np.int16]:
    """Phase of most pixels of each grain, and one entry more, -1, for pixels of no grain."""
    inside = (grain >= 0) & (phase >= 0)
    votes = np.bincount(grain[inside] * n_phases + phase[inside], minlength=n_grains * n_phases)
    votes = votes.reshape(n_grains, n_phases)
    winner = np.where(votes.sum(axis=1) > 0, votes.argmax(axis=1), -1)
    return np.append(winner, -1).astype(np.int16)


def _means(g: Array, member: NDArray[np.int64], symmetry: Array) -> Array:
    """Mean orientation of each grain of one phase, (n_grains, 4), of pixels (n, 4) that come grain by grain."""
    mean = _starts(g, member, symmetry)
    for _ in range(ROUNDS):
        angle = _angles(g, mean[member], symmetry)
        counts = angle <= _limits(angle, member)[member]
        moment = np.zeros((len(mean), 4, 4))
        for start in range(0, len(g), PAIRS):
            some = slice(start, start + PAIRS)
            near = _near_equivalents(g[some], mean[member[some]], symmetry)
            for row, column in zip(*np.tril_indices(4), strict=True):
                product = counts[some] * near[:, row] * near[:, column]
                moment[:, row, column] += np.bincount(member[some], product, minlength=len(mean))
        mean = np.asarray(np.linalg.eigh(moment, UPLO="L")[1][:, :, -1])
    return mean


def _limits(angle_deg: Array, member: NDArray[np.int64]) -> Array:
    """Deviation up to which pixels of each grain count, (n_grains,); ``member`` rises."""
    size = np.bincount(member)
    middle = np.cumsum(size) - size + size // 2
    median = angle_deg[np.lexsort((angle_deg, member))][middle]
    return np.clip(OUTLIER_MEDIANS * median, *OUTLIER_DEG)


def _near_equivalents(g: Array, mean: Array, symmetry: Array) -> Array:
    """The equivalent of each orientation that is nearest to its mean, all (n, 4)."""
    overlap = np.abs(multiply(g, conjugate(mean)) @ conjugate(symmetry).T)
    return multiply(symmetry[overlap.argmax(axis=1)], g)


def _starts(g: Array, member: NDArray[np.int64], symmetry: Array) -> Array:
    """Of up to `SAMPLES` pixels of each grain, spread over it, the one that is nearest to the others, (n_grains, 4)."""
    n_grains = int(member.max()) + 1
    size = np.bincount(member, minlength=n_grains)
    first = np.cumsum(size) - size
    place = (np.arange(SAMPLES) + 0.5) / SAMPLES
    sample = first[:, None] + np.floor(place * size[:, None]).astype(int)
    candidates = g[sample]
    distance = np.empty((n_grains, SAMPLES))
    for k in range(SAMPLES):
        pairs = _angles(np.repeat(candidates[:, k], SAMPLES, axis=0), candidates.reshape(-1, 4), symmetry)
        distance[:, k] = np.minimum(pairs, OUTLIER_DEG[1]).reshape(n_grains, SAMPLES).sum(axis=1)
    return np.asarray(candidates[np.arange(n_grains), distance.argmin(axis=1)])
