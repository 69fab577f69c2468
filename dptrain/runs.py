"""A run's folder: what it was asked to do, whether it may start or go on, and the tables it leaves."""

import csv
import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError

from dpcurate.errors import InputError
from dpcurate.schema import Manifest
from dpcurate.store import Dataset, open_dataset
from dptrain.checkpoint import BEST, LAST, STATE, load_state, write_aside
from dptrain.config import CONFIG_FILE, DatasetReference, TrainConfig, read_config, to_toml
from dptrain.data import Samples, reach_inv_angstrom
from dptrain.models import model_config

METRICS_FILE = "metrics.csv"

STOPPED_FILE = "stopped"
"""There while a run that was asked to stop, and saved, waits to go on: torchrun does not hand its exit code on."""

LARGEST_K_INV_ANGSTROM = 1.5
"""The frame reaches no farther by itself: spots beyond are weak, and a wider frame blurs the rest."""


def requested_config(model: str, options: Mapping[str, Any]) -> TrainConfig:
    """The config of ``model`` with the options that were given (not None) in place of its own; sections key by key.

    Raises InputError for an option out of range, naming it, and for options that do not go together.
    """
    values = model_config(model).model_dump()
    for key, value in options.items():
        if value is not None:
            values[key] = values[key] | value if isinstance(value, Mapping) else value
    try:
        return TrainConfig.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        if first["type"] == "value_error":  # several values that do not go together
            raise InputError(f"{where or model}: {first['ctx']['error']}.") from error
        raise InputError(f"{where} {first['input']!r}: {first['msg']}. Give another value.") from error


def complete_config(config: TrainConfig, dataset: Dataset, train: Samples) -> TrainConfig:
    """The config with all that follows from the dataset: reference, k_max, epochs, batch size.

    Raises
    ------
    InputError
        There are too few training patterns to fill a batch of two, or no confidences to weigh their labels by.
    """
    n = len(train.index)
    if n < 2:
        raise InputError(f"{dataset.path}: {n} training patterns, at least 2 are needed; build a larger dataset.")
    if config.label_weights == "confidence" and not np.ptp(np.nan_to_num(train.confidence, nan=1.0)):
        raise InputError(f"{dataset.path}: its labels are all equally sure; leave out --label-weights confidence.")
    manifest = dataset.manifest
    reference = DatasetReference(name=manifest.name, version=manifest.version, path=str(dataset.path.resolve()))
    shape = manifest.arrays["patterns"].shape[1:]
    k_max = config.input.k_max or min(LARGEST_K_INV_ANGSTROM, reach_inv_angstrom(train, (shape[0], shape[1])))
    epochs = config.epochs or min(config.max_epochs, math.ceil(config.patterns_seen / n))
    values = config.model_dump() | {
        "dataset": reference.model_dump(),
        "input": config.input.model_dump() | {"k_max": round(k_max, 6)},
        "epochs": epochs,
        "batch_size": min(config.batch_size, n),
    }
    return TrainConfig.model_validate(values)


def default_name(model: str, manifest: Manifest, *, seed: int) -> str:
    """The name of a run that was given none."""
    return f"{manifest.name}-{model}-{seed}"


def check_name(name: str) -> None:
    """InputError when the name of a run is a path: runs lie in the folder of all runs."""
    if name in ("", ".", "..") or Path(name).name != name:
        raise InputError(f"--name {name}: is a path, and a name is expected. Choose the folder with --runs.")


def checkpoint_file(checkpoint: str | Path) -> Path:
    """The checkpoint itself: the best network when a run's folder was given."""
    path = Path(checkpoint)
    return path / BEST if path.is_dir() else path


def check_new(run_dir: Path) -> None:
    """InputError when a run of this name is there already."""
    if (run_dir / CONFIG_FILE).exists():
        raise InputError(f"{run_dir}: this run exists; go on with --resume or choose another --name.")


def resumed_config(run_dir: Path, options: Mapping[str, Any]) -> TrainConfig:
    """The config of a run that is to go on.

    ``options`` are those given now (None: not given), ``dataset_version`` among them; they must be what the run has.

    Raises
    ------
    InputError
        There is no such run, or an option or the dataset is not what it was started with.
    """
    if not (run_dir / CONFIG_FILE).is_file():
        raise InputError(f"{run_dir}: no run to resume; leave out --resume to start it, or name one with --name.")
    config = read_config(run_dir / CONFIG_FILE)
    assert config.dataset is not None
    had = _flat(config.model_dump() | {"dataset_version": config.dataset.version})
    for key, value in _flat(options).items():
        if value is not None and had[key] != value:
            raise InputError(
                f"{run_dir}: started with {key} = {had[key]}, now {value}; resume with the same or start a new run."
            )
    return config


def _flat(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options with those of sections, such as ``input.size``, under names of their own."""
    found: dict[str, Any] = {}
    for key, value in options.items():
        found |= {f"{key}.{k}": v for k, v in value.items()} if isinstance(value, Mapping) else {key: value}
    return found


def open_run_dataset(config: TrainConfig) -> Dataset:
    """The dataset that a config refers to; InputError when it is gone or is another version."""
    assert config.dataset is not None
    dataset = open_dataset(Path(config.dataset.path))
    if dataset.manifest.version != config.dataset.version:
        raise InputError(
            f"{dataset.path}: is version {dataset.manifest.version}, the run was started with "
            f"{config.dataset.version}; put that one back or start a new run."
        )
    return dataset


def saved_state(run_dir: Path, config: TrainConfig) -> dict[str, Any]:
    """The state that a run goes on from; empty when it was stopped before the first was saved, so that it starts anew.

    Raises
    ------
    InputError
        The state is damaged, was removed, or was not made with ``config``.
    """
    if not (run_dir / STATE).exists() and not (run_dir / LAST).exists():  # the state is always written first
        return {}
    state = load_state(run_dir / STATE)
    if state.get("config") != config.model_dump_json():
        raise InputError(f"{run_dir / CONFIG_FILE}: changed since the run was started; restore it or start a new run.")
    return state


def write_config(run_dir: Path, config: TrainConfig) -> None:
    """Make the run's folder with its config."""
    try:
        run_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{run_dir}: cannot be made ({error.strerror}); choose another --runs or --name.") from error
    write_aside(run_dir / CONFIG_FILE, to_toml(config).encode())


def stops_early(validation_losses: Sequence[float], *, patience: int | None) -> bool:
    """Whether the last ``patience`` epochs brought no lower validation loss than those before; None: never."""
    if patience is None or len(validation_losses) <= patience:
        return False
    return min(validation_losses[-patience:]) >= min(validation_losses[:-patience])


def mark_stopped(run_dir: Path, said: str) -> None:
    """Leave ``STOPPED_FILE`` with a sentence in it; `unmark_stopped` takes it away."""
    write_aside(run_dir / STOPPED_FILE, f"{said}\n".encode())


def unmark_stopped(run_dir: Path) -> None:
    """Take ``STOPPED_FILE`` away, if it is there."""
    (run_dir / STOPPED_FILE).unlink(missing_ok=True)


def write_metrics(run_dir: Path, rows: Sequence[Mapping[str, float]]) -> None:
    """Write metrics.csv anew: one row per finished epoch."""
    text = io.StringIO()
    table = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    write_aside(run_dir / METRICS_FILE, text.getvalue().encode())
