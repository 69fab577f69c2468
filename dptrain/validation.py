"""Loss and accuracy over the validation samples, each counted once on any number of processes."""

import numpy as np
import torch

from dptrain import data, metrics
from dptrain.augment import no_change
from dptrain.job import Job, add_over_processes, make_frames


@torch.no_grad()
def validate(job: Job) -> tuple[float, metrics.Accuracy, metrics.Accuracy]:
    """Mean loss over the validation samples, accuracy against their labels and against the truth where it is known."""
    config, fabric, samples = job.config, job.fabric, job.validation
    batches = data.evaluation_batches(
        len(samples.index),
        batch_size=config.batch_size // config.accumulate,
        rank=fabric.global_rank,
        world_size=fabric.world_size,
    )
    total = torch.zeros(2 + 2 * metrics.N_TALLY, dtype=torch.float64)
    job.judged.eval()
    for (place, counts_for), counts in data.one_ahead(
        lambda batch: (batch, job.dataset.patterns(samples.index[batch[0]])), batches
    ):
        with fabric.autocast():
            outputs = job.judged(make_frames(job, samples, place, counts, change=no_change(len(place))))
        phase = samples.phase_id[place]
        loss = job.head.loss(outputs, torch.from_numpy(samples.orientation[place]), torch.from_numpy(phase))
        answer, _, answer_phase = (value[:, 0].cpu().numpy() for value in job.head.decode(outputs, n_best=1))
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
