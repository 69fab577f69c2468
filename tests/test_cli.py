import importlib
import os
import signal

import pytest

import dpcurate.cli
import dptrain.cli
from dpcurate.curate import MAX_SEED

COMMANDS = [(dpcurate.cli.main, ["index", "scan.hspy"]), (dptrain.cli.main, ["predict", "run", "scan.hspy"])]


@pytest.fixture
def waits(tmp_path):
    """A recipe that nobody writes: reading it waits until this process is interrupted, after a second."""

    def interrupt(*_):
        raise KeyboardInterrupt

    os.mkfifo(tmp_path / "recipe.toml")
    before = signal.signal(signal.SIGALRM, interrupt)
    yield str(tmp_path / "recipe.toml")
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize(("main", "command"), COMMANDS)
def test_an_interrupt_is_one_sentence_that_says_how_to_go_on(main, command, waits, capsys):
    for name in ("dpcurate.pipeline", "dptrain.predict"):
        importlib.import_module(name)  # slow, so before the clock starts
    signal.setitimer(signal.ITIMER_REAL, 1)
    with pytest.raises(SystemExit) as end:
        main([*command, "--recipe", waits])
    assert end.value.code == 130
    error = capsys.readouterr().err.strip().splitlines()
    assert len(error) == 1
    assert error[0].startswith("interrupted; ")


@pytest.mark.parametrize("seed", [-1, MAX_SEED + 1])
def test_a_seed_out_of_range_is_one_sentence(seed, capsys):
    with pytest.raises(SystemExit) as end:
        dpcurate.cli.main(["build-dataset", "none.index", f"--seed={seed}"])
    assert end.value.code == 2
    assert capsys.readouterr().err == f"error: --seed {seed}: must be from 0 to {MAX_SEED}.\n"


@pytest.mark.parametrize("name", ["../../x", "..", "a/b", "/x"])
@pytest.mark.parametrize("resume", [[], ["--resume"]])
def test_a_run_is_given_a_name_and_not_a_path(name, resume, tmp_path, capsys):
    runs = tmp_path / "a" / "runs"
    with pytest.raises(SystemExit) as end:
        dptrain.cli.main(["run", "--dataset", "none", "--runs", str(runs), "--name", name, *resume])
    assert end.value.code == 2
    assert capsys.readouterr().err.startswith(f"error: --name {name}: is a path, and a name is expected")
