"""The fast matching engine: from patterns to their n best orientations, in torch, on a CPU or a GPU.

Polar transform, correlation with the templates of all zone axes and in-plane angles, then a climb of the best
candidates on local grids and a parabola over the summit. Candidates are ranked after the climb: before it, how far
the nearest template lies from the truth weighs as much as the difference between two variants.
"""

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from dpcurate.correlate import (
    Frame,
    in_basis,
    pattern_harmonics,
    radial_basis,
    ring_weight,
    search,
    template_harmonics,
)
from dpcurate.distinct import distinct
from dpcurate.kinematic import kinematic_spots
from dpcurate.matching import Matches
from dpcurate.orientations import Array
from dpcurate.polar import PolarTransform, prepare, to_polar
from dpcurate.refine import (
    OFFSETS,
    TILTS,
    Climbers,
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

MAX_EXCITATION_ERROR = 0.03
"""1/Angstrom; a plate's rocking curve is below a hundredth beyond."""

N_RADIUS, N_AZIMUTH, N_HARMONICS = 48, 180, 64
"""Polar bins of patterns, and the azimuthal harmonics that take part in the final score."""

COARSE_HARMONICS, COARSE_ANGLES = 24, 60
"""Of the search over all templates, which only has to bring the truth among the candidates."""

COARSE_LOST = 1e-3
"""Share of the templates' squares that the search may leave out along the radius."""

CANDIDATES = 96
"""Templates that the search keeps."""

CLIMBS = ((96, TILTS, 2), (24, OFFSETS, 1), (12, OFFSETS, 1))
"""Of each step of the climb: how many candidates, the best so far, take it, where they look, and how far."""

BASIS_AXES = 2000
"""Zone axes of each phase, about, on which the radial basis is fitted."""

AXES_AT_ONCE = 128
"""Zone axes whose local grids are made together; bounds the memory that this takes."""

LOCAL_STEPS = 4
"""Steps of the local grids in the spacing of the zone axes."""

MOST_SPOTS = 32
"""Strongest spots of a node that are kept; the mean node of LiNiO2 has 15."""

BATCH = {"cpu": 64, "cuda": 4096}
"""Patterns that are matched at a time."""


@dataclass(frozen=True)
class Scoring:
    """How patterns and templates are made alike; docs/results/indexing.md says on what the defaults were chosen."""

    background: bool = True
    """Take the median of each ring off."""
    floor: float = 0.1
    """Of the logarithm, in means of a pattern above its background; see `polar.prepare`."""
    power: float | None = None
    """Instead of the logarithm."""
    ring_power: float = 0.5
    """Of the rings' weights, see `correlate.ring_weight`."""
    template_power: float = 0.25
    """Of template intensities; dynamical scattering makes kinematical ones wrong by factors."""
    thickness_angstrom: float = 200.0
    """Of the plate whose rocking curve weighs a template's spots, whatever the true one."""


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
    basis: Tensor
    """See `correlate.radial_basis`."""
    templates: Tensor
    """See `correlate.in_basis`."""
    grid: LocalGrid
    symmetries: tuple[Array, ...]
    scoring: Scoring


def prepare_engine(
    phases: list[PhaseRecord],
    rotations: list[Array],
    *,
    spots: Spots,
    transform: PolarTransform,
    spot_sigma_inv_angstrom: float,
    spacing_deg: float,
    scoring: Scoring | None = None,
) -> Engine:
    """Templates and local grids of phases, on the transform's device.

    ``rotations`` are each phase's zone axes (n, 4) (`library.zone_axis_rotations`), ``spacing_deg`` apart; ``spots``
    gives their patterns, such as `plate_spots`. ``spot_sigma_inv_angstrom`` is a spot's width in the polar patterns.
    """
    scoring = scoring or Scoring()
    k = transform.k_inv_angstrom
    frame = Frame(k, ring_weight(k, power=scoring.ring_power), spot_sigma_inv_angstrom, N_HARMONICS)
    few = replace(frame, n_harmonics=COARSE_HARMONICS)
    step, reach = spacing_deg / LOCAL_STEPS, LOCAL_STEPS - 1

    def amplitudes(phase: PhaseRecord, rotation: Array) -> tuple[Tensor, Tensor]:
        return _amplitudes(*spots(phase, rotation), frame=frame, power=scoring.template_power)

    pairs = list(zip(phases, rotations, strict=True))
    some = [(phase, rotation[:: len(rotation) // BASIS_AXES + 1]) for phase, rotation in pairs]
    sample = [template_harmonics(*amplitudes(phase, rotation), few) for phase, rotation in some]
    basis = radial_basis(torch.cat(sample, dim=2), lost=COARSE_LOST)
    templates, grids = [], []
    for phase, rotation in pairs:
        for axes in np.array_split(rotation, math.ceil(len(rotation) / AXES_AT_ONCE)):
            templates.append(in_basis(template_harmonics(*amplitudes(phase, axes), few), basis))
            nodes = amplitudes(phase, local_rotations(axes, step_deg=step, reach=reach))
            grids.append(local_grid(*nodes, frame, step_deg=step, reach=reach, most_spots=MOST_SPOTS))
    return Engine(
        transform=transform,
        frame=frame,
        kernels=spot_kernels(frame),
        rotation=np.concatenate(rotations),
        phase_id=np.repeat(np.arange(len(phases), dtype=np.int16), [len(rotation) for rotation in rotations]),
        basis=basis,
        templates=torch.cat(templates, dim=2),
        grid=_joined(grids),
        symmetries=tuple(phase.proper_rotations() for phase in phases),
        scoring=scoring,
    )


def plate_spots(
    *,
    beam_energy_kev: float,
    precession_deg: float,
    k_max_inv_angstrom: float,
    thickness_angstrom: float = Scoring.thickness_angstrom,
    device: torch.device | str = "cpu",
) -> Spots:
    """Kinematical spots with the rocking curve of a plate, as a function of phase and orientations."""

    def spots(phase: PhaseRecord, rotation: Array) -> tuple[Tensor, Tensor]:
        found = kinematic_spots(
            reflections(phase, k_max_inv_angstrom),
            torch.as_tensor(rotation, device=device),
            beam_energy_kev=beam_energy_kev,
            precession_deg=precession_deg,
            max_excitation_error=MAX_EXCITATION_ERROR,
            thickness_angstrom=thickness_angstrom,
        )
        return found.q, found.intensity

    return spots


def match_patterns(
    engine: Engine, patterns: Tensor | ArrayLike, *, n_best: int = 20, runner_up_deg: float = 10.0
) -> Matches:
    """The ``n_best`` candidates of patterns ``(b, h, w)``, best first, distinct while there are such (`distinct`).

    The first are refined below the grid. Empty patterns score 0. See `matching.Matches`.
    """
    device = engine.transform.weight.device
    batches = torch.as_tensor(np.asarray(patterns, np.float32)).split(BATCH[device.type])

    def matched(batch: Tensor) -> tuple[NDArray[Any], ...]:
        orientation, score, axis = _climbed(engine, batch.to(device))
        return distinct(
            orientation,
            score,
            engine.phase_id[axis],
            symmetries=engine.symmetries,
            n_best=n_best,
            runner_up_deg=runner_up_deg,
        )

    workers = torch.get_num_threads() if device.type == "cpu" else 1
    if min(workers, len(batches)) > 1:  # each by one thread: small steps share a thread badly
        with ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            parts = list(pool.map(matched, batches))
    else:
        parts = [matched(batch) for batch in batches]
    orientation, score, phase_id, rival = (np.concatenate(column) for column in zip(*parts, strict=True))
    return Matches(orientation=orientation, score=score, phase_id=phase_id, runner_up_score=rival)


def prepared_patterns(engine: Engine, patterns: Tensor) -> Tensor:
    """Patterns ``(b, h, w)`` as they are correlated, polar, of zero mean and unit norm; see `polar.prepare`."""
    transform, scoring = engine.transform, engine.scoring
    return prepare(
        to_polar(patterns, transform),
        valid=transform.valid,
        weight=engine.frame.weight,
        floor=scoring.floor,
        power=scoring.power,
        background=scoring.background,
    )


def _climbed(engine: Engine, patterns: Tensor) -> tuple[Array, Tensor, NDArray[np.int64]]:
    """Orientations (b, c, 4), scores (b, c) and zone axes (b, c) of all candidates, refined ones first."""
    harmonics = pattern_harmonics(prepared_patterns(engine, patterns), N_HARMONICS)
    pictures = spot_pictures(harmonics, engine.kernels)
    found = search(
        engine.templates, engine.basis, harmonics[:COARSE_HARMONICS], n_angles=COARSE_ANGLES, n_keep=CANDIDATES
    )
    high = start(pictures, engine.grid, *found, n_axes=len(engine.rotation), n_angles=COARSE_ANGLES)
    return climbed(engine, pictures, high)


def climbed(engine: Engine, pictures: Tensor, high: Climbers) -> tuple[Array, Tensor, NDArray[np.int64]]:
    """Orientations (b, c, 4), scores (b, c) and zone axes (b, c) to which candidates climb, refined ones first.

    ``pictures`` are those of `refine.spot_pictures`, ``high`` the candidates as `refine.start` gives them.
    """
    grid, below = engine.grid, []
    for climbers, offsets, step in CLIMBS:
        order = high.score.argsort(dim=1, descending=True)
        below.append(chosen(high, order[:, climbers:]))
        high = climb(pictures, grid, chosen(high, order[:, :climbers]), offsets=offsets, step=step)
    offset, height = summit(around(pictures, grid, high, exact=True))
    rows = [(high, offset), *((some, None) for some in below)]
    orientation = [orientations(c, engine.rotation, step_deg=grid.step_deg, offset=off) for c, off in rows]
    # Places read to the nearest, the best of many, score higher than those between.
    fair = (height.sum(dim=1) / high.score.sum(dim=1).clamp(min=1e-9)).clamp(max=1)[:, None]
    score = torch.cat([height, *(some.score * fair for some in below)], dim=1)
    axis = torch.cat([some.axis for some, _ in rows], dim=1)
    return np.concatenate(orientation, axis=1), score, axis.cpu().numpy()


def _amplitudes(q: Tensor, intensity: Tensor, *, frame: Frame, power: float) -> tuple[Tensor, Tensor]:
    """Spots as they stand in a prepared pattern: the strongest has height 1, those in the direct beam are left out."""
    share = intensity / intensity.amax(dim=1, keepdim=True).clamp(min=1e-30)
    inside = (q.norm(dim=-1) > frame.k_inv_angstrom[0] - frame.spot_sigma_inv_angstrom) & (share > 0)
    return q.double(), torch.where(inside, share.clamp(min=0) ** power, 0).double()


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
