"""From each pattern's own candidates to one consistent map: neighbours, dynamical scattering, shares of two grains.

Evidence is pooled over neighbours that share a candidate, grains are found, and a grain whose rivals score alike is
judged by dynamical scattering. A pixel near a boundary goes to the grain that has the larger share of its pattern.
Nothing is smoothed away: a pixel whose own pattern clearly says something else keeps its label.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt, find_objects

from dpcurate.confidence import neighbour_agreement, reliability
from dpcurate.grains import find_grains, numbered
from dpcurate.matching import Matches
from dpcurate.neighbourhood import WITHIN_DEG, half_cosines_from, links, pooled
from dpcurate.orientations import Array, disorientation_deg
from dpcurate.own_candidates import as_crystal, half_cosine, sure
from dpcurate.regions import joined
from dpcurate.rivals import SHARED_DEG, Rivals, find_rivals
from dpcurate.schema import PhaseRecord
from dpcurate.shares import HALO, Shares, core

OWN_WINNER, NEIGHBOURS, DYNAMICS, SHARE = range(4)
"""Why a label is what it is: its pattern's best candidate; its neighbours' evidence; its grain judged by dynamical
scattering; its grain's share of the pattern."""

NEAR_BEST, MOST_RIVALS = 0.97, 6
"""Rivals whose pooled score is so near the best are judged by dynamical scattering, and how many at most."""

MOST_JOINING = 16
"""Rivals that are compared to see whether two grains may be one."""

RIVAL_DEG = 10.0
"""A candidate so far from the best is another answer; `support` compares with the best such."""

LONELY = 0.13
"""Share of neighbours of one orientation below which a pixel stands alone: one of eight."""

LEAST_SHARE = 0.2
"""A second grain with less of a pattern is not spoken of."""


@dataclass(frozen=True)
class Consensus:
    """A consistent map in the detector's frame, axes (rows, columns)."""

    orientation: Array
    phase_id: NDArray[np.int16]
    grain_id: NDArray[np.int32]
    source: NDArray[np.uint8]
    """`OWN_WINNER` to `SHARE`."""
    support: NDArray[np.float32]
    """Reliability of the pooled scores, or of the rivals of a grain that was judged."""
    orientation2: Array
    """Of the second grain in a pattern; counts where ``weight`` is below 1."""
    phase2_id: NDArray[np.int16]
    """-1 where there is no second grain."""
    weight: NDArray[np.float32]
    """Share of the first grain."""


@dataclass(frozen=True)
class Undecided:
    """A grain whose rivals score alike, and the pixels to look at again."""

    grain: int
    rivals: Rivals
    sites: NDArray[np.int64]
    """Rows and columns, (s, 2)."""


@dataclass(frozen=True)
class Verdict:
    """On one case."""

    case: Undecided
    winner: int
    """Which of the rivals is right."""
    support: float
    """How far it is ahead, as a reliability: below that of grains without rivals."""
    orientation: Array
    """Of the grain, as fitted to its patterns, (4,)."""


def from_neighbours(
    matches: Matches,
    skipped: NDArray[np.bool_],
    phases: tuple[PhaseRecord, ...],
    *,
    boundary_deg: float,
    min_pixels: int,
    noise_score: float = 0.0,
) -> Consensus:
    """The candidates with most evidence around them, and the grains that they make.

    A pixel that scores no better than ``noise_score``, pooled and by itself, and agrees with one of its neighbours at
    most, is not indexed.
    """
    symmetries = tuple(phase.proper_rotations() for phase in phases)
    score = np.where(skipped[..., None], 0, matches.score)
    shared = pooled(score, links(matches.orientation, matches.phase_id, symmetries=symmetries))
    choice = shared.argmax(axis=-1)
    at = choice[..., None]
    orientation = np.take_along_axis(matches.orientation, at[..., None], axis=2)[:, :, 0]
    phase_id = np.where(skipped, -1, np.take_along_axis(matches.phase_id, at, axis=2)[..., 0]).astype(np.int16)
    agreement = neighbour_agreement(orientation, phase_id, symmetries=list(symmetries), boundary_deg=boundary_deg)
    best = np.take_along_axis(shared, at, axis=2)[..., 0]
    phase_id[(np.maximum(matches.score[..., 0], best) < noise_score) & (agreement < LONELY)] = -1
    cosine = half_cosines_from(orientation, phase_id, matches.orientation, matches.phase_id, symmetries=symmetries)
    rival = np.where(cosine < half_cosine(RIVAL_DEG), shared, 0).max(axis=-1)
    grain_id = find_grains(
        orientation, phase_id, symmetries=list(symmetries), boundary_deg=boundary_deg, min_pixels=min_pixels
    )
    return Consensus(
        orientation=orientation,
        phase_id=phase_id,
        grain_id=grain_id,
        source=np.where(choice == 0, OWN_WINNER, NEIGHBOURS).astype(np.uint8),
        support=reliability(best, rival),
        orientation2=orientation,
        phase2_id=np.full(phase_id.shape, -1, np.int16),
        weight=np.ones(phase_id.shape, np.float32),
    )


def undecided(
    found: Consensus, matches: Matches, phases: tuple[PhaseRecord, ...], *, min_pixels: int, sites: int
) -> tuple[Consensus, list[Undecided]]:
    """Grains joined to regions, and those to decide on, with ``sites`` pixels of each, deep inside it.

    Regions that have several rivals, or were joined of several grains.
    """
    symmetries = tuple(phase.proper_rotations() for phase in phases)

    def rivals_of(pixels: NDArray[np.int64], most: int) -> Rivals:
        at = np.unravel_index(pixels, found.grain_id.shape)
        candidates = (matches.orientation[at], matches.score[at], matches.phase_id[at])
        return find_rivals(*candidates, symmetries=symmetries, near_best=NEAR_BEST, most=most)

    large = {k: pixels for k, pixels in enumerate(pixels_of(found.grain_id)) if len(pixels) >= min_pixels}
    every = {k: rivals_of(pixels, MOST_JOINING) for k, pixels in large.items()}
    regions = replace(found, grain_id=joined(found.grain_id, every, symmetries=symmetries))
    depth = distance_transform_edt(np.pad(core(regions.grain_id), 1))[1:-1, 1:-1].ravel()
    result = []
    for region, pixels in enumerate(pixels_of(regions.grain_id)):
        if len(pixels) < min_pixels:
            continue
        grain = int(found.grain_id.flat[pixels[0]])
        whole = grain in large and len(large[grain]) == len(pixels)
        rivals = every[grain].chosen(slice(MOST_RIVALS)) if whole else rivals_of(pixels, MOST_RIVALS)
        if len(rivals.score) > 1 or not whole:
            deep = pixels[np.argsort(-depth[pixels], kind="stable")][: max(sites, len(pixels) // 2)]
            chosen = np.random.default_rng(region).permutation(deep)[:sites]
            result.append(Undecided(region, rivals, np.stack(np.unravel_index(chosen, found.grain_id.shape), axis=1)))
    return regions, result


def pixels_of(grain_id: NDArray[np.int32]) -> list[NDArray[np.int64]]:
    """Flat indices of the pixels of each grain."""
    order = np.argsort(grain_id, axis=None, kind="stable")
    cuts = np.searchsorted(grain_id.ravel()[order], np.arange(int(grain_id.max(initial=-1)) + 2))
    return np.split(order, cuts)[1:-1]


def decided(
    found: Consensus,
    matches: Matches,
    phases: tuple[PhaseRecord, ...],
    verdicts: list[Verdict],
    *,
    boundary_deg: float,
    min_pixels: int,
) -> Consensus:
    """The map after grains were judged: of each, which rival is right, and how far it is ahead as a reliability.

    ``found`` holds the regions that `undecided` made. A pixel keeps its label when its pattern says clearly that it is
    none of the grain.
    """
    orientation, phase_id = found.orientation.copy(), found.phase_id.copy()
    source, support = found.source.copy(), found.support.copy()
    symmetries = tuple(phase.proper_rotations() for phase in phases)
    members = pixels_of(found.grain_id)
    unrivalled = ~np.isin(found.grain_id, [verdict.case.grain for verdict in verdicts]) & (found.grain_id >= 0)
    support[unrivalled] = np.maximum(support[unrivalled], 1 - NEAR_BEST)
    for verdict in verdicts:
        rivals = verdict.case.rivals
        at = np.unravel_index(members[verdict.case.grain], found.grain_id.shape)
        phase = int(rivals.phase_id[verdict.winner])
        own = as_crystal(matches, at, verdict.orientation, phase, symmetries=symmetries, within_deg=SHARED_DEG)
        stays = sure(matches, at, own, phase, symmetries)
        at, own = tuple(axis[~stays] for axis in at), own[~stays]
        turned = disorientation_deg(own, orientation[at], symmetries[phase]) > WITHIN_DEG
        reason = DYNAMICS if len(rivals.score) > 1 else NEIGHBOURS
        source[at] = np.where(turned | (phase_id[at] != phase), reason, source[at])
        orientation[at], phase_id[at], support[at] = own, phase, verdict.support
    grain_id = find_grains(
        orientation, phase_id, symmetries=list(symmetries), boundary_deg=boundary_deg, min_pixels=min_pixels
    )
    return replace(found, orientation=orientation, phase_id=phase_id, grain_id=grain_id, source=source, support=support)


def with_shares(
    found: Consensus,
    matches: Matches,
    phases: tuple[PhaseRecord, ...],
    shares: Shares,
    *,
    boundary_deg: float,
) -> Consensus:
    """The map after shares were taken: who has the larger part of a pattern has its label, the other is kept beside."""
    symmetries = tuple(phase.proper_rotations() for phase in phases)
    inner = _own_core(found, symmetries, boundary_deg=boundary_deg)
    orientation, phase_id, source = found.orientation.copy(), found.phase_id.copy(), found.source.copy()
    orientation2, phase2_id = np.zeros_like(orientation), np.full(phase_id.shape, -1, np.int16)
    grain_id = np.where(shares.first >= 0, shares.first, found.grain_id)
    second = np.where((shares.weight < 1 - LEAST_SHARE) & (shares.second >= 0), shares.second, -1)
    for grain, box in enumerate(find_objects(found.grain_id + 1)):
        # shares reach no farther than this from a grain
        part = tuple(slice(max(0, s.start - HALO), s.stop + HALO) for s in box)
        start = np.array([s.start for s in part])
        nearest = distance_transform_edt(
            ~(inner[part] & (found.grain_id[part] == grain)), return_distances=False, return_indices=True
        )
        expected = found.orientation[part][tuple(nearest)]
        phase = int(found.phase_id[part][tuple(nearest[:, 0, 0])])
        here = np.argwhere(grain_id[part] == grain)
        at = tuple((here + start).T)
        fits = disorientation_deg(found.orientation[at], expected[tuple(here.T)], symmetries[phase]) < SHARED_DEG
        strays = (found.grain_id[at] != grain) | (found.phase_id[at] != phase) | ~fits
        moved = tuple(axis[strays] for axis in at)
        own = as_crystal(
            matches, moved, expected[tuple(here[strays].T)], phase, symmetries=symmetries, within_deg=WITHIN_DEG
        )
        stays = (found.grain_id[moved] == grain) & sure(matches, moved, own, phase, symmetries)
        rows = tuple(axis[~stays] for axis in moved)
        orientation[rows], phase_id[rows], source[rows] = own[~stays], phase, SHARE
        beside = np.argwhere(second[part] == grain)
        at = tuple((beside + start).T)
        orientation2[at], phase2_id[at] = expected[tuple(beside.T)], phase
    return replace(
        found,
        orientation=orientation,
        phase_id=phase_id,
        grain_id=numbered(grain_id),
        source=source,
        orientation2=np.where((phase2_id >= 0)[..., None], orientation2, orientation),
        phase2_id=phase2_id,
        weight=np.where(second >= 0, shares.weight, 1).astype(np.float32),
    )


def _own_core(found: Consensus, symmetries: tuple[Array, ...], *, boundary_deg: float) -> NDArray[np.bool_]:
    """Pixels inside their grain that show its crystal: pieces that were too small for a grain are left out."""
    piece = find_grains(
        found.orientation, found.phase_id, symmetries=list(symmetries), boundary_deg=boundary_deg, min_pixels=1
    )
    indexed = found.grain_id >= 0
    grain_of = np.zeros(int(piece.max(initial=-1)) + 1, np.int64)
    grain_of[piece[indexed]] = found.grain_id[indexed]
    largest = np.full(int(found.grain_id.max(initial=-1)) + 1, -1)
    order = np.argsort(np.bincount(piece[indexed], minlength=len(grain_of)), kind="stable")
    largest[grain_of[order]] = order
    main = indexed & (piece == np.append(largest, -1)[found.grain_id])
    inner = main & core(found.grain_id)
    has = np.isin(found.grain_id, np.unique(found.grain_id[inner]))
    return inner | (main & ~has)
