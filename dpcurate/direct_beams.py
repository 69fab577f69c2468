"""Patterns moved so that their direct beams are at one place, when they are read."""

from typing import Any

import dask.array as da
import numpy as np
import torch
from numpy.typing import NDArray

from dpcurate.bad_patterns import without_faults
from dpcurate.pattern_features import direct_beam

IN_BEAM = 0.5
"""Share of the electrons around the direct beam that must be in it, or there is a beam stop."""

WINDOW_SIGMAS, AROUND = 3.0, 0.1
"""Radius of what is in the beam in its widths, and of what is around it in widths of the detector."""

FEWEST_ELECTRONS = 25.0
"""In the beam of a pattern that is moved: they fix its place to a fifth of its width."""

AT_ONCE = 256
"""Patterns that are moved together."""


def steady(patterns: da.Array, place_xy: tuple[float, float], *, faulty: tuple[int, ...] = ()) -> da.Array:
    """Patterns (rows, columns, h, w), each moved by `to_place` when it is read; float32.

    ``faulty`` are detector pixels, counted row by row: they do not wander with the beam, so they take the mean of
    their neighbours before a pattern is moved.
    """
    chunks = (*patterns.chunks[:2], *((size,) for size in patterns.shape[2:]))
    moved = SteadyPatterns(patterns, place_xy, faulty)
    return da.from_array(moved, chunks=chunks, name=False, asarray=False, meta=np.empty((0,) * 4, moved.dtype))


class SteadyPatterns:
    """Patterns that are moved when they are read; read like an array."""

    def __init__(self, patterns: da.Array, place_xy: tuple[float, float], faulty: tuple[int, ...]) -> None:
        self._patterns, self._place = patterns, place_xy
        self.shape, self.dtype, self.ndim = patterns.shape, np.dtype(np.float32), 4
        self._faulty = np.zeros(self.shape[2:], bool)
        self._faulty.flat[list(faulty)] = True

    def __getitem__(self, index: tuple[Any, ...]) -> NDArray[np.float32]:
        raw = np.asarray(self._patterns[index[:2]].compute(scheduler="synchronous"))
        flat = raw.reshape(-1, *raw.shape[-2:])
        pieces = (flat[k : k + AT_ONCE].astype(np.float32) for k in range(0, len(flat), AT_ONCE))
        parts = [to_place(without_faults(piece, self._faulty), self._place) for piece in pieces]
        moved = np.concatenate(parts) if parts else flat.astype(np.float32)
        return np.asarray(moved.reshape(raw.shape)[(..., *index[2:])])


def to_place(patterns: NDArray[Any], place_xy: tuple[float, float]) -> NDArray[np.float32]:
    """Patterns (n, h, w) moved so that their direct beams are at ``place_xy``, bilinear, float32.

    What comes from outside the frame is 0. A pattern whose beam is not clear stays where it is.
    """
    counts = np.asarray(patterns, np.float32)
    place, clear = beam_places(np.nan_to_num(counts), place_xy)
    shift = torch.from_numpy(np.where(clear[:, None], place - np.asarray(place_xy), 0)).float()
    height, width = counts.shape[1:]
    half = torch.tensor([width - 1, height - 1]) / 2
    theta = torch.eye(2, 3).repeat(len(counts), 1, 1)
    theta[:, :, 2] = shift / half
    grid = torch.nn.functional.affine_grid(theta, [len(counts), 1, height, width], align_corners=True)
    moved = torch.nn.functional.grid_sample(torch.from_numpy(counts)[:, None], grid, align_corners=True)
    return np.where(clear[:, None, None], moved[:, 0].numpy(), counts)


def beam_places(patterns: NDArray[np.float32], near_xy: tuple[float, float]) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Place (column, row) of the direct beam of patterns (n, h, w), (n, 2), and whether it is clear, (n,)."""
    counts = np.clip(patterns, 0, None)
    place, sigma = direct_beam(counts.astype(np.float64), center_xy=near_xy)
    row, column = (np.asarray(part) for part in np.indices(counts.shape[1:]))
    around = np.hypot(column - near_xy[0], row - near_xy[1]) < AROUND * max(counts.shape[1:])
    away = np.hypot(column[around] - place[:, :1], row[around] - place[:, 1:])
    near = counts[:, around]
    beam = (near * (away < WINDOW_SIGMAS * sigma[:, None])).sum(axis=1)
    return place, (beam >= FEWEST_ELECTRONS) & (beam >= IN_BEAM * near.sum(axis=1))
