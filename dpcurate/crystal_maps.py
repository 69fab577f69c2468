"""The index folder: an orix crystal map, the n best candidates, and how they came about."""

import json
import shutil
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import tensorstore as ts
from numpy.typing import NDArray
from orix import io
from orix.crystal_map import CrystalMap, PhaseList
from orix.quaternion import Rotation

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
            return Truth(**{key: file[key] for key in Truth.__dataclass_fields__})
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


def write_index(result: IndexResult, folder: Path, *, recipe_toml: str) -> Path:
    """Write an index folder under a temporary name, then rename it; nothing half-written stays."""
    partial = folder.with_name(folder.name + ".partial-write")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        io.save(str(partial / "crystal_map.h5"), to_crystal_map(result))
        _write_candidates(result, partial / "candidates.zarr")
        (partial / "recipe.toml").write_text(recipe_toml, encoding="utf-8")
        write_maps(result, partial / "maps")
        (partial / "index.json").write_text(json.dumps(result.info, indent=1), encoding="utf-8")
        if folder.exists():
            shutil.rmtree(folder)
        partial.rename(folder)
    except OSError as error:
        raise InputError(f"{folder}: cannot be written ({error}). Free space or choose another --out.") from error
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


def _write_candidates(result: IndexResult, folder: Path) -> None:
    """Write the candidates as a Zarr v3 group; one chunk holds 64 x 64 pixels."""
    for name, dtype in CANDIDATES.items():
        data = np.ascontiguousarray(getattr(result, f"candidate_{name}"), dtype)
        spec = {
            "driver": "zarr3",
            "kvstore": {"driver": "file", "path": str(folder / name)},
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
    spec = {"driver": "zarr3", "kvstore": {"driver": "file", "path": str(folder)}, "fill_missing_data_reads": False}
    return np.asarray(ts.open(spec, read=True).result().read().result())
