"""From what a user asks for to a run: dataset, complete config, folder."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dpcurate.store import open_dataset, resolve
from dptrain import data, runs
from dptrain.train import run

DEFAULT_MODEL = "cnn"


def start(
    options: Mapping[str, Any],
    *,
    dataset: str | None = None,
    root: Path | None = None,
    name: str | None = None,
    runs_dir: Path = Path("runs"),
    device: str = "auto",
    resume: bool = False,
    mlflow: bool = False,
) -> Path:
    """Start a run, or go on with it; returns its folder.

    Parameters
    ----------
    options
        Fields of ``config.TrainConfig``; None stands for the model's own value, or when resuming the run's.
    dataset, root
        As for ``store.resolve``.
    name, runs_dir
        The run's folder is ``runs_dir / name``; without a name dataset, model and seed make one.
    device, resume, mlflow
        One of ``launch.DEVICES``; whether to go on where the run stopped; whether MLflow gets the numbers too.

    Raises
    ------
    InputError
        What is asked for does not exist, exists already, or does not fit together.
    StoppedError
        A signal asked for the end, and the state is saved.
    """
    if name is not None:
        runs.check_name(name)
    if resume and name:
        version = open_dataset(resolve(dataset, root)).manifest.version if dataset else None
        config = runs.resumed_config(runs_dir / name, {**options, "dataset_version": version})
        return run(config, run_dir=runs_dir / name, device=device, resume=True, mlflow=mlflow)
    opened = open_dataset(resolve(dataset, root))
    config = runs.requested_config(options.get("model") or DEFAULT_MODEL, options)
    run_dir = runs_dir / (name or runs.default_name(config.model, opened.manifest, seed=config.seed))
    if resume:
        config = runs.resumed_config(run_dir, {**options, "dataset_version": opened.manifest.version})
    else:
        runs.check_new(run_dir)
        train = data.read_samples(opened, "train", label_source=config.label_source)
        config = runs.complete_config(config, opened, train)
    return run(config, run_dir=run_dir, device=device, resume=resume, mlflow=mlflow)
