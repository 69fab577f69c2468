"""One step of training, in as many parts as fit the memory."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from dpcurate.errors import InputError
from dptrain.augment import change_label, draw_change
from dptrain.config import TrainConfig
from dptrain.ema import update_average
from dptrain.fresh import Batch
from dptrain.job import Job, make_frames
from dptrain.schedule import learning_rate

NO_MEMORY = ("out of memory", "can't allocate memory", "not enough memory")
"""What torch says, on GPUs and on CPUs."""


def train_step(job: Job, batch: Batch, *, global_step: int, epoch: int) -> Tensor:
    """One step of the optimizer on this process's share of a batch; returns its mean loss.

    A scalar, NaN also where the loss is finite and its gradient is not.
    """
    config, parts = job.config, job.config.accumulate
    for group in job.optimizer.param_groups:
        group["lr"] = learning_rate(global_step, total=job.epochs * job.steps, config=config)
    job.optimizer.zero_grad()
    mean = torch.zeros((), device=job.fabric.device)
    for part in range(parts):
        chosen = slice(part, None, parts)
        share = Batch(batch.place[chosen], batch.counts[chosen], batch.orientation[chosen])
        with job.fabric.no_backward_sync(job.module, enabled=part < parts - 1):
            loss = _loss(job, share, epoch=epoch) / parts
            job.fabric.backward(loss)
        mean += loss.detach()
    norm = job.fabric.clip_gradients(job.module, job.optimizer, max_norm=config.gradient_clip, error_if_nonfinite=False)
    assert norm is not None
    job.optimizer.step()
    if job.average is not None:
        update_average(job.average, job.network, decay=config.ema_decay, step=global_step)
    return torch.where(norm.isfinite(), mean, torch.nan)


def _loss(job: Job, batch: Batch, *, epoch: int) -> Tensor:
    change = draw_change(job.train.index[batch.place], job.config.augment, seed=job.config.seed, epoch=epoch)
    frames = make_frames(job, job.train, batch.place, batch.counts, change=change)
    label = torch.from_numpy(change_label(batch.orientation, change))
    loss = job.head.loss(job.module(frames), label, torch.from_numpy(job.train.phase_id[batch.place]))
    if job.weights is not None:
        loss = loss * torch.from_numpy(job.weights[batch.place]).to(loss.device)
    mean: Tensor = loss.mean()
    return mean


@contextmanager
def enough_memory(config: TrainConfig) -> Iterator[None]:
    """Says which batch size to try when the memory does not suffice: InputError in place of torch's errors."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not isinstance(error, MemoryError) and not any(words in str(error) for words in NO_MEMORY):
            raise
        raise InputError(
            f"The memory does not suffice for {config.batch_size} patterns a step in {config.accumulate} parts. Try "
            f"--accumulate {2 * config.accumulate}, which gives about the same result, or --batch-size "
            f"{max(2, config.batch_size // 2)}."
        ) from error
