"""Build a labelled dataset from indexed scans: the labels that can be trusted, plus simulated patterns."""

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dpcurate import labels as columns
from dpcurate.choosing import Chosen, Story, choose
from dpcurate.crystal_maps import IndexResult, read_index
from dpcurate.curation_rules import by_confidence
from dpcurate.dataset_parts import (
    Simulate,
    folder_of,
    geometry_of,
    in_order,
    scan_part,
    simulated_part,
    software,
    write_parts,
)
from dpcurate.errors import InputError
from dpcurate.patterns import simulated_patterns
from dpcurate.recipe import CurationRecipe, ScanRecipe
from dpcurate.scans import Scan, open_scan, sha256_of
from dpcurate.schema import Description, PhaseRecord
from dpcurate.simulation_plan import SimulationPlan, SimulationRecipe
from dpcurate.simulator import make_simulator, training_parents
from dpcurate.writing import PATTERNS_PER_SHARD

SAME = 1e-6
"""Relative difference of two beam energies or precession angles that is rounding only."""

MAX_SEED = 2**31 - 1

USUAL = CurationRecipe()


def build_dataset(
    indexes: Sequence[str | Path],
    *,
    name: str | None = None,
    min_confidence: float | None = None,
    simulated: int = 0,
    simulation: SimulationRecipe | None = None,
    simulate: Simulate = simulated_patterns,
    seed: int = 0,
    root: str | Path | None = None,
    sample: int | None = None,
    rules: CurationRecipe = USUAL,
    progress: bool = True,
) -> Path:
    """Write a dataset of the labels that can be trusted and return its folder.

    Parameters
    ----------
    indexes
        Index folders, as ``dpcurate index`` writes them; one for each scan.
    name
        Default: the first scan's, without its ending.
    min_confidence
        Pixels with a lower confidence are left out, 0 to 1; default: what the rules say.
    simulated, simulation
        How many patterns with exact labels to add, the phases in turn, and how they are simulated.
    simulate
        Gives the patterns of a simulator's samples, block by block.
    seed
        Decides the split, what is drawn at random and the simulated orientations.
    root
        Folder of all datasets; see ``store.dataset_root``.
    sample
        Keep only so many of the pixels; default: what the rules say.
    rules
        What is left out, what is split as a whole, in which order patterns are stored: the recipe's section `curation`.
    progress
        Show it, on stderr.

    Raises
    ------
    InputError
        An option out of range, no label left, scans that changed, are used twice or do not go together, disk full.

    Notes
    -----
    Patterns are read block by block, and stored as they were recorded, also where indexing moved them to a steady
    centre. The split of a pixel depends on its scan's grains and the seed only, never on what else is kept.
    """
    min_confidence = rules.min_confidence if min_confidence is None else min_confidence
    rules = rules.model_copy(update={"sample": rules.sample if sample is None else sample})
    if not 0 <= seed <= MAX_SEED:
        raise InputError(f"--seed {seed}: must be from 0 to {MAX_SEED}.")
    results = [read_index(Path(folder).resolve()) for folder in indexes]
    _check_alike(results)
    kept = _kept(results, min_confidence=min_confidence, simulated=simulated)
    phases, numbers = columns.merge_phases([index.phases for index in results])
    splits = columns.scan_splits(results, seed=seed, recipe=rules)
    scans = [_open_unchanged(index) for index in results]
    shape = _pattern_shape(scans)
    chosen = choose(results, kept, phases=phases, numbers=numbers, rules=rules, seed=seed)
    parts = [scan_part(*each) for each in zip(results, scans, chosen.pixels, numbers, splits, strict=True)]
    labels = columns.join([part.labels for part in parts])
    order = by_confidence(labels["confidence"]) if rules.order == "confidence" else None
    plan = None
    if simulated:
        geometry = geometry_of(results[0].info["calibration"], shape)
        recipe = simulation or SimulationRecipe()
        plan = SimulationPlan(recipe=recipe, geometry=geometry, seed=seed, number=simulated)
        parents = training_parents(in_order(labels, order), n_phases=len(phases))
        parts.append(simulated_part(make_simulator(plan, phases, parents=parents), simulate=simulate))
    calibration = results[0].info["calibration"]
    description = Description(
        beam_energy_kev=calibration["beam_energy_kev"],
        precession_deg=calibration["precession_deg"],
        phases=phases,
        sources=tuple(part.source for part in parts),
        counts=_counts(results, kept, chosen) | {"simulated": simulated},
        recipe={
            "indexes": [str(index.folder) for index in results],
            "name": name,
            "min_confidence": min_confidence,
            "simulated": simulated,
            "seed": seed,
            "settings": _settings(rules, plan),
        },
        simulation=plan.model_dump(mode="json") if plan else None,
        software=software(),
    )
    return write_parts(
        parts,
        description,
        name=name or _default_name(scans[0]),
        root=root,
        pattern_shape=shape,
        order=order,
        story=Story(tuple(results), chosen.fates, tuple(splits), min_confidence),
        patterns_per_shard=rules.patterns_per_shard,
        progress=progress,
    )


def simulate_dataset(
    plan: SimulationPlan,
    phases: Sequence[PhaseRecord],
    *,
    name: str,
    root: str | Path | None = None,
    recipe: Mapping[str, object],
    patterns_per_shard: int = PATTERNS_PER_SHARD,
    device: str = "cpu",
    progress: bool = True,
) -> Path:
    """Write a dataset of simulated patterns alone and return its folder; ``recipe`` says how it was asked for.

    Patterns are simulated and written block by block. Raises InputError as `make_simulator` and the store do.
    """
    part = simulated_part(make_simulator(plan, phases, device=device))
    description = Description(
        beam_energy_kev=plan.geometry.beam_energy_kev,
        precession_deg=plan.geometry.precession_deg,
        phases=tuple(phases),
        sources=(part.source,),
        counts={"simulated": plan.number},
        recipe=dict(recipe),
        simulation=plan.model_dump(mode="json"),
        software=software(),
    )
    return write_parts(
        [part],
        description,
        name=name,
        root=root,
        pattern_shape=plan.geometry.shape,
        patterns_per_shard=patterns_per_shard,
        progress=progress,
    )


def _check_alike(results: Sequence[IndexResult]) -> None:
    """Refuse no index at all, one scan twice (a pixel could train and test), another beam energy or precession."""
    if not results:
        raise InputError("No index given; name at least one folder that 'dpcurate index' has written.")
    first, seen = results[0], dict[str, Path]()
    for index in results:
        digest = index.info["scan"]["sha256"]
        if digest is None:
            raise InputError(f"{index.folder}: indexes a signal in memory; save the scan to a file and index that.")
        if digest in seen:
            raise InputError(f"{index.folder} and {seen[digest]} index the same scan; give one of them.")
        seen[digest] = folder_of(index)
        for key, unit in (("beam_energy_kev", "keV"), ("precession_deg", "degrees of precession")):
            mine, other = index.info["calibration"][key], first.info["calibration"][key]
            if not math.isclose(mine, other, rel_tol=SAME):
                raise InputError(
                    f"{index.folder}: {mine:g} {unit}, but {first.folder} has {other:g}; "
                    "build a dataset of each, their patterns do not compare."
                )


def _kept(results: Sequence[IndexResult], *, min_confidence: float, simulated: int) -> list[NDArray[np.int64]]:
    """Pixels of each scan that stay at a confidence; InputError when the options are wrong or leave nothing."""
    if not 0 <= min_confidence <= 1:
        raise InputError(
            f"--min-confidence {min_confidence}: must be from 0 to 1; of the labels {columns.how_many_stay(results)}."
        )
    if simulated < 0:
        raise InputError(f"--simulated {simulated}: must be 0 or more patterns.")
    kept = [columns.kept_pixels(index, min_confidence=min_confidence) for index in results]
    if not _total(kept):
        raise InputError(
            f"--min-confidence {min_confidence}: no label is left; {columns.how_many_stay(results)}. Lower it."
        )
    return kept


def _open_unchanged(index: IndexResult) -> Scan:
    """The scan behind an index; InputError when it is gone, or not the one that was indexed."""
    path, known = Path(index.info["scan"]["path"]), index.info["scan"]["sha256"]
    if not path.exists():
        raise InputError(f"{index.folder}: its scan {path} is gone; put it back or index the scan where it is now.")
    if sha256_of(path) != known:
        raise InputError(f"{path}: changed since {index.folder} was made; index it again.")
    calibration = index.info["calibration"]
    keys = ("scale_inv_angstrom", "center_xy", "beam_energy_kev", "flip")
    return open_scan(path, ScanRecipe(**{key: calibration[key] for key in keys if key in calibration}))


def _pattern_shape(scans: Sequence[Scan]) -> tuple[int, int]:
    rows, cols = scans[0].patterns.shape[2:]
    for scan in scans:
        if scan.patterns.shape[2:] != (rows, cols):
            raise InputError(
                f"{scan.path}: patterns of {scan.patterns.shape[2:]} pixels, but {scans[0].path} has {(rows, cols)}; "
                "build a dataset of each, or bin the larger."
            )
    return int(rows), int(cols)


def _counts(results: Sequence[IndexResult], kept: list[NDArray[np.int64]], chosen: Chosen) -> dict[str, int]:
    pixels = sum(index.phase_id.size for index in results)
    unknown = sum(int((index.phase_id < 0).sum()) for index in results)
    return {
        "pixels of the scans": pixels,
        "dropped, not indexed": unknown,
        "dropped, confidence too low": pixels - unknown - _total(kept),
        **chosen.dropped,
        "kept": sum(len(some) for some in chosen.pixels),
    }


def _settings(rules: CurationRecipe, plan: SimulationPlan | None) -> dict[str, object]:
    """Sections of a recipe with what is not as usual in them, for the card; confidences are an option."""
    curation = rules.model_dump(mode="json", exclude_defaults=True, exclude={"min_confidence"})
    simulation = plan.recipe.model_dump(mode="json", exclude_defaults=True) if plan else {}
    return {"curation": curation, "simulation": simulation}


def _default_name(scan: Scan) -> str:
    stem = scan.path.stem if scan.path else ""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", stem).lstrip("._-") or "dataset"


def _total(pixels: list[NDArray[np.int64]]) -> int:
    return sum(len(some) for some in pixels)
