"""A network judged on a dataset: every disorientation, and where it is good and where it is not."""

import csv
import hashlib
import io
import json
import math
import shutil
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from dpcurate.errors import InputError
from dpcurate.schema import CONDITIONS, SPLITS
from dpcurate.store import Dataset, open_dataset, resolve
from dptrain import data
from dptrain.boundaries import boundary_distance_px, grain_map
from dptrain.checkpoint import Predictor, load_model
from dptrain.compatible import check_reach, phase_numbers
from dptrain.evaluate_figures import draw_groups
from dptrain.evaluate_scores import Group, Judged, groups
from dptrain.launch import choose_device
from dptrain.metrics import errors_deg
from dptrain.runs import checkpoint_file

SUFFIX = ".evaluated"
RECORD, TABLE, EVERY = "evaluation.json", "scores.csv", "disorientations.npz"
"""Files of an evaluation, the record last."""

ALL = "all"
"""Instead of a split: every pattern."""

BLOCK = 256
"""Patterns that are read at a time."""


def evaluate(
    checkpoint: str | Path,
    reference: str | None = None,
    *,
    root: Path | None = None,
    split: str = "test",
    out: Path | None = None,
    overwrite: bool = False,
    device: str = "auto",
    progress: bool = True,
) -> tuple[Path, list[Group]]:
    """Judge a network on a dataset; returns the folder written, and the scores of every group of patterns.

    Parameters
    ----------
    checkpoint
        A run's folder (its best network) or a checkpoint file.
    reference, root
        The dataset, as for ``store.resolve``.
    split
        One of ``schema.SPLITS``, or ``all``.
    out
        Default: ``NAME-SPLIT.evaluated`` beside the checkpoint.
    overwrite, device, progress
        Whether an evaluation that is there may be replaced; one of ``launch.DEVICES``; show it, on stderr.

    Raises
    ------
    InputError
        No checkpoint, no dataset, no pattern in the split; the dataset is of another phase or its patterns reach less
        far than the network looks; ``out`` is there or cannot be written.
    """
    predictor = load_model(checkpoint, choose_device(device))
    file, dataset = checkpoint_file(checkpoint), open_dataset(resolve(reference, root))
    out = out or file.parent / f"{dataset.manifest.name}-{split}{SUFFIX}"
    _check_free(out, overwrite=overwrite)
    judged, boundaries = judge(predictor, dataset, split=split, progress=progress)
    found = groups(judged)
    record = {
        "checkpoint": {"path": str(file.resolve()), "sha256": hashlib.sha256(file.read_bytes()).hexdigest()},
        "model": predictor.config.model,
        "dataset": {
            "name": dataset.manifest.name,
            "version": dataset.manifest.version,
            "path": str(dataset.path),
            "split": split,
        },
        "trained_on_this_dataset": trained_on(predictor, dataset),
        "judged": {"patterns": len(judged.index), "by exact truth": int(judged.exact.sum())},
        "boundaries": boundaries,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    return _write(out, judged, found, record), found


def trained_on(predictor: Predictor, dataset: Dataset) -> bool:
    """Whether this is the version of the dataset that a network was trained on, so that splits keep their meaning."""
    used = predictor.config.dataset
    return used is not None and used.version == dataset.manifest.version


def judge(
    predictor: Predictor, dataset: Dataset, *, split: str, progress: bool = True
) -> tuple[Judged, dict[str, str]]:
    """Every pattern of a split, each once, judged; and for each scan what told where its grains end."""
    rows = _rows(dataset, split)
    label = {name: dataset.read(name)[rows] for name in ("orientation", "true_orientation", "center_xy", "scale")}
    numbers = phase_numbers(predictor.phases, dataset.manifest.phases, what=str(dataset.path))
    phase = numbers[dataset.read("phase_id")[rows]]
    _check_size(predictor, dataset, label["center_xy"], label["scale"])
    answer = _answers(predictor, dataset, rows, label["center_xy"], label["scale"], progress=progress)
    exact = ~np.isnan(label["true_orientation"]).any(axis=-1)
    simulated = dataset.read("draw")[rows] >= 0
    simulated |= dataset.read("pixel")[rows].min(axis=1) < 0
    orientation, confidence, phase_id = answer
    error = errors_deg(
        orientation,
        np.where(exact[:, None], label["true_orientation"], label["orientation"]),
        predicted_phase=phase_id,
        phase=phase,
        phases=predictor.phases,
    )
    boundary, said = _boundaries(dataset, rows, simulated)
    judged = Judged(
        index=rows,
        error_deg=error,
        exact=exact,
        simulated=simulated,
        orientation=orientation,
        phase_id=phase_id,
        confidence=confidence,
        label_confidence=np.where(simulated, np.nan, dataset.read("confidence")[rows]).astype(np.float32),
        grain=_grains(dataset, rows, simulated),
        boundary_px=boundary,
        thickness_angstrom=dataset.read("conditions")[rows, CONDITIONS.index("thickness_angstrom")].astype(float),
    )
    return judged, said


def _rows(dataset: Dataset, split: str) -> NDArray[np.int64]:
    if split not in (*SPLITS, ALL):
        raise InputError(f"--split {split}: is not known; choose {', '.join(SPLITS)} or {ALL}.")
    rows = np.arange(dataset.n) if split == ALL else np.flatnonzero(dataset.read("split") == SPLITS.index(split))
    if not len(rows):
        raise InputError(f"{dataset.path}: no pattern in its split {split}; choose another --split, such as {ALL}.")
    return rows


def _check_size(predictor: Predictor, dataset: Dataset, center: NDArray[Any], scale: NDArray[Any]) -> None:
    rows, columns = dataset.manifest.arrays["patterns"].shape[1:]
    k_max = predictor.config.input.k_max
    assert k_max is not None, "a trained network has looked at patterns"
    reach = data.reach_of(center, scale, (rows, columns))
    check_reach(reach, k_max, what=str(dataset.path), size=(rows, columns))


def _answers(
    predictor: Predictor,
    dataset: Dataset,
    rows: NDArray[np.int64],
    center: NDArray[Any],
    scale: NDArray[Any],
    *,
    progress: bool,
) -> tuple[NDArray[np.float64], NDArray[np.float32], NDArray[np.int16]]:
    """The best answer to each of ``rows``: orientation ``(n, 4)``, confidence ``(n,)``, phase ``(n,)``."""
    orientation, confidence = np.empty((len(rows), 4)), np.empty(len(rows), np.float32)
    phase_id = np.empty(len(rows), np.int16)
    parts = [slice(first, first + BLOCK) for first in range(0, len(rows), BLOCK)]
    with tqdm(total=len(rows), desc="evaluate", unit="pattern", disable=not progress) as bar:
        for part, counts in data.one_ahead(lambda part: (part, dataset.patterns(rows[part])), parts):
            found = predictor.predict(counts, center[part], scale[part], n_best=1)
            orientation[part], confidence[part], phase_id[part] = (value[:, 0] for value in found)
            bar.update(len(counts))
    return orientation, confidence, phase_id


def _grains(dataset: Dataset, rows: NDArray[np.int64], simulated: NDArray[np.bool_]) -> NDArray[np.int64]:
    """One number for each grain of each scan, exact grains where they are known; other patterns stand alone."""
    true_grain, grain_id = (dataset.read(name)[rows].astype(np.int64) for name in ("true_grain", "grain_id"))
    exact = true_grain >= 0
    grain = np.where(exact, true_grain, grain_id)
    alone = simulated | (grain < 0)
    key = np.stack([dataset.read("source")[rows], exact, alone, np.where(alone, rows, grain)], axis=1)
    return np.unique(key, axis=0, return_inverse=True)[1].reshape(-1)


def _boundaries(
    dataset: Dataset, rows: NDArray[np.int64], simulated: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], dict[str, str]]:
    names = ("source", "pixel", "true_grain", "grain_id")
    source, pixel, true_grain, grain_id = (dataset.read(name) for name in names)
    distance, said = np.full(len(rows), np.nan), {}
    for number, one in enumerate(dataset.manifest.sources):
        all_here = (source == number) & (pixel.min(axis=1) >= 0)
        here = ~simulated & (source[rows] == number)
        if not here.any():
            continue
        grain, made_of = grain_map(one, pixel[all_here], true_grain=true_grain[all_here], grain_id=grain_id[all_here])
        distance[here] = boundary_distance_px(grain, pixel[rows[here]])
        said[one.scan_path or f"source {number}"] = made_of
    return distance, said


def _check_free(out: Path, *, overwrite: bool) -> None:
    if not out.exists():
        return
    if not overwrite:
        raise InputError(f"{out}: exists already. Give --overwrite to replace it, or another --out.")
    if not (out / RECORD).is_file():
        raise InputError(f"{out}: is no evaluation, so it is not replaced. Give another --out.")


def _write(out: Path, judged: Judged, found: Sequence[Group], record: dict[str, Any]) -> Path:
    """Write all of an evaluation under another name, then rename it."""
    partial = out.with_name(out.name + ".partial")
    rows = [group.row() for group in found]
    table = io.StringIO()
    writer = csv.DictWriter(table, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        np.savez_compressed(partial / EVERY, allow_pickle=False, **judged.arrays())
        (partial / TABLE).write_text(table.getvalue(), encoding="utf-8")
        draw_groups(partial, found)
        text = json.dumps(record | {"scores": [_plain(row) for row in rows]}, indent=1, ensure_ascii=False)
        (partial / RECORD).write_text(text, encoding="utf-8")
        if out.exists():
            shutil.rmtree(out)
        partial.rename(out)
    except OSError as error:
        raise InputError(f"{out}: cannot be written ({error.strerror}). Free space or choose another --out.") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return out


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    """A row as JSON can hold it: no NaN, no infinity."""
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value for name, value in row.items()
    }
