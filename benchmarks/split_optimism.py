"""How much better a network looks by a random split of pixels than by grains or blocks: the same labels, another split.

    dpcurate simulate-scan virtual.hspy --phase datasets/phases/LiNiO2.cif --rows 48 --columns 48 --grains 40 \
        --pixels 64 --scale 0.042 --seed 1
    dpcurate index virtual.hspy --phase datasets/phases/LiNiO2.cif
    python benchmarks/split_optimism.py virtual.index --folder scratch

For each seed one dataset by each split, all labels of it kept, and one network trained on each. Judged are as many test
patterns of each as the smallest test split has, drawn at random: against the label, as one does without a truth, and
against the scan's exact truth. What comes first in the folder is not made again.
"""

import argparse
import json
import statistics
from pathlib import Path

import numpy as np

from dpcurate.curate import build_dataset
from dpcurate.manifests import read_manifest
from dpcurate.recipe import CurationRecipe
from dpcurate.store import Dataset, open_dataset
from dptrain.checkpoint import load_model
from dptrain.evaluate import judge
from dptrain.metrics import errors_deg
from dptrain.start import start

SPLITS = ("random", "grain", "block")
WITHIN_DEG = 5.0


def errors_of(run: Path, dataset: Dataset) -> dict[str, np.ndarray]:
    """Disorientations of a network on the test split of its dataset, from the label and from the truth."""
    judged, _ = judge(load_model(run, "cpu"), dataset, split="test", progress=False)
    rows, phase = judged.index, dataset.read("phase_id")[judged.index]
    told = {"predicted_phase": judged.phase_id, "phase": phase, "phases": dataset.manifest.phases}
    by_label = errors_deg(judged.orientation, dataset.read("orientation")[rows], **told)
    return {"label": by_label, "truth": judged.error_deg}


def trained(index: Path, folder: Path, *, split: str, seed: int, epochs: int) -> dict[str, list[float]]:
    """Errors of one network on its test patterns, and how many of those were near-duplicates; from a file if there."""
    file = folder / f"{split}-{seed}.json"
    if not file.exists():
        rules = CurationRecipe(split=split)
        made = build_dataset(
            [index], name=split, min_confidence=0.0, rules=rules, seed=seed, root=folder / f"seed{seed}", progress=False
        )
        options = {"model": "cnn", "epochs": epochs, "seed": seed, "batch_size": 32, "input": {"size": 64}}
        run = start(options, dataset=str(made), name=f"{split}-{seed}", runs_dir=folder / "runs", device="cpu")
        found = {name: error.tolist() for name, error in errors_of(run, open_dataset(made)).items()}
        leak = read_manifest(made).leak.splits["test"]
        found |= {"training": [read_manifest(made).leak.training_patterns]}
        found |= {"near": [(leak.near_duplicates - leak.look_alikes) / leak.judged]}
        file.write_text(json.dumps(found))
    return json.loads(file.read_text())


def within(errors: list[float], n: int, seed: int) -> float:
    """Share of ``n`` errors drawn at random that are at most `WITHIN_DEG`, in percent."""
    drawn = np.random.default_rng(seed).choice(np.asarray(errors), n, replace=False)
    return 100 * float((drawn <= WITHIN_DEG).mean())


def middle(values: list[float]) -> str:
    return f"{statistics.mean(values):.1f} ({min(values):.1f} to {max(values):.1f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("index", type=Path)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--splits", nargs="+", choices=SPLITS, default=SPLITS)
    parser.add_argument("--epochs", type=int, default=30)
    asked = parser.parse_args()
    asked.folder.mkdir(parents=True, exist_ok=True)
    found = {
        (split, seed): trained(asked.index, asked.folder, split=split, seed=seed, epochs=asked.epochs)
        for seed in asked.seeds
        for split in asked.splits
    }
    n = min(len(one["label"]) for one in found.values())
    print(f"seeds {asked.seeds}, {asked.epochs} epochs, {n} test patterns of each dataset; means (least to most)\n")
    print("| split | training patterns | duplicates in test, % | % within 5 degrees of the label | of the truth |")
    print("| --- | --- | --- | --- | --- |")
    scores = {}
    for split in asked.splits:
        ones = {seed: found[split, seed] for seed in asked.seeds}
        scores[split] = [[within(one[name], n, seed) for seed, one in ones.items()] for name in ("label", "truth")]
        training = statistics.mean(one["training"][0] for one in ones.values())
        near = middle([100 * one["near"][0] for one in ones.values()])
        print(f"| {split} | {training:.0f} | {near} | {' | '.join(map(middle, scores[split]))} |")
    for other in [split for split in asked.splits if split != "random" and "random" in asked.splits]:
        gaps = [
            [a - b for a, b in zip(*pair, strict=True)] for pair in zip(scores["random"], scores[other], strict=True)
        ]
        label, truth = map(middle, gaps)
        print(f"\nrandom less {other}, in points, seed by seed: of the label {label}, of the truth {truth}")


if __name__ == "__main__":
    main()
