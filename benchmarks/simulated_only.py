"""What a network reaches on a scan when it has seen simulated patterns only, all of them fresh.

Example: python benchmarks/simulated_only.py --like scan.hspy --phase LiNiO2.cif --data scan_dev.npz --out fresh
Orientations are uniform, so that nothing of the scan's grains is known. The plan and the phase are left in the folder
`--out`, from which a machine without curation packages goes on: `--plan fresh` instead of `--like`.
"""

import argparse
import csv
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch

from dpcurate.orientations import disorientation_deg
from dpcurate.schema import PhaseRecord
from dpcurate.simulation_plan import SimulationPlan
from dpcurate.simulator import Simulator, draw, make_simulator, simulate
from dptrain.augment import canonical, change_label, draw_change, no_change
from dptrain.config import AugmentConfig
from dptrain.heads import build_head
from dptrain.models import build_network
from dptrain.runs import requested_config

PLAN, PHASE = "plan.json", "phase.json"
WITHIN_DEG = (1, 3, 5, 10)
FIRST_TEST = 2**30
"""Samples from this number on are kept for testing."""


def prepare(scan: str, cif: str, out: Path, *, seed: int) -> None:
    """Estimate how to simulate in a scan's image and write the plan and the phase."""
    from dpcurate.lookalike import image_of
    from dpcurate.simulation_plan import SimulationRecipe

    image = image_of(scan, SimulationRecipe(), phases=(cif,))
    recipe = image.recipe.model_copy(update={"orientations": "uniform"})
    plan = SimulationPlan(recipe=recipe, geometry=image.geometry, seed=seed, number=1)
    out.mkdir(parents=True, exist_ok=True)
    (out / PLAN).write_text(plan.model_dump_json(indent=1), encoding="utf-8")
    (out / PHASE).write_text(image.phases[0].model_dump_json(), encoding="utf-8")


class Learner:
    """A network in training on endless fresh patterns."""

    def __init__(
        self, simulator: Simulator, *, batch: int, total: int, device: str, frame: str, head: str, size: int
    ) -> None:
        torch.manual_seed(simulator.plan.seed)
        geometry = simulator.plan.geometry
        edge = min(*geometry.center_xy, *(np.array(geometry.shape[::-1]) - 1 - geometry.center_xy))
        self.simulator, self.batch, self.total, self.device = simulator, batch, total, device
        k_max = float(edge * geometry.scale_inv_angstrom)
        options = {"input": {"k_max": k_max, "frame": frame, "size": size}, "head": {"name": head}}
        config = requested_config("cnn", options)
        self.input, self.head = config.input, build_head(simulator.phases, config.head).to(device)
        network = build_network(config, n_outputs=self.head.n_outputs, orders=self.head.orders)
        self.network: torch.nn.Module = network.to(device, memory_format=torch.channels_last)
        self.optimizer = torch.optim.AdamW(self.network.parameters(), lr=2e-3, weight_decay=0.05)
        self.schedule = torch.optim.lr_scheduler.OneCycleLR(self.optimizer, 2e-3, total_steps=-(-total // batch) + 1)

    def frames(self, counts: np.ndarray, change: object) -> torch.Tensor:
        """Network input of patterns in counts."""
        geometry, n = self.simulator.plan.geometry, len(counts)
        patterns = torch.from_numpy(counts.astype(np.float32)).to(self.device)
        center, scale = np.tile(geometry.center_xy, (n, 1)), np.full(n, geometry.scale_inv_angstrom)
        return canonical(patterns, center_xy=center, scale=scale, config=self.input, change=change)

    def fresh(self, first: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Numbers, counts and orientations of a batch."""
        index = np.arange(first, first + self.batch)
        drawn = draw(self.simulator, index)
        return index, simulate(self.simulator, drawn), drawn.orientation

    def learn(self, batch: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
        """One step."""
        index, counts, orientation = batch
        change = draw_change(index, AugmentConfig(), seed=self.simulator.plan.seed, epoch=0)
        label = torch.from_numpy(change_label(orientation, change)).to(self.device)
        phase = torch.zeros(len(index), dtype=torch.int64, device=self.device)
        self.network.train()
        loss = self.head.loss(self.network(self.frames(counts, change)), label, phase).mean()
        self.optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        self.optimizer.step()
        self.schedule.step()

    @torch.no_grad()
    def answers(self, counts: np.ndarray) -> np.ndarray:
        """Best orientation of each pattern, (n, 4)."""
        self.network.eval()
        found = []
        for part in np.array_split(counts, max(1, len(counts) // 512)):
            logits = self.network(self.frames(part, no_change(len(part))))
            found.append(self.head.decode(logits, n_best=1)[0][:, 0].cpu().numpy())
        return np.concatenate(found)


def told(error: np.ndarray) -> list[float]:
    """Median and shares within some angles."""
    return [float(np.median(error)), *(float((error <= limit).mean()) for limit in WITHIN_DEG)]


def draw_curve(path: Path) -> None:
    """Draw a curve that was written as CSV beside it, as PNG."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    rows = np.genfromtxt(path, delimiter=",", names=True)
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.4))
    names = {"simulated": "simulated, held out", "scan": "scan, all pixels", "scan_inside": "scan, inside grains"}
    for number, (key, name) in enumerate(names.items()):
        axes[0].plot(rows["patterns"] / 1e6, 100 * rows[f"{key}_within_3"], color=f"C{number}", label=name)
        axes[0].plot(rows["patterns"] / 1e6, 100 * rows[f"{key}_within_10"], color=f"C{number}", ls=":")
        axes[1].plot(rows["patterns"] / 1e6, rows[f"{key}_median_deg"], color=f"C{number}")
    axes[0].set(xlabel="million patterns seen", ylabel="% within 3° (solid), 10° (dotted)", ylim=(0, None))
    axes[1].axhline(66.6, color="grey", lw=0.8)
    axes[1].text(rows["patterns"].max() / 1e6, 67.2, "a guess, on average", ha="right", color="grey", fontsize=8)
    axes[1].set(xlabel="million patterns seen", ylabel="median disorientation (°)", ylim=(0, 80))
    axes[0].legend(frameon=False, fontsize=8)
    figure.tight_layout()
    figure.savefig(path.with_suffix(".png"), dpi=110)


def main() -> None:
    """Train, judge now and then, print and write the curve."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--like")
    parser.add_argument("--phase")
    parser.add_argument("--plan", type=Path)
    parser.add_argument("--data", help="scan with exact truth, .npz")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--draw", type=Path, help="only draw this curve.csv")
    parser.add_argument("--patterns", type=int, default=200_000)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--seconds", type=float, default=1e9, help="stop then, wherever it is")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--input", default="polar", help="frame: polar or cartesian")
    parser.add_argument("--head", default="density")
    parser.add_argument("--size", type=int, default=128, help="pixels across the frame")
    arguments = parser.parse_args()
    if arguments.draw:
        draw_curve(arguments.draw)
        return
    if arguments.like:
        prepare(arguments.like, arguments.phase, arguments.out, seed=arguments.seed)
    folder = arguments.plan or arguments.out
    plan = SimulationPlan.model_validate_json((folder / PLAN).read_text(encoding="utf-8"))
    phase = PhaseRecord.model_validate_json((folder / PHASE).read_text(encoding="utf-8"))
    learner = Learner(
        make_simulator(plan, [phase], device=arguments.device),
        batch=arguments.batch,
        total=arguments.patterns,
        frame=arguments.input,
        head=arguments.head,
        size=arguments.size,
        device=arguments.device,
    )
    with np.load(arguments.data) as file:
        scan, truth = file["data"].reshape(-1, *file["data"].shape[2:]), file["quat"].reshape(-1, 4)
        inside = file["weight"].ravel() > 0.97
    held = [learner.fresh(FIRST_TEST + k * arguments.batch) for k in range(max(1, 2048 // arguments.batch))]
    held_counts, held_truth = (np.concatenate([part[i] for part in held]) for i in (1, 2))
    symmetry = phase.proper_rotations()
    rows, start, steps = [], time.perf_counter(), -(-arguments.patterns // arguments.batch)
    head = [
        "patterns",
        "seconds",
        *(
            f"{what}_{name}"
            for what in ("simulated", "scan", "scan_inside")
            for name in ("median_deg", *(f"within_{limit}" for limit in WITHIN_DEG))
        ),
    ]
    with ThreadPoolExecutor(1) as pool:
        pending = pool.submit(learner.fresh, 0)
        for step in range(steps):
            batch = pending.result()
            pending = pool.submit(learner.fresh, (step + 1) * arguments.batch)
            learner.learn(batch)
            late = time.perf_counter() - start > arguments.seconds
            if (step + 1) % max(1, steps // 20) == 0 or step + 1 == steps or late:
                simulated = disorientation_deg(learner.answers(held_counts), held_truth, symmetry)
                error = disorientation_deg(learner.answers(scan), truth, symmetry)
                row = [(step + 1) * arguments.batch, time.perf_counter() - start]
                rows.append([*row, *told(simulated), *told(error), *told(error[inside])])
                print(", ".join(f"{name} {value:.4g}" for name, value in zip(head, rows[-1], strict=True)), flush=True)
            if late:
                break
    arguments.out.mkdir(parents=True, exist_ok=True)
    with (arguments.out / "curve.csv").open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream, lineterminator="\n").writerows([head, *rows])


if __name__ == "__main__":
    main()
