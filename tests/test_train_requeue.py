"""The Slurm script puts its job back into the queue when training was asked to stop; Slurm is played by two scripts."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

SCRIPT = Path(__file__).parents[1] / "hpc" / "train.sbatch"


def stand_in(folder, name, text):
    path = folder / name
    path.write_text(f"#!/bin/bash\n{text}\n", encoding="utf-8")
    path.chmod(0o755)


def test_a_training_that_slurm_asks_to_stop_is_put_back_into_the_queue_and_goes_on(tiny_dataset, tmp_path):
    programs = tmp_path / "programs"
    programs.mkdir()
    stand_in(programs, "srun", 'echo $$ > started; exec "$@"')
    stand_in(programs, "scontrol", 'if [ "$1" = requeue ]; then echo "$2" >> requeued; else echo here; fi')
    variables = {
        **os.environ,
        "PATH": f"{programs}:{os.environ['PATH']}",
        "BIN": str(Path(sys.executable).parent),
        "SLURM_JOB_ID": "4711",
        "SLURM_JOB_NODELIST": "here",
        "NAME": "first",
        "DATASET": str(tiny_dataset(tmp_path / "datasets", n=60)),
        "DEVICE": "cpu",
        "OPTIONS": "--epochs 40 --batch-size 16 --input-size 32",
    }
    metrics = tmp_path / "runs" / "first" / "metrics.csv"
    with (tmp_path / "log").open("w") as log:
        job = subprocess.Popen(["bash", SCRIPT], cwd=tmp_path, env=variables, stdout=log, stderr=log)
        limit = time.monotonic() + 100
        while not metrics.exists() and job.poll() is None and time.monotonic() < limit:
            time.sleep(0.02)
        os.kill(int((tmp_path / "started").read_text()), signal.SIGTERM)
        assert job.wait(timeout=60) == 0, (tmp_path / "log").read_text()
    assert (tmp_path / "requeued").read_text() == "4711\n"
    assert 1 <= metrics.read_text().count("\n") - 1 < 40
    again = subprocess.run(["bash", SCRIPT], cwd=tmp_path, env=variables, capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stderr
    assert metrics.read_text().count("\n") - 1 == 40
    assert (tmp_path / "requeued").read_text() == "4711\n"
