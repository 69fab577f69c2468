"""A network proposes, matching decides: from the network's best answers to what each pattern itself fits best.

Templates near the proposals take the place of the search over all templates; the climb is the indexer's.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from tqdm import tqdm

from dpcurate.correlate import pattern_harmonics
from dpcurate.distinct import cosines_between, distinct
from dpcurate.engine import CANDIDATES, COARSE_ANGLES, N_HARMONICS, Engine, climbed, prepared_patterns
from dpcurate.errors import InputError
from dpcurate.matchers import engine_of
from dpcurate.matching import Matches
from dpcurate.orientations import HALF_TURN_Y, Array, conjugate, equivalents, multiply, to_matrix
from dpcurate.pipeline import outermost
from dpcurate.reach import with_reach
from dpcurate.recalibrate import recalibrated
from dpcurate.recipe import Recipe
from dpcurate.refine import chosen, spot_pictures, start
from dpcurate.scan_sample import sample_scan
from dpcurate.scans import Scan, reading
from dpcurate.schema import PhaseRecord
from dpcurate.wandering import steadied

NEAREST = 19
"""Zone axes around each proposal that are tried: a hexagonal grid's point with two rings about it."""

BAND_PATTERNS = 64
"""Patterns that are refined at a time."""


@dataclass(frozen=True)
class Refined:
    """What patterns fit best near a network's proposals, in the detector's frame."""

    matches: Matches
    """Arrays (rows, columns, n, ...), best first by correlation."""
    probability: NDArray[np.float32]
    """What the network gave to the proposal nearest to each candidate, (rows, columns, n)."""
    info: dict[str, Any]
    """What the index says of matching."""


def check_atoms(phases: Sequence[PhaseRecord], *, what: str) -> None:
    """InputError when a phase of the network in ``what`` has no atoms, so that templates cannot be made."""
    for phase in phases:
        if not phase.atoms:
            raise InputError(
                f"{what}: its phase {phase.name} has no atoms, of which --refine makes templates. Leave --refine out, "
                "or train on a dataset made with a CIF file that lists atoms."
            )


def refine_proposals(
    scan: Scan,
    orientation: Array,
    probability: NDArray[np.float32],
    phase_id: NDArray[np.int16],
    *,
    phases: tuple[PhaseRecord, ...],
    recipe: Recipe,
    progress: bool = True,
) -> Refined:
    """Climb from each pattern's proposals to the orientations that fit it best.

    Proposals are orientations ``(rows, columns, n, 4)`` lab to crystal in the detector's frame, with probabilities
    and phases ``(rows, columns, n)``. Patterns, direct beam, scale and reach are treated as `dpcurate index` does.
    Raises InputError for a detector that reaches nowhere and a scan that cannot be read.
    """
    sample = sample_scan(scan)
    scan, wandering = steadied(scan, sample)
    recipe = with_reach(scan, recipe, sample=sample)
    scan, recalibration = recalibrated(scan, phases, recipe)
    k_max = outermost(scan, recipe)
    engine = engine_of(scan, phases, recipe, k_max=k_max)
    trees = axis_trees(engine)
    rows, columns = scan.shape
    found = []
    with tqdm(total=rows * columns, desc="refine", unit="pattern", disable=not progress) as bar:
        for row in range(rows):
            with reading(scan.name):
                patterns = np.nan_to_num(np.asarray(scan.patterns[row].compute(), np.float32), posinf=0, neginf=0)
            for first in range(0, columns, BAND_PATTERNS):
                part = (row, slice(first, first + BAND_PATTERNS))
                given = (orientation[part], probability[part], phase_id[part])
                found.append(_refined(engine, trees, patterns[part[1]], *given, recipe=recipe))
                bar.update(len(given[0]))
    columns_of = [np.concatenate(column) for column in zip(*found, strict=True)]
    best, score, phase, rival, chance = (column.reshape(rows, columns, *column.shape[1:]) for column in columns_of)
    matches = Matches(orientation=best, score=score, phase_id=phase, runner_up_score=rival)
    info = {"wandering": wandering, "recalibration": recalibration, "k_max_inv_angstrom": round(k_max, 4)}
    return Refined(matches, chance, info | {"calibration": scan.calibration.model_dump(mode="json")})


def axis_trees(engine: Engine) -> list[tuple[NDArray[np.int64], cKDTree]]:
    """For each phase the numbers of its zone axes, and a tree of the beam's directions in the crystal."""
    beam = to_matrix(engine.rotation)[:, :, 2]
    members = [np.flatnonzero(engine.phase_id == number) for number in range(len(engine.symmetries))]
    return [(member, cKDTree(beam[member])) for member in members]


def starts(
    engine: Engine, trees: list[tuple[NDArray[np.int64], cKDTree]], orientation: Array, phase_id: NDArray[np.int16]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Templates near proposals (b, n, 4) of phases (b, n), as `correlate.search` gives them.

    Returns index and angle, ``(b, n * NEAREST)``; repeated where a phase has fewer zone axes.
    """
    shape = (*phase_id.shape, NEAREST)
    index, angle = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
    for number, ((member, tree), symmetry) in enumerate(zip(trees, engine.symmetries, strict=True)):
        here = phase_id == number
        if not here.any():
            continue
        every = equivalents(orientation[here], symmetry)
        both = np.concatenate([every, multiply(every, conjugate(HALF_TURN_Y))], axis=1)
        far, near = tree.query(to_matrix(both)[..., :, 2], k=min(NEAREST, len(member)))
        far, near = (value.reshape(*both.shape[:2], -1) for value in (far, near))
        order = np.argsort(far.reshape(len(both), -1), axis=1, kind="stable")
        order = order[:, np.arange(NEAREST) % order.shape[1]]
        axis = member[np.take_along_axis(near.reshape(len(both), -1), order, axis=1)]
        image = order // near.shape[2]
        turned = np.take_along_axis(both, image[..., None], axis=1)
        mirrored = image >= len(symmetry)
        delta = multiply(conjugate(engine.rotation[axis]), turned)
        turn = -2 * np.arctan2(delta[..., 3], delta[..., 0])
        # A mirror image turns the other way: g = axis z(a) C2y there, else g = axis z(-a).
        turn = np.where(mirrored, -turn, turn)
        index[here] = axis + np.where(mirrored, len(engine.rotation), 0)
        angle[here] = np.round(turn * (COARSE_ANGLES / (2 * np.pi))).astype(np.int64) % COARSE_ANGLES
    return index.reshape(len(phase_id), -1), angle.reshape(len(phase_id), -1)


def _refined(
    engine: Engine,
    trees: list[tuple[NDArray[np.int64], cKDTree]],
    patterns: NDArray[np.float32],
    orientation: Array,
    probability: NDArray[np.float32],
    phase_id: NDArray[np.int16],
    *,
    recipe: Recipe,
) -> tuple[NDArray[Any], ...]:
    """Orientation, score, phase, rival's score and probability of the best of a few patterns."""
    device = engine.transform.weight.device
    prepared = prepared_patterns(engine, torch.from_numpy(patterns).to(device))
    pictures = spot_pictures(pattern_harmonics(prepared, N_HARMONICS), engine.kernels)
    index, angle = (torch.from_numpy(value).to(device) for value in starts(engine, trees, orientation, phase_id))
    score = torch.zeros(index.shape, dtype=torch.float32, device=device)
    n_axes = len(engine.rotation)
    high = start(pictures, engine.grid, score, index, angle, n_axes=n_axes, n_angles=COARSE_ANGLES)
    high = chosen(high, high.score.topk(min(CANDIDATES, high.score.shape[1]), dim=1).indices)
    climbers, height, axis = climbed(engine, pictures, high)
    best, score_, phase, rival = distinct(
        climbers,
        height,
        engine.phase_id[axis],
        symmetries=engine.symmetries,
        n_best=recipe.matching.n_best,
        runner_up_deg=recipe.matching.runner_up_deg,
    )
    cosine = cosines_between(
        torch.as_tensor(best),
        torch.as_tensor(phase),
        torch.as_tensor(orientation),
        torch.as_tensor(phase_id),
        engine.symmetries,
    )
    nearest = cosine.argmax(dim=2).cpu().numpy()
    return best, score_, phase, rival, np.take_along_axis(probability, nearest, axis=1)
