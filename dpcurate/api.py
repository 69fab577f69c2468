"""The Python face of `dpcurate index`."""

from pathlib import Path
from typing import Any

from orix.crystal_map import CrystalMap

from dpcurate.crystal_maps import to_crystal_map
from dpcurate.pipeline import index_scan
from dpcurate.recipe import load_recipe


def index(
    scan: Any,
    *,
    phases: list[str] | None = None,
    recipe: str | Path | None = None,
    out: str | Path | None = None,
    overwrite: bool = False,
    **choices: object,
) -> CrystalMap:
    """Index a scan (path or HyperSpy signal) and return its orix crystal map, n best rotations per pixel.

    Parameters
    ----------
    scan
        A path to anything HyperSpy reads, or a 4D HyperSpy signal with calibrated axes.
    phases
        CIF files; default: those of the recipe.
    recipe
        TOML file; default: `dpcurate.toml` in the working folder, if there is one.
    out
        Folder to create; nothing is written without it.
    overwrite
        Replace ``out`` if it is there.
    choices
        Recipe keys as ``section__key=value``, such as ``scan__beam_energy_kev=200``.

    Raises
    ------
    InputError
        As the command says it in one sentence.
    """
    chosen = load_recipe(recipe, phases=phases, **choices)
    return to_crystal_map(index_scan(scan, chosen, out=Path(out) if out is not None else None, overwrite=overwrite))
