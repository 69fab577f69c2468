"""The folder of a study: its record, who runs which trial, trials that failed, its table of results."""

import csv
import fcntl
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from dpcurate.crystal_maps import IndexResult, software_versions
from dpcurate.errors import InputError
from dpcurate.scans import sha256_of
from dpcurate.truth import Truth, read_truth
from dptrain.checkpoint import write_aside
from dptrain.study_plan import STUDY_FILE, Protocol, Trial
from dptrain.study_scores import METRICS

RESULTS_FILE = "results.csv"
ASKED = "asked"
"""Folder of the trials that a search asked for, one file each."""

RESULT, ERRORS, FAILURE = "trial.json", "errors.npz", "failure.json"
"""Written into a run's folder when its trial is evaluated, in the order errors, trial; or when it failed."""

COLUMNS = (
    *("trial", "kind", "seed", "min_confidence", "corruption", "rate", "model", "setting"),
    *("n_labels", "n_train", "label_purity", "steps", "train_s", "predict_per_s", "n_weights"),
    *("pixels", "n_pixels", "n_grains", *METRICS),
)

KEY = ("protocol", "indexes", "tests")
"""What must not change in a study that goes on."""


@dataclass(frozen=True)
class Subject:
    """One scan of a study: its index and its truth."""

    index: IndexResult
    truth: Truth

    @property
    def name(self) -> str:
        """Name of its file, without the ending."""
        return Path(self.index.info["scan"]["path"]).stem


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


def open_folder(
    out: Path, sources: Sequence[IndexResult], protocol: Protocol, *, tests: Sequence[IndexResult] = ()
) -> None:
    """Make the study's folder with its record, or check that the one there is the same study.

    Raises InputError when it is another study, or an index, a scan or a truth is not what it was.
    """
    key = {
        "protocol": protocol.model_dump(mode="json"),
        "indexes": [_described(index) for index in sources],
        "tests": [_described(index) for index in tests],
    }
    if (out / STUDY_FILE).is_file():
        had = read_study(out)
        for part in KEY:
            if had[part] != key[part]:
                raise InputError(
                    f"{out}: a study with other {part}: changed since it was started. Give the same, or another --out."
                )
        return
    # names that begin with a dot are another process's record, half written
    if out.exists() and (not out.is_dir() or any(not path.name.startswith(".") for path in out.iterdir())):
        raise InputError(f"{out}: exists and is not a study; give another --out.")
    make_folder(out)
    created = datetime.now(UTC).isoformat(timespec="seconds")
    record = {"study": protocol.study, **key, "created": created, "software": software_versions()}
    write_json(out / STUDY_FILE, record)


def make_folder(path: Path) -> Path:
    """Make a folder of a study; InputError when it cannot be made."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{path}: cannot be made ({error.strerror}); choose another --out.") from error
    return path


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


@contextmanager
def locked(path: Path, *, wait: bool = True) -> Iterator[bool]:
    """Hold the lock at ``path``; False when another process has it and ``wait`` is not asked for.

    A process that ends, however it ends, lets go of it: no lock stays behind. Works over processes, and over the nodes
    of a cluster where the file system has POSIX locks (NFS 4, Lustre with -o flock).
    """
    make_folder(path.parent)
    with path.open("a") as stream:
        try:
            fcntl.lockf(stream, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield False
            return
        yield True


def result_of(out: Path, name: str) -> dict[str, Any] | None:
    """What a trial found, None when it is not done."""
    path = out / "runs" / name / RESULT
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def failure_of(out: Path, name: str) -> str:
    """Why a trial failed, in one line; empty when it did not."""
    path = out / "runs" / name / FAILURE
    return str(json.loads(path.read_text(encoding="utf-8"))["error"]) if path.is_file() else ""


def unfinished(out: Path, names: Sequence[str]) -> dict[str, str]:
    """Trials without a result, and why: a failure's words, or that they are missing."""
    return {name: failure_of(out, name) or "missing" for name in names if not (out / "runs" / name / RESULT).is_file()}


def asked_trials(out: Path) -> list[Trial]:
    """Trials that a search has asked for, by name."""
    files = sorted((out / ASKED).glob("*.json"))
    return [Trial.model_validate_json(path.read_text(encoding="utf-8")) for path in files]


def planned_trials(out: Path, record: Mapping[str, Any]) -> list[Trial]:
    """All trials of a study: those of its plan, and those that a search has asked for."""
    return [*(Trial.model_validate(trial) for trial in record.get("trials", [])), *asked_trials(out)]


def write_results(out: Path, planned: Sequence[Trial]) -> Path:
    """Write results.csv anew from all trials that are done: one row per trial and group of pixels."""
    stream = io.StringIO()
    writer = csv.DictWriter(stream, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for trial in planned:
        result = result_of(out, trial.name)
        if result is not None:
            for score in result["scores"]:
                row: Mapping[str, Any] = trial.model_dump() | result["facts"] | score | {"trial": trial.name}
                writer.writerow({name: row[name] for name in COLUMNS})
    write_aside(out / RESULTS_FILE, stream.getvalue().encode())
    return out / RESULTS_FILE


def write_json(path: Path, content: object) -> None:
    """Write ``content`` as JSON, whole or not at all."""
    write_aside(path, json.dumps(content, indent=1).encode())


def _described(index: IndexResult) -> dict[str, Any]:
    """What an index is made of; InputError when its scan is gone or is not the one that was indexed."""
    assert index.folder is not None, "read_index gives the folder"
    scan = index.info["scan"]
    path = Path(scan["path"])
    if not path.is_file() and not path.is_dir():
        raise InputError(f"{index.folder}: its scan {path} is gone; put it back or index the scan where it is now.")
    if sha256_of(path) != scan["sha256"]:
        raise InputError(f"{path}: changed since {index.folder} was made; index it again.")
    return {
        "path": str(index.folder.resolve()),
        "sha256": sha256_of(index.folder / "crystal_map.h5"),
        "scan": {"path": scan["path"], "sha256": scan["sha256"]},
        "truth_sha256": sha256_of(path.with_name(path.stem + ".truth.npz")),
    }
