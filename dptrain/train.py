"""The training loop, on one process or as many as torchrun starts."""

import math
import time
from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from dpcurate.errors import InputError
from dptrain import data, runs
from dptrain.checkpoint import BEST, LAST, STATE, save_model, save_state
from dptrain.config import TrainConfig
from dptrain.fresh import Batch, read_batch
from dptrain.interruption import StoppedError, StopRequest, listening
from dptrain.job import Job, Progress, add_over_processes, make_job
from dptrain.launch import make_fabric
from dptrain.logs import check_mlflow
from dptrain.pacing import paced_order
from dptrain.steps import enough_memory, train_step
from dptrain.validation import columns, validate

CHECK_STEPS = 50
"""Steps between two looks at the loss and the clock; each costs the processes one exchange."""

SAVE_SECONDS = 60.0
"""A run that is killed loses about so much training."""

TOLD = 8
"""Patterns of a bad batch that a message names."""


def run(
    config: TrainConfig, *, run_dir: Path, device: str = "auto", resume: bool = False, mlflow: bool = False
) -> Path:
    """Train as a complete ``config`` says, into ``run_dir``; returns it. With ``resume`` goes on where it stopped.

    Laws: any number of processes, after any number of interruptions, shows the same samples in the same steps with
    the same changes, at the same rates; on one CPU process the losses are then the same to the last bit, on several
    they differ by the order of sums.

    Raises
    ------
    InputError
        The run cannot start or go on; data or weights cannot be used; the loss is no longer a number; memory or disk
        are full. The last good checkpoint stays.
    StoppedError
        SIGTERM or SIGUSR1 came: what was trained is saved.
    """
    check_mlflow(mlflow)
    fabric = make_fabric(device, precision=config.precision)
    fabric.launch()
    dataset = runs.open_run_dataset(config)
    state = runs.saved_state(run_dir, config) if resume else {}
    if fabric.is_global_zero:
        runs.unmark_stopped(run_dir)
        if not resume:
            runs.write_config(run_dir, config)
    job = make_job(fabric, config, run_dir=run_dir, dataset=dataset, state=state, mlflow=mlflow)
    progress = Progress(**state.get("progress", {}))
    if state and fabric.is_global_zero:  # the last network is written after the state: it may be missing
        save_newest(job)
    try:
        with listening() as request, enough_memory(config):
            train(job, progress, request=request)
    finally:
        if job.log:
            job.log.close()
    fabric.barrier()
    return run_dir


def train(job: Job, progress: Progress, *, request: StopRequest) -> None:
    """Train from ``progress`` to the end, or until a ``request`` to stop."""
    total = job.epochs * job.steps * job.config.batch_size
    done = (progress.epoch * job.steps + progress.step) * job.config.batch_size
    hidden = not job.fabric.is_global_zero
    with tqdm(total=total, initial=done, unit="pattern", desc=job.run_dir.name, mininterval=1, disable=hidden) as bar:
        while not finished(job, progress):
            train_epoch(job, progress, bar=bar, request=request)
            finish_epoch(job, progress, bar=bar)


def finished(job: Job, progress: Progress) -> bool:
    """Whether all epochs are done, or as many as ``patience`` allows brought no lower validation loss."""
    losses = [row["validation_loss"] for row in progress.rows]
    return progress.epoch >= job.epochs or runs.stops_early(losses, patience=job.config.patience)


def train_epoch(job: Job, progress: Progress, *, bar: tqdm, request: StopRequest) -> None:
    """Train from ``progress.step`` to the end of the epoch; ``progress`` counts over all processes."""
    config, fabric, device = job.config, job.fabric, job.fabric.device
    order = paced_order(job.train.confidence, config, epoch=progress.epoch)

    def read(step: int) -> Batch:
        place = data.training_batch(
            order, step, batch_size=config.batch_size, rank=fabric.global_rank, world_size=fabric.world_size
        )
        return read_batch(job.dataset, job.train, place, epoch=progress.epoch, simulator=job.simulator)

    job.module.train()
    losses: list[Tensor] = []
    counted, started = torch.zeros(2, dtype=torch.float64, device=device), time.monotonic()
    for batch in data.one_ahead(read, range(progress.step, job.steps)):
        stop = job.agreement.anybody(request.asked)
        if stop or (progress.step % CHECK_STEPS == 0 and losses):
            now = time.monotonic()
            due = add_up(job, progress, counted, losses=losses, order=order, save=now - progress.saved > SAVE_SECONDS)
            progress.seconds += now - started
            started = now
            counted.zero_()
            losses.clear()
            if due or stop:
                save_progress(job, progress)
        if stop:
            said = f"{job.run_dir}: stopped in epoch {progress.epoch + 1} after step {progress.step}"
            if fabric.is_global_zero:
                runs.mark_stopped(job.run_dir, said)
            raise StoppedError(said)
        global_step = progress.epoch * job.steps + progress.step
        torch.manual_seed(config.seed * 1_000_003 + global_step)
        losses.append(train_step(job, batch, global_step=global_step, epoch=progress.epoch))
        counted += counted.new_tensor([len(batch.place), float(job.train.index[batch.place].sum())])
        progress.step += 1
        bar.update(config.batch_size)
    add_up(job, progress, counted, losses=losses, order=order, save=False)
    progress.seconds += time.monotonic() - started


def add_up(
    job: Job, progress: Progress, counted: Tensor, *, losses: list[Tensor], order: data.Index, save: bool
) -> bool:
    """Add what all processes counted since the last look to ``progress``; whether the first one wants to ``save``.

    ``counted``: patterns and the sum of their places; ``losses``: one of each step.

    Raises
    ------
    InputError
        A loss is not finite: in all processes alike, before anything is saved.
    """
    share = job.config.batch_size // job.fabric.world_size
    loss = torch.stack(losses).double() if losses else counted.new_zeros(0)
    wanted = counted.new_tensor([float(save and job.fabric.is_global_zero)])
    together = add_over_processes(job, torch.cat([loss * share, counted, wanted]))
    bad = (~together[: len(losses)].isfinite()).nonzero()
    if len(bad):
        step = progress.step - len(losses) + int(bad[0])
        shown = job.train.index[order[step * job.config.batch_size : (step + 1) * job.config.batch_size]]
        raise InputError(
            f"{job.run_dir}: the loss is no longer a finite number in epoch {progress.epoch + 1}, batch {step + 1} "
            f"(patterns {', '.join(map(str, shown[:TOLD]))} ... of the dataset); the last good checkpoint is kept. "
            "Look at these patterns, or start a new run with a lower learning rate."
        )
    n, sample_sum, due = together[len(losses) :].tolist()
    progress.loss_sum += float(together[: len(losses)].sum())
    progress.n += n
    progress.sample_sum += sample_sum
    return due > 0


def finish_epoch(job: Job, progress: Progress, *, bar: tqdm) -> None:
    """Validate, log and save after the last step of an epoch, and move ``progress`` to the next one."""
    started = time.monotonic()
    loss, on_label, on_truth = validate(job)
    row = {
        "epoch": float(progress.epoch + 1),
        "samples": progress.n,
        "sample_sum": progress.sample_sum,
        "train_loss": progress.loss_sum / progress.n,
        "validation_loss": loss,
        **columns("label", on_label),
        **columns("truth", on_truth),
        "patterns_per_s": progress.n / max(progress.seconds, 1e-9),
        "seconds": progress.seconds + time.monotonic() - started,
    }
    better = loss < progress.best
    rows = [*progress.rows, row]
    fresh = Progress(progress.epoch + 1, best=min(loss, progress.best), rows=rows, saved=progress.saved)
    vars(progress).update(vars(fresh))
    if not job.fabric.is_global_zero:
        return
    bar.set_postfix_str(f"loss {row['train_loss']:.3f}/{loss:.3f}, within 5 deg {row['label_within_5_deg']:.3f}")
    if better:
        save_model(job.run_dir / BEST, job.judged, head=job.head, config=job.config, phases=job.phases)
    if time.monotonic() - progress.saved > SAVE_SECONDS or finished(job, progress):
        save_progress(job, progress)
    runs.write_metrics(job.run_dir, progress.rows)
    if job.log:
        job.log.write(row, epoch=progress.epoch)


def save_progress(job: Job, progress: Progress) -> None:
    """Save on the first process what a run needs to go on, then its newest network."""
    progress.saved = time.monotonic()
    if not job.fabric.is_global_zero:
        return
    assert math.isfinite(progress.loss_sum)
    state = {
        "config": job.config.model_dump_json(),
        "head": job.head.state_dict(),
        "network": job.network.state_dict(),
        "average": job.average.state_dict() if job.average is not None else None,
        "optimizer": job.optimizer.state_dict(),
        "progress": {key: value for key, value in asdict(progress).items() if key != "saved"},
    }
    save_state(job.run_dir / STATE, state)
    save_newest(job)


def save_newest(job: Job) -> None:
    """Write the network as it is now, or its average."""
    save_model(job.run_dir / LAST, job.judged, head=job.head, config=job.config, phases=job.phases)
