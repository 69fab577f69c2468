"""Patterns that hold two grains: each near grain's share of a pattern, from the mean patterns inside those grains."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import find_objects, gaussian_filter, maximum_filter, minimum_filter

NEAR = 3
"""Pixels from a grain boundary within which patterns may hold two grains: a probe is rarely wider."""

HALO = 8
"""Pixels around within which a grain's own patterns are looked for."""

REFERENCES = 8
"""Patterns that make a grain's mean near a pixel: more scatter less, and lie farther away in a bent grain."""

MOST_GRAINS = 4
"""Grains that are considered for one pattern, those with most pixels around it."""

SMOOTHING_PX = 0.9
"""Standard deviation of the Gaussian that smooths shares over the map: probes are wider than a pixel."""

SAME = 1e-4
"""Squared sine of the angle between two mean patterns from which their shares can be told."""

NOISE_FLOOR = 0.05
"""Counts that are added to a mean pattern before its scatter is taken from it."""


@dataclass(frozen=True)
class Shares:
    """Who is in each pattern, all (rows, columns)."""

    first: NDArray[np.int32]
    """Grain with the larger share; -1 where there is no grain."""
    second: NDArray[np.int32]
    """Grain with the next, -1 where there is none."""
    weight: NDArray[np.float32]
    """Share of the first, 1 where it is alone."""


def near_boundary(grain_id: NDArray[np.int32]) -> NDArray[np.bool_]:
    """Pixels that have another grain within `NEAR`; what is in no grain bounds nothing."""
    size = 2 * NEAR + 1
    inside = grain_id >= 0
    least = minimum_filter(np.where(inside, grain_id, np.iinfo(np.int32).max), size, mode="nearest")
    most = maximum_filter(np.where(inside, grain_id, -1), size, mode="nearest")
    return inside & (least != most)


def core(grain_id: NDArray[np.int32]) -> NDArray[np.bool_]:
    """Pixels all of whose neighbours are of the same grain; of a grain that has none, all its pixels."""
    same = minimum_filter(grain_id, 3, mode="nearest") == maximum_filter(grain_id, 3, mode="nearest")
    inner = same & (grain_id >= 0)
    has = np.isin(grain_id, np.unique(grain_id[inner]))
    return inner | (~has & (grain_id >= 0))


def shares_of(
    patterns: NDArray[np.float32], grain_id: NDArray[np.int32], inner: NDArray[np.bool_], pixels: NDArray[np.int64]
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Grains and their shares ``(n, MOST_GRAINS)`` in the patterns of ``pixels`` (n, 2); -1 and 0 for grains too few.

    Parameters
    ----------
    patterns
        Polar patterns without background, in counts, (rows, columns, bins).
    grain_id, inner
        Grains, and pixels that hold one grain alone (`core`), (rows, columns).
    pixels
        Rows and columns of the patterns asked for.
    """
    grains = np.full((len(pixels), MOST_GRAINS), -1, np.int32)
    shares = np.zeros((len(pixels), MOST_GRAINS), np.float32)
    for number, (row, column) in enumerate(pixels):
        own = int(grain_id[row, column])
        means = {
            grain: mean
            for grain in _around(grain_id, row, column)
            if (mean := _mean(patterns, grain_id, inner, grain, row, column)) is not None
        }
        if own not in means:  # nothing to compare its pattern with
            means = {own: patterns[row, column]}
        grains[number, : len(means)] = list(means)
        shares[number, : len(means)] = _two(patterns[row, column], np.array(list(means.values())))
    return grains, shares


def smooth(
    grain_id: NDArray[np.int32], pixels: NDArray[np.int64], grains: NDArray[np.int32], shares: NDArray[np.float32]
) -> Shares:
    """Shares of all pixels, smoothed: of ``pixels`` (n, 2) those of `shares_of`; others are of their grain alone."""
    n_grains = int(grain_id.max(initial=-1)) + 1
    asked = np.zeros(grain_id.shape, bool)
    asked[tuple(pixels.T)] = True
    best, second = (np.zeros(grain_id.shape, np.float32) for _ in range(2))
    first_id, second_id = (np.full(grain_id.shape, -1, np.int32) for _ in range(2))
    of_grain = _by_grain(grains, n_grains)
    for k, box in enumerate(find_objects(grain_id + 1, max_label=n_grains)):
        if box is None:
            continue
        padded = tuple(slice(max(0, s.start - HALO), s.stop + HALO) for s in box)
        share = ((grain_id[padded] == k) & ~asked[padded]).astype(np.float32)
        rows, column = of_grain[k]
        place = pixels[rows] - [s.start for s in padded]
        inside = ((place >= 0) & (place < share.shape)).all(axis=1)
        share[tuple(place[inside].T)] = shares[rows, column][inside]
        share = gaussian_filter(share, SMOOTHING_PX, mode="nearest", truncate=3)
        higher = share > best[padded]
        next_best = np.where(higher, best[padded], np.maximum(second[padded], share))
        moved = share > second[padded]
        second_id[padded] = np.where(higher, first_id[padded], np.where(moved, k, second_id[padded]))
        second[padded] = np.where(higher, best[padded], next_best)
        first_id[padded] = np.where(higher, k, first_id[padded])
        best[padded] = np.where(higher, share, best[padded])
    outside = grain_id < 0
    weight = np.where(second > 0, best / np.maximum(best + second, 1e-9), 1)
    return Shares(
        first=np.where(outside, -1, first_id),
        second=np.where(outside, -1, second_id),
        weight=np.where(outside, 1, weight).astype(np.float32),
    )


def _by_grain(grains: NDArray[np.int32], n_grains: int) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Of each grain, the rows and columns of ``grains`` at which it stands."""
    rows, columns = np.nonzero(grains >= 0)
    order = np.argsort(grains[rows, columns], kind="stable")
    rows, columns = rows[order], columns[order]
    cuts = np.searchsorted(grains[rows, columns], np.arange(n_grains + 1))
    return [(rows[a:b], columns[a:b]) for a, b in pairwise(cuts)]


def _around(grain_id: NDArray[np.int32], row: int, column: int) -> list[int]:
    """A pixel's own grain, and the others that have most pixels within `NEAR`."""
    own = int(grain_id[row, column])
    ids, count = np.unique(grain_id[_window(grain_id.shape, row, column, NEAR)], return_counts=True)
    others = (ids >= 0) & (ids != own)
    most = np.argsort(-count[others], kind="stable")[: MOST_GRAINS - 1]
    return [own, *ids[others][most].tolist()]


def _window(shape: tuple[int, ...], row: int, column: int, reach: int) -> tuple[slice, slice]:
    return (
        slice(max(0, row - reach), min(shape[0], row + reach + 1)),
        slice(max(0, column - reach), min(shape[1], column + reach + 1)),
    )


def _mean(
    patterns: NDArray[np.float32],
    grain_id: NDArray[np.int32],
    inner: NDArray[np.bool_],
    grain: int,
    row: int,
    column: int,
) -> NDArray[np.float32] | None:
    """Mean of the nearest patterns inside a grain, the pixel's own left out; None where there are none."""
    window = _window(grain_id.shape, row, column, HALO)
    rows, columns = np.nonzero((grain_id[window] == grain) & inner[window])
    rows, columns = rows + window[0].start, columns + window[1].start
    distance = (rows - row) ** 2 + (columns - column) ** 2
    near = np.argsort(np.where(distance == 0, np.iinfo(np.int64).max, distance), kind="stable")
    near = near[distance[near] > 0][:REFERENCES]
    return patterns[rows[near], columns[near]].mean(axis=0) if len(near) else None


def _two(pattern: NDArray[np.float32], means: NDArray[np.float32]) -> NDArray[np.float64]:
    """Shares (m,) of the one or two means (m, bins) whose sum fits a pattern best, weighed by the scatter of counts.

    0 for all where the pattern is like none of them.
    """
    weight = 1 / (means.mean(axis=0).clip(min=0) + NOISE_FLOOR)
    gram, match = ((means * weight) @ means.T).astype(float), (means @ (pattern * weight)).astype(float)
    amounts = np.diag(np.maximum(match, 0) / np.maximum(np.diag(gram), 1e-30))  # of each alone, then of each pair
    a, b = np.triu_indices(len(means), k=1)
    square = gram[a, a] * gram[b, b] - gram[a, b] ** 2
    pair = (
        np.stack([gram[b, b] * match[a] - gram[a, b] * match[b], gram[a, a] * match[b] - gram[a, b] * match[a]], axis=1)
        / np.maximum(square, 1e-30)[:, None]
    )
    good = (square > SAME * gram[a, a] * gram[b, b]) & (pair > 0).all(axis=1)
    both = np.zeros((int(good.sum()), len(means)))
    row = np.arange(len(both))
    both[row, a[good]], both[row, b[good]] = pair[good].T
    amounts = np.concatenate([amounts, both])
    best = amounts[(amounts @ match).argmax()]
    return best / max(float(best.sum()), 1e-30)
