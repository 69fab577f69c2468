"""A search for good hyperparameters: Optuna asks, runs answer; any number of processes share one journal."""

import typing
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from dpcurate.schema import Record
from dptrain.config import HeadConfig, InputConfig, NetworkConfig, TrainConfig
from dptrain.report_data import read_metrics
from dptrain.study import Opened, open_study, take
from dptrain.study_folder import ASKED, asked_trials, make_folder, result_of, write_json, write_results
from dptrain.study_plan import Protocol, Trial, confident_threshold

SEARCH_FILE, JOURNAL = "search.json", "optuna.journal"

NAME = "hyperparameters"

FIRST_SHARE = 0.25
"""Of the steps: after so long a run, one that is worse than the median of the others is pruned."""

STARTUP = 4
"""Runs that are never pruned, so that there is a median."""


def run_search(
    indexes: Sequence[str | Path],
    protocol: Protocol,
    *,
    out: Path,
    tests: Sequence[str | Path] = (),
    device: str = "auto",
) -> Path:
    """Search, or go on searching, in ``out``; returns it. The best choice is then run beside the usual one.

    What is made small is the mean disorientation of the last network from the exact truth over the validation split,
    grains that are neither trained on nor reported. Any number of processes may be given the same words.

    Raises
    ------
    InputError
        As ``study.run_study``.
    """
    optuna = _optuna()
    opened = open_study(indexes, protocol, out=out, tests=tests, device=device)
    make_folder(out / ASKED)
    backend = optuna.storages.journal.JournalFileBackend(str(out / JOURNAL))
    study = optuna.create_study(
        study_name=NAME,
        storage=optuna.storages.JournalStorage(backend),
        sampler=optuna.samplers.TPESampler(),
        pruner=optuna.pruners.MedianPruner(n_startup_trials=STARTUP),
        load_if_exists=True,
    )
    while sum(trial.state.is_finished() for trial in study.trials) < protocol.trials:
        _answer(opened, study, optuna, device=device)
    _write_search(out, study, optuna)
    for trial in _final(opened, study, optuna):
        _ask(out, trial)
        take(opened, trial, device=device)
    write_results(out, asked_trials(out))
    return out


def choices(trial: Any, *, thresholds: Sequence[float], size: int) -> tuple[dict[str, Any], float]:
    """The options of a training config that an Optuna trial tries, and the labels' lowest confidence."""
    options: dict[str, Any] = {
        "learning_rate": trial.suggest_float("learning_rate", 1e-4, 1e-2, log=True),
        "batch_size": trial.suggest_categorical("batch_size", [32, 64, 128, 256]),
        "warmup_share": trial.suggest_float("warmup_share", 0.0, 0.2),
        "input": {
            "size": trial.suggest_categorical("input.size", sorted({size // 2, size})),
            "frame": trial.suggest_categorical("input.frame", _values(InputConfig, "frame")),
            "power": trial.suggest_float("input.power", 0.1, 1.0),
        },
        "network": {"kernel": trial.suggest_categorical("network.kernel", _values(NetworkConfig, "kernel"))},
        "schedule": trial.suggest_categorical("schedule", _values(TrainConfig, "schedule")),
        "confidence_order": trial.suggest_categorical("confidence_order", _values(TrainConfig, "confidence_order")),
    }
    head = trial.suggest_categorical("head.name", _values(HeadConfig, "name"))
    options["head"] = {"name": head}
    if head in ("density", "grid"):
        options["head"]["sigma_spacings"] = trial.suggest_float("head.sigma_spacings", 0.3, 1.2)
    if head == "euler":
        options["head"]["clamp"] = trial.suggest_categorical("head.clamp", [True, False])
    return options, trial.suggest_categorical("min_confidence", list(thresholds))


def _values(record: type[Record], name: str) -> list[Any]:
    """The values that a key of a config can have."""
    return list(typing.get_args(record.model_fields[name].annotation))


def _answer(opened: Opened, study: Any, optuna: Any, *, device: str) -> None:
    """Ask for one choice, train it for a while, and to its end if it is not pruned."""
    asked = study.ask()
    options, least = choices(asked, thresholds=opened.thresholds, size=_size(opened.protocol))
    seed = next(iter(opened.parts))
    for share, words in ((FIRST_SHARE, "first"), (1.0, "whole")):
        steps = max(1, round(share * opened.protocol.steps))
        shorter = replace(opened, protocol=opened.protocol.model_copy(update={"steps": steps}))
        trial = Trial(
            kind="setting",
            seed=seed,
            min_confidence=least,
            model=opened.protocol.model,
            options=options,
            setting=f"{asked.number:03d}-{words}",
        )
        _ask(opened.out, trial)
        take(shorter, trial, device=device)
        if result_of(opened.out, trial.name) is None:
            study.tell(asked, state=optuna.trial.TrialState.FAIL)
            return
        value = float(read_metrics(opened.out / "runs" / trial.name)["truth_mean_deg"][-1])
        asked.report(value, steps)
        if share < 1 and asked.should_prune():
            study.tell(asked, state=optuna.trial.TrialState.PRUNED)
            return
    study.tell(asked, value if np.isfinite(value) else None)


def _final(opened: Opened, study: Any, optuna: Any) -> list[Trial]:
    """The best choice and the network's own, with every seed."""
    best = optuna.trial.FixedTrial(study.best_trial.params)
    options, least = choices(best, thresholds=opened.thresholds, size=_size(opened.protocol))
    model, usual = opened.protocol.model, confident_threshold(opened.thresholds)
    trials = []
    for seed in opened.parts:
        trials.append(Trial(kind="setting", model=model, seed=seed, min_confidence=usual, setting="usual"))
        trials.append(
            Trial(kind="setting", model=model, seed=seed, min_confidence=least, setting="best", options=options)
        )
    return trials


def _size(protocol: Protocol) -> int:
    return int(protocol.options.get("input", {}).get("size", 128))


def _ask(out: Path, trial: Trial) -> None:
    """Keep what a trial is, so that a report finds it."""
    write_json(out / ASKED / f"{trial.name}.json", trial.model_dump(mode="json"))


def _write_search(out: Path, study: Any, optuna: Any) -> None:
    """Every trial with its values, and the importance of each choice, for pages that are made without Optuna."""
    trials = [
        {"number": one.number, "state": one.state.name, "value": one.value, "params": one.params}
        for one in study.trials
        if one.state.is_finished()
    ]
    complete = [one for one in trials if one["state"] == "COMPLETE"]
    importance: Mapping[str, float] = {}
    if len(complete) > STARTUP:
        evaluator = optuna.importance.PedAnovaImportanceEvaluator()
        importance = optuna.importance.get_param_importances(study, evaluator=evaluator)
    write_json(out / SEARCH_FILE, {"trials": trials, "importance": dict(importance), "optuna": optuna.__version__})


def _optuna() -> Any:
    """Imported where it is used: it takes a second."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna
