"""Scan files: anything HyperSpy reads, opened lazily, with a calibration."""

import hashlib
import logging
import os
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dask
import dask.array as da
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from dpcurate.calibration import Calibration, calibrate
from dpcurate.direct_beams import steady
from dpcurate.errors import InputError
from dpcurate.recipe import ScanRecipe

DATA_ERRORS = (OSError, EOFError, RuntimeError, zlib.error)
"""What reading damaged patterns raises."""

OPEN_ERRORS = (*DATA_ERRORS, ValueError, KeyError, TypeError, IndexError, AttributeError, struct.error)
"""What the many format readers raise when they open a damaged file."""

LARGE_BYTES = 1 << 30
"""Files above show how far their hash is."""

NPY_CHUNK = "32MiB"
"""How much of a .npy file is read at a time."""

REAL = "buif"
"""Kinds of numbers, as numpy calls them, that counts can be: boolean, integer, floating."""


@dataclass(frozen=True)
class Scan:
    """An open scan: patterns lie on disk until they are computed."""

    path: Path | None
    patterns: da.Array
    """Counts, axes (row, column, detector row, detector column)."""
    calibration: Calibration
    mended: tuple[int, ...] = ()
    """Faulty detector pixels, counted row by row, that have the mean of their neighbours where patterns are moved."""

    @property
    def name(self) -> str:
        """What to call it in messages."""
        return self.path.name if self.path is not None else "signal"

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the scan."""
        return self.patterns.shape[:2]


@dataclass(frozen=True)
class ScanFile:
    """What another process needs to open the same scan, and what tells whether it is still the same."""

    path: Path
    calibration: Calibration
    stamp: tuple[Any, ...]
    """From `stamp_of`."""
    mended: tuple[int, ...] = ()

    def open(self) -> Scan:
        """Open the scan; InputError where the file is not seen, or is another."""
        if not self.path.exists():
            raise InputError(
                f"{self.path}: not seen on {os.uname().nodename}. Put the scan where every worker sees it at this path."
            )
        self.check()
        patterns, place = _patterns(_load(self.path), flip=self.calibration.flip), self.calibration.steadied_xy
        return Scan(
            path=self.path,
            patterns=patterns if place is None else steady(patterns, place, faulty=self.mended),
            calibration=self.calibration,
            mended=self.mended,
        )

    def check(self) -> None:
        """InputError when the file is gone or was written to since it was opened first."""
        if stamp_of(self.path) != self.stamp:
            raise InputError(
                f"{self.path}: was changed or removed while it was read. Put it back as it was, then run again; "
                "what is done is kept."
            )


def file_of(scan: Scan) -> ScanFile | None:
    """The file of a scan as it is now; None for a signal in memory."""
    return ScanFile(scan.path, scan.calibration, stamp_of(scan.path), scan.mended) if scan.path is not None else None


def stamp_of(path: Path) -> tuple[Any, ...]:
    """Return size and time of a file, or the time of every folder in a folder (.zspy); () where there is none."""
    try:
        if path.is_dir():
            return tuple(sorted((folder, os.stat(folder).st_mtime_ns) for folder, _, _ in os.walk(path)))
        return path.stat().st_size, path.stat().st_mtime_ns
    except OSError:
        return ()


def open_scan(source: Any, recipe: ScanRecipe | None = None) -> Scan:
    """Open a scan lazily: a path to anything HyperSpy/RosettaSciIO reads, a 4D .npy file, or a HyperSpy signal.

    Raises InputError for a missing or unreadable file, data that is not 4D or no real numbers, and a calibration that
    is nowhere stated or cannot be.
    """
    recipe = recipe or ScanRecipe()
    path = Path(source).resolve() if isinstance(source, (str, Path)) else None
    signal = _load(path) if path is not None else source
    name = path.name if path is not None else "signal"
    dimensions = signal.axes_manager.navigation_dimension, signal.axes_manager.signal_dimension
    if dimensions != (2, 2):
        raise InputError(
            f"{name}: has {dimensions[0]} scan and {dimensions[1]} detector axes, shape {signal.data.shape}. "
            "A 4D scan is needed: rows, columns, detector rows, detector columns."
        )
    if signal.data.dtype.kind not in REAL:
        raise InputError(f"{name}: its patterns hold {signal.data.dtype}, and counts are needed: real numbers.")
    if min(signal.data.shape[2:]) < 16:
        raise InputError(f"{name}: its patterns are {signal.data.shape[2:]} pixels; at least 16 x 16 are needed.")
    with reading(name):
        calibration = calibrate(signal, recipe, name=name)
    return Scan(path=path, patterns=_patterns(signal, flip=recipe.flip), calibration=calibration)


def _patterns(signal: Any, *, flip: bool) -> da.Array:
    patterns = signal.data if isinstance(signal.data, da.Array) else da.from_array(signal.data, chunks="auto")
    return patterns[:, :, ::-1] if flip else patterns


@contextmanager
def reading(name: str, errors: tuple[type[Exception], ...] = DATA_ERRORS) -> Iterator[None]:
    """Turn a reader's failure on a damaged file into an InputError that names the file."""
    try:
        yield
    except InputError:
        raise
    except errors as error:
        raise InputError(
            f"{name}: damaged or not a scan ({str(error)[:100] or type(error).__name__}). "
            "Copy it again from the microscope, or open it in HyperSpy to see what is left."
        ) from error


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file, or of all files of a folder with their names (.zspy); large ones show progress."""
    digest = hashlib.sha256()
    files = [file for file in sorted(path.rglob("*")) if file.is_file()] if path.is_dir() else [path]
    n_bytes = sum(file.stat().st_size for file in files)
    with tqdm(total=n_bytes, desc="hash", unit="B", unit_scale=True, disable=n_bytes < LARGE_BYTES) as progress:
        for file in files:
            if path.is_dir():
                digest.update(str(file.relative_to(path)).encode())
            with file.open("rb") as stream:
                while block := stream.read(1 << 22):
                    digest.update(block)
                    progress.update(len(block))
    return digest.hexdigest()


class NpyPatterns:
    """A .npy file that is mapped anew for each reading: a map that stays counts all it has read as memory in use."""

    def __init__(self, path: Path) -> None:
        mapped = np.load(path, mmap_mode="r")
        self.path, self.shape, self.dtype, self.ndim = path, mapped.shape, mapped.dtype, mapped.ndim

    def __getitem__(self, index: Any) -> NDArray[Any]:
        return np.array(np.load(self.path, mmap_mode="r")[index])


def _npy(path: Path) -> da.Array:
    patterns = NpyPatterns(path)
    chunks = tuple("auto" if axis < patterns.ndim - 2 else -1 for axis in range(patterns.ndim))
    with dask.config.set({"array.chunk-size": NPY_CHUNK}):
        return da.from_array(patterns, chunks=chunks, name=False, asarray=False)


def _load(path: Path) -> Any:
    """Load a file lazily through HyperSpy; a .npy file or a .zarr array directly."""
    if not path.exists():
        raise InputError(f"{path}: no such file. Give the path of a scan (.hspy, .zspy, .blo, .mib, .npy, ...).")
    import hyperspy.api as hs

    logging.getLogger("hyperspy").setLevel(logging.CRITICAL)
    hs.preferences.General.show_progressbar = False
    with reading(path.name, OPEN_ERRORS):
        if path.suffix == ".npy":
            return hs.signals.Signal2D(_npy(path)).as_lazy()
        if path.suffix == ".zarr":
            return hs.signals.Signal2D(da.from_zarr(str(path))).as_lazy()
        loaded = hs.load(str(path), lazy=True)
    if isinstance(loaded, list):
        raise InputError(f"{path.name}: holds {len(loaded)} signals. Save the 4D scan alone in a file.")
    return loaded
