"""Small simulators for tests, and what their samples are compared by."""

from dataclasses import fields, replace

import numpy as np
import torch

from dpcurate.conditions import Conditions, InstrumentModel, SampleModel
from dpcurate.orientations import disorientation_deg
from dpcurate.simulation_plan import Geometry, SimulationPlan, SimulationRecipe
from dpcurate.simulator import (
    Drawn,
    beams,
    make_simulator,
)
from tests.conftest import CUBIC, TRIGONAL

GEOMETRY = Geometry(
    shape=(48, 40), scale_inv_angstrom=0.036, center_xy=(20.0, 23.5), beam_energy_kev=200, precession_deg=0.7
)
IDEAL = InstrumentModel(
    spot_sigma_px=(0.7, 0.7),
    point_spread_sigma_px=None,
    hot_fraction=None,
    dead_fraction=None,
    scale_error=None,
    ellipse_ratio=None,
    descan_px=None,
)
"""Neither faults nor distortions."""

CLEAR = SampleModel(
    mosaic_deg=None,
    overlap_chance=0.0,
    diffuse_share=None,
    diffuse_core_share=None,
    ring_chance=0.0,
    center_shift_px=None,
    instrument=IDEAL,
)
"""One grain and nothing else."""

MIXED = SampleModel(overlap_chance=0.6)
"""Everything that a sample can have, two grains more often than not."""

N = 40


def simulator_of(phases=(CUBIC, TRIGONAL), *, geometry=GEOMETRY, seed=3, parents=(), **recipe):
    recipe = SimulationRecipe(**{"physics": "kinematical", "k_max_inv_angstrom": 0.8, "n_azimuths": 4} | recipe)
    plan = SimulationPlan(recipe=recipe, geometry=geometry, seed=seed, number=N)
    return make_simulator(plan, phases, parents=parents)


def columns_of(drawn: Drawn) -> dict[str, np.ndarray]:
    """Every label and condition of samples by name."""
    own = {field.name: getattr(drawn, field.name) for field in fields(Drawn) if field.name != "conditions"}
    return own | {name: column.numpy() for name, column in drawn.conditions.as_columns().items()}


def with_conditions(drawn: Drawn, **values: float) -> Drawn:
    """The samples under other conditions, the same for all."""
    c: Conditions = drawn.conditions
    changed = {name: torch.full_like(getattr(c, name), value) for name, value in values.items()}
    return replace(drawn, conditions=replace(c, **changed))


def spots_of(simulator, drawn, row=0):
    """Spots of one sample in one order: q (k, 2) and intensity (k,)."""
    q, intensity, _ = beams(simulator, drawn)
    own = intensity[row] > 0
    q, intensity = q[row, own].double().numpy(), intensity[row, own].double().numpy()
    order = np.lexsort((q[:, 0].round(5), q[:, 1].round(5)))
    return q[order], intensity[order]


def nearest_parent(orientation, parents, phase):
    """Number of the parent next to each orientation, and how far it is."""
    apart = disorientation_deg(orientation[:, None], parents[None], phase.proper_rotations())
    return apart.argmin(axis=1), apart.min(axis=1)
