"""One array of a dataset as a sharded Zarr v3 array: layout, streamed writing, checked reading.

Layout, chosen by measurement: each pattern is an inner chunk of its own, so that a batch of
shuffled patterns reads nothing else; blosc (zstd 1, bitshuffle) and a checksum on each. A single flipped bit without
that checksum comes back as wrong data. TensorStore fills missing files with zeros unless it is told not to.
"""

import errno
import hashlib
import math
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorstore as ts
from numpy.typing import NDArray

from dpcurate.errors import InputError
from dpcurate.remote import Folder, RemoteFolder, kvstore, read_file, reason_of
from dpcurate.schema import LABELS, ArrayRecord, Shard

LABELS_PER_PATTERN = 64
"""A shard of labels has so many times the rows of one of patterns: labels are small, and few files are wanted."""

LABELS_PER_CHUNK = 1024
METADATA = "zarr.json"

WRITING = {"store_data_equal_to_fill_value": True}
"""Zeros are stored as such; only a file that is lost is missing."""

READ_AT_ONCE = 1 << 20
"""Bytes read at a time while hashing."""

NO_SPACE = {errno.ENOSPC: "no space left", errno.EDQUOT: "quota used up", errno.EFBIG: "limit of file size reached"}
"""System errors that mean: what was to be written does not fit."""

ENTRY = re.compile(r'shard entry \{(\d+)[^}]*\}/\{[^}]*\} in [^"]*"[^"]*/c/(\d+)([^"]*)"')
"""Place of damage in TensorStore 0.1.86's messages: row in the shard, number of the shard, rest of the file name."""

_user: int | None = None
"""The process that uses TensorStore. It aborts a process that was forked from one that has used it."""


def create_array(
    folder: Path, *, name: str, dtype: np.dtype[Any], shape: tuple[int, ...], patterns_per_shard: int
) -> ts.TensorStore:
    """A new sharded array in ``folder/name``, with the dimension names and attributes of the format."""
    _not_forked()
    is_patterns = name == "patterns"
    rows = rows_in_file(name, patterns_per_shard)
    inner_rows = 1 if is_patterns else math.gcd(rows, LABELS_PER_CHUNK)  # whole chunks fill a shard
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
    spec = {**_location(folder / name), **WRITING, "metadata": metadata}
    return ts.open(spec, create=True).result()


def open_array(folder: Folder, *, name: str, record: ArrayRecord) -> ts.TensorStore:
    """The array ``folder/name`` for reading; InputError when it is not the one that ``record`` describes."""
    place = folder / name
    _not_forked()
    if _sha256_of_metadata(folder, name) != next(
        (f.sha256 for f in record.files if f.file == f"{name}/{METADATA}"), ""
    ):
        raise InputError(f"{place / METADATA}: damaged or missing; restore this file or rebuild the dataset.")
    try:
        array = ts.open({**_location(place), "fill_missing_data_reads": False}, open=True, read=True).result()
    except ValueError as error:
        raise InputError(f"{place}: the array cannot be opened ({error}); restore or rebuild it.") from error
    if tuple(array.shape) != record.shape or array.dtype.numpy_dtype != np.dtype(record.dtype):
        raise InputError(f"{place}: shape or dtype is not what manifest.json says; restore or rebuild it.")
    return array


def open_to_write(folder: Path, name: str) -> ts.TensorStore:
    """The array ``folder/name`` that `create_array` has made, for writing; files that are missing are not zeros."""
    _not_forked()
    return ts.open({**_location(folder / name), **WRITING, "fill_missing_data_reads": False}, open=True).result()


def read_rows(array: ts.TensorStore, rows: NDArray[np.integer] | slice, *, folder: Folder) -> NDArray[Any]:
    """Rows of an array in the order asked for; InputError names the damaged shard in ``folder`` and the row."""
    _not_forked()
    try:
        return np.asarray(array[rows].read().result())
    except ValueError as error:
        raise InputError(_where(error, folder, rows_per_shard=rows_per_shard(array))) from error


def rows_in_file(name: str, patterns_per_shard: int) -> int:
    """How many rows of an array go into one file."""
    return patterns_per_shard * (1 if name == "patterns" else LABELS_PER_PATTERN)


def rows_per_shard(array: ts.TensorStore) -> int:
    """How many rows one file of an array holds."""
    return int(np.asarray(array.chunk_layout.write_chunk.shape)[0])


def record_files(folder: Path, *, name: str) -> tuple[Shard, ...]:
    """Size and hash of every file of the array ``folder/name``, sorted by file name."""
    files = (path for path in (folder / name).rglob("*") if path.is_file())
    return tuple(sorted((record_file(folder, path) for path in files), key=lambda shard: shard.file))


def record_file(folder: Path, path: Path) -> Shard:
    """Size and hash of a file below a dataset's folder."""
    return Shard(file=path.relative_to(folder).as_posix(), bytes=path.stat().st_size, sha256=sha256_file(path))


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


def _where(error: ValueError, folder: Folder, *, rows_per_shard: int) -> str:
    found = ENTRY.search(str(error))
    if not found:
        why = reason_of(error) if isinstance(folder, RemoteFolder) else f"the array cannot be read ({error})"
        return f"{folder}: {why}; restore or rebuild the dataset."
    place = f"{folder / 'c' / found[2]}{found[3]}"
    pattern = int(found[2]) * rows_per_shard + int(found[1])
    row = f" at pattern {pattern}" if folder.name == "patterns" else ""
    return f"{place}: the shard is damaged or missing{row} ({error}); restore this file or rebuild the dataset."


def _not_forked() -> None:
    """InputError in a process that was forked from one that has used TensorStore, before TensorStore aborts it."""
    global _user
    if _user is None:
        _user = os.getpid()
    if _user != os.getpid():
        raise InputError(
            "This process was forked from one that has read or written datasets, which TensorStore does not survive; "
            "start workers with 'spawn' or 'forkserver', as multiprocessing_context of a DataLoader."
        )


def _sha256_of_metadata(folder: Folder, name: str) -> str:
    return hashlib.sha256(read_file(folder, f"{name}/{METADATA}") or b"").hexdigest()


def _location(path: Folder) -> dict[str, Any]:
    return {"driver": "zarr3", "kvstore": kvstore(path)}


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
