"""The shape of the repository: small files, no trace of the place where it was written, versions pinned."""

import os
import re
import subprocess
import tomllib
from pathlib import Path

import pytest

from tests.modules import ROOT

LONGEST = 300
"""Lines of a Python file. At 300, divide it by idea."""

FOREIGN = [a + b for a, b in (("/wo", "rk/"), ("/ro", "ot/"), ("/fa", "rm/"), ("/opt/", "pypi"), ("/opt/", "wheels"))]
"""Paths that exist only where this was written; put together here, so that this file holds none."""

REGISTRIES = [
    a + b for a, b in (("extra-index", "-url"), ("find", "-links"), ("pypi", ".org"), ("pythonhosted", ".org"))
]
"""What would send pip to one place only. Where packages come from is the user's choice."""

UNFINISHED = [
    a + b for a, b in (("TO", "DO"), ("FIX", "ME"), ("no", "qa"), ("type: ", "ignore"), ("except ", "Exception"))
]
"""What does not stay in the code."""


def tracked_files():
    """Files that are in the repository or about to be."""
    if not (ROOT / ".git").exists():
        pytest.skip("this copy has no git folder, so what belongs to it cannot be told")
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return [ROOT / name for name in listed.stdout.splitlines() if (ROOT / name).is_file()]


def python_files():
    return [path for path in tracked_files() if path.suffix == ".py"]


def holding(paths, words):
    """Which files hold which of the words; binary files are searched too."""
    return [
        f"{path.relative_to(ROOT)}: {word}" for path in paths for word in words if word.encode() in path.read_bytes()
    ]


def test_no_python_file_is_longer_than_300_lines():
    lengths = {str(path.relative_to(ROOT)): path.read_bytes().count(b"\n") for path in python_files()}
    assert {name: length for name, length in lengths.items() if length > LONGEST} == {}


def test_no_file_names_a_path_of_the_place_where_it_was_written():
    assert holding(tracked_files(), FOREIGN) == []


def test_no_file_chooses_where_packages_come_from():
    assert holding(tracked_files(), REGISTRIES) == []


def test_nothing_unfinished_or_silenced_stays_in_the_code():
    assert holding(python_files(), UNFINISHED) == []


def test_no_module_is_named_for_nothing():
    assert [p.name for p in python_files() if p.stem in ("utils", "util", "helpers", "common", "misc")] == []


def test_constraints_pin_exact_versions_of_packages_and_nothing_else():
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if not re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][A-Za-z0-9.]*", line)] == []
    assert {"torch==2.13.0", "torchvision==0.28.0"} <= set(lines)


def test_every_direct_dependency_is_pinned_by_the_constraints():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"].values()
    wanted = [*project["dependencies"], *(requirement for extra in extras for requirement in extra)]
    pinned = {plain(line.split("==")[0]) for line in (ROOT / "constraints.txt").read_text().splitlines()}
    assert {plain(re.split(r"[<>=]", requirement)[0]) for requirement in wanted} - pinned == set()


def plain(name):
    """A package's name as pip compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def test_continuous_integration_runs_what_make_test_runs():
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    assert "make test" in script.read_text(encoding="utf-8")


@pytest.fixture
def elsewhere(tmp_path):
    """A folder with what `make env` reads, and no environment."""
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    return tmp_path


def make(*words, cwd: Path):
    return subprocess.run(["make", *words], cwd=cwd, capture_output=True, text=True, check=False)


def test_a_python_that_does_not_fit_is_refused_in_one_sentence(elsewhere):
    done = make("env", "PYTHON=no-such-python", cwd=elsewhere)
    assert done.returncode == 2
    assert "error: Python 3.11, 3.12 or 3.13 is needed" in done.stderr
    assert not (elsewhere / ".venv").exists()


def test_an_environment_that_is_built_is_not_built_again(elsewhere):
    (elsewhere / ".venv").mkdir()
    (elsewhere / ".venv" / ".built").touch()
    assert "Nothing to be done" in make("env", cwd=elsewhere).stdout
    os.utime(elsewhere / "constraints.txt", (4e9, 4e9))
    assert "pip install" in make("--dry-run", "env", cwd=elsewhere).stdout


def test_every_target_of_the_makefile_can_be_planned_and_builds_its_environment_first(elsewhere):
    for target in ("demo", "test", "lint", "bench", "train-env"):
        plan = make("--dry-run", target, cwd=elsewhere)
        assert plan.returncode == 0, plan.stderr
        assert plan.stdout.index("-m venv") < plan.stdout.index("touch .venv/.built")
