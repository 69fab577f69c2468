"""The Python face of the commands: `index`, `simulate`."""

from pathlib import Path
from typing import Any

import numpy as np
from orix.crystal_map import CrystalMap

from dpcurate.crystal_maps import to_crystal_map
from dpcurate.curate import simulate_dataset
from dpcurate.lookalike import image_of, write_picture
from dpcurate.pipeline import index_scan, read_phases
from dpcurate.recipe import load_recipe
from dpcurate.simulation_plan import SimulationPlan
from dpcurate.simulation_recipe import SimulatingRecipe, geometry_of
from dpcurate.store import open_dataset
from dpcurate.writing import PATTERNS_PER_SHARD

SHOWN = 800
"""Simulated patterns that are measured for the picture of a likeness."""

SETTINGS: dict[str, Any] = {"scan": True, "simulation": True, "virtual_scan": {"pixels"}}
"""What of a recipe decides a simulation, besides the phases; the card of a dataset shows what is not as usual."""


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


def simulate(
    number: int,
    recipe: SimulatingRecipe | None = None,
    *,
    like: str | Path | None = None,
    name: str = "simulated",
    seed: int = 0,
    root: str | Path | None = None,
    patterns_per_shard: int | None = None,
    device: str = "cpu",
    progress: bool = True,
) -> Path:
    """Write a dataset of ``number`` simulated patterns with exact labels, and return its folder.

    Parameters
    ----------
    number
        Patterns; the phases come in turn.
    recipe
        Phases, detector and beam, and how to simulate.
    like
        Index folder or scan in whose image to simulate: phases (of an index), calibration, sample, instrument, and
        orientations, of an index half around its own. A picture of both, ``NAME-VERSION.png``, lies beside the dataset.
    name, root
        Of the dataset; see ``store.dataset_root``.
    patterns_per_shard
        How many patterns one file holds; default: 1024.
    seed, device
        The same seed gives the same patterns. Where torch computes.
    progress
        Show it, on stderr.

    Raises
    ------
    InputError
        As the command says it in one sentence.
    """
    recipe = recipe or SimulatingRecipe()
    if like is None:
        phases, geometry = read_phases(recipe.phases), geometry_of(recipe)
        image, wanted = None, recipe.simulation
    else:
        image = image_of(like, recipe.simulation, phases=recipe.phases, scan=recipe.scan, seed=seed)
        phases, geometry, wanted = image.phases, image.geometry, image.recipe
    parents = tuple(tuple(map(tuple, some.tolist())) for some in image.parents) if image is not None else ()
    plan = SimulationPlan(recipe=wanted, geometry=geometry, seed=seed, number=number, parents=parents)
    asked = {
        "command": "simulate",
        "phase": list(recipe.phases),
        "like": None if like is None else str(Path(like).resolve()),
        "number": number,
        "name": name,
        "seed": seed,
        "patterns_per_shard": patterns_per_shard,
        "settings": recipe.model_dump(mode="json", include=SETTINGS, exclude_defaults=True),
    }
    where: dict[str, Any] = {"name": name, "root": root, "patterns_per_shard": patterns_per_shard or PATTERNS_PER_SHARD}
    folder = simulate_dataset(plan, phases, **where, recipe=asked, device=device, progress=progress)
    if image is not None:
        some = open_dataset(folder).patterns(np.arange(min(number, SHOWN)))
        write_picture(image, some, folder.with_name(f"{name}-{folder.name}.png"))
    return folder
