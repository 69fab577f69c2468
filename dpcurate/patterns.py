"""Streams of patterns for a dataset, block by block, in the order of its labels."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dpcurate.scans import Scan, reading
from dpcurate.schema import PATTERN_DTYPES, PhaseRecord

BLOCK_BYTES = 256_000_000
"""Most memory that one block of a scan's rows takes, unless a single row takes more."""

SIMULATED_AT_ONCE = 256

Blocks = Iterator[NDArray[Any]]
Simulate = Callable[..., NDArray[np.uint16]]


def storage_dtype(dtypes: Iterable[np.dtype[Any]]) -> np.dtype[Any]:
    """The dtype of a dataset that holds patterns of all these: theirs if the format has it, else float32."""
    common = np.result_type(*dtypes)
    return np.dtype(common.name if common.name in PATTERN_DTYPES else "float32")


def scan_patterns(scan: Scan, pixels: NDArray[np.int64]) -> Blocks:
    """Patterns of the pixels with these rising numbers along the rows of a scan, blocks ``(any, h, w)``.

    Only rows with such pixels are read. Raises InputError when the file cannot be read.
    """
    rows, columns, *shape = scan.patterns.shape
    step = rows_at_once(scan)
    name = scan.path.name if scan.path else "signal"
    for start in range(0, rows, step):
        first, last = np.searchsorted(pixels, [start * columns, (start + step) * columns])
        if first < last:
            with reading(name):
                block = np.asarray(scan.patterns[start : start + step].compute())
            yield block.reshape(-1, *shape)[pixels[first:last] - start * columns]


def rows_at_once(scan: Scan) -> int:
    """How many rows of a scan are read together: within BLOCK_BYTES, whole dask chunks where they fit."""
    most = max(1, BLOCK_BYTES // max(1, int(scan.patterns[0].nbytes)))
    chunk = scan.patterns.chunks[0][0]
    return int(most if most < chunk else most // chunk * chunk)


def simulated_patterns(
    labels: Mapping[str, NDArray[Any]],
    phases: Sequence[PhaseRecord],
    *,
    calibration: Mapping[str, Any],
    shape: tuple[int, int],
    simulate: Simulate,
    seed: int,
) -> Blocks:
    """Patterns of these orientations and phases, at most 256 of one phase at a time, blocks ``(any, h, w)``.

    ``labels`` holds ``orientation`` ``(n, 4)`` and ``phase_id`` ``(n,)``, sorted by phase.
    """
    for number, phase in enumerate(phases):
        orientation = labels["orientation"][labels["phase_id"] == number]
        for start in range(0, len(orientation), SIMULATED_AT_ONCE):
            own_seed = int(np.random.SeedSequence([seed, number, start]).generate_state(1)[0])
            block = orientation[start : start + SIMULATED_AT_ONCE]
            yield simulate(phase, block, calibration=calibration, shape=shape, seed=own_seed)
