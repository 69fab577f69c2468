"""Streams of patterns for a dataset, block by block, in the order of its labels."""

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import chain, islice
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from dpcurate.errors import InputError
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


def reordered(
    blocks: Iterable[NDArray[Any]],
    order: NDArray[np.int64],
    *,
    pattern_shape: tuple[int, int],
    dtype: np.dtype[Any],
    folder: Path,
) -> Blocks:
    """The first ``len(order)`` patterns of some blocks in another order, then the others as they come.

    ``order`` holds the number of each pattern before. The patterns lie in a file without a name in ``folder``, on the
    disk of the dataset, until they are given on: a scan is read once, along its rows. InputError when the disk is full.
    """
    folder.mkdir(parents=True, exist_ok=True)
    stream = chain.from_iterable(blocks)
    size = int(np.prod(pattern_shape)) * dtype.itemsize
    with TemporaryFile(dir=folder) as file:
        try:
            for pattern in islice(stream, len(order)):
                file.write(pattern.astype(dtype, copy=False).tobytes())
            file.flush()
        except OSError as error:
            raise InputError(
                f"{folder}: no room to sort the patterns ({error.strerror}), it takes {len(order) * size / 1e6:.1f} MB "
                "besides the dataset. Make room, choose another --root, or leave out --order."
            ) from error
        kept = np.memmap(file, dtype, "r", shape=(len(order), *pattern_shape))
        step = max(1, BLOCK_BYTES // max(1, size))
        for start in range(0, len(order), step):
            yield np.asarray(kept[order[start : start + step]])
    while rest := list(islice(stream, SIMULATED_AT_ONCE)):
        yield np.stack(rest)


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
