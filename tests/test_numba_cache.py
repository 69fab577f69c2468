import os
import subprocess
import sys

from dpcurate.numba_cache import package_folders, remove_compiled

IMPORT = "from orix.crystal_map import Phase"


def test_a_fresh_cache_serves_processes_that_start_together_and_those_after_them(tmp_path):
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}
    run = [sys.executable, "-c"]
    fill = [*run, "from dpcurate.numba_cache import compile_all; compile_all()"]
    subprocess.run(fill, env=environment, check=True)
    filled = set(tmp_path.rglob("guf-*.nb[ci]"))
    for name in ("conj", "multiply", "rotate"):
        assert any(f"qu_{name}" in file.name for file in filled), f"orix's {name} is not compiled"
    together = [subprocess.Popen([*run, IMPORT], env=environment) for _ in range(2)]
    assert [process.wait(timeout=300) for process in together] == [0, 0]
    assert set(tmp_path.rglob("guf-*.nb[ci]")) == filled, "nobody compiles them a second time"


def test_only_what_numba_keeps_is_removed(tmp_path):
    folder = tmp_path / "orix" / "quaternion" / "__pycache__"
    folder.mkdir(parents=True)
    for name in ("guf-quaternion.qu_multiply_gufunc-1372.py311.nbi", "a.1.nbc", "quaternion.cpython-311.pyc"):
        (folder / name).touch()
    assert remove_compiled(tmp_path) == 2
    assert [file.name for file in folder.iterdir()] == ["quaternion.cpython-311.pyc"]
    assert any(place.name == "orix" for place in package_folders())
