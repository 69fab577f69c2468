"""From confident pixels of scans to those that a dataset holds, and what became of every other one."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dpcurate.crystal_maps import IndexResult
from dpcurate.curation_rules import Rows, apply_rules
from dpcurate.recipe import CurationRecipe
from dpcurate.schema import PhaseRecord

Maps = tuple[NDArray[np.uint8], ...]

NOT_INDEXED, LOW, KEPT = 0, 1, 2
"""What became of a pixel; what follows are the rules that left it out, in their order."""


@dataclass(frozen=True)
class Chosen:
    """Pixels of each scan that a dataset holds, rising; how many each rule left out; what became of every pixel."""

    pixels: list[NDArray[np.int64]]
    dropped: dict[str, int]
    fates: "Fates"


@dataclass(frozen=True)
class Fates:
    """What became of every pixel of some scans."""

    maps: Maps
    """Of each scan (rows, columns): numbers into ``words``."""
    words: tuple[str, ...]


@dataclass(frozen=True)
class Story:
    """What a dataset's card tells of its scans."""

    indexes: tuple[IndexResult, ...]
    fates: Fates
    splits: tuple[NDArray[np.uint8], ...]
    """Of every pixel of each scan, ``(rows * columns,)``."""
    min_confidence: float


def choose(
    results: Sequence[IndexResult],
    kept: Sequence[NDArray[np.int64]],
    *,
    phases: Sequence[PhaseRecord],
    numbers: Sequence[NDArray[np.int16]],
    rules: CurationRecipe,
    seed: int,
) -> Chosen:
    """Which of the confident pixels ``kept`` of each scan the rules leave.

    ``numbers`` are the numbers in ``phases`` of each index's phases. Raises InputError as `apply_rules` does.
    """
    rows = _rows(results, kept, numbers)
    out = apply_rules(rows, rules, symmetries=[phase.proper_rotations() for phase in phases], seed=seed)
    fate = np.full(len(rows), KEPT, np.uint8)
    for number, mask in enumerate(out.values(), start=KEPT + 1):
        fate[mask] = number
    maps, pixels = [], []
    for scan, index in enumerate(results):
        own = rows.scan == scan
        whole = np.where(index.phase_id.ravel() < 0, NOT_INDEXED, LOW).astype(np.uint8)
        whole[rows.pixel[own]] = fate[own]
        maps.append(whole.reshape(index.shape))
        pixels.append(np.flatnonzero(whole == KEPT))
    words = ("not indexed", "confidence too low", "kept", *(name.removeprefix("dropped, ") for name in out))
    return Chosen(pixels, {name: int(mask.sum()) for name, mask in out.items()}, Fates(tuple(maps), words))


def _rows(
    results: Sequence[IndexResult], kept: Sequence[NDArray[np.int64]], numbers: Sequence[NDArray[np.int16]]
) -> Rows:
    each = list(zip(results, kept, numbers, strict=True))
    return Rows(
        scan=np.repeat(np.arange(len(results)), [len(pixels) for pixels in kept]),
        pixel=np.concatenate(list(kept)),
        grain=np.concatenate([index.grain_id.ravel()[pixels] for index, pixels, _ in each]).astype(np.int64),
        phase=np.concatenate([own[index.phase_id.ravel()[pixels]] for index, pixels, own in each]).astype(np.int64),
        confidence=np.concatenate([index.confidence.ravel()[pixels] for index, pixels, _ in each]),
        orientation=np.concatenate([index.orientation.reshape(-1, 4)[pixels] for index, pixels, _ in each]),
    )
