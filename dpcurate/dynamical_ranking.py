"""Which of several orientations a pattern shows, judged by dynamical scattering: tilt and thickness fitted to each.

Variants of a nearly cubic crystal put their spots at the same places, and what kinematical theory says of their
intensities differs less than it is wrong. Bloch waves tell them apart where anything does. A search on a grid of
tilts and thicknesses, by the correlation of square roots of intensities, finds where to look; from there the likelihood
of the counts climbs on ever finer grids, and decides.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dpcurate.correlate import pattern_harmonics
from dpcurate.likelihood import log_likelihood, ring_background
from dpcurate.orientations import Array, multiply, turn_pattern
from dpcurate.picture_reading import picture_place, read_between, spot_norms
from dpcurate.polar import prepare, to_polar
from dpcurate.refine import PICTURE_ANGLES, spot_pictures, tilts
from dpcurate.scattering import ScatteringTable
from dpcurate.spot_models import MODEL_POWER, N_HARMONICS, Ranker, spot_places, strongest_spots, turned

THICKNESSES_ANGSTROM = np.arange(100.0, 801.0, 50.0)
"""Of the search. Fringes of LiNiO2 are about as wide."""

TILT_STEP_DEG = 0.25
"""Of the search. Intensities of a thick crystal change within a tenth of a degree."""

LEAST_REACH_DEG, MOST_REACH_DEG = 0.75, 1.75
"""Tilts of the search go so far from a rival's mean orientation, at least and at most."""

SPREAD_SPARE_DEG = 0.5
"""Error of a match, beyond the bending of the grain."""

TURNS = torch.arange(-2, 3)
"""In-plane angles of the search, in steps of a spot picture (0.7 degrees)."""

DRAWN, CLIMBED = 60, 1
"""Of the points of the search: the best by correlation are drawn, and the likeliest of these climbs.

One climb may end on another fringe of the thickness. Two cost twice as much, and decided 15 grains alike.
"""

CLIMB = ((0.125, 25.0, 0.2, 0.3), (0.0625, 12.0, 0.1, 0.15), (0.04, 8.0, 0.06, 0.08))
"""Steps of tilt and thickness, in-plane angle, and the pattern's centre, one round each; degrees, Angstrom, pixels."""


@dataclass(frozen=True)
class Judgement:
    """Of each pattern and rival."""

    log_likelihood: NDArray[np.float64]
    """(p, r)"""
    orientation: Array
    """As fitted, (p, r, 4)."""
    thickness_angstrom: NDArray[np.float64]
    """As fitted, (p, r)."""


def judge(
    ranker: Ranker,
    counts: Tensor,
    orientation: Array,
    phase_id: NDArray[np.int16],
    *,
    spread_deg: NDArray[np.float64],
) -> Judgement:
    """How likely rivals ``(r, 4)`` of phases ``(r,)`` are behind each of the patterns ``counts`` (p, h, w).

    Of each pattern tilts up to ``spread_deg`` (r,) and a bit from a rival are tried, and all thicknesses.
    """
    counts = counts.clamp(min=0)  # of a detector whose background was subtracted
    polar, valid = to_polar(counts, ranker.transform), ranker.transform.valid
    prepared = prepare(polar, valid=valid, weight=ranker.frame.weight, floor=1, power=MODEL_POWER)
    pictures = spot_pictures(pattern_harmonics(prepared, N_HARMONICS), ranker.kernels)
    found = [
        _search(ranker, pictures, ranker.tables[phase], rival, reach_deg=_reach(spread))
        for rival, phase, spread in zip(orientation, phase_id, spread_deg, strict=True)
    ]
    background = ring_background(counts, center_xy=ranker.center_xy)
    seen = [_Seen(*pattern, float(pattern[0].sum())) for pattern in zip(counts, background, strict=True)]
    fits = [
        [_fitted(ranker, ranker.tables[phase], one, points[p]) for points, phase in zip(found, phase_id, strict=True)]
        for p, one in enumerate(seen)
    ]
    return Judgement(
        log_likelihood=np.array([[fit.log_likelihood for fit in row] for row in fits]),
        orientation=np.array([[fit.orientation for fit in row] for row in fits]),
        thickness_angstrom=np.array([[fit.thickness for fit in row] for row in fits]),
    )


@dataclass(frozen=True)
class _Points:
    """Where the search found one rival in one pattern: orientations, thicknesses and their spots."""

    orientation: Array
    """(n, 4)"""
    thickness: NDArray[np.float64]
    q: Tensor
    """(n, k, 2), turned as the orientations are."""
    intensity: Tensor
    """(n, k)"""


@dataclass(frozen=True)
class _Fit:
    log_likelihood: float
    orientation: Array
    thickness: float


def _reach(spread_deg: float) -> float:
    return float(np.clip(spread_deg + SPREAD_SPARE_DEG, LEAST_REACH_DEG, MOST_REACH_DEG))


def _square(step: float, reach: float) -> Array:
    """Tilts (n, 2) in degrees on a square grid."""
    count = round(reach / step)
    side = np.arange(-count, count + 1) * step
    return np.stack(np.meshgrid(side, side, indexing="ij"), axis=-1).reshape(-1, 2)


def _search(
    ranker: Ranker, pictures: Tensor, table: ScatteringTable, rival: Array, *, reach_deg: float
) -> list[_Points]:
    """The best points around a rival for each pattern, by correlation."""
    nodes = multiply(rival, tilts(_square(TILT_STEP_DEG, reach_deg)))
    q, intensity = strongest_spots(ranker, table, nodes, THICKNESSES_ANGSTROM)
    amplitude = intensity.pow(MODEL_POWER)
    radius, angle = picture_place(q, ranker.frame)
    value = read_between(pictures, radius, angle, TURNS)
    norm = spot_norms(q, amplitude, radius, ranker.frame, ranker.kernels)
    score, turn = (torch.einsum("pnkr,ntk->pntr", value, amplitude) / norm[..., None]).max(dim=-1)
    best = score.flatten(1).topk(min(DRAWN, score[0].numel()), dim=1).indices
    node, at = best // score.shape[2], best % score.shape[2]
    turn_deg = TURNS[turn.flatten(1).gather(1, best)].double() * (360 / PICTURE_ANGLES)
    return [
        _Points(
            orientation=turn_pattern(nodes[node[p].numpy()], turn_deg[p].numpy()),
            thickness=THICKNESSES_ANGSTROM[at[p].numpy()],
            q=turned(q[node[p]], turn_deg[p]),
            intensity=intensity[node[p], at[p]],
        )
        for p in range(len(pictures))
    ]


@dataclass(frozen=True)
class _Seen:
    """One pattern (h, w), its background, and its electrons."""

    counts: Tensor
    background: Tensor
    dose: float


def _fitted(ranker: Ranker, table: ScatteringTable, seen: _Seen, points: _Points) -> _Fit:
    """A rival's best fit to one pattern."""
    likely = _log_likelihood(ranker, seen, points.q, points.intensity).topk(min(CLIMBED, len(points.q))).indices
    climbed = [_climbed(ranker, table, seen, points.orientation[k], float(points.thickness[k])) for k in likely]
    return max(climbed, key=lambda fit: fit.log_likelihood)


def _log_likelihood(
    ranker: Ranker, seen: _Seen, q: Tensor, intensity: Tensor, *, shift_px: Tensor | None = None
) -> Tensor:
    """Of spots q (n, k, 2) with shares of the beam (n, k), (n,)."""
    return log_likelihood(
        seen.counts,
        seen.background,
        spot_places(ranker, q, shift_px=shift_px),
        intensity.float() * seen.dose,
        sigma_px=ranker.sigma_px,
        counted=torch.as_tensor(ranker.counted),
    )


def _climbed(ranker: Ranker, table: ScatteringTable, seen: _Seen, orientation: Array, thickness: float) -> _Fit:
    """Step by step to a better tilt and thickness, then in-plane angle, then centre."""
    shift = torch.zeros(2)
    likely = torch.zeros(0)
    for tilt_deg, thickness_step, turn_step, shift_step in CLIMB:
        nodes = multiply(orientation, tilts(_square(tilt_deg, tilt_deg)))
        thicknesses = np.maximum(thickness + thickness_step * np.array([-1.0, 0.0, 1.0]), THICKNESSES_ANGSTROM[0] / 2)
        q, intensity = strongest_spots(ranker, table, nodes, thicknesses)
        everywhere = q.repeat_interleave(len(thicknesses), dim=0)
        likely = _log_likelihood(ranker, seen, everywhere, intensity.flatten(0, 1), shift_px=shift)
        node, at = divmod(int(likely.argmax()), len(thicknesses))
        spots = intensity[node, at][None]
        turns = torch.arange(-2, 3) * turn_step
        turned_q = turned(q[node].expand(len(turns), -1, -1), turns)
        turn = int(_log_likelihood(ranker, seen, turned_q, spots.expand(len(turns), -1), shift_px=shift).argmax())
        orientation, thickness = turn_pattern(nodes[node], float(turns[turn])), float(thicknesses[at])
        shifts = shift + torch.as_tensor(_square(shift_step, shift_step), dtype=torch.float32)
        still = turned_q[turn].expand(len(shifts), -1, -1)
        likely = _log_likelihood(ranker, seen, still, spots.expand(len(shifts), -1), shift_px=shifts[:, None])
        shift = shifts[likely.argmax()]
    return _Fit(float(likely.max()), orientation, thickness)
