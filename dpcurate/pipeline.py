"""Indexing from scan to crystal map: where everything meets."""

import hashlib
import shutil
import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dpcurate.bad_patterns import usable
from dpcurate.band_map import collect, map_bands
from dpcurate.bands import BAND_PATTERNS, Band, cut_bands, pieces
from dpcurate.crystal_maps import IndexResult, check_replaceable, software_versions, write_index
from dpcurate.errors import InputError
from dpcurate.explained import Explained, spots_explained
from dpcurate.labelling import label
from dpcurate.matchers import matcher
from dpcurate.matching import Matches, unpack
from dpcurate.phases import read_cif
from dpcurate.preprocess import k_max_of
from dpcurate.reach import with_reach
from dpcurate.recalibrate import recalibrated
from dpcurate.recipe import Recipe, recipe_toml
from dpcurate.scan_sample import sample_scan
from dpcurate.scans import Scan, open_scan, sha256_of
from dpcurate.schema import PhaseRecord
from dpcurate.second_pass import consensus
from dpcurate.wandering import steadied
from dpcurate.workers import Make, Result, Work, Workers

PACKED = "packed"
"""Name of a band's matches; its other arrays are masks of skipped patterns."""

HERE = Workers()
"""Threads of this process, one a core."""

GPU_THREADS = 2
"""One reads while the other keeps the GPU busy."""


@dataclass(frozen=True)
class Matched:
    """A scan's matches together with what was skipped and how long it took."""

    matches: Matches
    skipped: dict[str, NDArray[np.bool_]]
    seconds: dict[str, float]


def index_scan(
    source: Any,
    recipe: Recipe,
    *,
    out: Path | None = None,
    overwrite: bool = False,
    workers: Workers = HERE,
    phases: tuple[PhaseRecord, ...] | None = None,
) -> IndexResult:
    """Index a scan (path or HyperSpy signal) by template matching; write an index folder when ``out`` is given.

    Interrupted, it goes on from the bands that were done, when recipe and scan are still the same. ``phases`` take the
    place of the recipe's CIF files.

    Raises
    ------
    InputError
        For every bad input: scan, calibration, phases, not one usable pattern, an ``out`` that exists already or is no
        index, no space, a cluster that does not answer.
    """
    if out is not None:
        check_replaceable(out, overwrite=overwrite)
    scan = open_scan(source, recipe.scan)
    phases = read_phases(recipe.phases) if phases is None else phases
    record = {"path": str(scan.path) if scan.path else None, "sha256": sha256_of(scan.path) if scan.path else None}
    key = hashlib.sha256((str(record) + recipe_toml(recipe) + str(phases)).encode()).hexdigest()[:16]
    keep = _partial(out) if out is not None and scan.path is not None else None
    resumed = keep is not None and any((keep / key).glob("*.npz"))
    sample, asked = sample_scan(scan), recipe
    scan, wandering = steadied(scan, sample)
    recipe = with_reach(scan, recipe, sample=sample)
    scan, recalibration = recalibrated(scan, phases, recipe)
    matched = match_scan(scan, phases, recipe, key=key, keep=keep / key if keep is not None else None, workers=workers)
    if keep is not None and np.any(list(matched.skipped.values()), axis=0).all():
        shutil.rmtree(keep, ignore_errors=True)  # there is nothing to go on from
    usable(matched.skipped, name=scan.name)
    info = describe(scan, phases, recipe, matched) | {
        "scan": record,
        "wandering": wandering,
        "recalibration": recalibration,
        "k_max_inv_angstrom": round(outermost(scan, recipe), 4),
        "resumed": resumed,
    }
    agreed = None
    bad = np.any(list(matched.skipped.values()), axis=0) | (matched.matches.score[..., 0] <= 0)
    explained = explained_by(matched.matches, bad, scan, phases, recipe)
    warning = explained.warning(phases)
    info["spots_explained"] = {"share": explained.share, "by_chance": explained.by_chance, "warning": warning}
    if recipe.neighbours.pool:
        start = time.perf_counter()
        agreed, info["neighbours"] = consensus(
            scan,
            matched.matches,
            bad,
            phases,
            recipe if warning is None else without_dynamics(recipe),
            k_max=outermost(scan, recipe),
            key=key,
            keep=keep / key if keep is not None else None,
            workers=workers,
        )
        info["seconds"]["neighbours"] = round(time.perf_counter() - start, 2)
    result = label(
        matched.matches,
        bad,
        phases,
        grains=recipe.grains,
        rotation_deg=scan.calibration.rotation_deg,
        info=info,
        agreed=agreed,
    )
    if out is not None:
        result = replace(result, folder=write_index(result, out, recipe_toml=recipe_toml(asked)))
        if keep is not None:
            shutil.rmtree(keep, ignore_errors=True)
    return result


def explained_by(
    matches: Matches, bad: NDArray[np.bool_], scan: Scan, phases: tuple[PhaseRecord, ...], recipe: Recipe
) -> Explained:
    """How many of a scan's spots lie where the best matches have one."""
    phase_id = np.where(bad, -1, matches.phase_id[..., 0]).astype(np.int16)
    radii = (recipe.preprocess.k_min_inv_angstrom, outermost(scan, recipe))
    return spots_explained(scan, matches.orientation[:, :, 0], phase_id, phases, k_range=radii)


def without_dynamics(recipe: Recipe) -> Recipe:
    """The same recipe for a scan whose phase, scale or centre must be wrong: there is nothing to judge."""
    return recipe.model_copy(update={"neighbours": recipe.neighbours.model_copy(update={"dynamics": False})})


def describe(scan: Scan, phases: tuple[PhaseRecord, ...], recipe: Recipe, matched: Matched) -> dict[str, Any]:
    """What an index says of itself: scan, calibration, phases, engine, versions, seconds, skipped patterns."""
    return {
        "shape": list(scan.shape),
        "calibration": scan.calibration.model_dump(mode="json"),
        "phases": [phase.model_dump(mode="json") for phase in phases],
        "engine": recipe.matching.engine,
        "software": software_versions(),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": {name: round(value, 2) for name, value in matched.seconds.items()},
        "skipped": {reason: int(mask.sum()) for reason, mask in matched.skipped.items()},
    }


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
    key: str = "",
    keep: Path | None = None,
    workers: Workers = HERE,
    band_patterns: int = BAND_PATTERNS,
) -> Matched:
    """Match every pattern band by band, with progress; bands already in the folder ``keep`` are not done again.

    ``key`` stands for scan, phases and recipe; workers of a cluster keep their templates under it.
    """
    start = time.perf_counter()
    k_max = outermost(scan, recipe)
    own = recipe.matching.engine == "fast" and recipe.matching.score == "own"
    threads = GPU_THREADS if recipe.matching.device == "cuda" else workers.threads
    make = Timed(partial(band_matcher, phases=phases, recipe=recipe, k_max=k_max))
    results = map_bands(
        scan,
        make,
        bands=cut_bands(scan, most_patterns=band_patterns, whole_rows=not own),
        key=f"match {key}",
        desc="index",
        keep=keep,
        workers=replace(workers, threads=threads if own else 1),  # pyxem's score has threads of its own
    )
    found = collect(results, (slice(0, scan.shape[0]), slice(0, scan.shape[1])))
    packed = found.pop(PACKED)
    seconds = {"library": make.seconds, "matching": time.perf_counter() - start - make.seconds}
    return Matched(matches=unpack(packed), skipped=found, seconds=seconds)


def outermost(scan: Scan, recipe: Recipe) -> float:
    """Radius in 1/Angstrom up to which patterns are looked at; InputError where the detector does not reach far."""
    calibration = scan.calibration
    k_max = k_max_of(scan.patterns.shape[2:], calibration.center_xy, calibration.scale_inv_angstrom, recipe.preprocess)
    if k_max <= recipe.preprocess.k_min_inv_angstrom:
        raise InputError(
            f"the detector reaches only {k_max:.3g} 1/Å around the direct beam at {calibration.center_xy}. "
            "Check --scale and --center."
        )
    return k_max


@dataclass
class Timed:
    """Makes ready what works on bands, and says how long that took; 0 where only workers of a cluster did it."""

    make: Make
    seconds: float = 0.0

    def __call__(self, scan: Scan) -> Work:
        """What ``make`` makes of a scan."""
        start = time.perf_counter()
        work = self.make(scan)
        self.seconds = time.perf_counter() - start
        return work


def band_matcher(scan: Scan, *, phases: tuple[PhaseRecord, ...], recipe: Recipe, k_max: float) -> Work:
    """What matches bands of a scan, templates ready: packed matches, and masks of what is skipped by reason."""
    match_rows = matcher(scan, phases, recipe, k_max=k_max)
    columns, shape = scan.shape[1], scan.patterns.shape[2:]

    def match_piece(piece: Band) -> Result:
        index: Any = piece[0] if piece[1] == slice(0, columns) else piece  # of patterns, both are the same
        packed, skipped = match_rows(index)
        return {PACKED: packed, **skipped}

    return lambda band: collect(((piece, match_piece(piece)) for piece in pieces(band, shape)), band)


def _partial(out: Path) -> Path:
    """Return the folder beside ``out`` that keeps the bands that are done."""
    place = out.resolve()
    return place.with_name(place.name + ".partial")
