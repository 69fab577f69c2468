"""Imports flow from left to right, heavy packages stay where they are needed, and training needs few of them."""

import ast
import os
import subprocess
import sys

import pytest

from tests.modules import LEFT_TO_RIGHT, WITH_CURATION, module_files, order

NEEDS_CURATION = {f"dptrain.{name}" for name in WITH_CURATION.split()}

FOR_TRAINING = (
    "dpcurate.errors",
    "dpcurate.counters",
    "dpcurate.schema",
    "dpcurate.store",
    "dpcurate.index_arrays",
    "dpcurate.orientations",
    "dpcurate.orientation_sampling",
    "dpcurate.reflections",
    "dpcurate.kinematic",
    "dpcurate.bloch",
    "dpcurate.draws",
    "dpcurate.detector",
    "dpcurate.conditions",
    "dpcurate.simulation_plan",
    "dpcurate.simulator",
)
"""All that a training module takes from dpcurate."""

CURATION_PACKAGES = ("pyxem", "hyperspy", "orix", "diffsims", "diffpy", "rsciio", "dask", "distributed", "scipy")
"""What an installation of the `train` extra alone does not have, or has by chance."""

HEAVY = (*CURATION_PACKAGES, "torch", "timm", "matplotlib", "tensorstore", "pint")
"""What `import dpcurate`, `import dptrain` and both command lines' help do without."""

WITHOUT = """
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in BLOCKED:
            raise ModuleNotFoundError(f"No module named {name!r} in this environment", name=name)

BLOCKED = set(sys.argv.pop(1).split(","))
sys.meta_path.insert(0, Absent())
"""
"""Start of a program that runs as if the packages named in its first argument were not installed."""


def imports(path):
    """Names that a module imports anywhere, as full module paths; imports for type checkers only are left out."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    typing_only = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    found = set()
    for node in ast.walk(tree):
        if id(node) in typing_only:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def own_imports(path):
    """Modules of dpcurate and dptrain that a module imports."""
    known = module_files("dpcurate").keys() | module_files("dptrain").keys()
    return {module for name in imports(path) for module in (name, name.rpartition(".")[0]) if module in known}


def run_without(packages, code, *arguments):
    program = [sys.executable, "-c", WITHOUT + code, ",".join(packages), *map(str, arguments)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(program, capture_output=True, text=True, check=False, env=environment, timeout=300)


@pytest.mark.parametrize("package", LEFT_TO_RIGHT)
def test_every_module_has_its_place_in_the_order(package):
    there = {name.partition(".")[2] for name in module_files(package)}
    assert there - set(order(package)) == set(), "give these a place in tests/modules.py"
    assert set(order(package)) - there == set(), "these are gone; take them out of tests/modules.py"


@pytest.mark.parametrize("package", LEFT_TO_RIGHT)
def test_a_module_imports_only_from_its_left(package):
    place = {f"{package}.{name}": number for number, name in enumerate(order(package))}
    wrong = [
        f"{name} imports {other}"
        for name, path in module_files(package).items()
        for other in own_imports(path)
        if other in place and other != name and place[other] >= place[name]
    ]
    assert wrong == []


def test_dpcurate_never_imports_dptrain():
    assert [
        str(path)
        for path in module_files("dpcurate").values()
        if any(name.startswith("dptrain") for name in imports(path))
    ] == []


def test_training_takes_the_contract_and_the_orientations_from_dpcurate_and_nothing_else():
    wrong = [
        f"{name} imports {other}"
        for name, path in module_files("dptrain").items()
        if name not in NEEDS_CURATION
        for other in own_imports(path)
        if other.startswith("dpcurate.") and other not in FOR_TRAINING
    ]
    assert wrong == []


def test_training_names_no_package_of_curation():
    reached, waiting = set(), [name for name in module_files("dptrain") if name not in NEEDS_CURATION]
    everything = module_files("dpcurate") | module_files("dptrain")
    wrong = []
    while waiting:
        name = waiting.pop()
        if name in reached or name in NEEDS_CURATION or name == "dpcurate.__init__":
            continue
        reached.add(name)
        wrong += [f"{name}: {other}" for other in imports(everything[name]) if other.split(".")[0] in CURATION_PACKAGES]
        waiting += own_imports(everything[name])
    assert "dpcurate.shards" in reached, "what the store is made of is looked at too"
    assert wrong == []


@pytest.mark.parametrize("module", ["dpcurate", "dptrain", "dpcurate.cli", "dptrain.cli"])
def test_importing_a_package_or_its_command_line_is_light(module):
    heavy = [name for name in HEAVY if not (name == "tensorstore" and module == "dpcurate.cli")]
    done = run_without(heavy, f"import {module}")
    assert done.returncode == 0, done.stderr


def test_the_blocker_of_these_tests_blocks():
    done = run_without(["scipy"], "import dpcurate.grains")
    assert done.returncode == 1
    assert "No module named 'scipy'" in done.stderr


def test_a_network_trains_where_no_package_of_curation_is_installed(tiny_dataset, tmp_path):
    dataset = tiny_dataset(tmp_path / "datasets", n=60)
    training = [name for name in module_files("dptrain") if name not in NEEDS_CURATION | {"dptrain.__init__"}]
    code = f"import {', '.join(training)}\ndptrain.cli.main()"
    arguments = ("run", "--dataset", dataset, "--epochs", 1, "--device", "cpu", "--runs", tmp_path, "--name", "first")
    done = run_without(CURATION_PACKAGES, code, *arguments)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "first" / "model.safetensors").is_file()
