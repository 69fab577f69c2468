"""Bands of a scan: cut along chunks, each chunk read once, kept, interrupted, taken up again; scans that change."""

import os

import dask.array as da
import h5py
import hyperspy.api as hs
import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from dpcurate.band_map import collect, map_bands
from dpcurate.bands import BAND_BYTES, CHUNK_BYTES, cut_bands, held, pieces, size_of
from dpcurate.calibration import Calibration
from dpcurate.errors import InputError
from dpcurate.recipe import ScanRecipe
from dpcurate.scans import Scan, open_scan
from dpcurate.workers import Workers
from tests.small_disk import small_disk

GIVEN = ScanRecipe(scale_inv_angstrom=0.02, beam_energy_kev=200, center_xy=(7.5, 7.5))
CALIBRATION = Calibration(
    scale_inv_angstrom=0.02,
    center_xy=(7.5, 7.5),
    beam_energy_kev=200,
    precession_deg=0,
    step_nm=1,
    rotation_deg=0,
    flip=False,
    sources={},
)


class Counted:
    """Zeros in place of a file, that notes where each chunk was read."""

    dtype, ndim = np.dtype(np.uint16), 4

    def __init__(self, shape):
        self.shape, self.read = shape, []

    def __getitem__(self, index):
        self.read.append(tuple((part.start, part.stop) for part in index))
        return np.zeros([part.stop - part.start for part in index], self.dtype)


def scan_of(shape, chunks):
    counted = Counted(shape)
    return Scan(None, da.from_array(counted, chunks=chunks, name=False, asarray=False), CALIBRATION), counted


def sums(scan):
    """Work that tests can check: the sum of each pattern, read piece by piece."""

    def work(band, **maps):
        found = (
            (piece, {"sum": scan.patterns[piece].compute().sum(axis=(2, 3), dtype=np.int64)})
            for piece in pieces(band, scan.patterns.shape[2:])
        )
        return collect(found, band) | {name: part + 1 for name, part in maps.items()}

    return work


def whole(scan):
    return slice(0, scan.shape[0]), slice(0, scan.shape[1])


@pytest.fixture
def numbers(tmp_path):
    """A scan of 9 x 10 patterns in chunks of two rows, and its pixels' sums."""
    patterns = np.random.default_rng(0).integers(0, 9, (9, 10, 16, 16), np.uint16)
    hs.signals.Signal2D(patterns).save(tmp_path / "scan.hspy", chunks=(2, 10, 16, 16))
    return tmp_path / "scan.hspy", patterns.sum(axis=(2, 3), dtype=np.int64)


def run(path, *, keep=None, patterns=20, recipe=GIVEN, **options):
    scan = open_scan(path, recipe)
    bands = cut_bands(scan, most_patterns=patterns)
    return map_bands(scan, sums, bands=bands, key="k", desc="test", keep=keep, **options)


sizes = st.integers(1, 40)


@settings(max_examples=60, deadline=None)
@given(rows=sizes, columns=sizes, high=sizes, wide=sizes, most=st.integers(1, 600))
def test_bands_cover_every_pixel_once_and_so_do_their_pieces(rows, columns, high, wide, most):
    scan, _ = scan_of((rows, columns, 512, 512), (min(high, rows), min(wide, columns), 512, 512))
    seen = np.zeros(scan.shape, int)
    for band in cut_bands(scan, most_patterns=most):
        for piece in pieces(band, (512, 512)):
            seen[piece] += 1
    assert (seen == 1).all()


@settings(max_examples=60, deadline=None)
@given(rows=sizes, columns=sizes, high=sizes, wide=sizes, most=st.integers(1, 600))
def test_chunks_that_fit_into_memory_are_never_cut(rows, columns, high, wide, most):
    high, wide = min(high, rows), min(wide, columns)
    scan, _ = scan_of((rows, columns, 64, 64), (high, wide, 64, 64))
    for band in cut_bands(scan, most_patterns=most):
        for part, chunk, size in zip(band, (high, wide), scan.shape, strict=True):
            assert part.start % chunk == 0
            assert part.stop % chunk == 0 or part.stop == size
        assert size_of(band) <= max(most, high * wide)


@pytest.mark.parametrize(
    ("chunks", "least_reads"),
    [
        ((2, 3, 256, 256), 171 * 256),
        ((27, 27, 256, 256), 19 * 19),
        ((512, 512, 16, 16), None),
        ((1, 512, 256, 256), 512),
    ],
)
def test_a_band_of_a_large_scan_never_takes_more_memory_than_it_may(chunks, least_reads):
    scan, _ = scan_of((512, 512, 256, 256), chunks)
    bands = cut_bands(scan)
    most = max(size_of(band) for band in bands) * 256 * 256 * 2
    assert most <= (BAND_BYTES if chunks[0] != 27 else CHUNK_BYTES)
    assert len(bands) <= 512 * 5
    if least_reads is None:
        assert len(bands) * most <= 1.1 * scan.patterns.nbytes


def test_each_chunk_of_the_file_is_read_once_while_every_piece_is_read_from_memory():
    scan, counted = scan_of((8, 9, 256, 256), (4, 4, 256, 256))
    results = map_bands(scan, sums, bands=cut_bands(scan, most_patterns=1), key="k", desc="test")
    assert len(pieces((slice(0, 4), slice(0, 4)), (256, 256))) == 1
    assert (collect(results, whole(scan))["sum"] == 0).all()
    read = [index for index in counted.read if index[0] != (0, 0)]  # dask asks for nothing, to learn the dtype
    assert len(read) == len(set(read)) == 2 * 3


def test_what_is_held_reads_like_the_scan_itself(numbers):
    scan = open_scan(numbers[0], GIVEN)
    same, patterns = held(scan)
    expected = scan.patterns.compute()
    band = slice(2, 6), slice(3, 9)
    with patterns.hold(band):
        for index in (
            band,
            (slice(3, 5), slice(4, 5)),
            (slice(0, 9),),
            (slice(2, 4), slice(0, 4)),
            (5, slice(3, 9, 2)),
        ):
            np.testing.assert_array_equal(same.patterns[index].compute(), expected[index])


@pytest.mark.parametrize("threads", [1, 3])
def test_results_do_not_depend_on_threads_and_maps_are_cut_to_each_band(numbers, threads):
    path, expected = numbers
    results = run(path, workers=Workers(threads=threads), maps={"grain": np.arange(90).reshape(9, 10)})
    found = collect(results, (slice(0, 9), slice(0, 10)))
    np.testing.assert_array_equal(found["sum"], expected)
    np.testing.assert_array_equal(found["grain"], np.arange(90).reshape(9, 10) + 1)


NESTED = pytest.mark.filterwarnings("ignore:The NestedDirectoryStore is deprecated:FutureWarning")
"""HyperSpy writes and reads .zspy with a store that zarr 3 no longer has."""


@NESTED
@pytest.mark.filterwarnings("ignore:BLO file expects:UserWarning")
@pytest.mark.parametrize("form", ["npy", "zarr", "zspy", "blo"])
def test_other_formats_go_through_the_same_bands(numbers, tmp_path, form):
    path = tmp_path / f"other.{form}"
    signal = hs.load(numbers[0])
    if form == "npy":
        np.save(path, signal.data)
    elif form == "zarr":
        zarr.save_array(str(path), signal.data, chunks=(4, 4, 16, 16))
    else:
        signal.change_dtype("uint8")
        signal.save(path, **({"chunks": (4, 3, 16, 16)} if form == "zspy" else {}))
    found = collect(run(path), (slice(0, 9), slice(0, 10)))
    np.testing.assert_array_equal(found["sum"], numbers[1])


def test_bands_that_are_kept_are_not_done_again(numbers, tmp_path):
    keep = tmp_path / "kept"
    first = run(numbers[0], keep=keep)
    for _ in range(2):
        next(first)
    first.close()
    before = {path: path.stat().st_mtime_ns for path in keep.iterdir()}
    assert 2 <= len(before) < 5
    found = collect(run(numbers[0], keep=keep), (slice(0, 9), slice(0, 10)))
    np.testing.assert_array_equal(found["sum"], numbers[1])
    assert {path: path.stat().st_mtime_ns for path in before} == before


@pytest.mark.parametrize("damage", [b"", b"PK\x03\x04 nonsense", "half", "flip"])
def test_a_damaged_band_is_done_again(numbers, tmp_path, damage):
    keep = tmp_path / "kept"
    list(run(numbers[0], keep=keep))
    victim = sorted(keep.iterdir())[1]
    good = victim.read_bytes()
    middle = len(good) // 3
    flipped = good[:middle] + bytes([good[middle] ^ 255]) + good[middle + 1 :]
    victim.write_bytes({"half": good[: len(good) // 2], "flip": flipped}.get(damage, damage))
    found = collect(run(numbers[0], keep=keep), (slice(0, 9), slice(0, 10)))
    np.testing.assert_array_equal(found["sum"], numbers[1])
    with np.load(victim) as again:
        assert "sum" in again.files


def test_bands_that_were_cut_otherwise_are_not_taken(numbers, tmp_path):
    keep = tmp_path / "kept"
    list(run(numbers[0], keep=keep, patterns=20))
    found = collect(run(numbers[0], keep=keep, patterns=30), (slice(0, 9), slice(0, 10)))
    np.testing.assert_array_equal(found["sum"], numbers[1])


def remove(path):
    path.unlink()


def truncate(path):
    os.truncate(path, path.stat().st_size // 2)


@pytest.mark.parametrize("change", [remove, truncate])
def test_a_scan_that_changes_under_way_is_one_sentence_and_nothing_of_it_is_kept(numbers, tmp_path, change):
    keep = tmp_path / "kept"
    going = run(numbers[0], keep=keep, workers=Workers(threads=1))
    next(going)
    kept = {path.name: path.read_bytes() for path in keep.iterdir()}
    change(numbers[0])
    with pytest.raises(InputError, match=r"scan.hspy: (was changed or removed|damaged)"):
        list(going)
    after = {path.name: path.read_bytes() for path in keep.iterdir()}
    assert len(after) <= len(kept) + 1  # what had been read before the change
    assert all(after[name] == content for name, content in kept.items())


@NESTED
def test_a_chunk_that_vanishes_from_a_folder_is_not_read_as_zeros(numbers, tmp_path):
    path = tmp_path / "other.zspy"
    hs.load(numbers[0]).save(path, chunks=(2, 10, 16, 16))
    going = run(path, workers=Workers(threads=1))
    next(going)
    next(file for file in path.rglob("[0-9]*") if file.is_file()).unlink()
    with pytest.raises(InputError, match=r"other.zspy: was changed or removed"):
        list(going)


def test_a_disk_that_is_full_is_one_sentence_and_leaves_no_half_band(numbers, tmp_path):
    place = tmp_path / "disk"
    place.mkdir()
    with small_disk(place, size="4k"):
        with pytest.raises(InputError, match=r"cannot be written \(.*Free space"):
            list(run(numbers[0], keep=place / "kept"))
        assert not list(place.rglob("*.tmp.npz"))


def fails(scan):
    """Work that stands for a reader without memory."""
    raise MemoryError(scan.name)


def test_a_band_that_does_not_fit_into_memory_is_one_sentence_with_the_number():
    scan, counted = scan_of((4, 4, 256, 256), (4, 4, 256, 256))
    counted.__class__ = type("Large", (Counted,), {"__getitem__": lambda *_: fails(scan)})
    with pytest.raises(InputError, match=r"not enough memory to read 0\.00195 GiB.*--workers"):
        list(map_bands(scan, sums, bands=cut_bands(scan), key="k", desc="test"))


def test_a_chunk_larger_than_memory_is_one_sentence_with_both_numbers():
    scan, _ = scan_of((4096,) * 4, (4096,) * 4)
    with pytest.raises(InputError, match=r"one chunk of it takes 524288\.0 GiB, and there are [\d.]+ GiB of memory"):
        held(scan)


def test_a_file_is_cut_along_the_chunks_that_lie_on_disk(numbers):
    with h5py.File(numbers[0]) as file:
        chunks = next(iter(file["Experiments"].values()))["data"].chunks
    rows = [band[0] for band in cut_bands(open_scan(numbers[0], GIVEN), most_patterns=1)]
    assert chunks[0] == 2
    assert [(part.start, part.stop) for part in rows] == [(0, 2), (2, 4), (4, 6), (6, 8), (8, 9)]
