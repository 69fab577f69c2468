"""One array of a dataset as a sharded Zarr v3 array: layout, streamed writing, checked reading.

Layout, chosen by measurement: each pattern is an inner chunk of its own, so that a batch of
shuffled patterns reads nothing else; blosc (zstd 1, bitshuffle) and a checksum on each. A single flipped bit without
that checksum comes back as wrong data. TensorStore fills missing files with zeros unless it is told not to.
"""

import errno
import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorstore as ts
from numpy.typing import NDArray

from dpcurate.errors import InputError
from dpcurate.schema import LABELS, ArrayRecord, Shard

PATTERNS_PER_SHARD = 1024
LABELS_PER_SHARD = 65536
LABELS_PER_CHUNK = 1024
READ_AT_ONCE = 1 << 20
"""Bytes read at a time while hashing."""

NO_SPACE = {errno.ENOSPC: "no space left", errno.EDQUOT: "quota used up", errno.EFBIG: "limit of file size reached"}
"""System errors that mean: what was to be written does not fit."""

ENTRY = re.compile(r'shard entry \{(\d+)[^}]*\}/\{[^}]*\} in local file "[^"]*/c/(\d+)([^"]*)"')
"""Place of damage in TensorStore 0.1.86's messages: row in the shard, number of the shard, rest of the file name."""


def create_array(folder: Path, *, name: str, dtype: np.dtype[Any], shape: tuple[int, ...]) -> ts.TensorStore:
    """A new sharded array in ``folder/name``, with the dimension names and attributes of the format."""
    is_patterns = name == "patterns"
    rows, inner_rows = (PATTERNS_PER_SHARD, 1) if is_patterns else (LABELS_PER_SHARD, LABELS_PER_CHUNK)
    inner = {
        "chunk_shape": [inner_rows, *shape[1:]],
        "codecs": [_bytes(), _blosc(dtype), {"name": "crc32c"}],
        "index_codecs": [_bytes(), {"name": "crc32c"}],
        "index_location": "end",
    }
    metadata = {
        "shape": list(shape),
        "data_type": dtype.name,
        "fill_value": 0,
        "dimension_names": ["pattern", "row", "column"] if is_patterns else ["pattern", "part"][: len(shape)],
        "attributes": _attributes(name),
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [rows, *shape[1:]]}},
        "codecs": [{"name": "sharding_indexed", "configuration": inner}],
    }
    spec = {**_location(folder / name), "metadata": metadata, "store_data_equal_to_fill_value": True}
    return ts.open(spec, create=True).result()


def write_blocks(array: ts.TensorStore, blocks: Iterable[NDArray[Any]], *, rows: int) -> int:
    """Write blocks one after another along axis 0, a shard of ``rows`` at a time; the number of rows written.

    Raises InputError when the blocks hold more or fewer rows than the array, or patterns of another shape.
    """
    start, n, tail = 0, array.shape[0], tuple(array.shape[1:])
    for shard in _regroup(blocks, rows):
        stop = start + len(shard)
        if stop > n or shard.shape[1:] != tail:
            raise InputError(f"Patterns of shape {shard.shape[1:]} up to number {stop} were given for {n} of {tail}.")
        array[start:stop].write(shard.astype(array.dtype.numpy_dtype, copy=False)).result()
        start = stop
    if start != n:
        raise InputError(f"{start} patterns were given, but there are labels for {n}; they must be as many.")
    return start


def open_array(folder: Path, *, name: str, record: ArrayRecord) -> ts.TensorStore:
    """The array ``folder/name`` for reading; InputError when it is not the one that ``record`` describes."""
    try:
        array = ts.open({**_location(folder / name), "fill_missing_data_reads": False}, open=True, read=True).result()
    except ValueError as error:
        raise InputError(f"{folder / name}: the array cannot be opened ({error}); restore or rebuild it.") from error
    if tuple(array.shape) != record.shape or array.dtype.numpy_dtype != np.dtype(record.dtype):
        raise InputError(f"{folder / name}: shape or dtype is not what manifest.json says; restore or rebuild it.")
    return array


def read_rows(array: ts.TensorStore, rows: NDArray[np.integer] | slice, *, folder: Path) -> NDArray[Any]:
    """Rows of an array in the order asked for; InputError names the damaged shard in ``folder`` and the row."""
    try:
        return np.asarray(array[rows].read().result())
    except ValueError as error:
        raise InputError(_where(str(error), folder)) from error


def record_files(folder: Path, *, name: str, dtype: np.dtype[Any], shape: tuple[int, ...]) -> ArrayRecord:
    """Size and hash of every file of the array ``folder/name``, sorted by file name."""
    files = sorted(path for path in (folder / name).rglob("*") if path.is_file())
    shards = (
        Shard(file=path.relative_to(folder).as_posix(), bytes=path.stat().st_size, sha256=sha256_file(path))
        for path in files
    )
    return ArrayRecord(dtype=dtype.name, shape=shape, files=tuple(sorted(shards, key=lambda shard: shard.file)))


def sha256_file(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(READ_AT_ONCE):
            digest.update(block)
    return digest.hexdigest()


def no_space(error: Exception) -> str:
    """Why what was to be written does not fit, or an empty string when the error is another one.

    TensorStore 0.1.86 raises ValueError and puts the system's error number into its text.
    """
    if isinstance(error, OSError):
        return NO_SPACE.get(error.errno or 0, "")
    found = re.search(r"os_error_code='(\d+)'", str(error))
    return NO_SPACE.get(int(found[1]), "") if found else ""


def _regroup(blocks: Iterable[NDArray[Any]], rows: int) -> Iterator[NDArray[Any]]:
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


def _where(message: str, folder: Path) -> str:
    found = ENTRY.search(message)
    if not found:
        return f"{folder}: the array cannot be read ({message}); restore or rebuild the dataset."
    place = f"{folder / 'c' / found[2]}{found[3]}"
    pattern = int(found[2]) * PATTERNS_PER_SHARD + int(found[1])
    row = f" at pattern {pattern}" if folder.name == "patterns" else ""
    return f"{place}: the shard is damaged or missing{row} ({message}); restore this file or rebuild the dataset."


def _location(path: Path) -> dict[str, Any]:
    return {"driver": "zarr3", "kvstore": {"driver": "file", "path": str(path.resolve())}}


def _bytes() -> dict[str, Any]:
    return {"name": "bytes", "configuration": {"endian": "little"}}


def _blosc(dtype: np.dtype[Any]) -> dict[str, Any]:
    settings = {"cname": "zstd", "clevel": 1, "shuffle": "bitshuffle", "typesize": dtype.itemsize, "blocksize": 0}
    return {"name": "blosc", "configuration": settings}


def _attributes(name: str) -> Mapping[str, Any]:
    if name == "patterns":
        return {
            "meaning": "diffraction patterns as the scan holds them",
            "frame": "q_x = (column - center_x) * scale, q_y = (row - center_y) * scale, in 1/Angstrom",
        }
    label = LABELS[name]
    given = {"meaning": label.meaning, "unit": label.unit, "parts": list(label.parts)}
    return {key: value for key, value in given.items() if value}
