"""The scripts of hpc/ run as plain shell, as they do on a cluster: what differs there is who starts them."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import hyperspy.api as hs
import numpy as np
import pytest

from dpcurate.crystal_maps import read_index

ROOT = Path(__file__).parents[1]
HPC = ROOT / "hpc"
PHASE = ROOT / "datasets" / "phases" / "LiNiO2.cif"
COARSE = "[library]\nspacing_deg = 10.0\n[preprocess]\nn_radius = 20\nn_azimuth = 60\n"
PLAIN = {name: value for name, value in os.environ.items() if not name.startswith("SLURM_")}
FAST_START = {"NUMBA_DISABLE_JIT": 1}
"""Compiling pyxem's kernels takes each process ten seconds; eight patterns take less without."""


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A folder with a cut of the demonstration scan in several chunks, and a coarse recipe."""
    folder = tmp_path_factory.mktemp("small")
    scan = hs.load(ROOT / "tests" / "data" / "demo.hspy", lazy=True).inav[:4, :2]
    scan.compute(show_progressbar=False)
    scan.save(folder / "small.hspy", chunks=(2, 2, 128, 128))
    (folder / "coarse.toml").write_text(COARSE, encoding="utf-8")
    return folder


def environment(**variables):
    return {**PLAIN, "BIN": str(Path(sys.executable).parent), **{name: str(value) for name, value in variables.items()}}


def run(*command, cwd, **variables):
    return subprocess.run(
        list(map(str, command)),
        cwd=cwd,
        env=environment(**variables),
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


def train_variables(dataset, *, epochs, port):
    return {
        "NAME": "first",
        "DATASET": dataset,
        "PROCESSES": 2,
        "DEVICE": "cpu",
        "PORT": port,
        "OPTIONS": f"--epochs {epochs} --batch-size 16",
    }


@pytest.mark.parametrize("script", sorted(path.name for path in HPC.glob("*.sbatch")))
def test_a_batch_script_is_sound_and_says_what_it_lacks(script, tmp_path):
    assert run("bash", "-n", HPC / script, cwd=tmp_path).returncode == 0
    done = run("bash", HPC / script, cwd=tmp_path)
    assert done.returncode != 0
    assert "set " in done.stderr


def test_workers_of_a_cluster_index_as_one_node_does(small):
    chosen = {"SCAN": "small.hspy", "PHASE": PHASE, "OUT": "one.index", "OPTIONS": "--recipe coarse.toml"}
    one = run("bash", HPC / "index.sbatch", cwd=small, **chosen, **FAST_START)
    assert one.returncode == 0, one.stderr
    program = (sys.executable, HPC / "index_jobqueue.py", "small.hspy", "--phase", PHASE, "--recipe", "coarse.toml")
    many = run(*program, "--local", 1, "--out", "many.index", cwd=small, **FAST_START)
    assert many.returncode == 0, many.stderr
    here, there = read_index(small / "one.index"), read_index(small / "many.index")
    np.testing.assert_array_equal(here.phase_id, there.phase_id)
    np.testing.assert_allclose(here.candidate_score, there.candidate_score, rtol=1e-5)
    np.testing.assert_allclose(here.orientation, there.orientation, atol=1e-9)


def test_a_batch_script_that_starts_scheduler_and_workers_gives_the_same_numbers(small):
    chosen = {"SCAN": "small.hspy", "PHASE": PHASE, "OPTIONS": "--engine fast --spacing 10"}
    for script, out in (("index.sbatch", "fast.index"), ("index_dask.sbatch", "dask.index")):
        done = run("bash", HPC / script, cwd=small, **chosen, OUT=out, WORKERS=1)
        assert done.returncode == 0, done.stderr
    here, there = read_index(small / "fast.index"), read_index(small / "dask.index")
    np.testing.assert_array_equal(here.candidate_score, there.candidate_score)
    np.testing.assert_array_equal(here.candidate_orientation, there.candidate_orientation)
    assert not list(small.glob("*.json"))


def test_the_jobs_that_dask_would_submit_ask_for_what_was_given(tmp_path):
    program = (sys.executable, HPC / "index_jobqueue.py", "scan.hspy", "--show-job")
    job = run(*program, "--queue", "standard", "--account", "me", "--walltime", "01:00:00", cwd=tmp_path)
    assert job.returncode == 0, job.stderr
    for line in ("#SBATCH -p standard", "#SBATCH -A me", "#SBATCH -t 01:00:00", "export OMP_NUM_THREADS=1"):
        assert line in job.stdout


def test_a_recipe_that_is_missing_is_one_sentence_before_any_job_is_submitted(tmp_path):
    done = run(sys.executable, HPC / "index_jobqueue.py", "scan.hspy", "--recipe", "none.toml", cwd=tmp_path)
    assert done.returncode == 2
    assert "error: none.toml: no such recipe" in done.stderr


def children(pid):
    """Numbers of a process's children."""
    return list(map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()))


@pytest.mark.parametrize(("asked", "port"), [("the script", 29_613), ("one process", 29_614)])
def test_training_that_is_stopped_goes_on_when_it_is_started_again_on_fewer_processes(
    tiny_dataset, tmp_path, asked, port
):
    variables = train_variables(tiny_dataset(tmp_path / "datasets", n=60), epochs=12, port=port)
    run_dir = tmp_path / "runs" / "first"
    run_dir.mkdir(parents=True)
    (run_dir / "config.toml").write_text("left by a start that ended early", encoding="utf-8")
    with (tmp_path / "log").open("w") as log:
        started = subprocess.Popen(
            ["bash", HPC / "train.sbatch"], cwd=tmp_path, env=environment(**variables), stdout=log, stderr=log
        )
        limit = time.monotonic() + 200
        while not (run_dir / "metrics.csv").exists() and started.poll() is None and time.monotonic() < limit:
            time.sleep(0.05)
        if asked == "the script":
            started.send_signal(signal.SIGUSR1)
        else:
            (torchrun,) = children(started.pid)
            os.kill(children(torchrun)[-1], signal.SIGUSR1)
        assert started.wait(timeout=60) == 0, (tmp_path / "log").read_text()
    assert "start it again to go on" in (tmp_path / "log").read_text()
    epochs_done = (run_dir / "metrics.csv").read_text().count("\n") - 1
    assert 1 <= epochs_done < 12
    assert f"stopped in epoch {epochs_done + 1} after step" in (run_dir / "stopped").read_text(encoding="utf-8")
    again = run("bash", HPC / "train.sbatch", cwd=tmp_path, **{**variables, "PROCESSES": 1})
    assert again.returncode == 0, again.stderr
    assert not (run_dir / "stopped").exists()
    assert (run_dir / "metrics.csv").read_text().count("\n") - 1 == 12
