"""The runs of a study read back: settings averaged over seeds, compared pixel by pixel, with intervals."""

import functools
import json
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dpcurate.errors import InputError
from dpcurate.orientations import Array
from dptrain.study_data import HELD_OUT, HELD_PIXELS
from dptrain.study_folder import ERRORS, RESULT, planned_trials, read_study, unfinished
from dptrain.study_plan import Trial
from dptrain.study_scores import METRICS, Interval, mean_interval, paired_interval

WORDS = {"held-out grains": "grains that no run has seen", "held-out pixels": "unseen pixels of grains trained on"}
"""What the two groups that verdicts rest on are, in plain words."""

JUDGED = (HELD_OUT, HELD_PIXELS)

MARGIN = 0.02
"""Shares within 5 degrees that differ by less than this, over their whole interval, are the same in practice."""

Value = Callable[[Array], Array]
"""From disorientations ``(n,)`` to what is averaged ``(n,)``."""


@dataclass(frozen=True)
class Run:
    """One trial that is done."""

    trial: Trial
    facts: dict[str, Any]
    scores: dict[str, dict[str, Any]]
    """By group of pixels."""
    folder: Path

    @functools.cached_property
    def pixels(self) -> dict[str, NDArray[Any]]:
        """Every array of the run's errors, by GROUP/NAME; InputError when the file is damaged."""
        try:
            with np.load(self.folder / ERRORS) as file:
                return {name: file[name] for name in file.files}
        except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
            raise InputError(
                f"{self.folder / ERRORS}: damaged ({error}); remove the run's folder and run the study again."
            ) from error

    def of(self, group: str, name: str) -> NDArray[Any]:
        """One array of one group."""
        return self.pixels[f"{group}/{name}"]


@dataclass(frozen=True)
class Findings:
    """All that a study has found so far."""

    record: dict[str, Any]
    runs: tuple[Run, ...]
    missing: dict[str, str]
    """Trials without a result, and why."""

    @property
    def settings(self) -> dict[str, list[Run]]:
        """Runs that differ in the seed only, by the setting's name, in the order of the plan."""
        found: dict[str, list[Run]] = {}
        for run in self.runs:
            found.setdefault(setting_of(run.trial), []).append(run)
        return found

    @property
    def pixel_groups(self) -> list[str]:
        """Groups of pixels that any run was judged on."""
        return list(dict.fromkeys(name for run in self.runs for name in run.scores))

    def some(self, kind: str) -> dict[str, list[Run]]:
        """Settings of one kind."""
        return {name: runs for name, runs in self.settings.items() if runs[0].trial.kind == kind}


def read_findings(folder: Path) -> Findings:
    """What a study has found; InputError when no run is done, or a result is damaged."""
    record = read_study(folder)
    planned = planned_trials(folder, record)
    missing = unfinished(folder, [trial.name for trial in planned])
    runs = tuple(_read(folder / "runs" / trial.name, trial) for trial in planned if trial.name not in missing)
    if not runs:
        raise InputError(
            f"{folder}: none of {len(planned)} runs is done, so there is nothing to report; run the same `dptrain "
            "study` again, it goes on."
        )
    return Findings(record, runs, missing)


def setting_of(trial: Trial) -> str:
    """Name of a trial without its seed."""
    return trial.name.rpartition("-seed")[0]


def words_of(trial: Trial) -> str:
    """A setting in words."""
    if trial.kind == "threshold":
        return f"labels above {trial.min_confidence:g}" if trial.min_confidence else "all labels"
    if trial.kind == "exact":
        return "exact labels" + (f" of the patterns above {trial.min_confidence:g}" if trial.min_confidence else "")
    return setting_of(trial).partition("-")[2] or trial.kind


def mean(runs: Sequence[Run], group: str, metric: str) -> float:
    """Mean over runs of one of ``METRICS``, NaN where no run was judged on the group."""
    values = [run.scores[group][metric] for run in runs if group in run.scores]
    return float(np.mean(values)) if values else float("nan")


def fact(runs: Sequence[Run], name: str) -> float:
    """Mean over runs of one of their facts."""
    return float(np.mean([run.facts[name] for run in runs]))


def value_of(metric: str) -> Value | None:
    """What is averaged to give a metric; None for those that are no averages."""
    if metric == "mean_deg":
        return lambda error: error
    if metric.startswith("within_"):
        limit = float(metric.split("_")[1])
        return lambda error: (error <= limit).astype(float)
    return None


def interval(runs: Sequence[Run], group: str, metric: str) -> Interval:
    """A setting's metric with its interval over seeds and grains; no interval for metrics that are no averages."""
    value = value_of(metric)
    runs = [run for run in runs if group in run.scores]
    if value is None or not runs:
        return Interval(mean(runs, group, metric), None, None)
    values = {run.trial.seed: value(run.of(group, "error")) for run in runs}
    return mean_interval(values, {run.trial.seed: run.of(group, "grain") for run in runs})


def against(first: Sequence[Run], second: Sequence[Run], group: str, metric: str = "within_5_deg") -> Interval | None:
    """``first`` minus ``second`` over the seeds that both have, at the same pixels; None when they share no seed."""
    value = value_of(metric)
    assert value is not None, "only averages are compared"
    pairs = {run.trial.seed: [run] for run in first if group in run.scores}
    for run in second:
        if run.trial.seed in pairs and group in run.scores:
            pairs[run.trial.seed].append(run)
    both = {seed: some for seed, some in pairs.items() if len(some) > 1}
    if not both:
        return None
    one, two = ({seed: value(some[place].of(group, "error")) for seed, some in both.items()} for place in (0, 1))
    return paired_interval(one, two, {seed: some[0].of(group, "grain") for seed, some in both.items()})


def against_labels(runs: Sequence[Run], group: str, metric: str = "within_5_deg") -> Interval:
    """Networks minus the labels by template matching of the same pixels."""
    value = value_of(metric)
    assert value is not None, "only averages are compared"
    runs = [run for run in runs if group in run.scores]
    one, two = ({run.trial.seed: value(run.of(group, name)) for run in runs} for name in ("error", "label_error"))
    return paired_interval(one, two, {run.trial.seed: run.of(group, "grain") for run in runs})


def is_a_guess(runs: Sequence[Run], group: str, guess_within_5: float) -> bool:
    """Whether a setting cannot be told from guessing: the interval of its share within 5 degrees reaches the guess's.

    With fewer than two seeds: when the share itself does.
    """
    found = interval(runs, group, "within_5_deg")
    low = found.value if found.low is None else found.low
    return not low > guess_within_5


def _read(folder: Path, trial: Trial) -> Run:
    path = folder / RESULT
    try:
        result = json.loads(path.read_text(encoding="utf-8"))
        scores = {one["pixels"]: one for one in result["scores"]}
        for one in scores.values():
            float(sum(one[name] for name in METRICS))
        return Run(trial, result["facts"], scores, folder)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: damaged ({error!r}); remove the run's folder and run the study again.") from error
