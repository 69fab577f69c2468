"""Patterns per second of each network: trained by dptrain from a dataset on disk, and by a bare PyTorch loop in memory.

Example: python benchmarks/train.py datasets/bench --out docs/results/training.csv
The bare loop has the same network, loss, optimizer and clipping, and frames that were prepared before: no reading, no
shuffling, no augmentation. Both take turns of a few steps, so that what else the machine does meets both; each ratio
is of two neighbouring turns. Prediction is compared in the same way with the bare forward pass.
"""

import argparse
import csv
import itertools
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch

from dpcurate.store import open_dataset
from dptrain import data, runs
from dptrain.augment import change_label, draw_change
from dptrain.checkpoint import BEST, load_model, save_model
from dptrain.fresh import Batch, read_batch
from dptrain.job import Job, make_frames, make_job, make_optimizer
from dptrain.launch import make_fabric
from dptrain.steps import train_step

MODELS = ("cnn", "densenet121", "swin-tiny", "swin-tiny-adjusted")

STEPS = 2
"""Of one turn."""

COLUMNS = ("model", "what", "turns", "bare_per_s", "ours_per_s", "ratio", "ratio_low", "ratio_high")


def training(job: Job) -> tuple[Callable[[], int], Callable[[], int]]:
    """A turn of the bare loop and one of dptrain's; each returns how many patterns it showed."""
    size = job.config.batch_size
    optimizer = make_optimizer(job.network, job.config)

    def kept(step: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        place = np.arange(size) + step * size
        change = draw_change(job.train.index[place], job.config.augment, seed=0, epoch=0)
        batch = read_batch(job.dataset, job.train, place, epoch=0)
        frames = make_frames(job, job.train, place, batch.counts, change=change)
        label = torch.from_numpy(change_label(batch.orientation, change))
        return frames, label, torch.from_numpy(job.train.phase_id[place])

    in_memory = itertools.cycle([kept(step) for step in range(STEPS)])

    def bare() -> int:
        for _ in range(STEPS):
            frames, label, phase = next(in_memory)
            optimizer.zero_grad()
            job.head.loss(job.network(frames), label, phase).mean().backward()
            torch.nn.utils.clip_grad_norm_(job.network.parameters(), job.config.gradient_clip)
            optimizer.step()
        return STEPS * size

    batches = data.one_ahead(lambda step: shuffled(job, step), range(10**6))
    numbers = itertools.count()

    def ours() -> int:
        for _ in range(STEPS):
            train_step(job, next(batches), global_step=next(numbers), epoch=0)
        return STEPS * size

    return bare, ours


def shuffled(job: Job, step: int) -> Batch:
    """A batch as `train.train_epoch` reads it, epoch after epoch."""
    epoch, inside = divmod(step, job.steps)
    order = data.epoch_order(len(job.train.index), seed=job.config.seed, epoch=epoch)
    place = data.training_batch(order, inside, batch_size=job.config.batch_size, rank=0, world_size=1)
    return read_batch(job.dataset, job.train, place, epoch=epoch, simulator=None)


def predicting(job: Job, folder: Path) -> tuple[Callable[[], int], Callable[[], int]]:
    """The bare forward pass of frames in memory, and `Predictor.predict` of patterns read from disk."""
    save_model(folder / BEST, job.network, head=job.head, config=job.config, phases=job.phases)
    predictor, samples = load_model(folder), job.train
    place = np.arange(min(256, len(samples.index)))
    change = draw_change(samples.index[place], job.config.augment, seed=0, epoch=0)
    frames = make_frames(job, samples, place, job.dataset.patterns(samples.index[place]), change=change)

    def bare() -> int:
        with torch.inference_mode():
            predictor.network(frames)
        return len(place)

    def ours() -> int:
        counts = job.dataset.patterns(samples.index[place])
        predictor.predict(counts, samples.center_xy[place], samples.scale[place], n_best=20)
        return len(place)

    return bare, ours


def turns(bare: Callable[[], int], ours: Callable[[], int], *, seconds: float) -> Iterator[tuple[float, float]]:
    """Patterns per second of both, turn by turn, for about so long and three times at least; the first one is lost."""
    for which in (bare, ours):
        which()
    limit, done = time.perf_counter() + seconds, 0
    while time.perf_counter() < limit or done < 3:
        speed = []
        for which in (bare, ours) if done % 2 else (ours, bare):
            start = time.perf_counter()
            speed.append(which() / (time.perf_counter() - start))
        yield (speed[0], speed[1]) if done % 2 else (speed[1], speed[0])
        done += 1


def main() -> None:
    """Write a table, a row for each network and for what it did."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("dataset", help="a dataset's folder")
    parser.add_argument("--models", nargs="+", default=MODELS)
    parser.add_argument("--out", type=Path, default=Path("training.csv"))
    parser.add_argument("--seconds", type=float, default=20.0, help="of each comparison")
    parser.add_argument("--threads", type=int, default=2)
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    dataset, rows = open_dataset(Path(chosen.dataset)), []
    for model in chosen.models:
        config = runs.requested_config(model, {"batch_size": 32, "epochs": 1000})
        config = runs.complete_config(config, dataset, data.read_samples(dataset, "train", label_source="label"))
        folder = chosen.out.with_suffix("") / model
        folder.mkdir(parents=True, exist_ok=True)
        job = make_job(make_fabric("cpu", precision="float32"), config, run_dir=folder, dataset=dataset, state={})
        job.module.train()
        for what, pair in (("train", training(job)), ("predict", predicting(job, folder))):
            speed = np.array(list(turns(*pair, seconds=chosen.seconds)))
            ratio = speed[:, 1] / speed[:, 0]
            numbers = (*np.median(speed, axis=0), np.median(ratio), *np.quantile(ratio, (0.25, 0.75)))
            rows.append((model, what, len(speed), *(f"{number:.3g}" for number in numbers)))
            print(*rows[-1], flush=True)
    with chosen.out.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream, lineterminator="\n").writerows([COLUMNS, *rows])


if __name__ == "__main__":
    main()
