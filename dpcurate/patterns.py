"""Streams of patterns for a dataset, block by block, in the order of its labels."""

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from dpcurate.scans import Scan, reading
from dpcurate.schema import PATTERN_DTYPES
from dpcurate.simulator import SIMULATED_AT_ONCE, Simulator, draw, simulate

BLOCK_BYTES = 256_000_000
"""Most memory that one block of a scan's rows takes, unless a single row takes more."""

Blocks = Iterator[NDArray[Any]]


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


def simulated_patterns(simulator: Simulator, index: NDArray[np.int64]) -> Blocks:
    """Patterns of the samples ``index`` (n,) of a simulator, block by block, blocks ``(any, h, w)``.

    On a CPU as many blocks are made at a time as torch has threads, each by one: small steps share a thread badly.
    """
    parts = [index[start : start + SIMULATED_AT_ONCE] for start in range(0, len(index), SIMULATED_AT_ONCE)]
    workers = torch.get_num_threads() if simulator.device.type == "cpu" else 1
    with ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        waiting: deque[Future[NDArray[np.uint16]]] = deque()
        for part in parts:
            waiting.append(pool.submit(_simulated, simulator, part))
            if len(waiting) > workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _simulated(simulator: Simulator, index: NDArray[np.int64]) -> NDArray[np.uint16]:
    return simulate(simulator, draw(simulator, index))
