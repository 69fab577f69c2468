"""Simulation in the image of a scan: its sample and instrument estimated, its grains' orientations taken up."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dpcurate.crystal_maps import IndexResult, read_index
from dpcurate.errors import InputError
from dpcurate.labels import pixel_splits
from dpcurate.likeness import ScanSample, estimate_recipe, measured, sample_scan
from dpcurate.likeness_figures import write_likeness
from dpcurate.likeness_ranges import instrument_of
from dpcurate.orientations import Array, turn_pattern
from dpcurate.pipeline import read_phases
from dpcurate.recipe import ScanRecipe
from dpcurate.scans import Scan, open_scan, sha256_of
from dpcurate.schema import PhaseRecord
from dpcurate.simulation_plan import Geometry, SimulationRecipe

UNIFORM_SHARE = 0.5
"""Of the orientations, unless the recipe says so: grains that the labels miss are then not unheard of."""

CONFIDENT = 0.8
"""Labels below are not simulated around, unless a phase has no better ones."""


@dataclass(frozen=True)
class Image:
    """What a scan tells of itself: what to simulate, where the detector is, around which orientations."""

    recipe: SimulationRecipe
    geometry: Geometry
    phases: tuple[PhaseRecord, ...]
    parents: tuple[Array, ...]
    """Of each phase (m, 4); none without an index."""
    sample: ScanSample


def image_of(
    source: str | Path,
    recipe: SimulationRecipe,
    *,
    phases: tuple[str, ...] = (),
    scan: ScanRecipe | None = None,
    seed: int = 0,
) -> Image:
    """The image of an index folder or of a scan file.

    From an index come phases, calibration and orientations, and patterns are simulated around these. A scan alone needs
    ``phases`` (CIF files), and orientations are those of the recipe. ``recipe.sample`` and its reach are replaced by
    what is measured. Raises InputError when neither can be read, or a scan is given without phases.
    """
    index = read_index(source) if (Path(source) / "index.json").is_file() else None
    if index is None:
        if not phases:
            raise InputError(f"{source}: a scan without an index needs --phase. Give its CIF, or the scan's index.")
        records = read_phases(phases)
        sample = sample_scan(open_scan(source, scan))
        wanted, parents = recipe, tuple[Array, ...]()
    else:
        records, sample = index.phases, sample_scan(scan_behind(index))
        share = UNIFORM_SHARE if recipe.uniform_share is None else recipe.uniform_share
        wanted = recipe.model_copy(update={"orientations": "around", "uniform_share": share})
        parents = confident_orientations(index, seed=seed)
    return Image(
        estimate_recipe(sample, records, index=index, recipe=wanted), sample.geometry, records, parents, sample
    )


def scan_behind(index: IndexResult) -> Scan:
    """The scan that was indexed, calibrated as then; InputError when it is gone or changed, or was no file."""
    known, calibration = index.info["scan"], index.info["calibration"]
    if known["path"] is None:
        raise InputError(f"{index.folder}: indexes a signal in memory; save the scan to a file and index that.")
    path = Path(known["path"])
    if not path.exists():
        raise InputError(f"{index.folder}: its scan {path} is gone; put it back or index the scan where it is now.")
    if sha256_of(path) != known["sha256"]:
        raise InputError(f"{path}: changed since {index.folder} was made; index it again.")
    keys = ("scale_inv_angstrom", "center_xy", "beam_energy_kev", "precession_deg", "flip")
    return open_scan(path, ScanRecipe(**{key: calibration[key] for key in keys if key in calibration}))


def confident_orientations(index: IndexResult, *, seed: int) -> tuple[Array, ...]:
    """Orientations of each phase with confidence 0.8 and above in training grains, in the detector's frame.

    Where a phase has none so confident, all of its training grains; where it has no training grain, all it has. An
    index holds orientations in the frame of the scan.
    """
    detector = turn_pattern(index.orientation, -index.info["calibration"].get("rotation_deg", 0.0))
    training = pixel_splits(index, seed=seed).reshape(index.shape) == 0
    parents = []
    for number, phase in enumerate(index.phases):
        own = index.phase_id == number
        if not own.any():
            raise InputError(f"{index.folder}: no pixel of phase {phase.name}. Index the scan without that phase.")
        wishes = (own & training & (index.confidence >= CONFIDENT), own & training, own)
        parents.append(detector[next(wish for wish in wishes if wish.any())])
    return tuple(parents)


def write_picture(image: Image, simulated: NDArray[np.uint16], path: Path) -> Path:
    """Write the picture of a scan's patterns beside simulated ones, with what was measured of both."""
    _, gain, _ = instrument_of(
        image.sample.patterns, image.recipe.sample.instrument, center_xy=image.geometry.center_xy
    )
    both = (image.sample.patterns, simulated)
    features = (measured(both[0], image.geometry, gain=gain), measured(both[1], image.geometry, gain=gain))
    return write_likeness(both, features, path, scale_inv_angstrom=image.geometry.scale_inv_angstrom)
