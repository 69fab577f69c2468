"""Which items train, validate and test: whole groups only, so that no grain is both learnt and judged.

Groups are grains, blocks or regions of a map, whole scans, or, for comparison, single pixels.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

KINDS = ("grain", "block", "region", "scan", "random")
"""What is split as a whole: a grain; a square block of the map; a grain, with all grains of a split side by side in one
region of the map; a scan; nothing, so that each pixel is drawn by itself."""

FRACTIONS = (0.7, 0.15, 0.15)
"""Shares of training, validation and test unless others are asked for."""

TRIALS = 64
"""Random orders of the groups that are tried; the one whose shares come nearest to the fractions is taken."""


def split_groups(
    group: ArrayLike, *, fractions: tuple[float, float, float] = FRACTIONS, seed: int | Sequence[int]
) -> NDArray[np.uint8]:
    """Split of each item: 0 train, 1 validation, 2 test, shape ``(n,)``.

    Parameters
    ----------
    group
        Group of each item, shape ``(n,)``; only equality and order of the values count.
    fractions
        Wanted share of the items in each split; positive, sum 1.
    seed
        Another seed gives other groups to each split.

    Raises
    ------
    ValueError
        The fractions are not positive or do not sum to 1.

    Notes
    -----
    Laws: a group never spans two splits; the order of the items does not matter; with three groups or more no split is
    empty. One group goes to training, of two the second validates.
    """
    if min(fractions) <= 0 or abs(sum(fractions) - 1) > 1e-9:
        raise ValueError(f"fractions {fractions} must be positive and sum to 1")
    _, member, size = np.unique(np.asarray(group), return_inverse=True, return_counts=True)
    best, smallest = np.zeros(len(size), np.uint8), np.inf
    for trial in range(TRIALS):
        order = np.random.default_rng([*np.atleast_1d(seed), trial]).permutation(len(size))
        split = np.empty(len(size), np.uint8)
        split[order] = _cut(size[order], fractions)
        share = np.bincount(split, weights=size, minlength=3) / max(size.sum(), 1)
        if (miss := float(np.abs(share - fractions).max())) < smallest:
            best, smallest = split, miss
        if smallest <= 1 / max(size.sum(), 1):
            break
    return best[member]


def _cut(size: NDArray[np.int64], fractions: tuple[float, float, float]) -> NDArray[np.uint8]:
    """Split of each group in the order given: cut where the running share comes nearest to the fractions."""
    n = len(size)
    share = np.concatenate([[0], np.cumsum(size)]) / max(size.sum(), 1)
    first = int(np.clip(np.abs(share - fractions[0]).argmin(), min(1, n), max(n - 2, 1)))
    second = int(np.clip(np.abs(share - fractions[0] - fractions[1]).argmin(), first + 1, max(n - 1, 2)))
    return ((np.arange(n) >= first).astype(np.uint8) + (np.arange(n) >= second)).astype(np.uint8)


def blocks(shape: tuple[int, int], *, side: int) -> NDArray[np.int64]:
    """Number of the square block of ``side`` pixels that each pixel of a map lies in, shape ``(rows, columns)``."""
    row, column = np.indices(shape) // side
    return np.asarray(row * (column.max() + 1) + column)


def split_regions(
    group: ArrayLike,
    shape: tuple[int, int],
    *,
    fractions: tuple[float, float, float] = FRACTIONS,
    seed: int | Sequence[int],
) -> NDArray[np.uint8]:
    """Split of each pixel of a map, shape ``(rows, columns)``: one region for each split, whole groups in each.

    The map is cut across its longer side. A group (``(rows, columns)``; below 0: takes no part and gets 0) goes where
    its mean place along that side lies; from which end training starts depends on the seed. So only groups at the two
    cuts touch one of another split. Without three groups a split is empty, as of `split_groups`.
    """
    number = np.asarray(group)
    split = np.zeros(shape, np.uint8)
    place = np.indices(shape)[int(np.argmax(shape))]
    here = number >= 0
    _, member, size = np.unique(number[here], return_inverse=True, return_counts=True)
    if not len(size):
        return split
    middle = np.bincount(member, weights=place[here]) / size
    order = np.argsort(middle, kind="stable")
    if np.random.default_rng(seed).random() < 0.5:
        order = order[::-1]
    of_group = np.empty(len(size), np.uint8)
    of_group[order] = _cut(size[order], fractions)
    split[here] = of_group[member]
    return split
