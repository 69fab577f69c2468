"""Arrays of an index folder: Zarr v3 groups, one array a name, exactly as they were in memory."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorstore as ts
from numpy.typing import NDArray

CHUNK_PIXELS = 64
"""Rows and columns of a chunk. 64 x 64 pixels of 20 orientations take 2.6 MB."""

GROUP = '{"zarr_format": 3, "node_type": "group", "attributes": {}}'


def write_group(folder: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write arrays (rows, columns, ...) as a Zarr v3 group with checksums, one after another."""
    for name, data in arrays.items():
        spec = {
            "driver": "zarr3",
            "kvstore": {"driver": "file", "path": str((folder / name).resolve())},
            "metadata": {
                "shape": list(data.shape),
                "data_type": data.dtype.name,
                "chunk_grid": {
                    "name": "regular",
                    "configuration": {"chunk_shape": [CHUNK_PIXELS, CHUNK_PIXELS, *data.shape[2:]]},
                },
                "codecs": [
                    {"name": "bytes", "configuration": {"endian": "little"}},
                    {"name": "zstd", "configuration": {"level": 3}},
                    {"name": "crc32c"},
                ],
            },
            "store_data_equal_to_fill_value": True,
        }
        array = ts.open(spec, create=True).result()
        for first in range(0, data.shape[0], CHUNK_PIXELS):
            rows = slice(first, min(first + CHUNK_PIXELS, data.shape[0]))
            array[rows].write(np.ascontiguousarray(data[rows])).result()
    (folder / "zarr.json").write_text(GROUP, encoding="utf-8")


def read_group(folder: Path) -> dict[str, NDArray[Any]]:
    """Return every array of a group. OSError or ValueError for a group that is missing or damaged."""
    if not (folder / "zarr.json").is_file():
        raise FileNotFoundError(f"{folder.name} is missing")
    return {path.parent.name: _read(path.parent) for path in sorted(folder.glob("*/zarr.json"))}


def _read(folder: Path) -> NDArray[Any]:
    spec = {
        "driver": "zarr3",
        "kvstore": {"driver": "file", "path": str(folder.resolve())},
        "fill_missing_data_reads": False,
    }
    return np.asarray(ts.open(spec, read=True).result().read().result())
