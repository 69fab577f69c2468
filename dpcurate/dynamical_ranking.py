"""Which of several orientations a pattern shows, judged by dynamical scattering: tilt and thickness fitted to each.

Variants of a nearly cubic crystal put their spots at the same places, and what kinematical theory says of their
intensities differs less than it is wrong. Bloch waves tell them apart where anything does. A search on a grid of
tilts and thicknesses, by the correlation of square roots of intensities, finds where to look; the likelihood of the
counts decides, after a climb on ever finer grids.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dpcurate.correlate import pattern_harmonics
from dpcurate.likelihood import log_likelihood, marginal_likelihood, near_spots, ring_background
from dpcurate.orientations import Array, multiply, turn_pattern
from dpcurate.picture_reading import picture_place, read_between, spot_norms
from dpcurate.polar import prepare, to_polar
from dpcurate.refine import PICTURE_ANGLES, spot_pictures, tilts
from dpcurate.scattering import ScatteringTable
from dpcurate.spot_models import MODEL_POWER, N_HARMONICS, Ranker, drawn_spots, spot_places, strongest_spots, turned

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

DRAWN, CLIMBED = 60, 2
"""Of the points of the search: the best by correlation are drawn, and the likeliest of these climb."""

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
    fits = [
        _fitted(
            ranker,
            counts[p],
            background[p],
            [(points[p], phase) for points, phase in zip(found, phase_id, strict=True)],
        )
        for p in range(len(counts))
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


def _fitted(ranker: Ranker, counts: Tensor, background: Tensor, rivals: list[tuple[_Points, int]]) -> list[_Fit]:
    """Every rival's best fit to one pattern (h, w), all judged on the same pixels."""
    dose = float(counts.sum())
    drawn = [drawn_spots(ranker, points.q, points.intensity * dose) for points, _ in rivals]
    near = near_spots(torch.stack([images.amax(dim=0) for images in drawn]), background, ranker.counted)
    seen = _Seen(counts, background, near, dose)
    fits = []
    for (points, phase), images in zip(rivals, drawn, strict=True):
        likely = log_likelihood(counts[near], background[near], images[:, near]).topk(min(CLIMBED, len(images))).indices
        table = ranker.tables[phase]
        climbed = [_climbed(ranker, table, seen, points.orientation[k], float(points.thickness[k])) for k in likely]
        fits.append(max(climbed, key=lambda fit: fit.log_likelihood))
    return fits


@dataclass(frozen=True)
class _Seen:
    """One pattern (h, w), its background, the pixels near spots, and its electrons."""

    counts: Tensor
    background: Tensor
    near: Tensor
    dose: float


def _climbed(ranker: Ranker, table: ScatteringTable, seen: _Seen, orientation: Array, thickness: float) -> _Fit:
    """Step by step to a better tilt and thickness, then in-plane angle, then centre; judged where that ends."""
    shift = torch.zeros(2)

    def best_of(q: Tensor, intensity: Tensor, shift_px: Tensor) -> int:
        images = drawn_spots(ranker, q, intensity * seen.dose, shift_px=shift_px)[..., seen.near]
        return int(log_likelihood(seen.counts[seen.near], seen.background[seen.near], images.flatten(0, -2)).argmax())

    for tilt_deg, thickness_step, turn_step, shift_step in CLIMB:
        nodes = multiply(orientation, tilts(_square(tilt_deg, tilt_deg)))
        thicknesses = np.maximum(thickness + thickness_step * np.array([-1.0, 0.0, 1.0]), THICKNESSES_ANGSTROM[0] / 2)
        q, intensity = strongest_spots(ranker, table, nodes, thicknesses)
        node, at = divmod(best_of(q[:, None].expand(-1, 3, -1, -1), intensity, shift), 3)
        turns = torch.arange(-2, 3) * turn_step
        turn = best_of(turned(q[node].expand(5, -1, -1), turns), intensity[node, at], shift)
        orientation, thickness = turn_pattern(nodes[node], float(turns[turn])), float(thicknesses[at])
        q = turned(q[node][None], turns[turn : turn + 1])
        shifts = shift + torch.as_tensor(_square(shift_step, shift_step), dtype=torch.float32)
        shift = shifts[best_of(q.expand(9, -1, -1), intensity[node, at], shifts[:, None])]
    likelihood = marginal_likelihood(
        seen.counts,
        seen.background,
        spot_places(ranker, q[0], shift_px=shift),
        intensity[node, at].float() * seen.dose,
        sigma_px=ranker.sigma_px,
        counted=torch.as_tensor(ranker.counted),
    )
    return _Fit(likelihood, orientation, thickness)
