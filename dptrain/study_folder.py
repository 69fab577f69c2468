"""The folder of a study: its record, its scans with true grains, its table of results."""

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from dpcurate.crystal_maps import IndexResult, Truth, read_index, read_truth, software_versions, write_index
from dpcurate.errors import InputError
from dpcurate.scans import sha256_of
from dptrain.checkpoint import write_aside
from dptrain.scores import COLUMNS
from dptrain.study_plan import STUDY_FILE, Protocol, Trial

RESULTS_FILE = "results.csv"
RESULT = "trial.json"
"""Written into a run's folder when its trial is evaluated."""

TRIAL_COLUMNS = (
    "trial",
    "kind",
    "seed",
    "min_confidence",
    "n_labels",
    "n_train",
    "n_train_grains",
    "label_purity",
    "label_mean_deg",
    "steps",
    "epochs",
)

KEY = ("protocol", "indexes")
"""What must not change in a study that goes on."""


@dataclass(frozen=True)
class Subject:
    """One scan of a study: its index, grains replaced by the true ones, and its truth."""

    index: IndexResult
    truth: Truth


def truth_of(index: IndexResult) -> Truth:
    """The exact truth of an index's scan; InputError when there is none or it does not fit."""
    path = index.info["scan"]["path"]
    truth = read_truth(path) if path else None
    if truth is None:
        raise InputError(
            f"{index.folder}: its scan {path} has no exact truth beside it (NAME.truth.npz); give an index of a scan "
            "whose orientations are known, such as a simulated one."
        )
    if truth.weight.shape != index.shape:
        raise InputError(
            f"{index.folder}: {index.shape} pixels, but the truth has {truth.weight.shape}; index it again."
        )
    return truth


def open_folder(out: Path, sources: Sequence[IndexResult], protocol: Protocol) -> None:
    """Make the study's folder with its record, or check that the one there is the same study."""
    key = {
        "protocol": protocol.model_dump(mode="json"),
        "indexes": [
            {"path": str(index.folder), "sha256": _index_sha256(index), "scan": index.info["scan"]} for index in sources
        ],
    }
    if (out / STUDY_FILE).is_file():
        had = read_study(out)
        for part in KEY:
            if had[part] != key[part]:
                raise InputError(
                    f"{out}: a study with other {part}: changed since it was started. Give the same, or another --out."
                )
        return
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"{out}: exists and is not a study; give another --out.")
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{out}: cannot be made ({error.strerror}); choose another --out.") from error
    created = datetime.now(UTC).isoformat(timespec="seconds")
    write_json(out / STUDY_FILE, {"study": "label-quality", **key, "created": created, "software": software_versions()})


def read_study(folder: Path) -> dict[str, Any]:
    """The record of a study; InputError when there is none or it is damaged."""
    path = folder / STUDY_FILE
    try:
        record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        missing = [part for part in ("study", *KEY) if part not in record]
    except FileNotFoundError:
        raise InputError(
            f"{folder}: no study there ({STUDY_FILE} is missing); start one with `dptrain study`."
        ) from None
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: damaged ({error}); start the study again under another --out.") from error
    if missing:
        raise InputError(f"{path}: damaged, {missing[0]} is missing; start the study again under another --out.")
    return record


def write_results(out: Path, planned: Sequence[Trial]) -> Path:
    """Write results.csv anew from all trials that are done: one row per trial and group of pixels."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow([*TRIAL_COLUMNS, *COLUMNS])
    for trial in planned:
        path = out / "runs" / trial.name / RESULT
        if path.is_file():
            result = json.loads(path.read_text(encoding="utf-8"))
            writer.writerows([*(result["trial"][name] for name in TRIAL_COLUMNS), *one] for one in result["scores"])
    write_aside(out / RESULTS_FILE, stream.getvalue().encode())
    return out / RESULTS_FILE


def split_by_truth(index: IndexResult, truth: Truth, *, out: Path) -> IndexResult:
    """The index with true grains in place of found ones, so that no true grain spans two splits; kept in ``out``."""
    assert index.folder is not None, "read_index gives the folder"
    folder = out / "indexes" / f"{index.info['scan']['sha256'][:12]}.index"
    if not (folder / "index.json").is_file():
        info = index.info | {"grains": "exact, from the scan's truth", "made from": str(index.folder)}
        recipe = (index.folder / "recipe.toml").read_text(encoding="utf-8")
        write_index(replace(index, grain_id=truth.grain.astype(np.int32), info=info), folder, recipe_toml=recipe)
    return read_index(folder)


def _index_sha256(index: IndexResult) -> str:
    assert index.folder is not None, "read_index gives the folder"
    return sha256_of(index.folder / "crystal_map.h5")


def write_json(path: Path, content: object) -> None:
    """Write ``content`` as JSON, whole or not at all."""
    write_aside(path, json.dumps(content, indent=1).encode())
