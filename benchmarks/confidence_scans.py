"""Make and index the virtual scans on which the confidence is fitted and judged.

Example: python benchmarks/confidence_scans.py --out confidence_scans
Of each scan everything is drawn: phases, dose, precession, thickness, grains, detector; no two share any of it. Scans
that are there are kept, so that an interrupted run goes on. `--part 0/2` and `--part 1/2` share the work between two
processes.
"""

import argparse
import time
from pathlib import Path

import numpy as np

from dpcurate.phases import read_cif
from dpcurate.pipeline import index_scan
from dpcurate.recipe import Recipe, read_recipe
from dpcurate.simulation_recipe import USUAL_STEP_NM, SimulatingRecipe, geometry_of, microstructure_of
from dpcurate.truth import read_truth
from dpcurate.virtual_scan import simulate_scan

PHASES = Path(__file__).parents[1] / "datasets" / "phases"
SPECIMENS = (("LiNiO2",), ("LiNiO2",), ("Ni",), ("Fe-fcc", "Fe-bcc"), ("LiFePO4",))
"""LiNiO2 twice: its variants are what confidence is needed for."""

SIDE = 28
SEED = 5000


def drawn_recipe(number: int) -> SimulatingRecipe:
    """The recipe of one scan, drawn from its number."""
    rng = np.random.default_rng([SEED, number])
    names = SPECIMENS[(number // 2) % len(SPECIMENS)]
    dose = float(np.exp(rng.uniform(np.log(1_000), np.log(20_000))))
    thin = float(rng.uniform(80, 250))
    return read_recipe(
        SimulatingRecipe,
        None,
        phases=[str(PHASES / f"{name}.cif") for name in names],
        scan__precession_deg=0.0 if rng.random() < 0.25 else float(rng.uniform(0.2, 1.0)),
        simulation__sample__instrument__dose_electrons=[dose, dose],
        virtual_scan__rows=SIDE,
        virtual_scan__columns=SIDE,
        virtual_scan__n_grains=int(rng.integers(6, 15)),
        virtual_scan__grain_model__spread_deg=float(rng.uniform(0.1, 0.6)),
        virtual_scan__specimen__thickness_limits_angstrom=[thin, thin + float(rng.uniform(50, 450))],
        virtual_scan__specimen__wedge_share=float(rng.random() < 0.3),
    )


def make(number: int, folder: Path) -> Path:
    """Simulate and index one scan unless it is there; return its index."""
    scan, out = folder / f"scan_{number:02d}.hspy", folder / f"scan_{number:02d}.index"
    recipe = drawn_recipe(number)
    if not scan.is_file():
        phases = [read_cif(path) for path in recipe.phases]
        structure = microstructure_of(recipe, phases, seed=SEED + number)
        origin = recipe.virtual_scan.model_dump(mode="json")
        simulate_scan(
            structure,
            phases,
            recipe.simulation,
            geometry_of(recipe),
            seed=SEED + number,
            out=scan,
            step_nm=USUAL_STEP_NM,
            origin=origin,
        )
    if not out.exists():
        index_scan(scan, Recipe(phases=recipe.phases), out=out)
    return out


def main() -> None:
    """Make all scans and say what is in them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", required=True, type=Path)
    parser.add_argument("--number", type=int, default=36, help="of scans")
    parser.add_argument("--part", default="0/1", help="which of how many shares to make")
    arguments = parser.parse_args()
    share, shares = (int(part) for part in arguments.part.split("/"))
    arguments.out.mkdir(parents=True, exist_ok=True)
    for number in range(share, arguments.number, shares):
        start = time.perf_counter()
        truth = read_truth(make(number, arguments.out).with_suffix(".hspy"))
        print(
            f"scan {number:02d}: {len(np.unique(truth.grain))} grains, {time.perf_counter() - start:.0f} s", flush=True
        )


if __name__ == "__main__":
    main()
