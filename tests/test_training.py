import csv
import math
import os
import shutil
import signal
import subprocess
import sys

import pytest
import torch

from dpcurate.errors import InputError
from dpcurate.store import open_dataset
from dptrain import data, train
from dptrain.checkpoint import BEST, LAST, STATE, load_model, load_state
from dptrain.cli import main
from dptrain.config import read_config, to_toml
from dptrain.job import make_optimizer
from dptrain.models import model_config
from dptrain.runs import complete_config, requested_config
from dptrain.schedule import learning_rate
from dptrain.start import start
from tests.conftest import CUBIC

torch.set_num_threads(1)  # several workers of pytest share the cores

SMALL = {"input": {"size": 32}, "head": {"max_cells": 200}, "batch_size": 8, "epochs": 4}
TIMES = ("patterns_per_s", "seconds")


@pytest.fixture(scope="module")
def dataset(tiny_dataset, tmp_path_factory):
    return tiny_dataset(tmp_path_factory.mktemp("datasets"), n=120)


def rows_of(run_dir):
    with (run_dir / "metrics.csv").open(encoding="utf-8") as stream:
        return [{k: v for k, v in row.items() if k not in TIMES} for row in csv.DictReader(stream)]


def begin(dataset, runs_dir, name, *, resume=False, **options):
    options = options if resume else SMALL | options
    return start(options, dataset=str(dataset), name=name, runs_dir=runs_dir, device="cpu", resume=resume)


@pytest.fixture(scope="module")
def finished(dataset, tmp_path_factory):
    return begin(dataset, tmp_path_factory.mktemp("runs"), "whole")


def test_a_run_leaves_config_checkpoints_metrics_and_tensorboard(finished, dataset):
    names = {path.name for path in finished.iterdir()}
    assert names == {"config.toml", BEST, LAST, STATE, "metrics.csv", "tensorboard"}
    assert list((finished / "tensorboard").iterdir())
    config = read_config(finished / "config.toml")
    assert config.dataset.version == dataset.name
    assert config.input.k_max == pytest.approx(15.5 * 0.08)
    rows = rows_of(finished)
    assert len(rows) == 4
    assert float(rows[-1]["train_loss"]) < float(rows[0]["train_loss"])
    assert load_model(finished).config == config


def interrupt_when(path):
    """Interrupt this process as soon as ``path`` exists."""

    def check(*_):
        if path.exists():
            signal.setitimer(signal.ITIMER_REAL, 0)
            raise KeyboardInterrupt

    signal.signal(signal.SIGALRM, check)
    signal.setitimer(signal.ITIMER_REAL, 0.02, 0.02)


@pytest.mark.parametrize("after", [STATE, "metrics.csv"])
def test_an_interrupted_run_goes_on_to_the_same_losses_and_weights_bit_for_bit(
    dataset, finished, tmp_path, monkeypatch, after
):
    monkeypatch.setattr(train, "CHECK_STEPS", 3)
    monkeypatch.setattr(train, "SAVE_SECONDS", 0.0)
    interrupt_when(tmp_path / "cut" / after)
    with pytest.raises(KeyboardInterrupt):
        begin(dataset, tmp_path, "cut")
    state = load_state(tmp_path / "cut" / STATE)
    assert state["progress"]["epoch"] < 4
    begin(dataset, tmp_path, "cut", resume=True)
    assert rows_of(tmp_path / "cut") == rows_of(finished)
    first, second = (load_model(folder).network.state_dict() for folder in (finished, tmp_path / "cut"))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_run_is_neither_overwritten_nor_resumed_where_there_is_none(finished, dataset, tmp_path):
    with pytest.raises(InputError, match="this run exists; go on with --resume"):
        begin(dataset, finished.parent, "whole")
    with pytest.raises(InputError, match="no run to resume"):
        begin(dataset, tmp_path, "new", resume=True)


@pytest.mark.parametrize("left", [{"config.toml"}, {"config.toml", BEST, "metrics.csv"}])
def test_a_run_that_stopped_before_its_first_state_starts_anew_when_resumed(finished, dataset, tmp_path, left):
    (tmp_path / "early").mkdir()
    for name in left:
        shutil.copy(finished / name, tmp_path / "early" / name)
    begin(dataset, tmp_path, "early", resume=True)
    assert rows_of(tmp_path / "early") == rows_of(finished)


def test_a_state_that_was_removed_is_not_taken_for_a_run_that_never_began(finished, dataset, tmp_path):
    shutil.copytree(finished, tmp_path / "whole", ignore=shutil.ignore_patterns(STATE))
    with pytest.raises(InputError, match=f"{STATE}: missing"):
        begin(dataset, tmp_path, "whole", resume=True)


def test_the_same_command_with_resume_goes_on(finished, dataset, tmp_path):
    shutil.copytree(finished, tmp_path / "whole")
    begin(dataset, tmp_path, "whole", resume=True, **SMALL)
    with pytest.raises(InputError, match="started with input"):
        begin(dataset, tmp_path, "whole", resume=True, input={"size": 64})


def test_a_finished_run_resumed_changes_nothing(finished, dataset, tmp_path):
    shutil.copytree(finished, tmp_path / "whole")
    begin(dataset, tmp_path, "whole", resume=True, seed=0)
    assert rows_of(tmp_path / "whole") == rows_of(finished)


def test_another_config_or_dataset_is_refused_when_resuming(finished, dataset, tiny_dataset, tmp_path):
    shutil.copytree(finished, tmp_path / "whole")
    with pytest.raises(InputError, match="started with epochs = 4, now 9"):
        begin(dataset, tmp_path, "whole", resume=True, epochs=9)
    with pytest.raises(InputError, match="started with dataset_version"):
        begin(tiny_dataset(tmp_path, seed=5), tmp_path, "whole", resume=True)
    path = tmp_path / "whole" / "config.toml"
    path.write_text(to_toml(read_config(path).model_copy(update={"learning_rate": 0.5})), encoding="utf-8")
    with pytest.raises(InputError, match="changed since the run was started"):
        begin(dataset, tmp_path, "whole", resume=True)


def test_a_loss_that_is_no_number_stops_the_run_and_keeps_the_last_checkpoint(dataset, finished, tmp_path):
    with pytest.raises(InputError, match="no longer a finite number in epoch 1"):
        begin(dataset, tmp_path, "wild", learning_rate=1e30)
    assert not (tmp_path / "wild" / BEST).exists()
    shutil.copytree(finished, tmp_path / "later")
    before = (tmp_path / "later" / BEST).read_bytes()
    state = load_state(tmp_path / "later" / STATE)
    state["progress"] |= {"epoch": 3, "rows": state["progress"]["rows"][:3]}
    state["network"]["0.weight"][:] = math.nan
    torch.save(state, tmp_path / "later" / STATE)
    with pytest.raises(InputError, match="the last good checkpoint is kept"):
        begin(dataset, tmp_path, "later", resume=True)
    assert (tmp_path / "later" / BEST).read_bytes() == before


def test_two_processes_see_the_samples_that_one_sees(dataset, tmp_path):
    common = ["--dataset", str(dataset), "--runs", str(tmp_path), "--epochs", "2", "--batch-size", "16"]
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [*launcher, "-m", "dptrain.cli", "run", "--device", "cpu", *common, "--name", "two"],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(tmp_path / "two")
    options = {"epochs": 2, "batch_size": 16}
    start(options, dataset=str(dataset), name="one", runs_dir=tmp_path, device="cpu")
    for alone, together in zip(rows_of(tmp_path / "one"), rows_of(tmp_path / "two"), strict=True):
        assert alone["samples"] == together["samples"]
        assert alone["sample_sum"] == together["sample_sum"]
        assert float(alone["train_loss"]) == pytest.approx(float(together["train_loss"]), rel=0.05)
    assert read_config(tmp_path / "one" / "config.toml") == read_config(tmp_path / "two" / "config.toml")


def test_epochs_that_are_not_given_follow_from_the_patterns_to_be_shown(dataset):
    opened = open_dataset(dataset)
    samples = data.read_samples(opened, "train")
    n = len(samples.index)
    config = complete_config(requested_config("cnn", {"patterns_seen": 10 * n - 3}), opened, samples)
    assert (config.epochs, config.batch_size) == (10, 64)
    assert complete_config(requested_config("cnn", {"batch_size": 4096}), opened, samples).batch_size == n
    assert complete_config(model_config("cnn"), opened, samples).epochs == model_config("cnn").max_epochs


def test_a_dataset_without_validation_or_training_patterns_is_refused(tiny_dataset, tmp_path):
    few = tiny_dataset(tmp_path, n=5, phases=(CUBIC,))
    with pytest.raises(InputError, match=r"no validation patterns|0 training patterns"):
        begin(few, tmp_path / "runs", "few")


def test_a_network_for_a_gpu_that_is_not_there_is_refused(dataset, tmp_path):
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    with pytest.raises(InputError, match="--device cuda"):
        start(SMALL, dataset=str(dataset), runs_dir=tmp_path, device="cuda")
    with pytest.raises(InputError, match="--device tpu is not known"):
        start(SMALL, dataset=str(dataset), runs_dir=tmp_path, device="tpu")


def test_the_learning_rate_rises_then_falls_and_norms_do_not_decay():
    config = model_config("cnn")
    rates = [learning_rate(step, total=100, config=config) for step in range(100)]
    top = rates.index(max(rates))
    assert max(rates) == config.learning_rate
    assert rates[: top + 1] == sorted(rates[: top + 1])
    assert rates[top:] == sorted(rates[top:], reverse=True)
    assert 0 < rates[-1] < 0.01 * config.learning_rate
    decaying, still = make_optimizer(torch.nn.Sequential(torch.nn.Linear(3, 2)), config).param_groups
    assert [weight.ndim for weight in decaying["params"]] == [2]
    assert (decaying["weight_decay"], still["weight_decay"]) == (config.weight_decay, 0.0)


def test_a_command_that_fails_says_why_in_one_sentence_and_exits_with_two(tmp_path, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["run", "--dataset", "nothing", "--root", str(tmp_path)])
    said = capsys.readouterr()
    assert stopped.value.code == 2
    assert said.err.startswith("error: ")
    assert said.err.count("\n") == 1
    assert said.out == ""
