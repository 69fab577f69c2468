"""A measured orientation map as a microstructure: an EBSD or diffraction map becomes the truth of a virtual scan."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from orix import io
from orix.crystal_map import CrystalMap
from scipy.ndimage import distance_transform_edt
from scipy.spatial import cKDTree

from dpcurate.errors import InputError
from dpcurate.file_frames import from_file
from dpcurate.grains import find_grains
from dpcurate.microstructure import SUPERSAMPLING, Microstructure, Specimen, from_grains
from dpcurate.orientations import Array
from dpcurate.schema import PhaseRecord


@dataclass(frozen=True)
class _Map:
    """A measured map: phase as index into the phase records, -1 where not indexed, and orientation."""

    phase_id: NDArray[np.int16]
    orientation: Array

    def cut(self, crop: tuple[int, int, int, int]) -> "_Map":
        """The part between two rows and two columns."""
        top, bottom, left, right = crop
        return _Map(self.phase_id[top:bottom, left:right], self.orientation[top:bottom, left:right])


def from_orientation_map(
    source: str | Path | CrystalMap,
    *,
    phases: Sequence[PhaseRecord],
    phase_names: Sequence[str] | None = None,
    crop: tuple[int, int, int, int] | None = None,
    shape: tuple[int, int] | None = None,
    boundary_deg: float = 5.0,
    min_pixels: int = 5,
    not_indexed: Literal["fill", "empty"] = "fill",
    specimen: Specimen | None = None,
    seed: int,
) -> Microstructure:
    """Return a measured orientation map as a microstructure; the seed decides the thickness alone.

    Orientations stay as measured (lab to crystal as orix 0.15 reads them, in the sample frame of the file); a pixel
    that joined a grain as a small piece, or was not indexed, takes that of the nearest pixel of its grain.

    Parameters
    ----------
    source
        A file that orix reads (.ang, .ctf, .h5, ...) or an orix crystal map on a rectangular grid.
    phases
        Records of all its phases; ``phase_id`` counts in them.
    phase_names
        For each record the name of its phase in the file, or whole words of it, in any case; default: the records'
        own names.
    crop
        First row, end row, first column, end column of the part that is used.
    shape
        Rows and columns wanted; the part is stretched to them by nearest pixel. Default: as it is.
    boundary_deg, min_pixels
        Of the grains: see `dpcurate.grains.find_grains`.
    not_indexed
        "fill": such pixels join the nearest grain; "empty": they are holes, phase -1.
    specimen, seed
        Probe and thickness; the seed of the thickness.

    Raises
    ------
    InputError
        If the file cannot be read, is no map, or has phases other than those given: by name or by Laue group.

    Notes
    -----
    .ctf and .ang files are read in the crystal frames that MTEX takes them to have: see `dpcurate.file_frames`.
    """
    crystal_map, name = _load(source)
    measured = _measured(crystal_map, name, phases=phases, phase_names=phase_names)
    measured = measured.cut(_checked_crop(crop, measured.phase_id.shape, name))
    if not (measured.phase_id >= 0).any():
        raise InputError(f"{name}: no indexed pixel in the part that is used. Choose another crop.")
    symmetries = [phase.proper_rotations() for phase in phases]

    def grains_of(n: int) -> NDArray[np.int32]:
        return find_grains(
            measured.orientation, measured.phase_id, symmetries=symmetries, boundary_deg=boundary_deg, min_pixels=n
        )

    grain, piece = grains_of(min_pixels), grains_of(1)
    core = _cores(grain, piece)
    if not_indexed == "fill":
        grain = grain[tuple(distance_transform_edt(grain < 0, return_distances=False, return_indices=True))]
    hole = int(grain.max()) + 1
    phase_of_grain = np.full(hole + 1, -1, np.int16)
    phase_of_grain[grain[core]] = measured.phase_id[core]
    return _resampled(
        np.where(grain < 0, hole, grain), measured, core, phase_of_grain, shape=shape, specimen=specimen, seed=seed
    )


def _resampled(
    grain: NDArray[np.int64],
    measured: _Map,
    core: NDArray[np.bool_],
    phase_of_grain: NDArray[np.int16],
    *,
    shape: tuple[int, int] | None,
    specimen: Specimen | None,
    seed: int,
) -> Microstructure:
    """The microstructure at the wanted number of rows and columns."""
    shape = shape if shape is not None else (grain.shape[0], grain.shape[1])
    scale = np.array(grain.shape) / shape
    cells = [
        ((np.arange(n * SUPERSAMPLING) + 0.5) / SUPERSAMPLING * s).astype(int)
        for n, s in zip(shape, scale, strict=True)
    ]
    fine = grain[np.ix_(*cells)].astype(np.int64)
    places = np.argwhere(core)
    places = places[np.argsort(grain[core], kind="stable")]
    bounds = np.searchsorted(grain[tuple(places.T)], np.arange(len(phase_of_grain) + 1))

    def orientation_at(number: int, _own: Array, pixels: Array) -> Array:
        inside = places[bounds[number] : bounds[number + 1]]
        if not len(inside):
            return np.tile([1.0, 0, 0, 0], (len(pixels), 1))
        nearest = cKDTree(inside).query((pixels + 0.5) * scale - 0.5)[1]
        return measured.orientation[tuple(inside[nearest].T)]

    return from_grains(fine, phase_of_grain, orientation_at, specimen=specimen, seed=seed)


def _cores(grain: NDArray[np.int32], piece: NDArray[np.int32]) -> NDArray[np.bool_]:
    """Pixels of the largest connected piece of each grain: of one phase, free of pieces that only joined it."""
    indexed = piece >= 0
    size = np.bincount(piece[indexed])
    pieces, first = np.unique(piece[indexed], return_index=True)
    owner = grain[indexed][first]
    largest = pieces[np.lexsort((pieces, -size, owner))]
    order = np.sort(owner)
    chosen = largest[np.searchsorted(order, np.unique(order))]
    return indexed & np.isin(piece, chosen)


def _load(source: str | Path | CrystalMap) -> tuple[CrystalMap, str]:
    """The crystal map and its file's name, which messages use."""
    if isinstance(source, CrystalMap):
        return source, "crystal map"
    path = Path(source)
    if not path.is_file():
        raise InputError(f"{path}: no such file. An orientation map is a file that orix reads: .ang, .ctf or .h5.")
    # Without this option the reader prints to stdout and gives phases its own names.
    options = {"autogen_names": False} if path.suffix.lower() == ".ang" else {}
    try:
        found = io.load(path, **options)
    except (OSError, ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
        raise InputError(
            f"{path.name}: not readable as an orientation map ({error}). Give an .ang, .ctf or .h5 file."
        ) from error
    if not isinstance(found, CrystalMap):
        raise InputError(f"{path.name}: holds a {type(found).__name__}, not an orientation map.")
    return found, path.name


def _measured(
    crystal_map: CrystalMap, name: str, *, phases: Sequence[PhaseRecord], phase_names: Sequence[str] | None
) -> _Map:
    """The arrays of a crystal map, its phases matched to the records."""
    shape = crystal_map.shape
    if len(shape) != 2 or min(shape) < 2:
        raise InputError(f"{name}: has the shape {shape}; a map of rows and columns is needed.")
    try:
        in_file = crystal_map.get_map_data("phase_id", fill_value=-1)
    except (IndexError, ValueError) as error:
        raise InputError(f"{name}: its points fill no rectangular grid. Convert it to a square grid first.") from error
    number = _matched(crystal_map, name, phases=phases, phase_names=phase_names)
    phase_id = np.full(shape, -1, np.int16)
    for key, index in number.items():
        phase_id[in_file == key] = index
    rotations = crystal_map.rotations.data
    rotations = rotations[:, 0] if rotations.ndim == 3 else rotations
    parts = [crystal_map.get_map_data(part, fill_value=0) for part in rotations.T]
    orientation = np.stack(parts, axis=-1).astype(float)
    orientation[np.linalg.norm(orientation, axis=-1) == 0] = [1, 0, 0, 0]
    orientation /= np.linalg.norm(orientation, axis=-1, keepdims=True)
    return _Map(phase_id, from_file(orientation, phase_id, phases, Path(name).suffix.lower().removeprefix(".")))


def _matched(
    crystal_map: CrystalMap, name: str, *, phases: Sequence[PhaseRecord], phase_names: Sequence[str] | None
) -> dict[int, int]:
    """For the number of each phase in the file, the record's index; names and Laue groups must agree."""
    wanted = list(phase_names) if phase_names is not None else [phase.name for phase in phases]
    if len(wanted) != len(phases):
        raise InputError(f"phase_names has {len(wanted)} names for {len(phases)} phases: give one for each.")
    there = {int(key): phase for key, phase in crystal_map.phases if key >= 0}
    listed = ", ".join(phase.name for phase in there.values())
    found: dict[int, int] = {}
    for index, (word, record) in enumerate(zip(wanted, phases, strict=True)):
        keys = [key for key, phase in there.items() if phase.name.lower() == word.lower()]
        keys = keys or [key for key, phase in there.items() if _has_words(phase.name, word)]
        if len(keys) != 1 or keys[0] in found:
            trouble = "not one phase of it" if keys else "not in it"
            raise InputError(
                f"{name}: phase {word} is {trouble}; its phases are {listed}. "
                "Say with phase_names what each of your phases is called there."
            )
        group = there[keys[0]].point_group
        laue = "none" if group is None else group.laue.name
        if laue != record.point_group:
            raise InputError(
                f"{name}: its phase {there[keys[0]].name} has Laue group {laue}, but phase {record.name} has "
                f"{record.point_group}. The map is of another phase: give the CIF that belongs to it."
            )
        found[keys[0]] = index
    left = [phase.name for key, phase in there.items() if key not in found and (crystal_map.phase_id == key).any()]
    if left:
        raise InputError(f"{name}: holds phase {left[0]}, which is none of {', '.join(wanted)}. Give its CIF too.")
    return found


def _has_words(name: str, words: str) -> bool:
    """Whether a name holds these words whole, in any case: ferrite/steel holds Ferrite, austenite does not hold Ni."""
    return re.search(rf"(?<![^\W_]){re.escape(words)}(?![^\W_])", name, re.IGNORECASE) is not None


def _checked_crop(
    crop: tuple[int, int, int, int] | None, shape: tuple[int, ...], name: str
) -> tuple[int, int, int, int]:
    """The crop, or the whole map; InputError if it leaves the map."""
    if crop is None:
        return 0, shape[0], 0, shape[1]
    top, bottom, left, right = crop
    if not (0 <= top < bottom <= shape[0] and 0 <= left < right <= shape[1]):
        raise InputError(f"crop {crop}: expected first row, end row, first column, end column within {name}, {shape}.")
    return crop
