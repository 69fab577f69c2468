"""A run in memory: where it stands, and what stays the same in it."""

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.utils import convert_conv2d_weight_memory_format

from dpcurate.errors import InputError
from dpcurate.schema import PhaseRecord
from dpcurate.simulator import Simulator
from dpcurate.store import Dataset
from dptrain import data
from dptrain.augment import Change, canonical
from dptrain.config import TrainConfig
from dptrain.ema import first_average
from dptrain.fresh import dataset_simulator
from dptrain.head import Head
from dptrain.heads import build_head
from dptrain.launch import Agreement
from dptrain.logs import EpochLog
from dptrain.models import initial_network
from dptrain.processes import spread


@dataclass
class Progress:
    """Where a run stands: after ``step`` steps of ``epoch``, which showed ``n`` samples with a sum of losses.

    ``sample_sum`` adds the samples' places in the dataset: equal sums show that equal samples were seen. ``saved`` is
    when all this was last written, by this machine's monotonic clock.
    """

    epoch: int = 0
    step: int = 0
    n: float = 0.0
    loss_sum: float = 0.0
    sample_sum: float = 0.0
    seconds: float = 0.0
    best: float = math.inf
    rows: list[dict[str, float]] = field(default_factory=list)
    saved: float = field(default_factory=time.monotonic)


@dataclass(frozen=True)
class Job:
    """What stays the same during a run. ``network`` is the plain module, ``module`` the same as Fabric trains it."""

    fabric: Fabric
    config: TrainConfig
    run_dir: Path
    dataset: Dataset
    train: data.Samples
    validation: data.Samples
    head: Head
    network: nn.Module
    module: Any
    optimizer: Any
    average: nn.Module | None
    """Moving average of the network's weights; None: there is none."""
    log: EpochLog | None
    simulator: Simulator | None
    """Draws simulated training patterns anew; None: they are read."""
    agreement: Agreement
    weights: NDArray[np.float32] | None
    """How much each training label counts, ``(n,)``; None: all the same."""

    @property
    def judged(self) -> nn.Module:
        """The network that is validated and kept: the average, if there is one."""
        return self.average if self.average is not None else self.network

    @property
    def phases(self) -> tuple[PhaseRecord, ...]:
        """Phases of the dataset."""
        return self.dataset.manifest.phases

    @property
    def epochs(self) -> int:
        """Epochs of the whole run."""
        assert self.config.epochs is not None
        return self.config.epochs

    @property
    def steps(self) -> int:
        """Steps of one epoch."""
        return data.steps_per_epoch(len(self.train.index), batch_size=self.config.batch_size)


def make_job(
    fabric: Fabric,
    config: TrainConfig,
    *,
    run_dir: Path,
    dataset: Dataset,
    state: Mapping[str, Any],
    mlflow: bool = False,
) -> Job:
    """Samples, network and optimizer of a run, in their first state or in the saved one."""
    train = data.read_samples(dataset, "train", label_source=config.label_source)
    validation = data.read_samples(dataset, "validation", label_source=config.label_source)
    if not len(validation.index):
        raise InputError(f"{dataset.path}: no validation patterns; build the dataset from more grains.")
    _check_batch(config, fabric.world_size)
    torch.manual_seed(config.seed)
    head = build_head(dataset.manifest.phases, config.head)
    network = spread(
        initial_network(config, n_outputs=head.n_outputs, orders=head.orders),
        rank=fabric.global_rank,
        world_size=fabric.world_size,
        cuda=fabric.device.type == "cuda",
    )
    convert_conv2d_weight_memory_format(network, torch.channels_last)  # twice as fast as the default on a CPU
    optimizer = make_optimizer(network, config)
    if state:
        head.load_state_dict(state["head"])
        network.load_state_dict(state["network"])
        optimizer.load_state_dict(state["optimizer"])
    trained: Any = torch.compile(network) if config.compile else network
    module, wrapped_optimizer = fabric.setup(trained, optimizer)
    average = first_average(network) if config.ema_decay else None
    if average is not None and state:
        average.load_state_dict(state["average"])
    epoch = state["progress"]["epoch"] if state else 0
    return Job(
        fabric,
        config,
        run_dir,
        dataset,
        train,
        validation,
        head.to(fabric.device),
        network,
        module,
        wrapped_optimizer,
        average,
        EpochLog(run_dir, config, epoch=epoch, mlflow=mlflow) if fabric.is_global_zero else None,
        dataset_simulator(dataset) if config.fresh else None,
        Agreement(fabric.world_size),
        label_weights(train.confidence) if config.label_weights == "confidence" else None,
    )


def label_weights(confidence: NDArray[np.float32]) -> NDArray[np.float32]:
    """How much each training label ``(n,)`` counts: in proportion to its confidence, 1 on average over all of them.

    Unknown confidences (NaN) count as 1. The weights do not depend on batches, so neither does the sum of losses.
    """
    trusted = np.nan_to_num(confidence, nan=1.0).clip(0, 1)
    return np.asarray(trusted / max(float(trusted.mean()), 1e-6), np.float32)


def _check_batch(config: TrainConfig, world_size: int) -> None:
    shares = world_size * config.accumulate
    if config.batch_size % shares or config.batch_size < 2 * shares:
        raise InputError(
            f"batch_size {config.batch_size} cannot be shared by {world_size} processes in {config.accumulate} parts, "
            "at least 2 patterns each; choose numbers that divide it."
        )


def make_optimizer(network: nn.Module, config: TrainConfig) -> torch.optim.AdamW:
    """AdamW (Loshchilov and Hutter, ICLR 2019); biases, norms and Swin's position tables do not decay."""
    decays = {
        name: weight.ndim > 1 and "relative_position_bias_table" not in name
        for name, weight in network.named_parameters()
    }
    groups = [
        {
            "params": [weight for name, weight in network.named_parameters() if decays[name] == decay],
            "weight_decay": rate,
        }
        for decay, rate in ((True, config.weight_decay), (False, 0.0))
    ]
    return torch.optim.AdamW(groups, lr=config.learning_rate)


def make_frames(job: Job, samples: data.Samples, place: data.Index, counts: np.ndarray, *, change: Change) -> Tensor:
    """Network input of the samples at ``place``, whose patterns are ``counts`` (b, H, W), after ``change``."""
    return canonical(
        torch.from_numpy(counts.astype(np.float32)).to(job.fabric.device),
        center_xy=samples.center_xy[place],
        scale=samples.scale[place],
        config=job.config.input,
        change=change,
    )


def add_over_processes(job: Job, values: Tensor) -> Tensor:
    """The sum of a tensor over all processes, the same on each."""
    total = job.fabric.all_reduce(values.to(job.fabric.device), reduce_op="sum")
    assert isinstance(total, Tensor)
    return total
