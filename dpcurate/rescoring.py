"""The confidence of an index given anew, fitted to virtual scans in the likeness of its own scan if so wished."""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dpcurate.calibration_scores import reliability_diagram
from dpcurate.calibrator import Adjustment, read_calibrator
from dpcurate.calibrator_fit import Judged, adjust, judged
from dpcurate.crystal_maps import IndexResult, read_index, write_index
from dpcurate.errors import InputError
from dpcurate.labelling import RECORD, with_confidence
from dpcurate.lookalike import Image, image_of
from dpcurate.microstructure import Microstructure, Specimen, voronoi
from dpcurate.orientations import Array
from dpcurate.pipeline import index_scan
from dpcurate.recipe import ScanRecipe, load_recipe
from dpcurate.simulation_plan import SimulationRecipe
from dpcurate.truth import read_truth
from dpcurate.virtual_scan import simulate_scan

SIDE = 28
"""Rows and columns of a virtual scan."""

FEWEST_GRAINS, MOST_GRAINS = 6, 24

WORK = ".scoring"
"""Ends the name of the folder beside an index that keeps its virtual scans until the last is done."""


@dataclass(frozen=True)
class Scored:
    """An index with its new confidence, and how well that and the shipped one do on the virtual scans."""

    result: IndexResult
    adjustment: Adjustment
    n_scans: int
    n_grains: int
    error_before: float
    error_after: float
    """Expected calibration errors on the scans that the adjustment was fitted to; NaN without any."""


def score_index(folder: str | Path, *, scans: int = 0, seed: int = 0) -> Scored:
    """Give an index its confidence anew and write it in its place.

    Parameters
    ----------
    folder
        An index folder that `dpcurate index` wrote.
    scans
        Virtual scans to simulate in the likeness of the index's scan and to index as it was; the shipped confidence is
        adjusted to them. 0: the shipped confidence as it is. Interrupted, finished scans are kept and not made again.
    seed
        Decides grains, conditions and counts of the virtual scans.

    Raises
    ------
    InputError
        No index there, or one that has no such confidence; a scan that is gone, to simulate its likeness; no space.
    """
    result = read_index(folder)
    if result.support is None:
        raise InputError(
            f"{folder}: neighbours did not agree on its labels (neighbours.pool = false, or a network's map), so there "
            "is no calibrated confidence for it. Index the scan with neighbours.pool = true."
        )
    assert result.folder is not None
    recipe_text = (result.folder / "recipe.toml").read_text(encoding="utf-8")
    line, seen = Adjustment(), list[Judged]()
    work = result.folder.with_name(result.folder.name + WORK)
    if scans:
        seen = likeness_scans(result, work, scans=scans, seed=seed)
        line = adjust(read_calibrator(), seen)
    scored = with_confidence(result, line)
    grains = sum(len(np.unique(scan.grain)) for scan in seen)
    extra = {"virtual_scans": scans, "virtual_grains": grains, "seed": seed} if scans else {}
    scored.info[RECORD].update(extra)
    write_index(scored, result.folder, recipe_toml=recipe_text)
    shutil.rmtree(work, ignore_errors=True)
    before, after = (_error(seen, each) for each in (Adjustment(), line))
    return Scored(scored, line, scans, grains, before, after)


def likeness_scans(result: IndexResult, work: Path, *, scans: int, seed: int) -> list[Judged]:
    """Labels with truth of virtual scans in the likeness of an index's scan, made in the folder ``work``."""
    assert result.folder is not None
    image = image_of(result.folder, SimulationRecipe(), seed=seed)
    recipe = load_recipe(result.folder / "recipe.toml").model_copy(update={"scan": _calibration(result)})
    _take_up(work, {"index": result.info["created"], "seed": seed})
    found = []
    for number in range(scans):
        scan, index = work / f"{number:02d}.hspy", work / f"{number:02d}.index"
        if not scan.is_file():
            own_seed = 1000 * seed + number
            structure = structure_like(result, image, seed=own_seed)
            simulate_scan(structure, image.phases, image.recipe, image.geometry, seed=own_seed, out=scan)
        whole = read_index(index) if index.exists() else index_scan(scan, recipe, out=index, phases=image.phases)
        truth = read_truth(scan)
        assert truth is not None
        found.append(judged(whole, truth))
    return found


def structure_like(result: IndexResult, image: Image, *, seed: int) -> Microstructure:
    """A small polycrystal of grains as large as those of an index, in orientations found there."""
    rng = np.random.default_rng(seed)
    pixels = np.bincount(result.grain_id[result.grain_id >= 0])
    usual = float(np.average(pixels, weights=pixels)) if len(pixels) else SIDE
    n_grains = int(np.clip(round(SIDE**2 / usual), FEWEST_GRAINS, MOST_GRAINS))
    share = np.array([(result.phase_id == number).sum() for number in range(len(result.phases))], float)
    phase = rng.choice(len(share), n_grains, p=share / share.sum())
    drawn = np.stack([parent[rng.integers(len(parent))] for parent in (image.parents[number] for number in phase)])
    low, high = image.recipe.sample.thickness_angstrom
    return _polycrystal(image, drawn, seed=seed, thickness=(max(low, 1.0), max(high, 1.0)))


def _polycrystal(image: Image, orientations: Array, *, seed: int, thickness: tuple[float, float]) -> Microstructure:
    return voronoi(
        (SIDE, SIDE),
        n_grains=len(orientations),
        phases=image.phases,
        seed=seed,
        orientations=orientations,
        specimen=Specimen(thickness_limits_angstrom=thickness),
    )


def _calibration(result: IndexResult) -> ScanRecipe:
    """What a virtual scan's file does not say of itself."""
    calibration = result.info["calibration"]
    keys = ("scale_inv_angstrom", "beam_energy_kev", "precession_deg")
    return ScanRecipe(**{key: calibration[key] for key in keys})


def _take_up(work: Path, record: dict[str, Any]) -> None:
    """Keep what is in the folder ``work`` if it was made for the same, else begin with an empty one."""
    note = work / "made_for.txt"
    if not note.is_file() or note.read_text(encoding="utf-8") != str(record):
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(parents=True)
        note.write_text(str(record), encoding="utf-8")


def _error(scans: list[Judged], line: Adjustment) -> float:
    """Expected calibration error over labels of scans; NaN without any."""
    if not scans:
        return float("nan")
    probability = line(read_calibrator().probability(np.concatenate([scan.features for scan in scans])))
    return reliability_diagram(probability, np.concatenate([scan.right for scan in scans])).error
