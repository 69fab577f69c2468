"""Make the scans that indexing is measured on beside those of abTEM, with our own dynamical simulator.

Example: python benchmarks/index_scans.py --out scans
Recipes lie in benchmarks/scans. What our own simulator makes favours our own templates: same structure factors, same
geometry. Only the theory of scattering differs. `--only wedge` makes one of them.
"""

import argparse
import time
from pathlib import Path

import numpy as np

from dpcurate.phases import read_cif
from dpcurate.recipe import read_recipe
from dpcurate.simulation_recipe import USUAL_STEP_NM, SimulatingRecipe, geometry_of, microstructure_of
from dpcurate.truth import read_truth
from dpcurate.virtual_scan import simulate_scan

SEEDS = {"wedge": 101, "precession": 102, "steel": 103, "olivine": 104}
RECIPES = Path(__file__).parent / "scans"


def make(name: str, folder: Path) -> Path:
    """Simulate the scan of one recipe into a folder, unless it is there; return its path."""
    out = folder / f"scan_{name}.hspy"
    if out.is_file():
        return out
    recipe = read_recipe(SimulatingRecipe, RECIPES / f"{name}.toml")
    phases = [read_cif(path) for path in recipe.phases]
    seed = SEEDS[name]
    structure = microstructure_of(recipe, phases, seed=seed)
    folder.mkdir(parents=True, exist_ok=True)
    origin = recipe.virtual_scan.model_dump(mode="json")
    return simulate_scan(
        structure,
        phases,
        recipe.simulation,
        geometry_of(recipe),
        seed=seed,
        out=out,
        step_nm=USUAL_STEP_NM,
        origin=origin,
    )


def main() -> None:
    """Make all scans, or those that are named, and say what is in them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", required=True, type=Path)
    parser.add_argument("--only", nargs="+", choices=SEEDS, default=list(SEEDS))
    arguments = parser.parse_args()
    for name in arguments.only:
        start = time.perf_counter()
        path = make(name, arguments.out)
        truth = read_truth(path)
        rows, columns = truth.weight.shape
        print(
            f"{path}: {rows} x {columns}, {len(np.unique(truth.grain))} grains, {truth.inside.mean():.0%} inside, "
            f"{time.perf_counter() - start:.0f} s"
        )


if __name__ == "__main__":
    main()
