"""The index folder: an orix crystal map, the n best candidates, and how they came about."""

import json
import shutil
import tempfile
import tomllib
from dataclasses import MISSING, dataclass, fields
from importlib.metadata import version
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from orix.crystal_map import CrystalMap, PhaseList
from orix.io.plugins import orix_hdf5
from orix.quaternion import Rotation

from dpcurate import shards
from dpcurate.confidence_figure import write_confidence
from dpcurate.errors import InputError
from dpcurate.index_arrays import read_group, write_group
from dpcurate.map_pages import write_maps
from dpcurate.orientations import Array
from dpcurate.phases import orix_phase
from dpcurate.schema import PhaseRecord
from dpcurate.truth import right_labels

PROPERTIES = ("confidence", "correlation", "reliability", "agreement", "grain_id")
"""Maps that every crystal map carries."""

CANDIDATE = "candidate_"
"""Begins the names of the arrays of candidates.zarr; all others lie in labels.zarr."""

HDF5 = b"\x89HDF\r\n\x1a\n"
"""Begins every HDF5 file."""

PARTS = {"candidates.zarr", "crystal_map.h5", "index.json", "labels.zarr", "maps", "recipe.toml"}
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
    source: NDArray[np.uint8] | None = None
    """Why a label is what it is: `consensus.OWN_WINNER` to `consensus.SHARE`; None where neighbours had no say."""
    support: NDArray[np.float32] | None = None
    """Reliability of the evidence pooled over neighbours."""
    orientation2: Array | None = None
    """Of the second grain in a pattern, (rows, columns, 4); counts where ``weight`` is below 1."""
    phase2_id: NDArray[np.int16] | None = None
    """Its phase, -1 where there is none."""
    weight: NDArray[np.float32] | None = None
    """Share of the first grain, 1 where it is alone."""
    expected_error_deg: NDArray[np.float32] | None = None
    """Mean disorientation from the truth to be expected of labels like this one; 180 where not indexed."""
    candidate_probability: NDArray[np.float32] | None = None
    """What a network gave to the proposal nearest to each candidate, (rows, columns, n_best)."""

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.phase_id.shape[0], self.phase_id.shape[1]


def to_crystal_map(result: IndexResult) -> CrystalMap:
    """Return the orix crystal map of a result: the label's rotation, every candidate's, their scores and phases.

    orix holds one phase a pixel, that of the label; the property ``candidate_phase_id`` says which candidates are of
    another. Where a label is not the best candidate, all labels come before the candidates, one rotation more.
    """
    rows, columns = result.shape
    step = result.info["calibration"]["step_nm"]
    y, x = np.mgrid[:rows, :columns] * float(step)
    rotations = result.candidate_orientation.reshape(rows * columns, -1, 4)
    labels = result.orientation.reshape(-1, 1, 4)
    if not rotations.shape[1] or not np.array_equal(rotations[:, :1], labels):
        rotations = np.concatenate([labels, rotations], axis=1)
    properties = {name: getattr(result, name).ravel() for name in PROPERTIES}
    for name in ("candidate_score", "candidate_phase_id"):
        properties[name] = getattr(result, name).reshape(rows * columns, -1)
    return CrystalMap(
        rotations=Rotation(rotations),
        phase_id=result.phase_id.ravel().astype(int),
        x=x.ravel(),
        y=y.ravel(),
        phase_list=PhaseList([orix_phase(phase) for phase in result.phases], ids=range(len(result.phases))),
        prop=properties,
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
        for group, arrays in _groups(result).items():
            write_group(partial / group, arrays)
        (partial / "recipe.toml").write_text(recipe_toml, encoding="utf-8")
        write_maps(result, partial / "maps")
        right = right_labels(result.info, result.orientation, result.phase_id, phases=result.phases)
        write_confidence(result.confidence.ravel().astype(float), right, partial / "maps" / "confidence.png")
        found = {"counts": counts_of(result), "patterns_per_second": patterns_per_second(result)}
        info = result.info | {"settings": tomllib.loads(recipe_toml)} | found
        (partial / "index.json").write_text(json.dumps(info, indent=1), encoding="utf-8")
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
    """Read an index folder back, every array as it was written; InputError if it is missing, incomplete or damaged."""
    folder = Path(folder).resolve()
    if not (folder / "index.json").is_file():
        raise InputError(f"{folder}: no index there (index.json is missing). Make one with `dpcurate index SCAN`.")
    try:
        info = json.loads((folder / "index.json").read_text(encoding="utf-8"))
        phases = tuple(PhaseRecord.model_validate(phase) for phase in info["phases"])
        with (folder / "crystal_map.h5").open("rb") as file:
            if file.read(len(HDF5)) != HDF5:
                raise ValueError("crystal_map.h5 is no HDF5 file")
        arrays = read_group(folder / "labels.zarr")
        arrays |= {CANDIDATE + name: data for name, data in read_group(folder / "candidates.zarr").items()}
        _check_arrays(arrays, tuple(info["shape"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{folder}: damaged index ({error}). Make it anew with `dpcurate index`.") from error
    return IndexResult(phases=phases, info=info, folder=folder, **arrays)


def counts_of(result: IndexResult) -> dict[str, Any]:
    """Return how many pixels there are, how many are indexed, as which phase, and in how many grains."""
    return {
        "pixels": result.phase_id.size,
        "indexed": int((result.phase_id >= 0).sum()),
        "phases": {phase.name: int((result.phase_id == k).sum()) for k, phase in enumerate(result.phases)},
        "grains": int(result.grain_id.max(initial=-1)) + 1,
    }


def patterns_per_second(result: IndexResult) -> float | None:
    """Return the speed of matching or prediction; None if it was not timed, or went on from an interrupted run."""
    seconds = result.info.get("seconds", {})
    spent = seconds.get("matching", seconds.get("prediction"))
    if not spent or result.info.get("resumed", False):
        return None
    return round(result.phase_id.size / spent, 1)


def software_versions() -> dict[str, str]:
    """Return the versions of what decides a result."""
    return {name: version(name) for name in SOFTWARE}


def _write_map(result: IndexResult, path: Path) -> None:
    """Write the crystal map by way of memory: h5py 3.16 ends the process by a fault when the disk fills under it."""
    file = BytesIO()
    orix_hdf5.file_writer(file, to_crystal_map(result))
    path.write_bytes(file.getbuffer())


def _groups(result: IndexResult) -> dict[str, dict[str, NDArray[Any]]]:
    """Every array of a result by the Zarr group that holds it."""
    groups: dict[str, dict[str, NDArray[Any]]] = {"labels.zarr": {}, "candidates.zarr": {}}
    for field in fields(result):
        value = getattr(result, field.name)
        if isinstance(value, np.ndarray):
            group = "candidates.zarr" if field.name.startswith(CANDIDATE) else "labels.zarr"
            groups[group][field.name.removeprefix(CANDIDATE)] = value
    return groups


def _check_arrays(arrays: dict[str, NDArray[Any]], shape: tuple[int, ...]) -> None:
    """ValueError unless these are the arrays of a result, all of one shape; those with a default may be missing."""
    known = {field.name: field.default is MISSING for field in fields(IndexResult)}
    missing = {name for name, needed in known.items() if needed} - arrays.keys() - {"phases", "info"}
    if wrong := sorted(missing | (arrays.keys() - known.keys())):
        raise ValueError(f"array {wrong[0]} is {'missing' if wrong[0] in missing else 'unknown'}")
    for name, data in arrays.items():
        if data.shape[:2] != shape:
            raise ValueError(f"array {name} has the shape {data.shape}")
