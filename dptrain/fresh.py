"""Fresh simulated patterns in place of stored ones: in every epoch other samples of the dataset's own simulation.

In epoch 0 they are the stored ones. Which sample is simulated follows from epoch and place alone, so that a run goes on
after an interruption, or on another number of processes, with the same samples.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dpcurate.errors import InputError
from dpcurate.simulation_plan import SimulationPlan
from dpcurate.simulator import Simulator, draw, make_simulator, simulate, training_parents
from dpcurate.store import Dataset
from dptrain.data import Index, Samples


@dataclass(frozen=True)
class Batch:
    """Training patterns at ``place`` (b,) with counts (b, H, W) and labels (b, 4) of the phases that they had."""

    place: Index
    counts: NDArray[np.generic]
    orientation: NDArray[np.float64]


def dataset_simulator(dataset: Dataset) -> Simulator:
    """The simulator of a dataset's simulated patterns; InputError when it holds none."""
    manifest = dataset.manifest
    if manifest.simulation is None:
        raise InputError(
            f"{manifest.name}@{manifest.version}: holds no simulated patterns to draw anew; build it with --simulated, "
            "or train without --fresh."
        )
    labels = {name: dataset.read(name) for name in ("orientation", "phase_id", "split", "draw")}
    plan = SimulationPlan.model_validate(manifest.simulation)
    parents = training_parents(labels, n_phases=len(manifest.phases))
    return make_simulator(plan, manifest.phases, parents=parents)


def read_batch(
    dataset: Dataset, samples: Samples, place: Index, *, epoch: int, simulator: Simulator | None = None
) -> Batch:
    """The samples at ``place``: read, or with a simulator those of scans read and the others drawn for this epoch."""
    orientation = samples.orientation[place]
    if simulator is None or epoch == 0:
        return Batch(place, dataset.patterns(samples.index[place]), orientation)
    number = samples.draw[place]
    fresh = number >= 0
    drawn = draw(simulator, number[fresh] + epoch * period(simulator))
    counts = np.empty((len(place), *simulator.plan.geometry.shape), dataset.manifest.arrays["patterns"].dtype)
    counts[~fresh] = dataset.patterns(samples.index[place[~fresh]])
    counts[fresh] = simulate(simulator, drawn)
    orientation[fresh] = drawn.orientation
    return Batch(place, counts, orientation)


def period(simulator: Simulator) -> int:
    """How far apart in number the samples of two epochs are: no stored one comes again, and each keeps its phase."""
    n_phases = len(simulator.phases)
    return -(-simulator.plan.number // n_phases) * n_phases
