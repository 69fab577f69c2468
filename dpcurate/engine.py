"""The fast matching engine: from patterns to their n best orientations, in torch, on a CPU or a GPU.

Polar transform, correlation with the templates of all zone axes and in-plane angles, then a climb of the best
candidates on local grids and a parabola over the summit. Candidates are ranked after the climb: before it, how far
the nearest template lies from the truth weighs as much as the difference between two variants.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from dpcurate.correlate import Frame, pattern_harmonics, ring_weight, search, template_harmonics
from dpcurate.kinematic import kinematic_spots
from dpcurate.matching import Matches
from dpcurate.orientations import Array
from dpcurate.polar import PolarTransform, prepare, to_polar
from dpcurate.refine import (
    LocalGrid,
    around,
    chosen,
    climb,
    local_grid,
    local_rotations,
    orientations,
    spot_kernels,
    spot_pictures,
    start,
    summit,
)
from dpcurate.reflections import reflections
from dpcurate.schema import PhaseRecord

Spots = Callable[[PhaseRecord, Array], tuple[Tensor, Tensor]]
"""From orientations (n, 4) to positions (n, k, 2) in 1/Angstrom and intensities (n, k), 0 where padded."""

THICKNESS_ANGSTROM = 200.0
"""Of the plate whose rocking curve weighs a template's spots, whatever the true one; docs/results/indexing.md
says on what it was chosen."""

MAX_EXCITATION_ERROR = 0.03
"""1/Angstrom; the plate's curve is below a hundredth beyond."""

INTENSITY_POWER = 0.25
"""Of template intensities; dynamical scattering makes kinematical ones wrong by factors."""

FLOOR = 0.1
"""Of the logarithm, in means of a pattern above its background; see `polar.prepare`."""

RING_POWER = 0.5
"""Of the rings' weights."""

N_RADIUS, N_AZIMUTH, N_HARMONICS = 48, 180, 64
"""Polar bins of patterns, and the azimuthal harmonics that take part in the final score."""

COARSE_HARMONICS, COARSE_ANGLES = 32, 72
"""Of the search over all templates, which only has to bring the truth among the candidates."""

CANDIDATES, CLIMBERS = 32, 12
"""Templates that the search keeps, and how many of them climb."""

LOCAL_STEPS = 4
"""Steps of the local grids in the spacing of the zone axes."""

MOST_SPOTS = 48
"""Strongest spots of a node that are kept; the mean node of LiNiO2 has 15."""

DISTINCT_DEG = 3.0
"""Candidates nearer to a better one than this are the same answer."""

BATCH = {"cpu": 64, "cuda": 4096}
"""Patterns that are matched at a time."""


@dataclass(frozen=True)
class Engine:
    """Everything that does not depend on the patterns."""

    transform: PolarTransform
    frame: Frame
    kernels: Tensor
    rotation: Array
    """Zone axes of all phases, (n, 4)."""
    phase_id: NDArray[np.int16]
    """Phase of each zone axis, (n,)."""
    templates: Tensor
    """See `correlate.template_harmonics`."""
    grid: LocalGrid
    symmetries: tuple[Array, ...]


def prepare_engine(
    phases: list[PhaseRecord],
    rotations: list[Array],
    *,
    spots: Spots,
    transform: PolarTransform,
    spot_sigma_inv_angstrom: float,
    spacing_deg: float,
) -> Engine:
    """Templates and local grids of phases, on the transform's device.

    ``rotations`` are each phase's zone axes (n, 4) (`library.zone_axis_rotations`), ``spacing_deg`` apart; ``spots``
    gives their patterns, such as `plate_spots`. ``spot_sigma_inv_angstrom`` is a spot's width in the polar patterns.
    """
    k = transform.k_inv_angstrom
    frame = Frame(k, ring_weight(k, power=RING_POWER), spot_sigma_inv_angstrom, N_HARMONICS)
    step, reach = spacing_deg / LOCAL_STEPS, LOCAL_STEPS - 1
    coarse, fine = [], []
    for phase, rotation in zip(phases, rotations, strict=True):
        coarse.append(_amplitudes(*spots(phase, rotation), frame=frame))
        fine.append(_amplitudes(*spots(phase, local_rotations(rotation, step_deg=step, reach=reach)), frame=frame))
    few = Frame(k, frame.weight, spot_sigma_inv_angstrom, COARSE_HARMONICS)
    return Engine(
        transform=transform,
        frame=frame,
        kernels=spot_kernels(frame),
        rotation=np.concatenate(rotations),
        phase_id=np.repeat(np.arange(len(phases), dtype=np.int16), [len(rotation) for rotation in rotations]),
        templates=torch.cat([template_harmonics(*some, few) for some in coarse], dim=2),
        grid=_joined([local_grid(*some, frame, step_deg=step, reach=reach, most_spots=MOST_SPOTS) for some in fine]),
        symmetries=tuple(phase.proper_rotations() for phase in phases),
    )


def plate_spots(
    *, beam_energy_kev: float, precession_deg: float, k_max_inv_angstrom: float, device: torch.device | str = "cpu"
) -> Spots:
    """Kinematical spots with the rocking curve of a plate, as a function of phase and orientations."""

    def spots(phase: PhaseRecord, rotation: Array) -> tuple[Tensor, Tensor]:
        found = kinematic_spots(
            reflections(phase, k_max_inv_angstrom),
            torch.as_tensor(rotation, device=device),
            beam_energy_kev=beam_energy_kev,
            precession_deg=precession_deg,
            max_excitation_error=MAX_EXCITATION_ERROR,
            thickness_angstrom=THICKNESS_ANGSTROM,
        )
        return found.q, found.intensity

    return spots


def match_patterns(
    engine: Engine, patterns: Tensor | ArrayLike, *, n_best: int = 20, runner_up_deg: float = 10.0
) -> Matches:
    """The ``n_best`` candidates of patterns ``(b, h, w)``, best first, distinct by `DISTINCT_DEG` while there are such.

    The first are refined below the grid. Empty patterns score 0. See `matching.Matches`.
    """
    device = engine.transform.weight.device
    batches = torch.as_tensor(np.asarray(patterns, np.float32)).split(BATCH[device.type])
    parts = [_ranked(engine, *_climbed(engine, batch.to(device)), n_best, runner_up_deg) for batch in batches]
    orientation, score, phase_id, rival = (np.concatenate(column) for column in zip(*parts, strict=True))
    return Matches(orientation=orientation, score=score, phase_id=phase_id, runner_up_score=rival)


def _climbed(engine: Engine, patterns: Tensor) -> tuple[Array, Tensor, NDArray[np.int64]]:
    """Orientations (b, c, 4), scores (b, c) and zone axes (b, c) of all candidates, refined ones first."""
    transform, grid = engine.transform, engine.grid
    polar = to_polar(patterns, transform)
    prepared = prepare(polar, valid=transform.valid, weight=engine.frame.weight, floor=FLOOR)
    harmonics = pattern_harmonics(prepared, N_HARMONICS)
    pictures = spot_pictures(harmonics, engine.kernels)
    found = search(engine.templates, harmonics[:COARSE_HARMONICS], n_angles=COARSE_ANGLES, n_keep=CANDIDATES)
    every = start(pictures, grid, *found, n_axes=len(engine.rotation), n_angles=COARSE_ANGLES)
    high = chosen(every, every.score.topk(min(CLIMBERS, every.score.shape[1]), dim=1).indices)
    for tilt_step, angle_step in ((2, 2), (1, 1), (1, 1)):
        high = climb(pictures, grid, high, tilt_step=tilt_step, angle_step=angle_step)
    offset, height = summit(around(pictures, grid, high, exact=True))
    rows = [(high, offset), (every, None)]
    orientation = [orientations(c, engine.rotation, step_deg=grid.step_deg, offset=off) for c, off in rows]
    score = torch.cat([height, every.score], dim=1)
    axis = torch.cat([high.axis, every.axis], dim=1)
    return np.concatenate(orientation, axis=1), score, axis.cpu().numpy()


def _ranked(
    engine: Engine, orientation: Array, score: Tensor, axis: NDArray[np.int64], n_best: int, runner_up_deg: float
) -> tuple[Array, NDArray[np.float32], NDArray[np.int16], NDArray[np.float32]]:
    """Distinct candidates by falling score, and the score of the best rival."""
    order = score.argsort(dim=1, descending=True, stable=True)
    score = score.gather(1, order)
    index = order.cpu().numpy()
    orientation = np.take_along_axis(orientation, index[..., None], axis=1)
    phase_id = engine.phase_id[np.take_along_axis(axis, index, axis=1)]
    cosine = half_angle_cosines(torch.as_tensor(orientation), torch.as_tensor(phase_id), engine.symmetries)
    near = (cosine > np.cos(np.radians(DISTINCT_DEG / 2))).numpy()
    again = np.zeros(index.shape, bool)
    for later in range(1, index.shape[1]):
        again[:, later] = (near[:, later, :later] & ~again[:, :later]).any(axis=1)
    keep = np.argsort(again, axis=1, kind="stable")[:, :n_best]
    keep = np.sort(keep, axis=1)
    far = (cosine[:, 0] < np.cos(np.radians(runner_up_deg / 2))).numpy()
    values = np.maximum(score.cpu().numpy(), 0)
    rival = np.where(far, values, 0).max(axis=1)
    best = (np.take_along_axis(values, keep, 1), np.take_along_axis(phase_id, keep, 1))
    return np.take_along_axis(orientation, keep[..., None], axis=1), *best, rival


def half_angle_cosines(orientation: Tensor, phase_id: Tensor, symmetries: tuple[Array, ...]) -> Tensor:
    """Cosines of half the disorientation between candidates ``(b, c, 4)`` of each pattern, ``(b, c, c)``.

    -1 between phases. The real part of conj(q) s p is the four-dimensional scalar product of q and s p.
    """
    cosine = torch.full((*orientation.shape[:2], orientation.shape[1]), -1.0)
    for number, symmetry in enumerate(symmetries):
        from_left = torch.as_tensor(multiplication_matrices(symmetry), dtype=torch.float32)
        images = torch.einsum("sij,bcj->bcsi", from_left, orientation.float())
        b, c, s, _ = images.shape
        product = torch.bmm(images.view(b, c * s, 4), orientation.float().mT).view(b, c, s, c).abs().amax(dim=2)
        ours = phase_id == number
        cosine = torch.where(ours[:, :, None] & ours[:, None], product, cosine)
    return cosine


def multiplication_matrices(q: Array) -> Array:
    """Matrices ``(n, 4, 4)`` that multiply quaternions by ``q`` (n, 4) from the left."""
    w, x, y, z = np.moveaxis(q, -1, 0)
    rows = [[w, -x, -y, -z], [x, w, -z, y], [y, z, w, -x], [z, -y, x, w]]
    return np.stack([np.stack(row, axis=-1) for row in rows], axis=-2)


def _amplitudes(q: Tensor, intensity: Tensor, *, frame: Frame) -> tuple[Tensor, Tensor]:
    """Spots as they stand in a prepared pattern: the strongest has height 1, those in the direct beam are left out."""
    share = intensity / intensity.amax(dim=1, keepdim=True).clamp(min=1e-30)
    inside = (q.norm(dim=-1) > frame.k_inv_angstrom[0] - frame.spot_sigma_inv_angstrom) & (share > 0)
    return q.double(), torch.where(inside, share.clamp(min=0) ** INTENSITY_POWER, 0).double()


def _joined(grids: list[LocalGrid]) -> LocalGrid:
    """One grid of several phases' grids, padded to the most spots."""
    width = max(grid.place.shape[1] for grid in grids)
    spare = [width - grid.place.shape[1] for grid in grids]
    pad = torch.nn.functional.pad
    return LocalGrid(
        place=torch.cat([pad(grid.place, (0, n)) for grid, n in zip(grids, spare, strict=True)]),
        exact=torch.cat([pad(grid.exact, (0, 0, 0, n)) for grid, n in zip(grids, spare, strict=True)]),
        amplitude=torch.cat([pad(grid.amplitude, (0, n)) for grid, n in zip(grids, spare, strict=True)]),
        step_deg=grids[0].step_deg,
        reach=grids[0].reach,
    )
