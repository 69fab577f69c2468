"""One run of a study: its dataset, its training, and how far off its network is on pixels that it has not seen."""

import functools
import io
import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dpcurate.card import label_error_deg
from dpcurate.crystal_maps import IndexResult, read_index, software_versions
from dpcurate.orientations import Array, turn_pattern
from dpcurate.schema import LABELS, SPLITS
from dpcurate.store import Dataset, open_dataset
from dptrain.checkpoint import LAST, STATE, Predictor, load_model, write_aside
from dptrain.config import CONFIG_FILE, read_config
from dptrain.launch import choose_device
from dptrain.report_data import read_metrics
from dptrain.runs import METRICS_FILE, open_run_dataset
from dptrain.scores import Mask, map_errors_deg
from dptrain.start import start
from dptrain.study_data import Division, build, groups, scan_of
from dptrain.study_folder import ERRORS, RESULT, Subject, write_json
from dptrain.study_plan import Protocol, Trial, epochs_for
from dptrain.study_scores import numbers

PURE_DEG = 3.0
"""A label within this of the truth counts as right."""

SEPARATE = 1_000_000
"""Grains of one scan are numbered so far apart from those of the next."""

Group = dict[str, NDArray[Any]]
"""Of one group of pixels, each ``(n,)``: ``scan``, ``pixel`` (number along the rows), ``grain``, ``error`` (degrees),
``label_error`` (of the scan's labels by template matching, degrees); and ``orientation`` (n, 4)."""


def run_trial(
    trial: Trial,
    protocol: Protocol,
    subjects: Sequence[Subject],
    tests: Sequence[Subject],
    *,
    parts: Sequence[Division],
    out: Path,
    device: str,
) -> None:
    """Build the trial's dataset, train, judge, and leave the result in the run's folder; the dataset is taken away."""
    run_dir = out / "runs" / trial.name
    going_on = (run_dir / CONFIG_FILE).is_file() and (run_dir / STATE).is_file()
    if going_on:
        dataset = open_run_dataset(read_config(run_dir / CONFIG_FILE))
    else:
        shutil.rmtree(out / "datasets" / trial.name, ignore_errors=True)
        shutil.rmtree(run_dir, ignore_errors=True)
        dataset = open_dataset(build(trial, protocol, subjects, parts, out=out))
    facts = _facts(trial, protocol, dataset)
    _train(trial, protocol, dataset=dataset, epochs=facts["epochs"], run_dir=run_dir, device=device)
    predictor = load_model(run_dir / LAST, choose_device(device))
    found, rate = judge(predictor, subjects, tests, parts=parts, most=protocol.most_tested)
    metrics = read_metrics(run_dir)
    facts |= {
        "train_s": float(metrics["seconds"].sum()),
        "predict_per_s": rate,
        "n_weights": sum(weight.numel() for weight in predictor.network.parameters()),
    }
    buffer = io.BytesIO()
    arrays = {f"{name}/{key}": value for name, group in found.items() for key, value in group.items()}
    np.savez_compressed(buffer, allow_pickle=False, **arrays)
    write_aside(run_dir / ERRORS, buffer.getvalue())
    scores = [
        {"pixels": name, "n_pixels": len(one["error"]), "n_grains": len(np.unique(one["grain"]))}
        | numbers(one["error"])
        | {f"label_{key}": value for key, value in numbers(one["label_error"]).items()}
        for name, one in found.items()
    ]
    record = {"trial": trial.model_dump(mode="json"), "facts": facts, "scores": scores}
    write_json(run_dir / RESULT, record | {"software": software_versions()})
    shutil.rmtree(out / "datasets" / trial.name, ignore_errors=True)


def judge(
    predictor: Predictor,
    subjects: Sequence[Subject],
    tests: Sequence[Subject],
    *,
    parts: Sequence[Division],
    most: int,
) -> tuple[dict[str, Group], float]:
    """What a network answers to every group of pixels, and patterns per second.

    ``parts`` are the divisions of ``subjects``; of each group at most about ``most`` pixels are shown, evenly spread.
    Of ``tests`` every pixel is, as the group ``scan NAME``.
    """
    found: dict[str, list[Group]] = {}
    started, shown = time.perf_counter(), 0
    jobs: list[tuple[int, Subject, Mapping[str, Mask]]] = [
        (number, one, groups(one, part)) for number, (one, part) in enumerate(zip(subjects, parts, strict=True))
    ]
    jobs += [
        (len(subjects) + number, one, {f"scan {one.name}": one.truth.phase_id >= 0}) for number, one in enumerate(tests)
    ]
    for number, subject, masks in jobs:
        for name, mask in masks.items():
            pixel = np.flatnonzero(mask)
            if number < len(subjects):
                pixel = pixel[:: max(1, -(-len(pixel) // most))]
            if len(pixel):
                found.setdefault(name, []).append(_answers(predictor, subject, pixel, number=number))
            shown += len(pixel)
    rate = shown / max(time.perf_counter() - started, 1e-9)
    return {
        name: {key: np.concatenate([one[key] for one in some]) for key in some[0]} for name, some in found.items()
    }, rate


def label_errors_deg(subject: Subject) -> Array:
    """Disorientation of a scan's labels from the truth, (rows, columns); 180 degrees where not indexed."""
    index, truth = subject.index, subject.truth
    return map_errors_deg(
        index.orientation, index.phase_id, truth.quat, phases=index.phases, reference_phase=truth.phase_id
    )


def _answers(predictor: Predictor, subject: Subject, pixel: NDArray[np.int64], *, number: int) -> Group:
    truth = subject.truth
    patterns, center, scale, rotation = _patterns(str(subject.index.folder), subject.index.info["scan"]["sha256"])
    orientation, _, phase_id = predictor.predict(patterns[pixel], center, scale, n_best=1)
    answer = turn_pattern(orientation[:, 0], rotation)
    exact, phase = truth.quat.reshape(-1, 4)[pixel], truth.phase_id.ravel()[pixel]
    error = map_errors_deg(answer, phase_id[:, 0], exact, phases=predictor.phases, reference_phase=phase)
    return {
        "scan": np.full(len(pixel), number),
        "pixel": pixel,
        "grain": truth.grain.ravel()[pixel] + SEPARATE * number,
        "error": error,
        "label_error": label_errors_deg(subject).ravel()[pixel],
        "orientation": answer.astype(np.float32),
    }


@functools.lru_cache(maxsize=8)
def _patterns(folder: str, sha256: str) -> tuple[NDArray[Any], tuple[float, float], float, float]:
    """All patterns of an indexed scan ``(n, H, W)``, its centre, scale and rotation; ``sha256`` names its content."""
    index: IndexResult = read_index(folder)
    assert index.info["scan"]["sha256"] == sha256, "checked when the study is opened"
    scan = scan_of(index)
    data = np.asarray(scan.patterns.compute())
    calibration = scan.calibration
    return (
        data.reshape(-1, *data.shape[2:]),
        calibration.center_xy,
        calibration.scale_inv_angstrom,
        calibration.rotation_deg,
    )


def _facts(trial: Trial, protocol: Protocol, dataset: Dataset) -> dict[str, Any]:
    """How many labels a dataset gives to training, how good they are, and for how long they are shown."""
    labels = {name: dataset.read(name) for name in LABELS}
    in_train = labels["split"] == SPLITS.index("train")
    from_scans = in_train & (labels["pixel"][:, 0] >= 0)
    error = label_error_deg(dataset.manifest.phases, labels)[from_scans]
    exact = trial.kind == "exact"
    epochs, steps = epochs_for(
        protocol, n_train=int(in_train.sum()), batch_size=trial.options.get("batch_size", protocol.batch_size)
    )
    none = not len(error)
    return {
        "n_labels": int(from_scans.sum()),
        "n_train": int(in_train.sum()),
        "label_purity": 1.0 if exact or none else float(np.mean(error <= PURE_DEG)),
        "label_mean_deg": 0.0 if exact or none else float(error.mean()),
        "steps": steps,
        "epochs": epochs,
    }


def _train(trial: Trial, protocol: Protocol, *, dataset: Dataset, epochs: int, run_dir: Path, device: str) -> None:
    """Train, go on where a run was interrupted, or find it finished."""
    done = int(read_metrics(run_dir)["epoch"][-1]) if (run_dir / METRICS_FILE).is_file() else 0
    if done >= epochs and (run_dir / LAST).is_file():
        return
    resume = (run_dir / CONFIG_FILE).is_file() and (run_dir / STATE).is_file()
    options = {
        "model": trial.model,
        "epochs": epochs,
        "seed": trial.seed,
        "batch_size": protocol.batch_size,
        "label_source": "truth" if trial.kind == "exact" else "label",
    }
    for section, value in [*protocol.options.items(), *trial.options.items()]:
        had = options.get(section)
        options[section] = {**had, **value} if isinstance(had, dict) and isinstance(value, dict) else value
    start(
        {} if resume else options,
        dataset=str(dataset.path),
        name=run_dir.name,
        runs_dir=run_dir.parent,
        device=device,
        resume=resume,
    )
