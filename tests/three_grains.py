"""A virtual scan of three grains, 14 x 16 pixels of 64 x 64, with mixed patterns at the boundaries; its truth known."""

from dataclasses import replace

import numpy as np

from dpcurate.conditions import InstrumentModel, SampleModel
from dpcurate.microstructure import Microstructure
from dpcurate.orientations import random_uniform
from dpcurate.simulation_plan import Geometry, SimulationRecipe
from dpcurate.truth import read_truth
from dpcurate.virtual_scan import simulate_scan
from tests.candidates import jittered
from tests.crystals import LINIO2

ROWS, COLUMNS = 14, 16
GEOMETRY = Geometry(
    shape=(64, 64), scale_inv_angstrom=0.036, center_xy=(31.5, 31.8), beam_energy_kev=200, precession_deg=1.0
)
SAMPLE = SampleModel(
    mosaic_deg=None,
    center_shift_px=None,
    ring_chance=0.0,
    instrument=InstrumentModel(
        dose_electrons=(9000, 9000),
        spot_sigma_px=(1.0, 1.0),
        point_spread_sigma_px=None,
        hot_fraction=None,
        dead_fraction=None,
        scale_error=None,
        ellipse_ratio=None,
        descan_px=None,
    ),
)


def structure(*, phase_of_grain=(0, 0, 0), holes=(), seed=4):
    """Grain 0 on the left, 1 top right, 2 bottom right; pixels at boundaries hold 0.6 of their own grain."""
    row, column = np.indices((ROWS, COLUMNS))
    grain = np.where(column < 7, 0, np.where(row < 6, 1, 2))
    other = np.full_like(grain, -1)
    other[:, 6], other[:6, 7], other[6:, 7] = np.where(np.arange(ROWS) < 6, 1, 2), 0, 0
    other[5, 8:], other[6, 8:] = 2, 1
    mixed = other >= 0
    mean = random_uniform(3, seed=seed)
    phase = np.array(phase_of_grain, np.int16)
    quat = jittered(mean[grain], rng=np.random.default_rng(seed), sigma_deg=0.05)
    phase_id = phase[grain]
    for at in holes:
        phase_id[at], grain[at], mixed[at] = -1, -1, False
    return Microstructure(
        phase_id=phase_id,
        phase2_id=np.where(mixed, phase[other], phase_id).astype(np.int16),
        quat=quat,
        quat2=np.where(mixed[..., None], mean[other], quat),
        weight=np.where(mixed, 0.6, 1.0),
        grain=grain,
        thickness_angstrom=np.linspace(220, 300, ROWS * COLUMNS).reshape(ROWS, COLUMNS),
    )


def write_scan(folder, *, phases=(LINIO2,), name="three", **options):
    """Write the scan and return its path and truth."""
    recipe = SimulationRecipe(physics="dynamical", k_max_inv_angstrom=1.2, sample=SAMPLE)
    made = structure(**options)
    path = simulate_scan(made, phases, recipe, GEOMETRY, seed=7, out=folder / f"{name}.hspy", step_nm=2.0)
    return path, replace(read_truth(path))
