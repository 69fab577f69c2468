"""The second pass over a scan: grains whose rivals score alike are looked at again, and patterns at boundaries."""

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import shift
from torch import Tensor
from tqdm import tqdm

from dpcurate.consensus import (
    NEAR_BEST,
    Consensus,
    Undecided,
    Verdict,
    decided,
    from_neighbours,
    undecided,
    with_shares,
)
from dpcurate.dynamical_ranking import judge
from dpcurate.errors import InputError, TooLargeError
from dpcurate.matchers import engine_of, read_mask
from dpcurate.matching import Matches
from dpcurate.noise_scores import noise_score
from dpcurate.overlap import scan_shares, scan_transform
from dpcurate.pattern_features import direct_beam
from dpcurate.recipe import Recipe
from dpcurate.scan_sample import sample_scan, spot_sigma_px
from dpcurate.scans import Scan, reading
from dpcurate.scattering import scattering_table
from dpcurate.schema import PhaseRecord
from dpcurate.simulator import USUAL_U_ISO_ANGSTROM2
from dpcurate.spot_models import Ranker, make_ranker
from dpcurate.workers import Workers, affordable_threads

SITES, SITES_AT_ONCE = 12, 6
"""Pixels at which a grain is looked at again, at most, and how many before rivals are given up."""

SITE_SAY = 10.0
"""Most that one site counts against a rival, in natural logarithms: more may be a fit that went astray."""

MATCHING_SAY = 400.0
"""What pooled scores say: so much for a score that is behind by all of the best one. Together they count as a site."""

SUREST = 5.0
"""A rival that is behind by so many standard errors is given up."""

LEAST_SCATTER = SITE_SAY
"""Of a lead: what one site may change."""

SURE = 3.0
"""Standard errors beyond which a lead gives a grain the support of one without rivals, nearly."""

FAR_PX = 4.0
"""A direct beam found farther from its place is a spot, or the rim of a beam stop."""

SPOTS_BEYOND = 0.05
"""1/Angstrom beyond the outermost ring that beams are taken from."""

Judged = tuple[int, float, list[float]]
"""Of a grain: which rival is right, how far it is ahead, and the grain's orientation."""

QUATERNION = 4


def consensus(
    scan: Scan,
    matches: Matches,
    skipped: NDArray[np.bool_],
    phases: tuple[PhaseRecord, ...],
    recipe: Recipe,
    *,
    k_max: float,
    key: str,
    keep: Path | None,
    workers: Workers,
) -> tuple[Consensus, dict[str, Any]]:
    """The consistent map of a scan from its matches, and what was done for it.

    Raises InputError for a scan that cannot be read again.
    """
    wanted, kind = recipe.neighbours, recipe.grains.model_dump()
    limit = noise_limit(scan, phases, recipe, k_max=k_max) if wanted.noise else 0.0
    found = from_neighbours(matches, skipped, phases, **kind, noise_score=limit)
    report: dict[str, Any] = {
        "noise_score": round(limit, 4),
        "not_indexed_as_noise": int(((found.phase_id < 0) & ~skipped).sum()),
    }
    if wanted.dynamics:
        regions, cases = undecided(found, matches, phases, min_pixels=recipe.grains.min_pixels, sites=SITES)
        report["judged_by_dynamics"] = sum(len(case.rivals.score) > 1 for case in cases)
        if cases:
            try:
                ranker = ranker_of(scan, phases, recipe, k_max=k_max)
                verdicts = _verdicts(scan, ranker, regions.grain_id, cases, keep=keep, threads=workers.threads)
                found = decided(regions, matches, phases, verdicts, **kind)
            except TooLargeError as error:  # neighbours alone decide
                report |= {"judged_by_dynamics": 0, "dynamics": f"not used: {error}"}
    if wanted.overlap:
        folder = keep / "shares" if keep is not None else None
        shares = scan_shares(scan, found.grain_id, recipe, k_max=k_max, key=key, keep=folder, workers=workers)
        found = with_shares(found, matches, phases, shares, boundary_deg=recipe.grains.boundary_deg)
    return found, report


def noise_limit(scan: Scan, phases: tuple[PhaseRecord, ...], recipe: Recipe, *, k_max: float) -> float:
    """Score that noise reaches in this scan; 0 for scores of pyxem's, which do not say."""
    if recipe.matching.engine != "fast" or recipe.matching.score != "own":
        return 0.0
    sample = sample_scan(scan)
    engine = engine_of(scan, phases, recipe, k_max=k_max, sample=sample)
    return noise_score(engine, sample, center_xy=scan.calibration.center_xy)


def ranker_of(
    scan: Scan,
    phases: tuple[PhaseRecord, ...],
    recipe: Recipe,
    *,
    k_max: float,
) -> Ranker:
    """What judges patterns of a scan; TooLargeError for a phase whose cell is too large for Bloch waves."""
    calibration = scan.calibration
    tables = tuple(
        scattering_table(
            phase,
            beam_energy_kev=calibration.beam_energy_kev,
            k_max_inv_angstrom=k_max + SPOTS_BEYOND,
            u_iso_angstrom2=None if any(atom.u_iso_angstrom2 > 0 for atom in phase.atoms) else USUAL_U_ISO_ANGSTROM2,
        )
        for phase in phases
    )
    sample = sample_scan(scan)
    radii = recipe.preprocess.k_min_inv_angstrom, k_max
    inner_px, outer_px = (k / calibration.scale_inv_angstrom for k in radii)
    faulty = sample.faulty | read_mask(recipe.preprocess.mask, scan.patterns.shape[2:])
    return make_ranker(
        tables,
        scan_transform(scan, recipe, k_max=k_max, faulty=faulty),
        faulty=faulty,
        center_xy=calibration.center_xy,
        scale_inv_angstrom=calibration.scale_inv_angstrom,
        precession_deg=calibration.precession_deg,
        sigma_px=spot_sigma_px(sample, center_xy=calibration.center_xy, inner_px=inner_px, outer_px=outer_px),
        ellipse=calibration.ellipse,
    )


def judged(ranker: Ranker, read: Callable[[NDArray[np.int64]], Tensor], case: Undecided) -> Judged:
    """Which rival of a grain is right, how sure that is, and the grain's orientation.

    ``read`` gives the patterns (s, h, w) of sites (s, 2). What matching says of the rivals counts as one site more.
    Rivals far behind are given up after a few sites. Sure is the lead before the next rival in standard errors, at most
    `SUREST`.
    """
    rivals, alive = case.rivals, np.arange(len(case.rivals.score))
    if len(alive) == 1:
        return 0, SUREST, rivals.orientation[0].tolist()
    says = np.maximum(MATCHING_SAY * (rivals.score / rivals.score.max() - 1), -SITE_SAY)[None]
    fits = np.zeros((0, len(alive), 4))
    for first in range(0, len(case.sites), SITES_AT_ONCE):
        counts = read(case.sites[first : first + SITES_AT_ONCE])
        found = judge(
            ranker, counts, rivals.orientation[alive], rivals.phase_id[alive], spread_deg=rivals.spread_deg[alive]
        )
        behind = found.log_likelihood - found.log_likelihood.max(axis=1, keepdims=True)
        says = np.concatenate([says, np.maximum(behind, -SITE_SAY)])
        fits = np.concatenate([fits, found.orientation])
        lead = _lead(says)
        near = lead < SUREST
        alive, says, fits = alive[near], says[:, near], fits[:, near]
        if len(alive) == 1:
            break
    best = int(says.sum(axis=0).argmax())
    sure = SUREST if len(alive) == 1 else float(np.sort(_lead(says))[1])
    # fits are tilts of the rival, so they lie on one side of it and of one symmetric equivalent
    side = np.sign(fits[:, best] @ rivals.orientation[alive[best]])
    mean = (fits[:, best] * side[:, None]).sum(axis=0)
    return int(alive[best]), sure, (mean / np.linalg.norm(mean)).tolist()


def _lead(says: NDArray[np.float64]) -> NDArray[np.float64]:
    """How far the best rival is ahead of each over all that was said (s, r), in standard errors; 0 for itself, (r,)."""
    best = says.sum(axis=0).argmax()
    ahead = says[:, best : best + 1] - says
    scatter = np.sqrt(np.square(ahead - ahead.mean(axis=0)).sum(axis=0) + LEAST_SCATTER**2)
    return ahead.sum(axis=0) / scatter


def _verdicts(
    scan: Scan,
    ranker: Ranker,
    grain_id: NDArray[np.int32],
    cases: list[Undecided],
    *,
    keep: Path | None,
    threads: int | None,
) -> list[Verdict]:
    """Verdicts on grains, with progress; those in the folder ``keep`` are not given again."""
    file = keep / "verdicts.jsonl" if keep is not None else None
    known = _known(file, cases)
    todo = [case for case in cases if case.grain not in known]

    def one(case: Undecided) -> Judged:
        return judged(ranker, partial(_site_patterns, scan, grain_id), case)

    ours = torch.get_num_threads()
    torch.set_num_threads(1)
    pool = ThreadPoolExecutor(threads or affordable_threads())
    try:
        given = zip(todo, pool.map(one, todo), strict=True)
        for case, found in tqdm(given, total=len(cases), initial=len(known), desc="dynamics", unit="grain"):
            known[case.grain] = found
            if file is not None:
                _keep(file, case, found)
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(ours)
    verdicts = []
    for case in cases:
        winner, lead, orientation = known[case.grain]
        support = (1 - NEAR_BEST) * float(np.tanh(lead / SURE))
        verdicts.append(Verdict(case, winner, support, np.array(orientation)))
    return verdicts


def _known(file: Path | None, cases: list[Undecided]) -> dict[int, Judged]:
    """Verdicts that were kept; a damaged line does not count."""
    rivals = {case.grain: len(case.rivals.score) for case in cases}
    known: dict[int, Judged] = {}
    if file is not None and file.is_file():
        for line in file.read_bytes().splitlines():
            try:
                grain, winner, lead, orientation = json.loads(line)
                if 0 <= int(winner) < rivals[grain] and float(lead) >= 0 and len(orientation) == QUATERNION:
                    known[grain] = (int(winner), float(lead), [float(part) for part in orientation])
            except (ValueError, TypeError, KeyError):
                continue
    return known


def _keep(file: Path, case: Undecided, found: Judged) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("a", encoding="utf-8") as lines:
            lines.write("\n" + json.dumps([case.grain, *found]))  # the line before may have been cut off
    except OSError as error:
        raise InputError(f"{file}: cannot be written ({error}). Free space, then run again.") from error


def _site_patterns(scan: Scan, grain_id: NDArray[np.int32], sites: NDArray[np.int64]) -> Tensor:
    """Sums (s, h, w) of the patterns of sites and of their neighbours in the same grain, direct beams brought together.

    Beams wander over a scan by a pixel or more; spots of a sum that is not registered are wider than the model's.
    """
    sums = []
    for row, column in sites:
        window = slice(max(0, row - 1), row + 2), slice(max(0, column - 1), column + 2)
        with reading(scan.name):
            patterns = np.asarray(scan.patterns[window].compute(scheduler="synchronous"))
        same = patterns[grain_id[window] == grain_id[row, column]].astype(np.float32)
        sums.append(registered(same, center_xy=scan.calibration.center_xy).sum(axis=0))
    return torch.as_tensor(np.stack(sums))


def registered(patterns: NDArray[np.float32], *, center_xy: tuple[float, float]) -> NDArray[np.float32]:
    """Patterns (n, h, w) with their direct beams moved to ``center_xy``; those farther than `FAR_PX` stay."""
    place, _ = direct_beam(patterns.astype(float), center_xy=center_xy)
    away = place - np.array(center_xy)
    moved = [
        shift(pattern, -offset[::-1], order=1, mode="nearest") if np.hypot(*offset) < FAR_PX else pattern
        for pattern, offset in zip(patterns, away, strict=True)
    ]
    return np.stack(moved).astype(np.float32)
