"""Which network, head and frame learn orientations from the fewest patterns: all of them on the same simulated ones.

Example: python benchmarks/heads.py --phase datasets/phases/LiNiO2.cif --out heads
The patterns are simulated once, into the folder `--out`, and shown again with other turns and mirrors in every epoch.
Orientations are uniform, so a guess is known. Held-out patterns are other numbers of the same simulation.
"""

import argparse
import csv
import time
from itertools import product
from pathlib import Path

import numpy as np
import torch
from torch import nn

from dpcurate.orientations import disorientation_deg, random_uniform
from dpcurate.phases import read_cif
from dpcurate.schema import PhaseRecord
from dpcurate.simulation_plan import Geometry, SimulationPlan, SimulationRecipe
from dpcurate.simulator import draw, make_simulator, simulate
from dptrain.augment import canonical, change_label, draw_change, no_change
from dptrain.config import AugmentConfig, HeadConfig, InputConfig
from dptrain.heads import build_head
from dptrain.models import build_network, model_config

HEADS, FRAMES = ("grid", "density", "harmonics", "rotation", "euler"), ("cartesian", "polar")
N_TEST, BLOCK, N_LOOKS = 2048, 512, 8
K_MAX = 1.2
"""Half width of patterns and frames in 1/Angstrom."""

FIRST_TEST = 2**30
"""Samples from this number on are kept for testing."""

COLUMNS = (
    *("model", "physics", "input", "head", "loss", "seed", "shown", "seconds", "patterns_per_s", "million_weights"),
    *("median_deg", "within_3", "within_10", "confident_half_within_3", "best_5_within_3"),
)


def simulated(phase: PhaseRecord, path: Path, *, number: int, size: int, physics: str) -> dict[str, np.ndarray]:
    """Patterns (n, size, size) and orientations to learn from and to be tested on; made when they are not there.

    Simulated on twice as many pixels and binned, as a network's input is.
    """
    if not path.exists():
        geometry = Geometry(
            shape=(2 * size, 2 * size),
            scale_inv_angstrom=K_MAX / size,
            center_xy=(size - 0.5, size - 0.5),
            beam_energy_kev=200.0,
            precession_deg=0.7,
        )
        plan = SimulationPlan(recipe=SimulationRecipe(physics=physics), geometry=geometry, seed=0, number=number)
        simulator, start, made = make_simulator(plan, [phase]), time.perf_counter(), {}
        for name, first, n in (("train", 0, number), ("test", FIRST_TEST, N_TEST)):
            drawn = [draw(simulator, np.arange(k, min(k + BLOCK, first + n))) for k in range(first, first + n, BLOCK)]
            made[f"{name}_counts"] = np.concatenate([binned(simulate(simulator, block)) for block in drawn])
            made[name] = np.concatenate([block.orientation for block in drawn])
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez(path, **made)
        print(f"{(number + N_TEST) / (time.perf_counter() - start):.0f} patterns/s simulated ({physics})", flush=True)
    with np.load(path) as file:
        return {name: file[name] for name in file.files}


def binned(counts: np.ndarray) -> np.ndarray:
    """Patterns of half as many pixels along each side."""
    n, rows, columns = counts.shape
    total = counts.reshape(n, rows // 2, 2, columns // 2, 2).sum(axis=(2, 4))
    return total.clip(0, 65535).astype(np.uint16)


class Learner:
    """One network with one head and one frame."""

    def __init__(
        self,
        phase: PhaseRecord,
        data: dict[str, np.ndarray],
        *,
        model: str,
        head: HeadConfig,
        frame: str,
        seed: int,
        shown: int,
    ) -> None:
        """``data`` as ``simulated`` gives it; ``shown``: patterns in the whole training. The rate is the model's."""
        torch.manual_seed(seed)
        size = data["train_counts"].shape[-1]
        self.phase, self.data, self.seed, self.shown = phase, data, seed, shown
        self.input = InputConfig(size=size, frame=frame, k_max=K_MAX)
        self.batch = 64
        self.head = build_head([phase], head)
        config = model_config(model).model_copy(update={"input": self.input, "head": head})
        network = build_network(config, n_outputs=self.head.n_outputs, orders=self.head.orders)
        self.network: nn.Module = network.to(memory_format=torch.channels_last)
        rate, steps = config.learning_rate, shown // self.batch + 1
        self.optimizer = torch.optim.AdamW(self.network.parameters(), lr=rate, weight_decay=config.weight_decay)
        self.schedule = torch.optim.lr_scheduler.OneCycleLR(self.optimizer, rate, total_steps=steps)

    def frames(self, counts: np.ndarray, change: object) -> torch.Tensor:
        """Network input of patterns in counts."""
        n, size = len(counts), self.input.size
        center, scale = np.full((n, 2), (size - 1) / 2), np.full(n, 2 * K_MAX / size)
        patterns = torch.from_numpy(counts.astype(np.float32))
        return canonical(patterns, center_xy=center, scale=scale, config=self.input, change=change)

    def learn(self, step: int) -> None:
        """One step: every pattern once before any is shown again."""
        n = len(self.data["train"])
        epoch, first = divmod(step * self.batch, n // self.batch * self.batch)
        index = np.random.default_rng([self.seed, epoch]).permutation(n)[first : first + self.batch]
        change = draw_change(index, AugmentConfig(), seed=self.seed, epoch=epoch)
        label = torch.from_numpy(change_label(self.data["train"][index], change))
        self.network.train()
        outputs = self.network(self.frames(self.data["train_counts"][index], change))
        loss = self.head.loss(outputs, label, torch.zeros(len(index), dtype=torch.int64)).mean()
        self.optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        self.optimizer.step()
        self.schedule.step()

    @torch.no_grad()
    def judged(self) -> list[float]:
        """On the patterns kept for testing, the numbers of the last columns."""
        self.network.eval()
        found = [
            self.head.decode(self.network(self.frames(part, no_change(len(part)))), n_best=5)
            for part in np.array_split(self.data["test_counts"], N_TEST // 256)
        ]
        answer, confidence = (torch.cat([part[i] for part in found]).numpy() for i in (0, 1))
        error = disorientation_deg(answer, self.data["test"][:, None], self.phase.proper_rotations())
        best, sure = error[:, 0], confidence[:, 0] >= np.median(confidence[:, 0])
        any_of_5 = np.where(confidence > 0, error, np.inf).min(axis=1)
        shares = (best <= 3).mean(), (best <= 10).mean(), (best[sure] <= 3).mean(), (any_of_5 <= 3).mean()
        return [float(np.median(best)), *map(float, shares)]

    def curve(self) -> list[list[object]]:
        """Train to the end and look now and then; rows of the table, without the first columns."""
        steps = self.shown // self.batch
        looks = {round(steps * (k + 1) / N_LOOKS) for k in range(N_LOOKS)}
        weights = sum(weight.numel() for weight in self.network.parameters()) / 1e6
        seconds, rows = 0.0, []
        for step in range(steps):
            start = time.perf_counter()
            self.learn(step)
            seconds += time.perf_counter() - start
            if step + 1 in looks:
                seen = (step + 1) * self.batch
                so_far = [self.seed, seen, seconds, seen / seconds, weights]
                rows.append([*so_far, *self.judged()])
        return rows


def draw_curves(path: Path) -> None:
    """Draw the table as PNG beside it: a line for each network, head, frame and seed, plain losses; a row a theory."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    with path.open(encoding="utf-8") as stream:
        rows = [row for row in csv.DictReader(stream) if row["loss"] == "plain"]
    networks = list(dict.fromkeys(row["model"] for row in rows))
    theories = list(dict.fromkeys(row["physics"] for row in rows))
    figure, every = plt.subplots(len(theories), 2, figsize=(10, 4 * len(theories)), squeeze=False)
    for axes, physics in zip(every, theories, strict=True):
        here = [row for row in rows if row["physics"] == physics]
        for key in dict.fromkeys(tuple(row[name] for name in ("model", "head", "input", "seed")) for row in here):
            model, head, frame, seed = key
            mine = [row for row in here if (row["model"], row["head"], row["input"], row["seed"]) == key]
            seen = [float(row["shown"]) / 1e3 for row in mine]
            colour = networks.index(model) if len(networks) > 1 else HEADS.index(head.split()[0])
            style = {"color": f"C{colour}", "ls": "-" if frame == "polar" else "--", "lw": 1.4}
            what = f"{model}, {head}, {frame}" if len(networks) > 1 else f"{head}, {frame}"
            label = what if seed == here[0]["seed"] else None
            axes[0].plot(seen, [float(row["median_deg"]) for row in mine], label=label, **style)
            axes[1].plot(seen, [100 * float(row["within_10"]) for row in mine], **style)
        axes[0].set(ylabel="median disorientation (°)", ylim=(0, None), title=f"{physics} patterns", xlim=(0, None))
        axes[1].set(ylabel="% within 10°", ylim=(0, None), xlim=(0, None))
        axes[0].legend(frameon=False, fontsize=8)
    for ax in every[-1]:
        ax.set_xlabel("thousand patterns shown")
    figure.tight_layout()
    figure.savefig(path.with_suffix(".png"), dpi=110)


def told(value: object) -> str:
    """A value of the table."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def main() -> None:
    """Simulate, train every head on every frame with every seed, write table and picture."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--phase", type=Path, help="CIF file")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--physics", default="kinematical", choices=["dynamical", "kinematical"])
    parser.add_argument("--patterns", type=int, default=60_000, help="simulated patterns to learn from")
    parser.add_argument("--shown", type=int, default=96_000, help="patterns shown to each network")
    parser.add_argument("--size", type=int, default=64, help="pixels across patterns and frames")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--models", nargs="+", default=["cnn"])
    parser.add_argument("--heads", nargs="+", default=HEADS)
    parser.add_argument("--inputs", nargs="+", default=FRAMES)
    parser.add_argument("--loss", default="plain")
    parser.add_argument("--max-degree", type=int, help="of the harmonics head")
    parser.add_argument("--draw", action="store_true", help="only draw the table that is there")
    arguments = parser.parse_args()
    table = arguments.out / "heads.csv"
    if arguments.draw:
        draw_curves(table)
        return
    torch.set_num_threads(1)
    phase, file = read_cif(arguments.phase), arguments.out / f"{arguments.physics}.npz"
    data = simulated(phase, file, number=arguments.patterns, size=arguments.size, physics=arguments.physics)
    guess = disorientation_deg(random_uniform(N_TEST, seed=0), data["test"], phase.proper_rotations())
    print(f"a guess: {np.median(guess):.1f} degrees, {100 * (guess <= 10).mean():.1f} % within 10", flush=True)
    if not table.exists():
        table.write_text(",".join(COLUMNS) + "\n", encoding="utf-8")
    for seed, model, frame, name in product(arguments.seeds, arguments.models, arguments.inputs, arguments.heads):
        head = HeadConfig(name=name, loss=arguments.loss, max_degree=arguments.max_degree)
        learner = Learner(phase, data, model=model, head=head, frame=frame, seed=seed, shown=arguments.shown)
        called = name if arguments.max_degree is None else f"{name} {arguments.max_degree}"
        rows = [[model, arguments.physics, frame, called, arguments.loss, *row] for row in learner.curve()]
        with table.open("a", encoding="utf-8", newline="") as stream:
            csv.writer(stream, lineterminator="\n").writerows([told(value) for value in row] for row in rows)
        print(*(f"{key} {told(value)}" for key, value in zip(COLUMNS, rows[-1], strict=True)), sep=", ", flush=True)
    draw_curves(table)


if __name__ == "__main__":
    main()
