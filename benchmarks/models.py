"""Patterns per second of the seven networks, training and prediction, 128 x 128 in batches of 64, as a Markdown table.

Run:  python benchmarks/models.py [--device auto] [--seconds 8]

Needs no data: noise patterns, random weights; a pretrained network is the same network and is measured once. Training
is resampling with augmentation, forward, loss, backward and optimizer; prediction is resampling, forward and decoding
of the 20 best answers. The best step counts, because other work on the machine only ever makes a step slower.
"""

import argparse
import os
import platform
import time
from collections.abc import Callable

import numpy as np
import torch
from torch.nn.utils import convert_conv2d_weight_memory_format

from dpcurate import orientations
from dpcurate.schema import PhaseRecord
from dptrain.augment import canonical, change_label, draw_change
from dptrain.checkpoint import Predictor
from dptrain.config import TrainConfig
from dptrain.heads import build_head
from dptrain.job import make_optimizer
from dptrain.launch import choose_device
from dptrain.models import MODELS, build_network, model_config

BATCH, PIXELS, SCALE = 64, 128, 0.02
MAX_STEPS = 50
ROOT3 = 3**0.5 / 2
TRIGONAL = (
    (1, 0, 0, 0),
    (0.5, 0, 0, ROOT3),
    (-0.5, 0, 0, ROOT3),
    (0, 1, 0, 0),
    (0, 0.5, ROOT3, 0),
    (0, -0.5, ROOT3, 0),
)
"""Proper rotations of -3m, as in LiNiO2."""


def phase() -> PhaseRecord:
    return PhaseRecord(
        name="trigonal", space_group=166, point_group="-3m", lattice=(1, 1, 1, 90, 90, 120), atoms=(), symmetry=TRIGONAL
    )


def best_seconds(step: Callable[[], object], *, seconds: float, device: str) -> float:
    """Time of the fastest of the steps that fit in ``seconds``, at least two, after one that does not count."""
    step()
    times: list[float] = []
    while len(times) < 2 or (sum(times) < seconds and len(times) < MAX_STEPS):
        start = time.perf_counter()
        step()
        if device == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return min(times)


def rates(config: TrainConfig, *, device: str, seconds: float) -> tuple[float, float, float]:
    """Weights in millions, patterns per second of training and of prediction."""
    head = build_head([phase()], config.head).to(device)
    network = build_network(config, n_outputs=head.n_outputs).to(device)
    convert_conv2d_weight_memory_format(network, torch.channels_last)
    optimizer = make_optimizer(network, config)
    counts = np.random.default_rng(0).poisson(1.0, (BATCH, PIXELS, PIXELS)).astype(np.float32)
    center, scale = np.full((BATCH, 2), (PIXELS - 1) / 2), np.full(BATCH, SCALE)
    label, ids = orientations.random_uniform(BATCH, seed=0), torch.zeros(BATCH, dtype=torch.int16)

    def train_step() -> None:
        change = draw_change(np.arange(BATCH), config.augment, seed=0, epoch=0)
        patterns = torch.from_numpy(counts).to(device)
        frames = canonical(patterns, center_xy=center, scale=scale, config=config.input, change=change)
        with torch.autocast(device, torch.bfloat16, enabled=device == "cuda"):
            logits = network(frames)
        optimizer.zero_grad()
        head.loss(logits, torch.from_numpy(change_label(label, change)), ids).mean().backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), config.gradient_clip)
        optimizer.step()

    predictor = Predictor(network, head, config, (phase(),), torch.device(device))
    training = BATCH / best_seconds(train_step, seconds=seconds, device=device)
    network.eval()
    prediction = BATCH / best_seconds(
        lambda: predictor.predict(counts, center, scale), seconds=seconds / 2, device=device
    )
    return sum(weight.numel() for weight in network.parameters()) / 1e6, training, prediction


def machine(device: str) -> str:
    where = torch.cuda.get_device_name() if device == "cuda" else f"{torch.get_num_threads()} threads"
    cpu = platform.processor() or platform.machine()
    return f"{cpu}, {os.cpu_count()} cores, {where}, Python {platform.python_version()}, torch {torch.__version__}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--seconds", type=float, default=8.0, help="of training steps per network")
    arguments = parser.parse_args()
    device = choose_device(arguments.device)
    print(f"{PIXELS} x {PIXELS}, batch {BATCH}; {machine(device)}\n")
    print("| model | million weights | training, patterns/s | prediction, patterns/s |\n| --- | --- | --- | --- |")
    measured: dict[str, tuple[float, float, float]] = {}
    for name in MODELS:
        config = model_config(name)
        config = config.model_copy(update={"input": config.input.model_copy(update={"k_max": 1.25})})
        same = name.removesuffix("-pretrained")
        if same not in measured:
            measured[same] = rates(config, device=device, seconds=arguments.seconds)
        weights, training, prediction = measured[same]
        print(f"| {name} | {weights:.1f} | {training:.0f} | {prediction:.0f} |", flush=True)


if __name__ == "__main__":
    main()
