import csv
import math

import pytest
import torch

from dpcurate.errors import InputError
from dpcurate.store import open_dataset
from dptrain import data, train
from dptrain.checkpoint import LAST, STATE, load_model, load_state
from dptrain.data import epoch_order
from dptrain.models import model_config
from dptrain.report_data import finished_config
from dptrain.start import start
from dptrain.steps import enough_memory

torch.set_num_threads(1)  # several workers of pytest share the cores

SMALL = {"input": {"size": 32}, "head": {"max_cells": 200}, "batch_size": 16, "epochs": 3}


@pytest.fixture(scope="module")
def dataset(tiny_dataset, tmp_path_factory):
    return tiny_dataset(tmp_path_factory.mktemp("datasets"), n=120)


def begin(dataset, runs_dir, name, **options):
    return start(SMALL | options, dataset=str(dataset), name=name, runs_dir=runs_dir, device="cpu")


def columns(run_dir, name):
    with (run_dir / "metrics.csv").open(encoding="utf-8") as stream:
        return [float(row[name]) for row in csv.DictReader(stream)]


def test_a_batch_in_parts_trains_about_as_the_whole_and_counts_the_same_samples(dataset, tmp_path):
    whole, parts = (begin(dataset, tmp_path, f"in-{n}", accumulate=n, learning_rate=1e-4) for n in (1, 4))
    assert columns(whole, "sample_sum") == columns(parts, "sample_sum")
    assert columns(parts, "train_loss") == pytest.approx(columns(whole, "train_loss"), rel=0.03)
    with pytest.raises(InputError, match="batch_size 16 cannot be shared by 1 processes in 3 parts"):
        begin(dataset, tmp_path, "three", accumulate=3)


def test_the_average_of_the_weights_is_what_is_judged_and_kept(dataset, tmp_path):
    run = begin(dataset, tmp_path, "averaged", ema_decay=0.99)
    state, kept = load_state(run / STATE), load_model(run / LAST).network.state_dict()
    assert all(torch.equal(kept[name], state["average"][name]) for name in kept)
    assert not all(torch.equal(kept[name], state["network"][name]) for name in kept)


def test_a_run_in_bfloat16_learns_too(dataset, tmp_path):
    losses = columns(begin(dataset, tmp_path, "half", precision="bfloat16"), "train_loss")
    assert losses[-1] < losses[0]


def test_impatience_ends_a_run_and_its_report_takes_it_for_finished(dataset, tmp_path):
    run = begin(dataset, tmp_path, "tired", epochs=40, patience=1, learning_rate=0.05)
    n_epochs = len(columns(run, "epoch"))
    assert n_epochs < 40
    losses = columns(run, "validation_loss")
    assert losses[-1] >= min(losses[:-1])
    assert load_state(run / STATE)["progress"]["epoch"] == n_epochs
    assert finished_config(run).patience == 1


def test_a_loss_that_is_no_number_names_its_batch(dataset, tmp_path, monkeypatch):
    read = train.read_batch
    opened = open_dataset(dataset)
    samples = data.read_samples(opened, "train")
    order = epoch_order(len(samples.index), seed=0, epoch=0)

    def spoiled(dataset, samples, place, **options):
        batch = read(dataset, samples, place, **options)
        if order[35] in place:
            batch.orientation[:] = math.nan
        return batch

    monkeypatch.setattr(train, "read_batch", spoiled)
    with pytest.raises(InputError) as stopped:
        begin(dataset, tmp_path, "spoiled")
    said = str(stopped.value)
    assert "in epoch 1, batch 3 (patterns " + ", ".join(map(str, samples.index[order[32:40]])) in said
    assert "the last good checkpoint is kept" in said
    assert not (tmp_path / "spoiled" / STATE).exists()


def test_too_little_memory_says_what_to_try():
    config = model_config("cnn").model_copy(update={"batch_size": 48, "accumulate": 2})
    with pytest.raises(InputError, match=r"--accumulate 4, .* or --batch-size 24"), enough_memory(config):
        torch.empty(1 << 56)
    with pytest.raises(InputError, match="memory does not suffice"), enough_memory(config):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
    with pytest.raises(RuntimeError, match="another"), enough_memory(config):
        raise RuntimeError("another error")
