"""Bands: parts of a scan that are read, matched and kept one by one, cut along the chunks of its file."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import product
from typing import Any

import dask.array as da
import numpy as np
from numpy.typing import NDArray

from dpcurate.errors import InputError
from dpcurate.scans import Scan, reading

Band = tuple[slice, slice]
"""Rows and columns of a scan; an index of every array that begins with these axes."""

BAND_PATTERNS, BAND_BYTES = 512, 1 << 27
"""Most patterns of a band, and most bytes of them: a second of matching, and 128 MiB in memory for each worker."""

CHUNK_PATTERNS, CHUNK_BYTES = 4096, 1 << 29
"""A chunk of the file that is larger than a band, but not than this, is a band; a larger one is read several times."""

FEWEST_PATTERNS = 64
"""In one of dask's chunks of what is held, about: more chunks cost time."""

PIECE_BYTES = 1 << 26
"""Most bytes, counted as float64, of the patterns that are matched at a time."""


def cut_bands(scan: Scan, *, most_patterns: int = BAND_PATTERNS, whole_rows: bool = False) -> list[Band]:
    """All bands of a scan, row by row: whole chunks of its file, so that each chunk is read once.

    The same file is always cut the same way, so that bands that are kept fit when a run goes on elsewhere.
    ``whole_rows``: bands as wide as the scan, whatever their size.
    """
    pattern_bytes = max(1, int(np.prod(scan.patterns.shape[2:])) * scan.patterns.dtype.itemsize)
    most = max(1, min(most_patterns, BAND_BYTES // pattern_bytes))
    high, wide = (int(size) for size in scan.patterns.chunksize[:2])
    if high * wide > min(CHUNK_PATTERNS, CHUNK_BYTES // pattern_bytes):
        wide = min(wide, most)
        high = max(1, most // wide)
    rows, columns = scan.shape
    across = -(-columns // wide)  # chunks beside each other
    parts = 1 if whole_rows else -(-across // min(across, max(1, most // (high * wide))))
    width = wide * -(-across // parts)
    height = high * max(1, most // (high * min(width, columns)))
    return _tiles(slice(0, rows), slice(0, columns), height=height, width=width)


def pieces(band: Band, pattern_shape: tuple[int, ...]) -> list[Band]:
    """The parts of a band that are matched at a time: whole rows of it, or parts of one, of at most `PIECE_BYTES`."""
    most = max(1, PIECE_BYTES // (8 * int(np.prod(pattern_shape))))
    rows, columns = band
    width = columns.stop - columns.start
    return _tiles(rows, columns, height=max(1, most // width), width=min(width, most))


def size_of(band: Band) -> int:
    """Pixels of a band."""
    return (band[0].stop - band[0].start) * (band[1].stop - band[1].start)


def widened(band: Band, halo: int, shape: tuple[int, ...]) -> Band:
    """A band with so many pixels more on each side, as far as a map of this shape reaches."""
    rows, columns = (
        slice(max(0, part.start - halo), min(size, part.stop + halo)) for part, size in zip(band, shape, strict=False)
    )
    return rows, columns


class HeldPatterns:
    """The patterns of a scan, of which whole bands are held in memory while they are worked on; read like an array."""

    def __init__(self, scan: Scan) -> None:
        self._scan, self._held = scan, list[tuple[Band, NDArray[Any]]]()
        self.shape, self.dtype, self.ndim = scan.patterns.shape, scan.patterns.dtype, 4

    @contextmanager
    def hold(self, band: Band) -> Iterator[None]:
        """Read a band once and serve it from memory within this context; InputError where the file is damaged."""
        try:
            with reading(self._scan.name):
                entry = band, self._read(band)
        except MemoryError as error:
            gib = size_of(band) * np.prod(self.shape[2:]) * self.dtype.itemsize / 2**30
            raise InputError(
                f"{self._scan.name}: not enough memory to read {gib:.3g} GiB, one band of it. Give fewer --workers, or "
                "save it anew with smaller chunks."
            ) from error
        self._held.append(entry)
        try:
            yield
        finally:
            self._held[:] = [other for other in self._held if other is not entry]

    def __getitem__(self, index: tuple[slice, ...]) -> NDArray[Any]:
        for band, patterns in tuple(self._held):
            if all(_within(part, whole) for part, whole in zip(index[:2], band, strict=True)):
                inside = tuple(slice(i.start - b.start, i.stop - b.start) for i, b in zip(index[:2], band, strict=True))
                return np.asarray(patterns[(*inside, *index[2:])])
        return self._read(index)

    def _read(self, index: tuple[slice, ...]) -> NDArray[Any]:
        return np.asarray(self._scan.patterns[index].compute(scheduler="synchronous"))


def held(scan: Scan) -> tuple[Scan, HeldPatterns]:
    """The same scan, its patterns read through `HeldPatterns`; InputError where one of its chunks is too large."""
    _check_chunk(scan)
    patterns = HeldPatterns(scan)
    high, wide = scan.patterns.chunksize[:2]
    wide *= max(1, FEWEST_PATTERNS // (high * wide))
    chunks = (high, min(wide, scan.shape[1]), -1, -1)
    lazy = da.from_array(patterns, chunks=chunks, name=False, asarray=False, meta=np.empty((0,) * 4, patterns.dtype))
    return replace(scan, patterns=lazy), patterns


def _check_chunk(scan: Scan) -> None:
    need = int(np.prod(scan.patterns.chunksize)) * scan.patterns.dtype.itemsize
    if need <= CHUNK_BYTES:
        return
    from distributed.system import MEMORY_LIMIT  # of the machine, or of the job

    if need > MEMORY_LIMIT // 2:
        raise InputError(
            f"{scan.name}: one chunk of it takes {need / 2**30:.1f} GiB, and there are {MEMORY_LIMIT / 2**30:.1f} GiB "
            "of memory. Save it anew with smaller chunks; docs/guide.md says how."
        )


def _tiles(rows: slice, columns: slice, *, height: int, width: int) -> list[Band]:
    starts = product(range(rows.start, rows.stop, height), range(columns.start, columns.stop, width))
    return [
        (slice(row, min(row + height, rows.stop)), slice(column, min(column + width, columns.stop)))
        for row, column in starts
    ]


def _within(part: Any, whole: slice) -> bool:
    if not isinstance(part, slice) or part.step not in (None, 1) or part.start is None or part.stop is None:
        return False
    return bool(whole.start <= part.start and part.stop <= whole.stop)
