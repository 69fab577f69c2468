from dataclasses import replace

import numpy as np
import pytest
import torch

from dpcurate.crystal_maps import read_index
from dpcurate.curate import build_dataset
from dpcurate.errors import InputError
from dpcurate.store import open_dataset
from dptrain.checkpoint import load_model
from dptrain.cli import main
from dptrain.config import read_config
from dptrain.data import read_samples
from dptrain.export import export_model
from dptrain.job import label_weights
from dptrain.runs import complete_config, requested_config
from dptrain.start import start
from tests.small_scan import scan_of, small_index

torch.set_num_threads(1)  # several workers of pytest share the cores

CHOICES = {
    "density": [],
    "grid": ["--label-weights", "confidence", "--loss", "truncated"],
    "harmonics": ["--max-degree", "4", "--loss", "laplace"],
    "rotation": ["--input", "cartesian", "--loss", "truncated"],
    "euler": ["--input", "cartesian", "--no-clamp"],
}


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    return small_index(tmp_path_factory.getbasetemp())


@pytest.fixture(scope="module")
def dataset(index, tmp_path_factory):
    root = tmp_path_factory.mktemp("datasets")
    return build_dataset([index], min_confidence=0.0, simulated=24, root=root, progress=False)


def command(dataset, runs, name, *choices):
    small = ["--epochs", "1", "--batch-size", "16", "--input-size", "32", "--device", "cpu"]
    return ["run", "--dataset", str(dataset), "--runs", str(runs), "--name", name, *small, *choices]


def succeeds(arguments):
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    return stopped.value.code == 0


@pytest.mark.parametrize("head", CHOICES)
def test_every_head_trains_goes_on_and_predicts_from_the_command_line(head, dataset, index, tmp_path, capsys):
    call = command(dataset, tmp_path, "first", "--head", head, *CHOICES[head])
    assert succeeds(call)
    config = read_config(tmp_path / "first" / "config.toml")
    assert config.head.name == head
    assert config.head.clamp == (head != "euler")
    assert config.input.frame == ("cartesian" if "cartesian" in CHOICES[head] else "polar")
    assert succeeds([*call, "--resume"])
    assert not succeeds(
        [*command(dataset, tmp_path, "first", "--head", "grid" if head != "grid" else "euler"), "--resume"]
    )
    assert f"started with head.name = {head}, now" in capsys.readouterr().err
    assert succeeds(["predict", str(tmp_path / "first"), str(scan_of(index)), "--device", "cpu"])
    found = read_index(tmp_path / "first" / "small.predicted")
    assert np.linalg.norm(found.candidate_orientation, axis=-1) == pytest.approx(1, abs=1e-4)
    assert (found.confidence >= 0).all()
    assert (found.confidence <= 1).all()
    assert (np.diff(found.candidate_score, axis=-1) <= 1e-6).all()
    if head in ("density", "harmonics"):
        assert export_model(tmp_path / "first", file_format="torch")[1] < 1e-4


@pytest.mark.parametrize(
    ("choices", "sentence"),
    [
        (["--head", "gird"], "head.name 'gird'"),
        (["--loss", "laplace"], "head: loss laplace is a root of distances, and head density has none"),
        (["--head", "rotation", "--no-clamp"], "head: clamp belongs to head euler, not to rotation"),
        (["--head", "grid", "--max-degree", "4"], "head: max_degree is of heads density and harmonics, not of grid"),
        (["--head", "harmonics", "--max-degree", "99"], "head.max_degree 99"),
        (["--model", "densenet121", "--kernel", "5"], "densenet121: kernel belongs to the cnn"),
        (["--input", "round"], "input.frame 'round'"),
        (["--label-weights", "yes"], "label_weights 'yes'"),
    ],
)
def test_what_does_not_go_together_is_one_sentence_and_writes_nothing(choices, sentence, dataset, tmp_path, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(command(dataset, tmp_path / "runs", "wrong", *choices))
    said = capsys.readouterr().err
    assert stopped.value.code == 2
    assert said.startswith(f"error: {sentence}")
    assert said.count("\n") == 1
    assert not (tmp_path / "runs").exists()


def test_label_weights_follow_confidence_and_are_one_on_average():
    confidence = np.random.default_rng(0).uniform(0.2, 1, 50).astype(np.float32)
    weights = label_weights(confidence)
    assert weights.mean() == pytest.approx(1, abs=1e-5)
    assert weights / weights[0] == pytest.approx(confidence / confidence[0], rel=1e-5)
    assert label_weights(np.array([0.5, np.nan], np.float32)) == pytest.approx([2 / 3, 4 / 3], rel=1e-5)


def test_labels_that_are_equally_sure_cannot_be_weighed(tiny_dataset, tmp_path):
    opened = open_dataset(tiny_dataset(tmp_path, n=60))
    train = read_samples(opened, "train")
    config = requested_config("cnn", {"label_weights": "confidence"})
    assert complete_config(config, opened, train).label_weights == "confidence"
    for value in (0.7, np.nan):
        with pytest.raises(InputError, match="its labels are all equally sure; leave out --label-weights confidence"):
            complete_config(config, opened, replace(train, confidence=np.full_like(train.confidence, value)))


def test_weights_change_what_is_learnt_and_equal_ones_do_not(tiny_dataset, tmp_path, monkeypatch):
    folder = tiny_dataset(tmp_path / "datasets", n=60)
    small = {"input": {"size": 32}, "head": {"max_cells": 100}, "batch_size": 16, "epochs": 1}
    weighed = start(small | {"label_weights": "confidence"}, dataset=str(folder), name="weighed", runs_dir=tmp_path)
    plain = start(small, dataset=str(folder), name="plain", runs_dir=tmp_path)
    first, second = (load_model(run).network.state_dict()["0.weight"] for run in (weighed, plain))
    assert not torch.equal(first, second)
    monkeypatch.setattr("dptrain.job.label_weights", lambda confidence: np.ones_like(confidence))
    same = start(small | {"label_weights": "confidence"}, dataset=str(folder), name="same", runs_dir=tmp_path)
    assert torch.equal(load_model(same).network.state_dict()["0.weight"], second)
