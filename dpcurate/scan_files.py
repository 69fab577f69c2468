"""Files of a virtual scan: a calibrated .hspy filled block by block, its truth and its record; all written aside."""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import hyperspy.api as hs
import numpy as np
from numpy.typing import ArrayLike, NDArray

from dpcurate.errors import InputError
from dpcurate.simulation_plan import Geometry

CHUNK_BYTES = 2**20
"""Of patterns that are compressed together, at most; they are of one row of the scan."""

SPARE_BYTES = 2**20
"""Room for the tables of a HDF5 file, besides the patterns."""

MICROSCOPE = "Acquisition_instrument.TEM"
"""Where HyperSpy keeps what is known of it."""


@dataclass(frozen=True)
class ScanFiles:
    """A scan ``NAME.hspy`` in the making: its three files under the names that they have until they are whole."""

    out: Path

    def finals(self) -> tuple[Path, Path, Path]:
        """Record, truth and scan, in the order in which they come about."""
        names = (f"{self.out.stem}{end}" for end in (".simulation.json", ".truth.npz", ".hspy"))
        record, truth, scan = (self.out.with_name(name) for name in names)
        return record, truth, scan

    def partials(self) -> tuple[Path, Path, Path]:
        """The same under their first names."""
        record, truth, scan = ScanFiles(self.out.with_name(f"{self.out.stem}.partial.hspy")).finals()
        return record, truth, scan

    def save_record(self, record: Mapping[str, Any]) -> None:
        """Write what decided the scan."""
        with self._writing():
            self.partials()[0].write_text(json.dumps(record, indent=1), encoding="utf-8")

    def save_truth(self, arrays: Mapping[str, ArrayLike]) -> None:
        """Write the exact truth; the keys are those of docs/formats.md."""
        with self._writing(), self.partials()[1].open("wb") as file:
            named: dict[str, Any] = {key: np.asarray(array) for key, array in arrays.items()}
            np.savez_compressed(file, **named)

    def save_empty_scan(self, shape: tuple[int, int], geometry: Geometry, *, step_nm: float, title: str) -> None:
        """Write a scan of so many rows and columns with all but its patterns. The beam's place is not stated."""
        whole, path = (*shape, *geometry.shape), self.partials()[2]
        # An array of zeros that takes no memory: HyperSpy makes axes and metadata of it, and its data are not written.
        signal = hs.signals.Signal2D(np.broadcast_to(np.uint16(0), whole))
        for axis, name in zip(signal.axes_manager.navigation_axes, "xy", strict=True):
            axis.name, axis.units, axis.scale = name, "nm", step_nm
        for axis, name in zip(signal.axes_manager.signal_axes, ("kx", "ky"), strict=True):
            axis.name, axis.units, axis.scale = name, "1/Å", geometry.scale_inv_angstrom
        signal.metadata.General.title = title
        signal.metadata.Signal.signal_type = "electron_diffraction"
        signal.metadata.set_item(f"{MICROSCOPE}.beam_energy", geometry.beam_energy_kev)
        signal.metadata.set_item(f"{MICROSCOPE}.rocking_angle", float(np.radians(geometry.precession_deg) * 1000))
        signal.metadata.set_item(f"{MICROSCOPE}.rotation", 0.0)
        pattern_bytes = 2 * geometry.shape[0] * geometry.shape[1]
        chunk = (1, max(1, min(shape[1], CHUNK_BYTES // pattern_bytes)), *geometry.shape)
        with self._writing():
            path.write_bytes(b"")
            _try_room(path, SPARE_BYTES)
            path.unlink()
            signal.save(path, mode="a", write_dataset=False)
            with h5py.File(path, "r+") as file:
                group = _group(file)
                group.create_dataset("data", whole, np.uint16, chunks=chunk, compression="gzip", shuffle=True)

    def save_block(self, block: tuple[slice, slice], counts: NDArray[np.uint16]) -> None:
        """Write the patterns of some rows and columns into the scan."""
        path = self.partials()[2]
        with self._writing():
            _try_room(path, counts.nbytes + SPARE_BYTES)
            with h5py.File(path, "r+") as file:
                _group(file)["data"][block] = counts

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Turn a failure to write into an InputError that names the scan."""
        try:
            yield
        except OSError as error:
            raise InputError(
                f"{self.out}: cannot be written ({str(error)[:100]}). Free space or choose another place."
            ) from error


@contextmanager
def written_aside(out: Path, *, overwrite: bool) -> Iterator[ScanFiles]:
    """Give the files of a scan to be written; then they get their names, the scan last, or all are removed.

    Raises InputError for a name that is not NAME.hspy, a folder that is missing, and files that are there already.
    """
    files = ScanFiles(out)
    if out.suffix != ".hspy":
        raise InputError(f"{out}: a virtual scan is written as .hspy. Give a name such as {out.stem or 'scan'}.hspy.")
    if not out.parent.is_dir():
        raise InputError(f"{out}: there is no folder {out.parent}. Make it first, or choose another place.")
    there = [path for path in files.finals() if path.exists()]
    if there and not overwrite:
        raise InputError(f"{there[-1]}: exists already. Give --overwrite to replace it, or another name.")
    try:
        yield files
        with files._writing():
            # An old scan goes first: it must never lie beside the truth of another.
            out.unlink(missing_ok=True)
            for partial, final in zip(files.partials(), files.finals(), strict=True):
                partial.rename(final)
    finally:
        for partial in files.partials():
            partial.unlink(missing_ok=True)


def _try_room(path: Path, nbytes: int) -> None:
    """Raise OSError if the disk does not take so many bytes more at the end of a file, which stays as it is.

    HDF5 must never find the disk full: a file that it cannot close crashes the process when it ends (h5py 3.16).
    """
    size = path.stat().st_size
    try:
        with path.open("ab") as file:
            file.write(bytes(nbytes))
    finally:
        os.truncate(path, size)


def _group(file: h5py.File) -> h5py.Group:
    """The only signal of a HyperSpy file."""
    (group,) = file["Experiments"].values()
    return group
