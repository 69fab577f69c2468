"""The index folder: an orix crystal map, the n best candidates, and how they came about."""

import json
import shutil
import tempfile
from dataclasses import dataclass
from importlib.metadata import version
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import tensorstore as ts
from numpy.typing import NDArray
from orix import io
from orix.crystal_map import CrystalMap, PhaseList
from orix.io.plugins import orix_hdf5
from orix.quaternion import Rotation

from dpcurate import shards
from dpcurate.errors import InputError
from dpcurate.figures import write_maps
from dpcurate.orientations import Array
from dpcurate.phases import orix_phase
from dpcurate.schema import PhaseRecord

INSIDE_WEIGHT = 0.97
"""A pixel lies inside a grain when its exact truth gives the dominant grain more than this share."""

PROPERTIES = ("confidence", "correlation", "reliability", "agreement", "grain_id")
"""Maps that every crystal map carries."""

CANDIDATES = {"orientation": np.float64, "score": np.float32, "phase_id": np.int16}
"""Arrays of candidates.zarr, each (rows, columns, n_best, ...), best first."""

PARTS = {"candidates.zarr", "crystal_map.h5", "index.json", "maps", "recipe.toml"}
"""All that lies in an index folder."""

PARTIAL = ".partial-write"
"""Ends the name under which an index folder is written before it is renamed."""

SOFTWARE = ("dpcurate", "pyxem", "diffsims", "orix", "hyperspy", "numpy")


@dataclass(frozen=True)
class IndexResult:
    """An orientation map with its scores; arrays have axes (rows, columns), orientations are lab to crystal."""

    orientation: Array
    phase_id: NDArray[np.int16]
    """Index into ``phases``, -1 where not indexed."""
    confidence: NDArray[np.float32]
    correlation: NDArray[np.float32]
    reliability: NDArray[np.float32]
    agreement: NDArray[np.float32]
    grain_id: NDArray[np.int32]
    candidate_orientation: Array
    """Shape (rows, columns, n_best, 4), best first."""
    candidate_score: NDArray[np.float32]
    candidate_phase_id: NDArray[np.int16]
    phases: tuple[PhaseRecord, ...]
    info: dict[str, Any]
    folder: Path | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.phase_id.shape[0], self.phase_id.shape[1]


@dataclass(frozen=True)
class Truth:
    """Exact truth of a simulated scan, axes (rows, columns)."""

    quat: Array
    quat2: Array
    weight: Array
    grain: NDArray[np.int64]
    thickness_angstrom: Array
    phase_id: NDArray[np.int16]
    """Phase of the dominant grain, -1 where there is no crystal. 0 in files that do not say: they hold one phase."""
    phase2_id: NDArray[np.int16]
    """That of the second grain."""

    @property
    def inside(self) -> NDArray[np.bool_]:
        """Pixels that hold one grain alone."""
        return np.asarray(self.weight > INSIDE_WEIGHT)


def read_truth(scan_path: str | Path) -> Truth | None:
    """Return the exact truth that lies beside a scan as ``NAME.truth.npz``, or None."""
    path = Path(scan_path)
    path = path.with_name(path.stem + ".truth.npz")
    if not path.is_file():
        return None
    try:
        with np.load(path) as file:
            one_phase = dict.fromkeys(("phase_id", "phase2_id"), np.zeros(file["weight"].shape, np.int16))
            return Truth(**{key: file[key] if key in file else one_phase[key] for key in Truth.__dataclass_fields__})
    except (KeyError, ValueError, OSError) as error:
        raise InputError(f"{path.name}: not a truth file ({error}). Remove it, or see docs/formats.md.") from error


def to_crystal_map(result: IndexResult) -> CrystalMap:
    """Return the orix crystal map of a result, with its properties and every candidate's rotation."""
    rows, columns = result.shape
    step = result.info["calibration"]["step_nm"]
    y, x = np.mgrid[:rows, :columns] * float(step)
    return CrystalMap(
        rotations=Rotation(result.candidate_orientation.reshape(rows * columns, -1, 4)),
        phase_id=result.phase_id.ravel().astype(int),
        x=x.ravel(),
        y=y.ravel(),
        phase_list=PhaseList([orix_phase(phase) for phase in result.phases], ids=range(len(result.phases))),
        prop={name: getattr(result, name).ravel() for name in PROPERTIES},
        scan_unit="nm",
    )


def check_replaceable(out: Path, *, overwrite: bool) -> None:
    """InputError when no index can be put at ``out``: it exists and may not be replaced, is no index, or is no place.

    A folder is replaced only if it is empty or holds the parts of an index and nothing else.
    """
    try:
        place = out.resolve()
        _check_place(place.parent)
        (place.parent / (place.name + PARTIAL)).exists()  # a name that is too long for the disk is an OSError
        exists = out.exists()
        there = {path.name for path in out.iterdir()} if out.is_dir() else None
    except (OSError, RuntimeError) as error:  # a circle of links is a RuntimeError in Python 3.11 and 3.12
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{out}: cannot be made ({reason}). Choose another --out.") from error
    if not exists:
        return
    if not overwrite:
        raise InputError(f"{out}: exists already. Give --overwrite to replace it, or another --out.")
    if there is None or (there and "index.json" not in there):
        raise InputError(f"{out}: is not an index folder, so it is not replaced. Give another --out.")
    if other := sorted(there - PARTS):
        raise InputError(f"{out}: holds {other[0]}, no part of an index, so it is not replaced. Give another --out.")


def _check_place(folder: Path) -> None:
    """OSError unless a folder can be made in ``folder``, or in what there is of the way to it."""
    there = next(path for path in (folder, *folder.parents) if path.exists())
    with tempfile.TemporaryDirectory(prefix=".dpcurate-", dir=there):
        pass


def write_index(result: IndexResult, folder: Path, *, recipe_toml: str) -> Path:
    """Write an index folder under a temporary name, then rename it; nothing half-written stays.

    Raises InputError when it cannot be written, mostly because there is no space.
    """
    place = folder.resolve()
    partial = place.with_name(place.name + PARTIAL)
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        _write_map(result, partial / "crystal_map.h5")
        _write_candidates(result, partial / "candidates.zarr")
        (partial / "recipe.toml").write_text(recipe_toml, encoding="utf-8")
        write_maps(result, partial / "maps")
        (partial / "index.json").write_text(json.dumps(result.info, indent=1), encoding="utf-8")
        if place.exists():
            shutil.rmtree(place)
        partial.rename(place)
    except (OSError, ValueError) as error:
        reason = shards.no_space(error) or (str(error) if isinstance(error, OSError) else "")
        if not reason:
            raise
        raise InputError(f"{folder}: cannot be written ({reason}). Free space or choose another --out.") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return folder


def read_index(folder: str | Path) -> IndexResult:
    """Read an index folder back; InputError if it is missing, incomplete or of another kind."""
    folder = Path(folder).resolve()
    if not (folder / "index.json").is_file():
        raise InputError(f"{folder}: no index there (index.json is missing). Make one with `dpcurate index SCAN`.")
    try:
        info = json.loads((folder / "index.json").read_text(encoding="utf-8"))
        phases = tuple(PhaseRecord.model_validate(phase) for phase in info["phases"])
        crystal_map = io.load(str(folder / "crystal_map.h5"))
        candidates = {name: _read_array(folder / "candidates.zarr" / name) for name in CANDIDATES}
        rows, columns = info["shape"]
        maps = {name: np.asarray(crystal_map.prop[name]).reshape(rows, columns) for name in PROPERTIES}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{folder}: damaged index ({error}). Make it anew with `dpcurate index`.") from error
    return IndexResult(
        orientation=np.asarray(crystal_map.rotations.data).reshape(rows, columns, -1, 4)[:, :, 0],
        phase_id=np.asarray(crystal_map.phase_id).reshape(rows, columns).astype(np.int16),
        candidate_orientation=candidates["orientation"],
        candidate_score=candidates["score"],
        candidate_phase_id=candidates["phase_id"],
        phases=phases,
        info=info,
        folder=folder,
        **maps,
    )


def software_versions() -> dict[str, str]:
    """Return the versions of what decides a result."""
    return {name: version(name) for name in SOFTWARE}


def _write_map(result: IndexResult, path: Path) -> None:
    """Write the crystal map by way of memory: h5py 3.16 ends the process by a fault when the disk fills under it."""
    file = BytesIO()
    orix_hdf5.file_writer(file, to_crystal_map(result))
    path.write_bytes(file.getvalue())


def _write_candidates(result: IndexResult, folder: Path) -> None:
    """Write the candidates as a Zarr v3 group; one chunk holds 64 x 64 pixels."""
    for name, dtype in CANDIDATES.items():
        data = np.ascontiguousarray(getattr(result, f"candidate_{name}"), dtype)
        spec = {
            "driver": "zarr3",
            "kvstore": {"driver": "file", "path": str((folder / name).resolve())},
            "metadata": {
                "shape": list(data.shape),
                "data_type": np.dtype(dtype).name,
                "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [64, 64, *data.shape[2:]]}},
                "codecs": [
                    {"name": "bytes", "configuration": {"endian": "little"}},
                    {"name": "zstd", "configuration": {"level": 3}},
                    {"name": "crc32c"},
                ],
            },
            "store_data_equal_to_fill_value": True,
        }
        ts.open(spec, create=True).result().write(data).result()
    (folder / "zarr.json").write_text('{"zarr_format": 3, "node_type": "group", "attributes": {}}', encoding="utf-8")


def _read_array(folder: Path) -> NDArray[Any]:
    spec = {
        "driver": "zarr3",
        "kvstore": {"driver": "file", "path": str(folder.resolve())},
        "fill_missing_data_reads": False,
    }
    return np.asarray(ts.open(spec, read=True).result().read().result())
