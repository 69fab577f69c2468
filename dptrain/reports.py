"""Which page a folder asks for: a run's or a study's."""

from collections.abc import Sequence
from pathlib import Path

from dpcurate.errors import InputError
from dptrain.conditions_report import report_conditions
from dptrain.config import CONFIG_FILE
from dptrain.report import report_run
from dptrain.report_data import finished_config
from dptrain.study_folder import read_study
from dptrain.study_plan import STUDY_FILE
from dptrain.study_report import report_study


def write_reports(folders: Sequence[Path], *, predictions: Sequence[Path] = (), out: Path | None = None) -> list[Path]:
    """Write the page of every folder and return their paths.

    Raises
    ------
    InputError
        A folder is neither run nor study, or a run is not finished: all such runs are named, and no page is written.
        ``out`` or ``predictions`` go with one folder only.
    """
    if len(folders) > 1 and (out is not None or predictions):
        raise InputError("--out and --prediction go with one folder; leave them out, or report one folder at a time.")
    problems = [problem for folder in folders if (problem := _problem(Path(folder)))]
    if problems:
        raise InputError(" ".join(problems))
    return [_write(Path(folder), predictions=predictions, out=out) for folder in folders]


def _problem(folder: Path) -> str:
    if (folder / STUDY_FILE).is_file():
        return ""
    if not (folder / CONFIG_FILE).is_file():
        return f"{folder}: neither a run ({CONFIG_FILE}) nor a study ({STUDY_FILE}); name a folder that dptrain wrote."
    try:
        finished_config(folder)
    except InputError as error:
        return str(error)
    return ""


def _write(folder: Path, *, predictions: Sequence[Path], out: Path | None) -> Path:
    if not (folder / STUDY_FILE).is_file():
        return report_run(folder, predictions=predictions, out=out)
    if predictions:
        raise InputError(f"{folder}: --prediction goes with a run, not with a study.")
    if read_study(folder)["study"] == "conditions":
        return report_conditions(folder, out=out)
    return report_study(folder, out=out)
