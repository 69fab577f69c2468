"""Runs that are stopped, killed or spread over processes go on as if nothing had happened."""

import csv
import os
import signal
import subprocess
import sys
import time

import pytest
import torch

from dptrain.checkpoint import STATE, load_state
from dptrain.interruption import STOPPED

torch.set_num_threads(1)  # several workers of pytest share the cores

EXACT, LATER = 2e-4, 2e-3
"""Relative difference in loss that another order of sums may make in the first two epochs, and later: it begins at 1e-7
and grows with every step in so small a network, to 2e-4. That the samples are the same is told from their sums."""

SMALL = ("--batch-size", "16", "--input-size", "32", "--ema-decay", "0.9", "--device", "cpu")
OPTIONS = ("--epochs", "6", "--learning-rate", "2e-4", *SMALL)
"""At the model's own rate rounding grows faster: on some processors to 6e-4 within two epochs."""


@pytest.fixture(scope="module")
def dataset(tiny_dataset, tmp_path_factory):
    return tiny_dataset(tmp_path_factory.mktemp("datasets"), n=120)


def program(dataset, runs, name, *, processes=1, options=OPTIONS, save="0.0"):
    """The command of a run that looks at its clock in every step and saves after ``save`` seconds."""
    code = f"from dptrain import train, cli; train.CHECK_STEPS, train.SAVE_SECONDS = 1, {save}; cli.main()"
    (runs / "program.py").write_text(f"if __name__ == '__main__':\n    {code}\n", encoding="utf-8")
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    arguments = [str(runs / "program.py"), "run", "--dataset", str(dataset), "--runs", str(runs), "--name", name]
    return [sys.executable, *(launcher if processes > 1 else []), *arguments, *options]


def begin(command):
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.getcwd()}
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(command):
    process = begin(command)
    _, said = process.communicate(timeout=200)
    assert process.returncode == 0, said


def wait_for(path, process):
    limit = time.monotonic() + 100
    while not path.exists() and process.poll() is None and time.monotonic() < limit:
        time.sleep(0.01)
    assert path.exists(), process.communicate()


def rows_of(run_dir):
    with (run_dir / "metrics.csv").open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    return [
        {key: float(value) for key, value in row.items() if key not in ("seconds", "patterns_per_s")} for row in rows
    ]


def assert_same_course(found, expected):
    assert len(found) == len(expected)
    for epoch, (one, other) in enumerate(zip(found, expected, strict=True)):
        assert (one["samples"], one["sample_sum"]) == (other["samples"], other["sample_sum"])
        for loss in ("train_loss", "validation_loss"):
            assert one[loss] == pytest.approx(other[loss], rel=EXACT if epoch < 2 else LATER)


@pytest.fixture(scope="module")
def whole(dataset, tmp_path_factory):
    runs = tmp_path_factory.mktemp("whole")
    finish(program(dataset, runs, "whole"))
    return runs / "whole"


def test_the_same_seed_gives_the_same_bits(dataset, whole, tmp_path):
    finish(program(dataset, tmp_path, "again"))
    assert rows_of(tmp_path / "again") == rows_of(whole)
    first, second = (load_state(folder / STATE) for folder in (whole, tmp_path / "again"))
    for part in ("network", "average"):
        assert all(torch.equal(first[part][name], second[part][name]) for name in first[part])


def test_two_processes_train_what_one_does_up_to_the_order_of_sums(dataset, whole, tmp_path):
    finish(program(dataset, tmp_path, "two", processes=2))
    assert_same_course(rows_of(tmp_path / "two"), rows_of(whole))


def test_a_killed_run_goes_on_bit_for_bit_and_on_two_processes_up_to_the_order_of_sums(dataset, whole, tmp_path):
    for name, processes in (("one", 1), ("two", 2)):
        process = begin(program(dataset, tmp_path, name))
        wait_for(tmp_path / name / STATE, process)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert load_state(tmp_path / name / STATE)["progress"]["epoch"] < 6
        finish(program(dataset, tmp_path, name, processes=processes, options=("--resume", "--device", "cpu")))
    assert rows_of(tmp_path / "one") == rows_of(whole)
    assert_same_course(rows_of(tmp_path / "two"), rows_of(whole))


@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGTERM])
def test_a_run_that_is_asked_to_stop_saves_at_the_next_step_and_says_try_again(dataset, whole, tmp_path, number):
    process = begin(program(dataset, tmp_path, "asked", save="1e9"))
    wait_for(tmp_path / "asked" / "metrics.csv", process)
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == STOPPED, said
    assert "saved, goes on with the same command and --resume" in said
    assert "Traceback" not in said
    progress = load_state(tmp_path / "asked" / STATE)["progress"]
    assert 1 <= progress["epoch"] < 6
    finish(program(dataset, tmp_path, "asked", options=("--resume", "--device", "cpu")))
    assert rows_of(tmp_path / "asked") == rows_of(whole)


def test_when_one_process_dies_the_others_stop_within_a_minute(dataset, tmp_path):
    process = begin(program(dataset, tmp_path, "dies", processes=2, options=("--epochs", "500", *OPTIONS[2:])))
    wait_for(tmp_path / "dies" / STATE, process)
    children = f"/proc/{process.pid}/task/{process.pid}/children"
    with open(children, encoding="utf-8") as stream:
        ranks = [int(word) for word in stream.read().split()]
    started = time.monotonic()
    os.kill(ranks[-1], signal.SIGKILL)
    _, said = process.communicate(timeout=60)
    assert process.returncode not in (0, STOPPED)
    assert time.monotonic() - started < 60
    assert "SIGKILL" in said
    assert load_state(tmp_path / "dies" / STATE)["progress"]["epoch"] >= 0
