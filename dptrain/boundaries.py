"""How far patterns lie from the next grain of their scan."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dpcurate.index_arrays import read_group
from dpcurate.schema import Source

FARTHEST_PX = 8
"""Distances are looked for up to here."""

EXACT, INDEXED, LISTED = "exact grains", "grains of the index", "patterns of the dataset alone"
"""What tells where grains end. By the last, gaps of patterns left out of a dataset count as inside."""

_GRID = np.mgrid[-FARTHEST_PX : FARTHEST_PX + 1, -FARTHEST_PX : FARTHEST_PX + 1].reshape(2, -1).T
_LENGTH = np.hypot(*_GRID.T)
_NEAR = (_LENGTH > 0) & (_LENGTH <= FARTHEST_PX)
OFFSETS = _GRID[_NEAR][np.argsort(-_LENGTH[_NEAR], kind="stable")]
"""Steps to all pixels around, the farthest first, (n, 2)."""


def boundary_distance_px(grain: NDArray[Any], pixel: NDArray[Any]) -> NDArray[np.float64]:
    """Distance of pixels from the next pixel of another grain, in pixels, shape ``(n,)``.

    ``grain`` is a map (rows, columns), -1 where unknown, which is no other grain; ``pixel`` ``(n, 2)`` (row, column).
    1 means that an edge is shared; inf, that there is no other grain within ``FARTHEST_PX``; NaN, that the pixel's own
    grain is unknown. Law: the numbers that grains have do not matter.
    """
    around = np.pad(grain, FARTHEST_PX, constant_values=-1)
    row, column = np.asarray(pixel).T + FARTHEST_PX
    own = around[row, column]
    distance = np.full(len(own), np.inf)
    for down, right in OFFSETS.tolist():
        there = around[row + down, column + right]
        distance[(there != own) & (there >= 0)] = np.hypot(down, right)
    return np.where(own < 0, np.nan, distance)


def grain_map(
    source: Source, pixel: NDArray[Any], *, true_grain: NDArray[Any], grain_id: NDArray[Any]
) -> tuple[NDArray[Any], str]:
    """The grains of a dataset's scan as a map (rows, columns), -1 where unknown, and what it was made of.

    The exact grains if the scan's truth file is there, else those of its index, else what the dataset's own patterns
    at ``pixel`` (n, 2) tell. A file counts only if it agrees with the grains ``(n,)`` that the dataset has.
    """
    exact = true_grain >= 0
    found = _agreeing(_truth_grain(source), pixel[exact], true_grain[exact])
    if found is not None:
        return found, EXACT
    found = _agreeing(_index_grain(source), pixel, grain_id)
    if found is not None:
        return found, INDEXED
    listed = np.full(pixel.max(axis=0) + 1, -1)
    listed[tuple(pixel.T)] = true_grain if exact.all() else grain_id
    return listed, LISTED


def _agreeing(grain: NDArray[Any] | None, pixel: NDArray[Any], expected: NDArray[Any]) -> NDArray[Any] | None:
    if grain is None or not len(pixel) or grain.ndim != 2 or (pixel.max(axis=0) >= grain.shape).any():
        return None
    return grain if np.array_equal(grain[tuple(pixel.T)], expected) else None


def _truth_grain(source: Source) -> NDArray[Any] | None:
    scan = Path(source.scan_path or "")
    try:
        with np.load(scan.with_name(f"{scan.stem}.truth.npz")) as file:
            return np.asarray(file["grain"])
    except (OSError, ValueError, KeyError):
        return None


def _index_grain(source: Source) -> NDArray[Any] | None:
    try:
        return np.asarray(read_group(Path(source.index_path or "") / "labels.zarr")["grain_id"])
    except (OSError, ValueError, KeyError):
        return None
