"""A real `dpcurate index` that is interrupted, then killed, then run to its end."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import hyperspy.api as hs
import numpy as np
import pytest

from dpcurate.cli import main
from dpcurate.crystal_maps import read_index

PHASE = Path("datasets/phases/LiNiO2.cif").resolve()
COMMAND = "from dpcurate.cli import main; main()"


@pytest.fixture
def slow(tmp_path):
    """A scan of 20 bands, and the command that indexes it with templates far apart."""
    patterns = hs.load("tests/data/demo.hspy").inav[:8, :8]
    patterns.data = np.tile(patterns.data, (10, 8, 1, 1))
    for axis, size in zip(patterns.axes_manager.navigation_axes, (64, 80), strict=True):
        axis.size = size
    patterns.save(tmp_path / "slow.hspy", chunks=(4, 64, 128, 128))
    out = tmp_path / "slow.index"
    recipe = tmp_path / "matching_only.toml"
    recipe.write_text("[neighbours]\npool = false\n")
    options = ["--phase", str(PHASE), "--recipe", str(recipe), "--spacing", "10", "--out", str(out)]
    return ["index", str(tmp_path / "slow.hspy"), *options], out


def start(arguments):
    """The command as started from a terminal; tests run in the background hand on that interrupts are ignored."""
    return subprocess.Popen(
        [sys.executable, "-c", COMMAND, *arguments],
        stderr=subprocess.PIPE,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def wait_for_bands(process, keep, number):
    limit = time.monotonic() + 120
    while len(list(keep.glob("*/*-??????.npz"))) < number and process.poll() is None and time.monotonic() < limit:
        time.sleep(0.01)


def test_a_command_that_is_interrupted_and_killed_goes_on_where_it_was(slow):
    command, out = slow
    keep = out.with_name(out.name + ".partial")
    kept = {}
    for how, code in ((signal.SIGINT, 130), (signal.SIGKILL, -signal.SIGKILL)):
        process = start(command)
        wait_for_bands(process, keep, len(kept) + 1)
        process.send_signal(how)
        error = process.communicate(timeout=60)[1]
        assert process.returncode == code, error
        assert (how == signal.SIGKILL) != ("interrupted; run the same command again to go on" in error)
        assert kept.items() <= times_of(keep).items()
        assert len(kept) < len(times_of(keep)) < 10
        kept = times_of(keep)
    with pytest.raises(SystemExit) as end:
        main(command)
    assert end.value.code == 0
    assert not keep.exists()
    orientation = read_index(out).candidate_orientation
    np.testing.assert_array_equal(orientation, np.tile(orientation[:8, :8], (10, 8, 1, 1)))


def times_of(keep):
    return {path.name: path.stat().st_mtime_ns for path in keep.rglob("*.npz") if "tmp" not in path.name}
