"""Compile orix's functions once, from one process, so that many may use them.

numba 0.68 keeps compiled functions on disk. Two processes that compile a generalised universal function at the same
time can leave halves of it that do not fit, and from then on `import orix` is a segmentation fault for everybody
(numba issue 10128). `make env` therefore runs ``python -m dpcurate.numba_cache`` before anything runs in parallel; do
the same in an environment made by hand. It also mends an environment in which that has happened.
"""

import sys
from importlib.util import find_spec
from pathlib import Path

COMPILED = ("orix", "diffsims")
"""Packages with functions that numba keeps on disk."""


def package_folders() -> list[Path]:
    """Return where these packages are installed, without importing them."""
    specs = [find_spec(name) for name in COMPILED]
    return [Path(place) for spec in specs if spec is not None for place in spec.submodule_search_locations or ()]


def remove_compiled(folder: Path) -> int:
    """Remove what numba has kept beside the code of a package in ``folder``; return how many files that were."""
    files = list(folder.rglob("__pycache__/*.nb[ci]"))
    for file in files:
        file.unlink(missing_ok=True)
    return len(files)


def compile_all() -> None:
    """Import and call what numba compiles in orix; quaternions are float64 there, so one call each is enough."""
    from orix.quaternion import Rotation
    from orix.vector import Vector3d

    turn = Rotation.from_euler([[10.0, 20.0, 30.0]], degrees=True)
    assert (turn * ~turn).angle[0] < 1e-6
    assert (turn * Vector3d.zvector()).size == 1


if __name__ == "__main__":
    removed = sum(remove_compiled(folder) for folder in package_folders())
    compile_all()
    sys.stderr.write(f"numba: {removed} files removed, compiled anew\n")
