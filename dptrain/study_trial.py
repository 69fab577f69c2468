"""One run of a study: its dataset, its training, and how far off it is on grains that no run of its seed has seen."""

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import astuple
from pathlib import Path
from typing import Any

import numpy as np

from dpcurate.card import label_error_deg
from dpcurate.curate import build_dataset
from dpcurate.labels import kept_pixels
from dpcurate.orientations import turn_pattern
from dpcurate.patterns import simulated_patterns
from dpcurate.recipe import ScanRecipe
from dpcurate.scans import open_scan
from dpcurate.schema import LABELS, SPLITS, PhaseRecord
from dpcurate.simulation_plan import SimulationPlan
from dpcurate.simulator import Simulator, make_simulator
from dpcurate.store import open_dataset
from dptrain.checkpoint import LAST, STATE, load_model
from dptrain.config import CONFIG_FILE
from dptrain.launch import choose_device
from dptrain.predict import network_answers
from dptrain.report_data import read_metrics
from dptrain.runs import METRICS_FILE
from dptrain.scores import Mask, Score, map_errors_deg, score, untrained_grains
from dptrain.start import start
from dptrain.study_folder import RESULT, Subject, write_json
from dptrain.study_plan import Protocol, Trial, epochs_for

HELD_OUT, HELD_OUT_INSIDE, TRAINING = "held-out grains", "held-out grains, inside", "grains of the training split"

PURE_DEG = 3.0
"""A label within this of the truth counts as right."""


def run_trial(
    trial: Trial,
    protocol: Protocol,
    subjects: Sequence[Subject],
    *,
    split: Sequence[np.ndarray],
    out: Path,
    device: str,
    cache: Any,
) -> None:
    """Build the trial's dataset, train, evaluate on whole scans, and leave the result in the run's folder."""
    dataset = open_dataset(_dataset_of(trial, protocol, subjects, out=out, cache=cache))
    labels = {name: dataset.read(name) for name in LABELS}
    in_train = labels["split"] == SPLITS.index("train")
    epochs, steps = epochs_for(protocol, n_train=int(in_train.sum()))
    run_dir = out / "runs" / trial.name
    _train(trial, protocol, dataset=dataset.path, epochs=epochs, run_dir=run_dir, device=device)
    from_scans = in_train & (labels["pixel"][:, 0] >= 0)
    error = label_error_deg(dataset.manifest.phases, labels)[from_scans]
    exact = trial.kind == "exact"
    grains = np.stack([labels["source"], labels["true_grain"]])[:, from_scans]
    row = {
        "trial": trial.name,
        **trial.model_dump(),
        "n_labels": int(from_scans.sum()),
        "n_train": int(in_train.sum()),
        "n_train_grains": np.unique(grains, axis=1).shape[1],
        "label_purity": 1.0 if exact else float(np.mean(error <= PURE_DEG)),
        "label_mean_deg": 0.0 if exact else float(error.mean()),
        "steps": steps,
        "epochs": epochs,
    }
    scores = [astuple(one) for one in evaluate(run_dir, subjects, split=split, device=device)]
    write_json(run_dir / RESULT, {"trial": row, "scores": scores})


def evaluate(run_dir: Path, subjects: Sequence[Subject], *, split: Sequence[np.ndarray], device: str) -> list[Score]:
    """Scores of a run's last network over held-out grains, their insides, and the grains of the training split."""
    predictor = load_model(run_dir / LAST, choose_device(device))
    errors, grains = [], []
    groups: dict[str, list[Mask]] = {name: [] for name in (HELD_OUT, HELD_OUT_INSIDE, TRAINING)}
    for number, (subject, part) in enumerate(zip(subjects, split, strict=True)):
        calibration = subject.index.info["calibration"]
        keys = ("scale_inv_angstrom", "center_xy", "beam_energy_kev", "flip", "rotation_deg")
        scan = open_scan(subject.index.info["scan"]["path"], ScanRecipe(**{key: calibration[key] for key in keys}))
        answers = network_answers(predictor, scan, n_best=1, progress=False)
        orientation = turn_pattern(answers.orientation[:, :, 0], calibration["rotation_deg"])
        phase_id = np.where(answers.unseen, -1, answers.phase_id[..., 0]).astype(np.int16)
        errors.append(map_errors_deg(orientation, phase_id, subject.truth.quat, phases=predictor.phases).ravel())
        held = held_out(subject, part)
        grains.append((subject.truth.grain + 1_000_000 * number).ravel())
        groups[HELD_OUT].append(held.ravel())
        groups[HELD_OUT_INSIDE].append((held & subject.truth.inside).ravel())
        groups[TRAINING].append((part == 0).ravel())
    error, grain = np.concatenate(errors), np.concatenate(grains)
    return [
        score(error, np.concatenate(masks), answer="network", pixels=name, grain=grain)
        for name, masks in groups.items()
    ]


def held_out(subject: Subject, split: np.ndarray) -> Mask:
    """Pixels of the test split whose true grain has no pixel in the training split, (rows, columns)."""
    trained = (split == SPLITS.index("train")) & (subject.index.phase_id >= 0)
    return np.asarray((split == SPLITS.index("test")) & untrained_grains(subject.truth.grain, trained))


def _dataset_of(trial: Trial, protocol: Protocol, subjects: Sequence[Subject], *, out: Path, cache: Any) -> Path:
    """Build the dataset of a trial: thresholded, or as many labels of all drawn at random."""
    kept = sum(len(kept_pixels(one.index, min_confidence=trial.min_confidence)) for one in subjects)
    drawn = trial.kind == "random"

    def simulate(simulator: Simulator, index: np.ndarray) -> Iterator[np.ndarray]:
        yield cache(simulator.plan.model_dump_json(), simulator.phases, len(index))

    return build_dataset(
        [str(one.index.folder) for one in subjects],
        name=f"{'random' if drawn else 'threshold'}-{trial.min_confidence:.3g}-seed{trial.seed}",
        min_confidence=0.0 if drawn else trial.min_confidence,
        sample=kept if drawn else None,
        simulated=protocol.simulated,
        simulate=simulate,
        seed=trial.seed,
        root=out / "datasets",
        progress=False,
    )


def simulated(plan: str, phases: tuple[PhaseRecord, ...], n: int) -> np.ndarray:
    """The first n patterns of a plan, in JSON, that can be looked up: all datasets of a seed share their simulation."""
    simulator = make_simulator(SimulationPlan.model_validate_json(plan), phases)
    return np.concatenate(list(simulated_patterns(simulator, np.arange(n))))


def _train(trial: Trial, protocol: Protocol, *, dataset: Path, epochs: int, run_dir: Path, device: str) -> None:
    """Train, go on where a run was interrupted, or find it finished."""
    done = int(read_metrics(run_dir)["epoch"][-1]) if (run_dir / METRICS_FILE).is_file() else 0
    if done >= epochs and (run_dir / LAST).is_file():
        return
    resume = (run_dir / CONFIG_FILE).is_file() and (run_dir / STATE).is_file()
    if not resume:
        shutil.rmtree(run_dir, ignore_errors=True)
    options = {
        "model": protocol.model,
        "epochs": epochs,
        "seed": trial.seed,
        "batch_size": protocol.batch_size,
        "learning_rate": protocol.learning_rate,
        "label_source": "truth" if trial.kind == "exact" else "label",
        "input": {"size": protocol.input_size},
        "head": {"max_cells": protocol.max_cells},
    }
    start(
        {} if resume else options,
        dataset=str(dataset),
        name=run_dir.name,
        runs_dir=run_dir.parent,
        device=device,
        resume=resume,
    )
