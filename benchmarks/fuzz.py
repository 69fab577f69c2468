"""Mutated manifests and recipes for a stated time: each is read or refused in one sentence, or this stops.

    nice -n 19 python benchmarks/fuzz.py --minutes 10 --folder scratch
    nice -n 19 .venvs/fuzz/bin/python benchmarks/fuzz.py --minutes 10 --folder scratch --atheris

Without atheris mutations are drawn at random from a seed. With it (an environment of its own: pip install atheris and
this package with its extra `curate`) libFuzzer chooses them by what code they reach. What got through, how many were
refused and how many read is printed; a failure leaves its file in the folder and ends with a traceback.
"""

import argparse
import contextlib
import faulthandler
import random
import sys
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from dpcurate.curation_recipe import BuildingRecipe
from dpcurate.recipe import recipe_toml
from tests.conftest import write_tiny_dataset
from tests.hostile import check_dataset, check_recipe, check_shown, mutated_manifest, mutated_recipe

HANGS_S = 120
"""Seconds after which a reader that has not come back is called hanging: long, for a busy machine."""

counted: Counter[str] = Counter()


class Files:
    """A dataset whose manifest is written over, and a recipe."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.dataset = write_tiny_dataset(folder / "datasets", n=20, shape=(8, 8))
        self.manifest = (self.dataset / "manifest.json").read_bytes()
        self.recipe_file = folder / "mutated.toml"
        self.recipe = recipe_toml(BuildingRecipe(phases=("Ni.cif",))).encode()

    def try_one(self, choose) -> None:
        """Mutate one file and read it in every way; anything but a sentence gets out."""
        faulthandler.dump_traceback_later(HANGS_S, exit=True)
        kind = ("recipe", "manifest", "manifest shown")[choose(3)]
        if kind == "recipe":
            self.recipe_file.write_bytes(mutated_recipe(self.recipe, choose))
            said = check_recipe(self.recipe_file)
        else:
            (self.dataset / "manifest.json").write_bytes(mutated_manifest(self.manifest, choose))
            said = (check_dataset if kind == "manifest" else check_shown)(self.dataset)
        faulthandler.cancel_dump_traceback_later()
        counted[f"{kind}: {'refused in a sentence' if said else 'read'}"] += 1


def at_random(files: Files, *, minutes: float, seed: int) -> None:
    generator, end = random.Random(seed), time.monotonic() + 60 * minutes
    while time.monotonic() < end:
        files.try_one(generator.randrange)


def by_atheris(files: Files, *, minutes: float, seed: int) -> None:
    import atheris

    def one(content: bytes) -> None:
        provider = atheris.FuzzedDataProvider(content)
        files.try_one(lambda n: provider.ConsumeIntInRange(0, n - 1))

    atheris.instrument_all()
    options = [f"-max_total_time={round(60 * minutes)}", f"-seed={seed}", "-max_len=400", "-print_final_stats=1"]
    atheris.Setup([sys.argv[0], *options], one)
    with contextlib.suppress(SystemExit):
        atheris.Fuzz()


def tell(seconds: float) -> None:
    for what, number in sorted(counted.items()):
        print(f"{what:40} {number:8d}")
    print(f"{'all':40} {sum(counted.values()):8d} in {seconds:.0f} s, no failure", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--atheris", action="store_true")
    asked = parser.parse_args()
    files, start = Files(asked.folder), time.monotonic()
    (by_atheris if asked.atheris else at_random)(files, minutes=asked.minutes, seed=asked.seed)
    tell(time.monotonic() - start)


if __name__ == "__main__":
    main()
