"""Writing a dataset's arrays: one writer of a name, shard by shard, in several processes, going on where it stopped.

Needs numpy and TensorStore only.
"""

import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Executor, as_completed
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import tensorstore as ts
from numpy.typing import NDArray
from tqdm import tqdm

from dpcurate import shards
from dpcurate.errors import InputError
from dpcurate.schema import LABELS, ArrayRecord, Description, Shard

PLAN_DIGITS = 12

PATTERNS_PER_SHARD = 1024
"""Unless another number is asked for: files of 1 to 10 MB, and under 2,000 of them for a million patterns."""

Rows = Callable[[int, int], NDArray[Any]]
"""Patterns from one number up to another, shape ``(stop - start, row, column)``. What it gives follows from the labels
and the description of the dataset alone; to be used in other processes it must be sent there by pickle."""


def plan_of(
    labels: Mapping[str, NDArray[Any]], description: Description, *, dtype: np.dtype[Any], shape: tuple[int, ...]
) -> str:
    """Twelve digits that stand for what is to be written: only what was begun under the same ones is gone on with."""
    digest = hashlib.sha256(json.dumps([dtype.name, shape, description.model_dump(mode="json")]).encode())
    for name in sorted(labels):
        digest.update(np.ascontiguousarray(labels[name], LABELS[name].dtype).tobytes())
    return digest.hexdigest()[:PLAN_DIGITS]


@contextmanager
def only_writer(root: Path, name: str) -> Iterator[None]:
    """Hold the lock on a name below ``root``; it goes with the process. InputError when another process holds it."""
    file = root / f".{name}.lock"
    try:
        root.mkdir(parents=True, exist_ok=True)
        handle = _lock(file)
    except BlockingIOError as error:
        raise InputError(
            f"{root}: another process is writing dataset {name}; wait until it is done, or choose another --name."
        ) from error
    except OSError as error:
        raise InputError(f"{root}: cannot be written ({error.strerror}); choose another folder with --root.") from error
    try:
        yield
    finally:
        file.unlink(missing_ok=True)
        os.close(handle)


def _lock(file: Path) -> int:
    """A locked handle of the file that has this name now: the last writer may have removed the one that was opened."""
    while True:
        handle = os.open(file, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if file.exists() and os.path.samestat(os.fstat(handle), file.stat()):
                return handle
        except OSError:
            os.close(handle)
            raise
        os.close(handle)


def write_patterns(
    folder: Path,
    source: Iterable[NDArray[Any]] | Rows,
    *,
    dtype: np.dtype[Any],
    shape: tuple[int, int, int],
    patterns_per_shard: int,
    executor: Executor | None,
    progress: bool,
) -> ArrayRecord:
    """Write the array of patterns ``shape`` from blocks or from `Rows`; shards that are there and whole are kept.

    Blocks are compared with what is there. With `Rows` only shards that are missing or damaged are asked for.
    Raises InputError when the source gives more or fewer patterns, or patterns of another shape.
    """
    (folder / "patterns" / shards.METADATA).unlink(missing_ok=True)
    array = shards.create_array(
        folder, name="patterns", dtype=dtype, shape=shape, patterns_per_shard=patterns_per_shard
    )
    if callable(source):
        files = _write_rows(folder, source, n=shape[0], rows=patterns_per_shard, executor=executor, progress=progress)
    else:
        files = _write_blocks(folder, array, source, rows=patterns_per_shard)
    _remove_others(folder, files)
    files.append(shards.record_file(folder, folder / "patterns" / shards.METADATA))
    return ArrayRecord(dtype=dtype.name, shape=shape, files=tuple(sorted(files, key=lambda shard: shard.file)))


def write_label(folder: Path, name: str, values: NDArray[Any], *, patterns_per_shard: int) -> ArrayRecord:
    """Write an array of labels anew, a shard at a time."""
    shutil.rmtree(folder / name, ignore_errors=True)
    dtype = np.dtype(LABELS[name].dtype)
    array = shards.create_array(
        folder, name=name, dtype=dtype, shape=values.shape, patterns_per_shard=patterns_per_shard
    )
    rows = shards.rows_per_shard(array)
    for start in range(0, len(values), rows):
        stop = min(start + rows, len(values))
        array[start:stop].write(values[start:stop].astype(dtype)).result()
    return ArrayRecord(dtype=dtype.name, shape=values.shape, files=shards.record_files(folder, name=name))


def fill_shard(folder: Path, number: int, source: Rows) -> Shard:
    """Write shard ``number`` of the patterns in ``folder``, in whatever process, unless it is there and whole."""
    array = shards.open_to_write(folder, "patterns")
    rows = shards.rows_per_shard(array)
    start, stop = number * rows, min((number + 1) * rows, array.shape[0])
    if _kept(folder, array, start, stop) is None:
        _write_shard(folder, array, start, source(start, stop))
    return shards.record_file(folder, _file(folder, number))


def _write_rows(
    folder: Path, source: Rows, *, n: int, rows: int, executor: Executor | None, progress: bool
) -> list[Shard]:
    numbers = range(-(-n // rows))
    with tqdm(total=n, desc="patterns", unit="pattern", disable=not progress) as bar:
        if executor is None:
            files = []
            for number in numbers:
                files.append(fill_shard(folder, number, source))
                bar.update(min(rows, n - number * rows))
            return files
        tasks = {executor.submit(fill_shard, folder.resolve(), number, source): number for number in numbers}
        try:
            for task in as_completed(tasks):
                task.result()
                bar.update(min(rows, n - tasks[task] * rows))
        finally:
            for task in tasks:
                task.cancel()
        return [task.result() for task in tasks]


def _write_blocks(folder: Path, array: ts.TensorStore, blocks: Iterable[NDArray[Any]], *, rows: int) -> list[Shard]:
    files, n, stop = [], array.shape[0], 0
    for number, block in enumerate(regroup(blocks, rows)):
        start, stop = stop, stop + len(block)
        if stop > n:
            raise InputError(f"{stop} patterns or more were given, but there are labels for {n}; they must be as many.")
        if len(block) < rows and stop < n:
            break
        kept = _kept(folder, array, start, stop)
        if kept is None or not np.array_equal(kept, block):
            _write_shard(folder, array, start, block)
        files.append(shards.record_file(folder, _file(folder, number)))
    if stop != n:
        raise InputError(f"{stop} patterns were given, but there are labels for {n}; they must be as many.")
    return files


def _write_shard(folder: Path, array: ts.TensorStore, start: int, patterns: NDArray[Any]) -> None:
    rows = shards.rows_per_shard(array)
    expected = (min(rows, array.shape[0] - start), *array.shape[1:])
    if patterns.shape != expected:
        raise InputError(f"Patterns of shape {patterns.shape} were given from number {start} on; expected {expected}.")
    _file(folder, start // rows).unlink(missing_ok=True)
    array[start : start + len(patterns)].write(patterns.astype(array.dtype.numpy_dtype, copy=False)).result()


def _kept(folder: Path, array: ts.TensorStore, start: int, stop: int) -> NDArray[Any] | None:
    """What a shard holds, all checksums compared; None when it is missing or damaged."""
    if not _file(folder, start // shards.rows_per_shard(array)).is_file():
        return None
    try:
        return shards.read_rows(array, slice(start, stop), folder=folder / "patterns")
    except InputError:
        return None


def _file(folder: Path, number: int) -> Path:
    return folder / "patterns" / "c" / str(number) / "0" / "0"


def _remove_others(folder: Path, files: Iterable[Shard]) -> None:
    """Remove what a killed process has left between the shards."""
    known = {folder / shard.file for shard in files} | {folder / "patterns" / shards.METADATA}
    for path in (folder / "patterns").rglob("*"):
        if path.is_file() and path not in known:
            path.unlink()


def regroup(blocks: Iterable[NDArray[Any]], rows: int) -> Iterator[NDArray[Any]]:
    """The same rows in blocks of ``rows`` (the last may be smaller); holds about one such block."""
    held: list[NDArray[Any]] = []
    count = 0
    for block in blocks:
        start = 0
        while start < len(block):
            piece = block[start : start + rows - count]
            held.append(piece)
            count, start = count + len(piece), start + len(piece)
            if count == rows:
                yield np.concatenate(held)
                held, count = [], 0
    if held:
        yield np.concatenate(held)


def write_documents(folder: Path, texts: Mapping[str, str]) -> tuple[Shard, ...]:
    """Write files for readers, text by name, and return their sizes and hashes, sorted by name."""
    for name, text in texts.items():
        write_text(folder / name, text)
    return tuple(shards.record_file(folder, folder / name) for name in sorted(texts))


def write_text(path: Path, text: str) -> None:
    """Write a text file to the disk itself."""
    with path.open("w", encoding="utf-8") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
