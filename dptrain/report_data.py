"""What a report of a run rests on: the run, its dataset, and for each predicted scan labels, network and truth."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dpcurate.crystal_maps import IndexResult, read_index
from dpcurate.errors import InputError
from dpcurate.scans import sha256_of
from dpcurate.schema import SPLITS, Source
from dpcurate.store import Dataset
from dpcurate.truth import Truth, read_truth
from dptrain.checkpoint import BEST
from dptrain.config import CONFIG_FILE, TrainConfig, read_config
from dptrain.predict import SUFFIX
from dptrain.runs import METRICS_FILE, open_run_dataset, stops_early

Metrics = dict[str, NDArray[np.float64]]


@dataclass(frozen=True)
class ScanEvidence:
    """All that is known of one predicted scan; maps of shape (rows, columns)."""

    name: str
    network: IndexResult
    labels: IndexResult | None
    """The template-matching index, when the run's dataset was built from this scan."""
    truth: Truth | None
    trained: NDArray[np.bool_]
    """Pixels in the training split."""


@dataclass(frozen=True)
class RunEvidence:
    """A finished run with its predictions."""

    folder: Path
    config: TrainConfig
    dataset: Dataset
    metrics: Metrics
    scans: tuple[ScanEvidence, ...]


def read_run(folder: Path, *, predictions: Sequence[Path] = ()) -> RunEvidence:
    """Everything a report of the run in ``folder`` needs.

    ``predictions`` are index folders that this run's network predicted; without any, those in the run's folder.

    Raises
    ------
    InputError
        No run; not finished; its dataset or index is gone or changed; no prediction, or one of another network.
    """
    config = finished_config(folder)
    dataset = open_run_dataset(config)
    found = [Path(path) for path in predictions] or sorted(path.parent for path in folder.glob(f"*{SUFFIX}/index.json"))
    from_scans = [source for source in dataset.manifest.sources if source.kind == "scan"]
    if not found and from_scans:
        raise InputError(
            f"{folder}: no prediction in it; make one with `dptrain predict {folder} {from_scans[0].scan_path}`, or "
            "name its folder with --prediction."
        )
    digest = sha256_of(folder / BEST)
    scans = tuple(_read_scan(path, dataset=dataset, checkpoint_sha256=digest) for path in found)
    return RunEvidence(folder, config, dataset, read_metrics(folder), scans)


def finished_config(folder: Path) -> TrainConfig:
    """The config of a finished run; InputError when there is no run in ``folder`` or it is not finished."""
    if not (folder / CONFIG_FILE).is_file():
        raise InputError(f"{folder}: no run there ({CONFIG_FILE} is missing); name a folder that `dptrain run` wrote.")
    config = read_config(folder / CONFIG_FILE)
    metrics = read_metrics(folder) if (folder / METRICS_FILE).is_file() else {}
    done = int(metrics["epoch"][-1]) if metrics else 0
    early = bool(metrics) and stops_early(metrics["validation_loss"].tolist(), patience=config.patience)
    if (done < (config.epochs or 0) and not early) or not (folder / BEST).is_file():
        raise InputError(
            f"{folder}: not finished, {done} of {config.epochs} epochs are done; go on with "
            f"`dptrain run --name {folder.name} --resume`."
        )
    return config


def read_metrics(folder: Path) -> Metrics:
    """The columns of a run's metrics.csv, each ``(n_epochs,)``; InputError when it is not a table of numbers."""
    path = folder / METRICS_FILE
    try:
        with path.open(newline="", encoding="utf-8") as stream:
            rows = list(csv.DictReader(stream))
        return {name: np.array([float(row[name]) for row in rows]) for name in rows[0]}
    except (OSError, ValueError, TypeError, IndexError) as error:
        raise InputError(f"{path}: not a table of numbers ({error}); train again or restore the file.") from error


def _read_scan(folder: Path, *, dataset: Dataset, checkpoint_sha256: str) -> ScanEvidence:
    network = read_index(folder)
    made_by = network.info.get("checkpoint", {}).get("sha256")
    if made_by != checkpoint_sha256:
        by = "another network" if made_by else "no network"
        raise InputError(
            f"{folder}: predicted by {by}, not this run's; predict again with `dptrain predict --overwrite`."
        )
    scan = network.info["scan"]
    sources = dataset.manifest.sources
    number = next((i for i, source in enumerate(sources) if source.scan_sha256 == scan["sha256"]), None)
    labels = None if number is None else _read_labels(sources[number])
    truth = read_truth(scan["path"])
    for what, shape in (
        ("index", labels.shape if labels else network.shape),
        ("truth", truth.weight.shape if truth else network.shape),
    ):
        if shape != network.shape:
            raise InputError(
                f"{folder}: {network.shape} pixels, but the {what} of this scan has {shape}; predict again."
            )
    trained = trained_pixels(dataset, source=number, shape=network.shape)
    return ScanEvidence(Path(scan["path"]).stem, network, labels, truth, trained)


def _read_labels(source: Source) -> IndexResult:
    assert source.index_path is not None, "a scan's source names its index"
    labels = read_index(source.index_path)
    if sha256_of(Path(source.index_path) / "crystal_map.h5") != source.index_sha256:
        raise InputError(
            f"{source.index_path}: changed since the run's dataset was built; build the dataset and train again."
        )
    return labels


def trained_pixels(dataset: Dataset, *, source: int | None, shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Pixels of a scan that are in a dataset's training split; none when the scan is not one of its sources."""
    trained = np.zeros(shape, bool)
    if source is not None:
        here = (dataset.read("source") == source) & (dataset.read("split") == SPLITS.index("train"))
        trained[tuple(dataset.read("pixel")[here].T)] = True
    return trained
