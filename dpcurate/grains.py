"""Grains: pixels of one phase and nearly one orientation that touch."""

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_matrix, csr_matrix
from scipy.sparse.csgraph import connected_components

from dpcurate.confidence import same_orientation, shifted_slices
from dpcurate.orientations import Array

TOUCHING = ((0, 1), (1, 0))
"""Neighbours that share an edge."""


def find_grains(
    orientation: Array,
    phase_id: NDArray[np.int16],
    *,
    symmetries: list[Array],
    boundary_deg: float,
    min_pixels: int,
) -> NDArray[np.int32]:
    """Grain of each pixel, from 0 in order of first appearance, -1 where not indexed, shape (rows, columns).

    Pixels that share an edge, a phase and an orientation to within ``boundary_deg`` belong together. Pieces of fewer
    than ``min_pixels``, mostly misindexed pixels inside a grain, join the neighbouring piece whose border they share
    most, so that a split by grain does not put a wrong label of a grain on the other side.
    """
    flat = np.arange(phase_id.size).reshape(phase_id.shape)
    first, second = [], []
    for shift in TOUCHING:
        here, there = shifted_slices(shift)
        alike = same_orientation(orientation, phase_id, shift, symmetries=symmetries, boundary_deg=boundary_deg)
        first.append(flat[here][alike])
        second.append(flat[there][alike])
    pairs = np.concatenate(first), np.concatenate(second)
    graph = coo_matrix((np.ones(len(pairs[0])), pairs), shape=(flat.size, flat.size))
    grain = connected_components(graph, directed=False)[1].reshape(phase_id.shape)
    grain = np.where(phase_id < 0, -1, grain)
    return numbered(_absorb_small(grain, min_pixels=min_pixels))


def _absorb_small(grain: NDArray[np.int64], *, min_pixels: int) -> NDArray[np.int64]:
    """Join every small piece to the neighbour with the longest common border, until none that has one is left.

    Only small pieces choose, one neighbour each, so two large pieces are never joined.
    """
    grain = grain.copy()
    while True:
        ids, piece = np.unique(grain, return_inverse=True)
        size = np.bincount(piece.ravel())
        border = borders(piece.reshape(grain.shape), indexed=ids >= 0)
        small = np.flatnonzero((size < min_pixels) & (border.getnnz(axis=1) > 0))
        if not len(small):
            return grain
        chosen = np.asarray(border[small].argmax(axis=1)).ravel()
        graph = coo_matrix((np.ones(len(small)), (small, chosen)), shape=border.shape)
        joined = connected_components(graph, directed=False)[1]
        grain = np.where(grain < 0, -1, joined[piece].reshape(grain.shape))


def borders(piece: NDArray[np.int64], *, indexed: NDArray[np.bool_]) -> csr_matrix:
    """Length of the border between each two touching pieces, in pixel edges; none with pieces that are not indexed."""
    sides = [(piece[here].ravel(), piece[there].ravel()) for here, there in map(shifted_slices, TOUCHING)]
    a, b = (np.concatenate(side) for side in zip(*sides, strict=True))
    differ = (a != b) & indexed[a] & indexed[b]
    rows, columns = np.concatenate([a[differ], b[differ]]), np.concatenate([b[differ], a[differ]])
    return coo_matrix((np.ones(len(rows)), (rows, columns)), shape=(len(indexed), len(indexed))).tocsr()


def numbered(grain: NDArray[np.int64]) -> NDArray[np.int32]:
    """Number grains from 0 in order of first appearance; -1 stays."""
    values, first, inverse = np.unique(grain, return_index=True, return_inverse=True)
    order = np.argsort(np.argsort(np.where(values < 0, -1, first)))
    number = order - (1 if (values < 0).any() else 0)
    return number[inverse].reshape(grain.shape).astype(np.int32)
