"""Regions: touching grains that may be one crystal, since one rival is among the best of each."""

import numpy as np
from numpy.typing import NDArray

from dpcurate.grains import borders, numbered
from dpcurate.orientations import Array, disorientation_deg
from dpcurate.rivals import SHARED_DEG, Rivals

LARGE_PIXELS = 30
"""Two grains of so many pixels each are not joined: they may be twins, and each is enough to be judged by itself."""


def joined(
    grain_id: NDArray[np.int32], rivals: dict[int, Rivals], *, symmetries: tuple[Array, ...]
) -> NDArray[np.int32]:
    """Grains joined to regions, the longest border first, while one rival at least is common to all of a region.

    At most one grain of a region has `LARGE_PIXELS` or more. ``rivals`` are those of the grains that may be joined.
    Which of its rivals a region shows is then decided from all its pixels: where two variants score alike, the noise of
    single patterns cuts a grain into pieces of either.
    """
    outside = int(grain_id.max(initial=-1)) + 1
    length = borders(np.where(grain_id >= 0, grain_id, outside), indexed=np.arange(outside + 1) < outside).tocoo()
    once = length.row < length.col
    first_of, second_of, longest = length.row[once], length.col[once], np.argsort(-length.data[once], kind="stable")
    region, common = {grain: grain for grain in rivals}, dict(rivals)
    large = np.bincount(grain_id[grain_id >= 0], minlength=outside) >= LARGE_PIXELS
    for a, b in zip(first_of[longest].tolist(), second_of[longest].tolist(), strict=True):
        if a not in region or b not in region:
            continue
        first, second = _root(region, a), _root(region, b)
        if first == second or (large[first] and large[second]):
            continue
        if len((both := _common(common[first], common[second], symmetries)).score):
            region[second], common[first] = first, both
            large[first] |= large[second]
    roots = np.arange(outside + 1)
    for grain in region:
        roots[grain] = _root(region, grain)
    return numbered(np.where(grain_id >= 0, roots[grain_id], -1))


def _root(region: dict[int, int], grain: int) -> int:
    while region[grain] != grain:
        grain = region[grain]
    return grain


def _common(first: Rivals, second: Rivals, symmetries: tuple[Array, ...]) -> Rivals:
    """The rivals of the first that are rivals of the second too."""
    shared = np.array(
        [
            any(
                phase == other_phase and disorientation_deg(rival, other, symmetries[phase]) < SHARED_DEG
                for other, other_phase in zip(second.orientation, second.phase_id, strict=True)
            )
            for rival, phase in zip(first.orientation, first.phase_id, strict=True)
        ]
    )
    return first.chosen(shared)
