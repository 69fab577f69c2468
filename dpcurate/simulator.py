"""Patterns with exact labels: spots by theory, what sample and detector make of them, electrons counted.

Sample number k of a simulator is the same pattern wherever and whenever it is drawn: alone, in a block, on another
process, after an interruption. Needs what training needs, and nothing of curation.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from dpcurate import counters
from dpcurate.bloch import dynamical_spots, enough_azimuths
from dpcurate.conditions import Conditions, draw_conditions
from dpcurate.detector import count, render
from dpcurate.errors import InputError
from dpcurate.kinematic import SpotBatch, kinematic_spots
from dpcurate.orientation_sampling import around, texture, turned, uniform_in_zone
from dpcurate.orientations import Array
from dpcurate.reflections import Reflections, reflections
from dpcurate.scattering import ScatteringTable, scattering_table
from dpcurate.schema import PhaseRecord
from dpcurate.simulation_plan import SimulationPlan, SimulationRecipe

USUAL_U_ISO_ANGSTROM2 = 0.006
"""For a CIF without displacements: B = 0.47 Angstrom^2, in the midst of metals and oxides at room temperature."""

FARTHEST_INV_ANGSTROM = 1.5
"""Reflections farther out are weak, and there are many of them; `k_max_inv_angstrom` overrules it."""

TILTS = 4
"""Orientations that stand for the spread of tilts inside the probe."""

SECOND_GRAIN, MIXED, APART = 2**44, 2**45, 2**46
"""Second grains are drawn as samples SECOND_GRAIN to 2 SECOND_GRAIN; the stream that says as which, of which phase; and
the one that says which samples are not around an orientation of the index."""

SIMULATED_AT_ONCE = 256
"""Patterns of a block; the memory of a simulation does not grow beyond it."""


@dataclass(frozen=True)
class Simulator:
    """A plan with all that is worked out once; made by `make_simulator`."""

    plan: SimulationPlan
    phases: tuple[PhaseRecord, ...]
    parents: tuple[Array, ...]
    """Of each phase, orientations to simulate around, each (m, 4)."""
    theory: tuple[Reflections | ScatteringTable, ...]
    """Of each phase."""
    device: torch.device


@dataclass(frozen=True)
class Drawn:
    """Exact labels of n samples, and the conditions under which they are seen."""

    index: NDArray[np.int64]
    phase_id: NDArray[np.int16]
    orientation: Array
    """Lab to crystal, shape (n, 4)."""
    phase2_id: NDArray[np.int16]
    orientation2: Array
    """Of the second grain in the probe; counts where ``conditions.first_weight`` is below 1."""
    conditions: Conditions

    @property
    def weight(self) -> NDArray[np.float32]:
        """Share of the first grain, (n,)."""
        return self.conditions.first_weight.cpu().numpy()


def make_simulator(
    plan: SimulationPlan,
    phases: Sequence[PhaseRecord],
    *,
    parents: Sequence[ArrayLike] = (),
    device: torch.device | str = "cpu",
) -> Simulator:
    """Return a simulator; ``parents`` are, for each phase, orientations (m, 4) to simulate around if the plan has none.

    Raises InputError when a phase has no parents and the plan asks for them, or when its cell is too large.
    """
    recipe, geometry = plan.recipe, plan.geometry
    found = tuple(np.asarray(some, float).reshape(-1, 4) for some in plan.parents or parents)
    if recipe.orientations == "around" and (len(found) != len(phases) or not all(len(some) for some in found)):
        raise InputError("simulation.orientations = 'around': every phase needs orientations of an index; give one.")
    k_max = recipe.k_max_inv_angstrom or min(geometry.reach_inv_angstrom(), FARTHEST_INV_ANGSTROM)
    energy = geometry.beam_energy_kev
    theory: list[Reflections | ScatteringTable] = []
    for phase in phases:
        u = displacement(phase, recipe)
        if recipe.physics == "kinematical":
            theory.append(reflections(phase, k_max, u_iso_angstrom2=u))
        else:
            table = scattering_table(
                phase, beam_energy_kev=energy, k_max_inv_angstrom=k_max, u_iso_angstrom2=u, device=device
            )
            theory.append(table)
    return Simulator(plan, tuple(phases), found, tuple(theory), torch.device(device))


def training_parents(labels: Mapping[str, NDArray[Any]], *, n_phases: int) -> list[Array]:
    """Orientations to simulate around, for each phase (m, 4): the labels of a dataset's training patterns from scans.

    Those of other splits would tell a network about the grains it is judged on.
    """
    training = (labels["split"] == 0) & (labels["draw"] < 0)
    return [labels["orientation"][training & (labels["phase_id"] == number)] for number in range(n_phases)]


def displacement(phase: PhaseRecord, recipe: SimulationRecipe) -> float | None:
    """Mean square displacement for all atoms of a phase, Angstrom^2; None when its CIF gives them their own."""
    if recipe.u_iso_angstrom2 is not None:
        return recipe.u_iso_angstrom2
    return None if any(atom.u_iso_angstrom2 > 0 for atom in phase.atoms) else USUAL_U_ISO_ANGSTROM2


def azimuths(plan: SimulationPlan, table: ScatteringTable) -> int:
    """Steps of the precession: the plan's, or enough for its thickest crystal, so that they depend on no batch."""
    return plan.recipe.n_azimuths or enough_azimuths(
        table.k_max_inv_angstrom,
        precession_deg=plan.geometry.precession_deg,
        thickness_angstrom=plan.recipe.sample.thickness_angstrom[1],
    )


def draw(simulator: Simulator, index: ArrayLike) -> Drawn:
    """Labels and conditions of samples ``index`` (n,), without their patterns; the phases come in turn."""
    numbers = np.asarray(index, np.int64)
    n_phases, seed = len(simulator.phases), simulator.plan.seed
    mixed = counters.uniform(numbers, seed=seed, stream=MIXED, n=2)
    phase_id, phase2_id = numbers % n_phases, np.minimum((mixed[:, 0] * n_phases).astype(int), n_phases - 1)
    # at random: numbers in turn would pair each orientation of an index with the same other one always
    second = SECOND_GRAIN + (mixed[:, 1] * SECOND_GRAIN).astype(np.int64)
    conditions = draw_conditions(torch.as_tensor(numbers), simulator.plan.recipe.sample, seed=seed)
    return Drawn(
        index=numbers,
        phase_id=phase_id.astype(np.int16),
        orientation=_orientations(simulator, numbers, phase_id),
        phase2_id=phase2_id.astype(np.int16),
        orientation2=_orientations(simulator, second, phase2_id),
        conditions=conditions,
    )


def simulate(simulator: Simulator, drawn: Drawn) -> NDArray[np.uint16]:
    """Patterns of drawn samples in counts, shape (n, rows, columns)."""
    index = torch.as_tensor(drawn.index, device=simulator.device)
    conditions = drawn.conditions.to(simulator.device)
    counts = count(expected(simulator, drawn), conditions, index, seed=simulator.plan.seed)
    return counts.cpu().numpy()


def expected(simulator: Simulator, drawn: Drawn) -> Tensor:
    """Expected electrons of drawn samples, shape (n, rows, columns), float32, on the simulator's device.

    Both grains of a probe are seen alone and added with their weights, so that each has its share of the electrons,
    however strongly it scatters.
    """
    images = _of_first_grain(simulator, drawn)
    shared = np.flatnonzero(drawn.weight < 1)
    if len(shared):
        rows = torch.as_tensor(shared, device=simulator.device)
        weight = drawn.conditions.first_weight.to(simulator.device)[rows, None, None]
        images[rows] = weight * images[rows] + (1 - weight) * _of_first_grain(simulator, second_grains(drawn, shared))
    return images


def second_grains(drawn: Drawn, rows: NDArray[np.integer]) -> Drawn:
    """Some of the samples as if their second grain were all there is."""
    phase_id, orientation, conditions = drawn.phase2_id[rows], drawn.orientation2[rows], drawn.conditions
    alone = replace(conditions, first_weight=torch.ones_like(conditions.first_weight))[torch.as_tensor(rows)]
    return Drawn(drawn.index[rows], phase_id, orientation, phase_id, orientation, alone)


def _of_first_grain(simulator: Simulator, drawn: Drawn) -> Tensor:
    """Expected electrons as if the first grain were all there is."""
    geometry = simulator.plan.geometry
    q, intensity, direct = beams(simulator, drawn)
    return render(
        q,
        intensity,
        drawn.conditions.to(simulator.device),
        direct=direct,
        scale_inv_angstrom=geometry.scale_inv_angstrom,
        center_xy=geometry.center_xy,
        beam_energy_kev=geometry.beam_energy_kev,
        shape=geometry.shape,
    )


def beams(simulator: Simulator, drawn: Drawn) -> tuple[Tensor, Tensor, Tensor | None]:
    """Spots q (n, k, 2) and intensity (n, k) of the first grains, and the direct beam (n,), None in kinematical theory.

    Every tilt inside the probe adds its spots with its share: expectations add. Padding is at the end.
    """
    tilts = TILTS if drawn.conditions.mosaic_deg.any() else 1
    parts = [
        _grains(simulator, drawn, _tilted(simulator, drawn, number=number, of=tilts), share=1 / tilts)
        for number in range(tilts)
    ]
    q, intensity = _together(*(torch.cat([part[i] for part in parts], dim=1) for i in (0, 1)))
    dynamical = simulator.plan.recipe.physics == "dynamical"
    return q, intensity, torch.stack([part[2] for part in parts]).sum(dim=0) if dynamical else None


def _together(q: Tensor, intensity: Tensor) -> tuple[Tensor, Tensor]:
    """Spots (n, k, 2) and (n, k) with those of no intensity at the end, as few of them as can be.

    How much padding there was depends on the batch; between spots, it would change in what order they are summed.
    """
    longest = int((intensity > 0).sum(dim=1).max()) if len(intensity) else 0
    order = (intensity == 0).to(torch.int8).argsort(dim=1, stable=True)[:, :longest]
    return q.gather(1, order[..., None].expand(-1, -1, 2)), intensity.gather(1, order)


def _grains(simulator: Simulator, drawn: Drawn, orientation: Array, *, share: float) -> tuple[Tensor, Tensor, Tensor]:
    """Spots and direct beam of the first grains at these orientations, times a share; none of a phase -1."""
    n, device = len(orientation), simulator.device
    own = {p: rows for p in range(len(simulator.phases)) if len(rows := np.flatnonzero(drawn.phase_id == p))}
    spots = [
        _of_phase(simulator, p, orientation[rows], drawn.conditions[torch.as_tensor(rows)]) for p, rows in own.items()
    ]
    longest = max((some.q.shape[1] for some, _ in spots), default=0)
    q, intensity = torch.zeros(n, longest, 2, device=device), torch.zeros(n, longest, device=device)
    direct = torch.zeros(n, device=device)
    for rows, (some, straight) in zip(own.values(), spots, strict=True):
        at, k = torch.as_tensor(rows, device=device), some.q.shape[1]
        q[at, :k], intensity[at, :k], direct[at] = some.q, some.intensity * share, straight * share
    return q, intensity, direct


def _of_phase(
    simulator: Simulator, number: int, orientation: Array, conditions: Conditions
) -> tuple[SpotBatch, Tensor]:
    """Spots of one phase and its direct beam (n,), 0 in kinematical theory, which knows relative intensities only."""
    recipe, geometry, theory = simulator.plan.recipe, simulator.plan.geometry, simulator.theory[number]
    thickness = conditions.thickness_angstrom.to(simulator.device)
    if isinstance(theory, ScatteringTable):
        found = dynamical_spots(
            theory,
            orientation,
            thickness_angstrom=thickness[:, None],
            precession_deg=geometry.precession_deg,
            max_excitation_error=recipe.max_excitation_error,
            n_azimuths=azimuths(simulator.plan, theory),
            absorption=recipe.absorption,
        )
        return SpotBatch(q=found.q, intensity=found.intensity[:, 0]), found.direct[:, 0]
    spots = kinematic_spots(
        theory,
        torch.as_tensor(orientation, device=simulator.device),
        beam_energy_kev=geometry.beam_energy_kev,
        precession_deg=geometry.precession_deg,
        max_excitation_error=recipe.max_excitation_error,
        thickness_angstrom=thickness,
    )
    return spots, torch.zeros_like(thickness)


def _tilted(simulator: Simulator, drawn: Drawn, *, number: int, of: int) -> Array:
    """Orientations of the first grains, turned as one of the tilts inside the probe; the only one is not turned."""
    if of == 1:
        return drawn.orientation
    spread = drawn.conditions.mosaic_deg.cpu().numpy().astype(float)
    return turned(drawn.orientation, drawn.index * of + number, spread_deg=spread, seed=simulator.plan.seed)


def _orientations(simulator: Simulator, index: NDArray[np.int64], phase_id: NDArray[np.integer]) -> Array:
    """Orientations of samples of these phases, (n, 4)."""
    recipe, seed = simulator.plan.recipe, simulator.plan.seed
    orientation = np.empty((len(index), 4))
    for number, phase in enumerate(simulator.phases):
        own, symmetry = phase_id == number, phase.proper_rotations()
        if recipe.orientations == "around":
            # in turn: the phases take turns too, so that each phase counts its own samples
            of_phase = index[own] // len(simulator.phases)
            orientation[own] = around(simulator.parents[number], of_phase, spread_deg=recipe.spread_deg, seed=seed)
            apart = counters.uniform(index, seed=seed, stream=APART, n=1)[:, 0] < (recipe.uniform_share or 0.0)
            orientation[own & apart] = uniform_in_zone(index[own & apart], symmetry, seed=seed)
        elif recipe.orientations == "texture":
            orientation[own] = texture(recipe.texture, index[own], symmetry, seed=seed)
        else:
            orientation[own] = uniform_in_zone(index[own], symmetry, seed=seed)
    return orientation
