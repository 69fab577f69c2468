"""Datasets are what the Zarr v3 specification says: decoded here by its text alone, and by zarr-python 3 if it is near.

The decoder follows the core specification, the codecs sharding_indexed, bytes, blosc and crc32c, and nothing of ours.
zarr-python 3 cannot live beside pyxem: name the Python of an environment that has it in DPCURATE_ZARR3_PYTHON.
"""

import json
import os
import subprocess

import numpy as np
import pytest
from numcodecs import blosc

from dpcurate import store
from dpcurate.schema import LABELS
from tests.conftest import noise

ZARR_3 = os.environ.get("DPCURATE_ZARR3_PYTHON")
EMPTY = 2**64 - 1
CASTAGNOLI = 0x82F63B78


def crc32c(content):
    """The checksum of RFC 3720, bit by bit."""
    value = 0xFFFFFFFF
    for byte in content:
        value ^= byte
        for _ in range(8):
            value = value >> 1 ^ (CASTAGNOLI if value & 1 else 0)
    return value ^ 0xFFFFFFFF


def checked(content):
    """Content without the checksum at its end, which must be right."""
    assert crc32c(content[:-4]) == int.from_bytes(content[-4:], "little")
    return content[:-4]


def decoded(folder):
    """A whole array by the specification."""
    meta = json.loads((folder / "zarr.json").read_text())
    assert (meta["zarr_format"], meta["node_type"]) == (3, "array")
    assert meta["chunk_key_encoding"] in (
        {"name": "default"},
        {"name": "default", "configuration": {"separator": "/"}},
    )
    (sharding,) = meta["codecs"]
    assert sharding["name"] == "sharding_indexed"
    assert [codec["name"] for codec in sharding["configuration"]["codecs"]] == ["bytes", "blosc", "crc32c"]
    assert [codec["name"] for codec in sharding["configuration"]["index_codecs"]] == ["bytes", "crc32c"]
    outer = meta["chunk_grid"]["configuration"]["chunk_shape"]
    inner = sharding["configuration"]["chunk_shape"]
    whole = np.full(meta["shape"], meta["fill_value"], np.dtype(meta["data_type"]).newbyteorder("<"))
    for shard in range(-(-meta["shape"][0] // outer[0])):
        parts = (str(number) for number in (shard, *[0] * (len(outer) - 1)))
        content = folder.joinpath("c", *parts).read_bytes()
        n = outer[0] // inner[0]
        index = np.frombuffer(checked(content[-16 * n - 4 :]), "<u8").reshape(n, 2)
        for number, (offset, size) in enumerate(index.tolist()):
            start = shard * outer[0] + number * inner[0]
            if (offset, size) == (EMPTY, EMPTY):
                assert start >= meta["shape"][0], "only what lies outside of the array is left out"
                continue
            chunk = np.frombuffer(blosc.decompress(checked(content[offset : offset + size])), whole.dtype)
            stop = min(start + inner[0], meta["shape"][0])
            whole[start:stop] = chunk.reshape(inner)[: stop - start]
    return whole


@pytest.fixture(scope="module")
def dataset(write, tmp_path_factory):
    patterns = noise(1030)
    return store.open_dataset(write(tmp_path_factory.mktemp("zarr"), patterns)), patterns


def test_the_checksum_is_that_of_the_standard():
    assert crc32c(b"123456789") == 0xE3069283


def test_patterns_decoded_by_the_specification_alone_are_those_that_were_written(dataset):
    made, patterns = dataset
    np.testing.assert_array_equal(decoded(made.path / "patterns"), patterns)


@pytest.mark.parametrize("name", ["orientation", "conditions", "split"])
def test_labels_decoded_by_the_specification_alone_are_those_that_are_read(dataset, name):
    np.testing.assert_array_equal(decoded(dataset[0].path / name), dataset[0].read(name))


@pytest.mark.parametrize("rows", [1, 3, 1500])
def test_shards_of_any_size_are_whole_numbers_of_chunks(tmp_path, rows):
    labels = np.arange(60, dtype=np.float32)
    array = store.shards.create_array(
        tmp_path, name="confidence", dtype=np.dtype("float32"), shape=(60,), patterns_per_shard=rows
    )
    array[:].write(labels).result()
    np.testing.assert_array_equal(decoded(tmp_path / "confidence"), labels)


READ = """
import sys, numpy, zarr
assert zarr.__version__.startswith("3."), zarr.__version__
folder, out, names = sys.argv[1], sys.argv[2], sys.argv[3:]
numpy.savez(out, **{name: zarr.open_array(f"{folder}/{name}", mode="r")[:] for name in names})
"""


@pytest.mark.skipif(not ZARR_3, reason="DPCURATE_ZARR3_PYTHON names no Python with zarr 3")
def test_zarr_python_3_reads_the_same_arrays(dataset, tmp_path):
    made, patterns = dataset
    command = [ZARR_3, "-c", READ, str(made.path), str(tmp_path / "read.npz"), "patterns", *LABELS]
    subprocess.run(command, check=True, env={key: value for key, value in os.environ.items() if key != "PYTHONPATH"})
    with np.load(tmp_path / "read.npz") as read:
        np.testing.assert_array_equal(read["patterns"], patterns)
        for name in LABELS:
            np.testing.assert_array_equal(read[name], made.read(name))
