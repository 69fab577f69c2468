"""Patterns per second of the seven networks, training and prediction, in batches of 64, as a Markdown table.

Run:  python benchmarks/models.py [--device auto] [--seconds 8] [--inputs polar cartesian] [--size 128]

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
from torch import nn
from torch.nn.utils import convert_conv2d_weight_memory_format
from torch.utils.flop_counter import FlopCounterMode

from dpcurate import orientations
from dpcurate.schema import PhaseRecord
from dptrain.augment import canonical, change_label, draw_change, frame_shape
from dptrain.checkpoint import Predictor
from dptrain.config import TrainConfig
from dptrain.heads import build_head
from dptrain.job import make_optimizer
from dptrain.launch import choose_device
from dptrain.models import MODELS, build_network
from dptrain.runs import requested_config

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


def multiply_adds(network: nn.Module, config: TrainConfig, *, device: str) -> float:
    """Millions of multiplications with addition in the forward pass of one pattern."""
    network.eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(torch.zeros(1, 1, *frame_shape(config.input), device=device))
    network.train()
    return counter.get_total_flops() / 2e6


def rates(config: TrainConfig, *, device: str, seconds: float) -> tuple[float, float, float, float]:
    """Weights and multiply-adds in millions, patterns per second of training and of prediction."""
    head = build_head([phase()], config.head).to(device)
    network = build_network(config, n_outputs=head.n_outputs, orders=head.orders).to(device)
    cost = multiply_adds(network, config, device=device)
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
    return sum(weight.numel() for weight in network.parameters()) / 1e6, cost, training, prediction


def machine(device: str) -> str:
    where = torch.cuda.get_device_name() if device == "cuda" else f"{torch.get_num_threads()} threads"
    cpu = platform.processor() or platform.machine()
    return f"{cpu}, {os.cpu_count()} cores, {where}, Python {platform.python_version()}, torch {torch.__version__}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--seconds", type=float, default=8.0, help="of training steps per network")
    parser.add_argument("--inputs", nargs="+", default=["polar"], help="polar with the density head, cartesian: grid")
    parser.add_argument("--size", type=int, default=PIXELS, help="pixels across the frame")
    arguments = parser.parse_args()
    device = choose_device(arguments.device)
    print(f"frames of {arguments.size} pixels, batch {BATCH}; {machine(device)}\n")
    print("| model | input | million weights | million multiply-adds | training, patterns/s | prediction, patterns/s |")
    print("| --- | --- | --- | --- | --- | --- |")
    for name in (name for name in MODELS if not name.endswith("-pretrained")):
        for frame in arguments.inputs:
            head = "density" if frame == "polar" else "grid"
            options = {"input": {"frame": frame, "size": arguments.size, "k_max": 1.25}, "head": {"name": head}}
            weights, cost, training, prediction = rates(
                requested_config(name, options), device=device, seconds=arguments.seconds
            )
            print(f"| {name} | {frame} | {weights:.1f} | {cost:.0f} | {training:.1f} | {prediction:.1f} |", flush=True)


if __name__ == "__main__":
    main()
