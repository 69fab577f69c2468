"""Where the numbers of each epoch go besides metrics.csv: TensorBoard, and MLflow if it is asked for."""

import math
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from torch.utils.tensorboard import SummaryWriter

from dpcurate.errors import InputError
from dptrain.config import TrainConfig

TENSORBOARD = "tensorboard"

MLFLOW_ID = "mlflow.txt"
"""Holds the number that MLflow gave to a run, so that it goes on with the same one."""


class EpochLog:
    """Writes the row of each epoch; made by the first process only."""

    def __init__(self, run_dir: Path, config: TrainConfig, *, epoch: int, mlflow: bool):
        self.board = SummaryWriter(str(run_dir / TENSORBOARD), purge_step=epoch + 1 if epoch else None)
        self.mlflow = _open_mlflow(run_dir, config) if mlflow else None

    def write(self, row: Mapping[str, float], *, epoch: int) -> None:
        """The numbers of a ``row`` that are finite, after so many epochs."""
        finite = {name: value for name, value in row.items() if math.isfinite(value)}
        for name, value in finite.items():
            self.board.add_scalar(name, value, epoch)
        if self.mlflow:
            self.mlflow.log_metrics(finite, step=epoch)

    def close(self) -> None:
        """Write what is still in memory."""
        self.board.close()
        if self.mlflow:
            self.mlflow.end_run()


def check_mlflow(wanted: bool) -> None:
    """InputError when MLflow is ``wanted`` and not installed."""
    if wanted and find_spec("mlflow") is None:
        raise InputError("--mlflow: MLflow is not installed; `pip install mlflow-skinny`, or leave the option out.")


def _open_mlflow(run_dir: Path, config: TrainConfig) -> Any:
    import mlflow

    file = run_dir / MLFLOW_ID
    known = file.read_text(encoding="utf-8").strip() if file.is_file() else None
    run = mlflow.start_run(run_id=known, run_name=None if known else run_dir.name)
    if not known:
        file.write_text(run.info.run_id + "\n", encoding="utf-8")
        mlflow.log_params(config.model_dump())
    return mlflow
