"""Indexing from scan to crystal map: where everything meets."""

import hashlib
import shutil
import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from dpcurate.bad_patterns import usable
from dpcurate.confidence import confidence, neighbour_agreement, reliability
from dpcurate.crystal_maps import IndexResult, check_replaceable, software_versions, write_index
from dpcurate.errors import InputError
from dpcurate.grains import find_grains
from dpcurate.matchers import MatchRows, matcher
from dpcurate.matching import Matches, unpack
from dpcurate.orientations import turn_pattern
from dpcurate.phases import read_cif
from dpcurate.preprocess import k_max_of
from dpcurate.recipe import Recipe, recipe_toml
from dpcurate.scans import Scan, open_scan, reading, sha256_of
from dpcurate.schema import PhaseRecord

BAND_PATTERNS = 256
"""Patterns matched at a time, about: what an interrupted run loses. 256 polar patterns take 75 MB in float64."""


@dataclass(frozen=True)
class Matched:
    """A scan's matches together with what was skipped and how long it took."""

    matches: Matches
    skipped: dict[str, NDArray[np.bool_]]
    seconds: dict[str, float]


def index_scan(source: Any, recipe: Recipe, *, out: Path | None = None, overwrite: bool = False) -> IndexResult:
    """Index a scan (path or HyperSpy signal) by template matching; write an index folder when ``out`` is given.

    Interrupted, it goes on from the bands of rows that were done, when recipe and scan are still the same.

    Raises
    ------
    InputError
        For every bad input: scan, calibration, phases, not one usable pattern, an ``out`` that exists already or is no
        index, no space.
    """
    if out is not None:
        check_replaceable(out, overwrite=overwrite)
    scan = open_scan(source, recipe.scan)
    phases = read_phases(recipe.phases)
    scan_record = {"path": str(scan.path) if scan.path else None, "sha256": sha256_of(scan.path) if scan.path else None}
    key = hashlib.sha256((str(scan_record) + recipe_toml(recipe) + str(phases)).encode()).hexdigest()[:16]
    keep = _partial(out) if out is not None and scan.path is not None else None
    matched = match_scan(scan, phases, recipe, keep=keep / key if keep is not None else None)
    if keep is not None and np.any(list(matched.skipped.values()), axis=0).all():
        shutil.rmtree(keep, ignore_errors=True)  # there is nothing to go on from
    usable(matched.skipped, name=scan.name)
    info = {
        "scan": scan_record,
        "shape": list(scan.shape),
        "calibration": scan.calibration.model_dump(mode="json"),
        "phases": [phase.model_dump(mode="json") for phase in phases],
        "engine": recipe.matching.engine,
        "software": software_versions(),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": {name: round(value, 2) for name, value in matched.seconds.items()},
        "skipped": {reason: int(mask.sum()) for reason, mask in matched.skipped.items()},
    }
    result = label(matched, phases, recipe, rotation_deg=scan.calibration.rotation_deg, info=info)
    if out is not None:
        result = replace(result, folder=write_index(result, out, recipe_toml=recipe_toml(recipe)))
        if keep is not None:
            shutil.rmtree(keep, ignore_errors=True)
    return result


def read_phases(paths: tuple[str, ...]) -> tuple[PhaseRecord, ...]:
    """Return the phases of CIF files; none at all, or two of one name, are an error."""
    if not paths:
        raise InputError("no phase given. Name one or more CIF files with --phase, or as `phases` in the recipe.")
    phases = tuple(read_cif(path) for path in paths)
    names = [phase.name for phase in phases]
    if len(set(names)) < len(names):
        raise InputError(f"phases {', '.join(names)}: two of them share a name. Rename one of the CIF files.")
    return phases


def match_scan(
    scan: Scan,
    phases: tuple[PhaseRecord, ...],
    recipe: Recipe,
    *,
    keep: Path | None = None,
    band_patterns: int = BAND_PATTERNS,
) -> Matched:
    """Match every pattern band by band, with progress; bands already in the folder ``keep`` are not done again."""
    start = time.perf_counter()
    calibration = scan.calibration
    k_max = k_max_of(scan.patterns.shape[2:], calibration.center_xy, calibration.scale_inv_angstrom, recipe.preprocess)
    if k_max <= recipe.preprocess.k_min_inv_angstrom:
        raise InputError(
            f"the detector reaches only {k_max:.3g} 1/Å around the direct beam at {calibration.center_xy}. "
            "Check --scale and --center."
        )
    match_rows = matcher(scan, phases, recipe, k_max=k_max)
    library_seconds = time.perf_counter() - start
    start = time.perf_counter()
    height = max(1, band_patterns // scan.shape[1])
    bands = list(_bands(scan, match_rows, keep=keep, height=height))
    packed = np.concatenate([band[0] for band in bands])
    skipped = {reason: np.concatenate([band[1][reason] for band in bands]) for reason in bands[0][1]}
    seconds = {"library": library_seconds, "matching": time.perf_counter() - start}
    return Matched(matches=unpack(packed), skipped=skipped, seconds=seconds)


def label(
    matched: Matched, phases: tuple[PhaseRecord, ...], recipe: Recipe, *, rotation_deg: float, info: dict[str, Any]
) -> IndexResult:
    """From matches to labels: the scan's frame, skipped pixels, confidence and grains."""
    matches = matched.matches
    symmetries = [phase.proper_rotations() for phase in phases]
    skipped = np.any(list(matched.skipped.values()), axis=0) | (matches.score[..., 0] <= 0)
    phase_id = np.where(skipped, -1, matches.phase_id[..., 0]).astype(np.int16)
    orientation = turn_pattern(matches.orientation, rotation_deg)
    correlation = np.where(skipped, 0, matches.score[..., 0]).astype(np.float32)
    trust = np.where(skipped, 0, reliability(matches.score[..., 0], matches.runner_up_score)).astype(np.float32)
    best = orientation[:, :, 0]
    boundary = recipe.grains.boundary_deg
    agreement = neighbour_agreement(best, phase_id, symmetries=symmetries, boundary_deg=boundary)
    return IndexResult(
        orientation=best,
        phase_id=phase_id,
        confidence=np.where(skipped, 0, confidence(trust, correlation, agreement)).astype(np.float32),
        correlation=correlation,
        reliability=trust,
        agreement=agreement,
        grain_id=find_grains(
            best, phase_id, symmetries=symmetries, boundary_deg=boundary, min_pixels=recipe.grains.min_pixels
        ),
        candidate_orientation=orientation,
        candidate_score=matches.score,
        candidate_phase_id=matches.phase_id,
        phases=phases,
        info=info,
    )


def _bands(scan: Scan, match_rows: MatchRows, *, keep: Path | None, height: int) -> Any:
    """Yield (packed matches, skipped masks) of one band of rows after another."""
    rows, columns = scan.shape
    with tqdm(total=rows * columns, desc="index", unit="pattern", smoothing=0.1) as progress:
        for first in range(0, rows, height):
            rows_here = slice(first, min(first + height, rows))
            kept = keep / f"{first:06d}.npz" if keep is not None else None
            if kept is not None and kept.is_file():
                band = _load_band(kept)
            else:
                with reading(scan.name):
                    band = match_rows(rows_here)
                if kept is not None:
                    _save_band(kept, band)
            progress.update((rows_here.stop - first) * columns)
            yield band


def _partial(out: Path) -> Path:
    """Return the folder beside ``out`` that keeps the bands that are done."""
    place = out.resolve()
    return place.with_name(place.name + ".partial")


def _save_band(path: Path, band: tuple[NDArray[np.float64], dict[str, NDArray[np.bool_]]]) -> None:
    partial = path.with_suffix(".tmp.npz")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        arrays: dict[str, Any] = {"packed": band[0], **{f"skip {reason}": mask for reason, mask in band[1].items()}}
        np.savez(partial, **arrays)
        partial.rename(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise InputError(f"{path.parent}: cannot be written ({error}). Free space, then run again.") from error


def _load_band(path: Path) -> tuple[NDArray[np.float64], dict[str, NDArray[np.bool_]]]:
    with np.load(path) as file:
        return file["packed"], {key.removeprefix("skip "): file[key] for key in file.files if key != "packed"}
