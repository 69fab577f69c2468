"""Scan files: anything HyperSpy reads, opened lazily, with a calibration."""

import hashlib
import logging
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np

from dpcurate.calibration import Calibration, calibrate
from dpcurate.errors import InputError
from dpcurate.recipe import ScanRecipe

DATA_ERRORS = (OSError, EOFError, RuntimeError, zlib.error)
"""What reading damaged patterns raises."""

OPEN_ERRORS = (*DATA_ERRORS, ValueError, KeyError, TypeError, IndexError, AttributeError, struct.error)
"""What the many format readers raise when they open a damaged file."""
REAL = "buif"
"""Kinds of numbers, as numpy calls them, that counts can be: boolean, integer, floating."""


@dataclass(frozen=True)
class Scan:
    """An open scan: patterns lie on disk until they are computed."""

    path: Path | None
    patterns: da.Array
    """Counts, axes (row, column, detector row, detector column)."""
    calibration: Calibration

    @property
    def name(self) -> str:
        """What to call it in messages."""
        return self.path.name if self.path is not None else "signal"

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the scan."""
        return self.patterns.shape[:2]


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
    patterns = signal.data if isinstance(signal.data, da.Array) else da.from_array(signal.data, chunks="auto")
    return Scan(path=path, patterns=patterns[:, :, ::-1] if recipe.flip else patterns, calibration=calibration)


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
    """Return the SHA-256 of a file, or of all files of a folder with their names (.zspy)."""
    digest = hashlib.sha256()
    for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
        if file.is_file():
            if path.is_dir():
                digest.update(str(file.relative_to(path)).encode())
            with file.open("rb") as stream:
                while block := stream.read(1 << 22):
                    digest.update(block)
    return digest.hexdigest()


def _load(path: Path) -> Any:
    """Load a file lazily through HyperSpy; a .npy file through a memory map."""
    if not path.exists():
        raise InputError(f"{path}: no such file. Give the path of a scan (.hspy, .zspy, .blo, .mib, .npy, ...).")
    import hyperspy.api as hs

    logging.getLogger("hyperspy").setLevel(logging.CRITICAL)
    hs.preferences.General.show_progressbar = False
    with reading(path.name, OPEN_ERRORS):
        if path.suffix == ".npy":
            return hs.signals.Signal2D(da.from_array(np.load(path, mmap_mode="r"), chunks="auto")).as_lazy()
        loaded = hs.load(str(path), lazy=True)
    if isinstance(loaded, list):
        raise InputError(f"{path.name}: holds {len(loaded)} signals. Save the 4D scan alone in a file.")
    return loaded
