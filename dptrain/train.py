"""The training loop, on one process or as many as torchrun starts."""

import math
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from dpcurate.errors import InputError
from dptrain import data, metrics, runs
from dptrain.augment import change_label, draw_change, no_change
from dptrain.checkpoint import BEST, LAST, STATE, save_model, save_state
from dptrain.config import TrainConfig
from dptrain.fresh import Batch, read_batch
from dptrain.job import Job, Progress, add_over_processes, make_frames, make_job
from dptrain.launch import make_fabric

CHECK_STEPS = 50
"""Steps between two looks at the loss and the clock; each costs the processes one exchange."""

SAVE_SECONDS = 60.0
"""A run that is killed loses about so much training."""


def run(config: TrainConfig, *, run_dir: Path, device: str = "auto", resume: bool = False) -> Path:
    """Train as a complete ``config`` says, into ``run_dir``; returns it. With ``resume`` goes on where it stopped.

    Laws: any number of processes, after any number of interruptions, shows the same samples in the same steps with
    the same changes; on one CPU process the losses are then the same to the last bit.

    Raises
    ------
    InputError
        The run cannot start or go on; data or weights cannot be used; the loss is no longer a number; the disk is
        full. The last good checkpoint stays.
    """
    fabric = make_fabric(device)
    fabric.launch()
    dataset = runs.open_run_dataset(config)
    state = runs.saved_state(run_dir, config) if resume else {}
    job = make_job(fabric, config, run_dir=run_dir, dataset=dataset, state=state)
    progress = Progress(**state.get("progress", {}))
    if fabric.is_global_zero and not resume:
        runs.write_config(run_dir, config)
    total = job.epochs * job.steps * config.batch_size
    done = (progress.epoch * job.steps + progress.step) * config.batch_size
    hidden = not fabric.is_global_zero
    with tqdm(total=total, initial=done, unit="pattern", desc=run_dir.name, mininterval=1, disable=hidden) as bar:
        while progress.epoch < job.epochs:
            train_epoch(job, progress, bar=bar)
            finish_epoch(job, progress, bar=bar)
    if job.board:
        job.board.close()
    fabric.barrier()
    return run_dir


def learning_rate(step: int, *, total: int, config: TrainConfig) -> float:
    """The rate of step 0 to ``total`` - 1: rises linearly in the warm-up, then falls as half a cosine towards 0."""
    warmup = max(1, round(config.warmup_share * total))
    if step < warmup:
        return config.learning_rate * (step + 1) / warmup
    return config.learning_rate * 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, total - warmup)))


def train_epoch(job: Job, progress: Progress, *, bar: tqdm) -> None:
    """Train from ``progress.step`` to the end of the epoch; ``progress`` counts over all processes."""
    config, fabric = job.config, job.fabric
    order = data.epoch_order(len(job.train.index), seed=config.seed, epoch=progress.epoch)

    def read(step: int) -> Batch:
        place = data.training_batch(
            order, step, batch_size=config.batch_size, rank=fabric.global_rank, world_size=fabric.world_size
        )
        return read_batch(job.dataset, job.train, place, epoch=progress.epoch, simulator=job.simulator)

    job.module.train()
    counted, started = torch.zeros(3, dtype=torch.float64, device=fabric.device), time.monotonic()
    for batch in data.one_ahead(read, range(progress.step, job.steps)):
        global_step = progress.epoch * job.steps + progress.step
        torch.manual_seed((config.seed * 1_000_003 + global_step) * fabric.world_size + fabric.global_rank)
        loss = train_step(job, batch, global_step=global_step, epoch=progress.epoch)
        index_sum = float(job.train.index[batch.place].sum())
        counted += torch.tensor([0.0, len(batch.place), index_sum], dtype=torch.float64, device=fabric.device)
        counted[0] += loss * len(batch.place)
        progress.step += 1
        bar.update(config.batch_size)
        if progress.step % CHECK_STEPS == 0 or progress.step == job.steps:
            now = time.monotonic()
            due = add_up(job, progress, counted, save=now - progress.saved > SAVE_SECONDS)
            progress.seconds += now - started
            started = now
            counted.zero_()
            if due and progress.step < job.steps:
                save_progress(job, progress)


def train_step(job: Job, batch: Batch, *, global_step: int, epoch: int) -> Tensor:
    """One step of the optimizer on a batch of training samples; returns their mean loss, a scalar."""
    config, place = job.config, batch.place
    change = draw_change(job.train.index[place], config.augment, seed=config.seed, epoch=epoch)
    frames = make_frames(job, job.train, place, batch.counts, change=change)
    label = torch.from_numpy(change_label(batch.orientation, change))
    loss = job.head.loss(job.module(frames), label, torch.from_numpy(job.train.phase_id[place])).mean()
    for group in job.optimizer.param_groups:
        group["lr"] = learning_rate(global_step, total=job.epochs * job.steps, config=config)
    job.optimizer.zero_grad()
    job.fabric.backward(loss)
    job.fabric.clip_gradients(job.module, job.optimizer, max_norm=config.gradient_clip, error_if_nonfinite=False)
    job.optimizer.step()
    return loss.detach()


def add_up(job: Job, progress: Progress, counted: Tensor, *, save: bool) -> bool:
    """Add what all processes ``counted`` to ``progress``; returns whether the first process wants to ``save``.

    Raises InputError when the loss is no longer a number: in all processes alike, before anything is saved.
    """
    wanted = counted.new_tensor([float(save and job.fabric.is_global_zero)])
    loss_sum, n, sample_sum, due = add_over_processes(job, torch.cat([counted, wanted])).tolist()
    if not math.isfinite(loss_sum):
        raise InputError(
            f"{job.run_dir}: the loss is no longer a finite number in epoch {progress.epoch + 1}, near step "
            f"{progress.step}; the last good checkpoint is kept. Start a new run with a lower learning rate."
        )
    progress.loss_sum += loss_sum
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
        save_model(job.run_dir / BEST, job.network, head=job.head, config=job.config, phases=job.phases)
    if time.monotonic() - progress.saved > SAVE_SECONDS or progress.epoch == job.epochs:
        save_progress(job, progress)
    runs.write_metrics(job.run_dir, progress.rows)
    for name, value in row.items():
        if job.board and math.isfinite(value):
            job.board.add_scalar(name, value, progress.epoch)


@torch.no_grad()
def validate(job: Job) -> tuple[float, metrics.Accuracy, metrics.Accuracy]:
    """Mean loss over the validation samples, accuracy against their labels and against the truth where it is known."""
    config, fabric, samples = job.config, job.fabric, job.validation
    batches = data.evaluation_batches(
        len(samples.index), batch_size=config.batch_size, rank=fabric.global_rank, world_size=fabric.world_size
    )
    total = torch.zeros(2 + 2 * metrics.N_TALLY, dtype=torch.float64)
    job.module.eval()
    for (place, counts_for), counts in data.one_ahead(
        lambda batch: (batch, job.dataset.patterns(samples.index[batch[0]])), batches
    ):
        logits = job.module(make_frames(job, samples, place, counts, change=no_change(len(place))))
        phase = samples.phase_id[place]
        loss = job.head.loss(logits, torch.from_numpy(samples.orientation[place]), torch.from_numpy(phase))
        answer, _, answer_phase = (value[:, 0].cpu().numpy() for value in job.head.decode(logits, n_best=1))
        tallies = [
            metrics.tally(
                metrics.errors_deg(
                    answer, reference[place], predicted_phase=answer_phase, phase=phase, phases=job.phases
                )[counts_for]
            )
            for reference in (samples.orientation, samples.true_orientation)
        ]
        losses = loss.cpu().double().numpy()[counts_for]
        total += torch.from_numpy(np.concatenate([[losses.sum(), len(losses)], *tallies]))
    summed = add_over_processes(job, total).cpu().numpy()
    label, truth = np.split(summed[2:], 2)
    return float(summed[0] / summed[1]), metrics.accuracy(label), metrics.accuracy(truth)


def columns(name: str, result: metrics.Accuracy) -> dict[str, float]:
    """An accuracy as columns of metrics.csv."""
    within = zip(metrics.WITHIN_DEG, result.within, strict=True)
    return {
        f"{name}_mean_deg": result.mean_deg,
        f"{name}_median_deg": result.median_deg,
        **{f"{name}_within_{limit:g}_deg": share for limit, share in within},
    }


def save_progress(job: Job, progress: Progress) -> None:
    """Save on the first process what a run needs to go on, then its newest network."""
    progress.saved = time.monotonic()
    if not job.fabric.is_global_zero:
        return
    state = {
        "config": job.config.model_dump_json(),
        "head": job.head.state_dict(),
        "network": job.network.state_dict(),
        "optimizer": job.optimizer.state_dict(),
        "progress": {key: value for key, value in asdict(progress).items() if key != "saved"},
    }
    save_state(job.run_dir / STATE, state)
    save_model(job.run_dir / LAST, job.network, head=job.head, config=job.config, phases=job.phases)
