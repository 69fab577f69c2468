import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dpcurate.curate import simulate_dataset
from dpcurate.errors import InputError
from dpcurate.simulation_plan import Geometry, SimulationPlan, SimulationRecipe
from dpcurate.store import open_dataset
from dptrain import train
from dptrain.checkpoint import STATE, load_model, load_state
from dptrain.data import read_samples
from dptrain.fresh import dataset_simulator, read_batch
from dptrain.start import start
from tests.conftest import CUBIC, TRIGONAL
from tests.test_training import interrupt_when, rows_of

PLAN = SimulationPlan(
    recipe=SimulationRecipe(physics="kinematical"),
    geometry=Geometry(shape=(32, 32), scale_inv_angstrom=0.08, center_xy=(15.5, 15.5), beam_energy_kev=200),
    seed=3,
    number=61,
)
"""An odd number of two phases in turn."""


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    root = tmp_path_factory.mktemp("fresh")
    return open_dataset(simulate_dataset(PLAN, (CUBIC, TRIGONAL), name="sim", root=root, recipe={}, progress=False))


def test_the_first_epoch_shows_the_stored_patterns_and_the_others_new_ones_of_the_same_phases(dataset):
    samples, simulator = read_samples(dataset, "train"), dataset_simulator(dataset)
    place = np.arange(len(samples.index))
    epochs = [read_batch(dataset, samples, place, epoch=epoch, simulator=simulator) for epoch in range(3)]
    assert np.array_equal(epochs[0].counts, dataset.patterns(samples.index))
    assert np.array_equal(epochs[0].orientation, samples.orientation)
    seen = np.concatenate([batch.orientation for batch in epochs])
    assert len(np.unique(seen.round(9), axis=0)) == len(seen)
    stored = dataset.read("orientation")
    assert not (np.abs(seen[len(place) :] @ stored.T) > 1 - 1e-9).any(), "no stored sample of any split comes again"
    for number, phase in enumerate(dataset.manifest.phases):
        q = epochs[1].orientation[samples.phase_id[place] == number]
        inside = np.abs(q[:, 0]) >= np.abs(np.einsum("sk,nk->ns", phase.proper_rotations(), q)).max(axis=1) - 1e-9
        assert inside.all(), "each lies in the zone of its own phase"


@settings(max_examples=10, deadline=None)
@given(epoch=st.integers(1, 1000), data=st.data())
def test_a_fresh_sample_does_not_depend_on_its_batch(dataset, epoch, data):
    samples, simulator = read_samples(dataset, "train"), dataset_simulator(dataset)
    whole = np.arange(len(samples.index))
    some = np.array(data.draw(st.lists(st.sampled_from(whole.tolist()), min_size=1, max_size=5, unique=True)))
    together = read_batch(dataset, samples, whole, epoch=epoch, simulator=simulator)
    alone = read_batch(dataset, samples, some, epoch=epoch, simulator=simulator)
    assert np.array_equal(alone.counts, together.counts[some])
    assert np.array_equal(alone.orientation, together.orientation[some])


def test_a_run_with_fresh_patterns_goes_on_as_if_it_had_not_stopped(dataset, tmp_path, monkeypatch):
    options = {"model": "cnn", "epochs": 6, "batch_size": 8, "input": {"size": 32}, "head": {"max_cells": 60}}
    options["fresh"] = True

    def run(name, **more):
        given = {} if more else options
        return start(given, dataset=str(dataset.path), name=name, runs_dir=tmp_path, device="cpu", **more)

    whole = run("whole")
    monkeypatch.setattr(train, "CHECK_STEPS", 3)
    monkeypatch.setattr(train, "SAVE_SECONDS", 0.0)
    interrupt_when(tmp_path / "cut" / STATE)
    with pytest.raises(KeyboardInterrupt):
        run("cut")
    assert load_state(tmp_path / "cut" / STATE)["progress"]["epoch"] < 6
    run("cut", resume=True)
    assert rows_of(tmp_path / "cut") == rows_of(whole)
    first, second = (load_model(folder).network.state_dict() for folder in (whole, tmp_path / "cut"))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_dataset_without_simulated_patterns_has_none_to_draw_anew(tiny_dataset, tmp_path):
    with pytest.raises(InputError, match="tiny@.*: holds no simulated patterns to draw anew"):
        dataset_simulator(open_dataset(tiny_dataset(tmp_path)))
