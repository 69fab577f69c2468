"""The plan of a study: what is trained on which labels, for how long, fixed before the first run."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
from pydantic import Field

from dpcurate.crystal_maps import IndexResult
from dpcurate.errors import InputError
from dpcurate.labels import kept_pixels
from dpcurate.schema import Record
from dptrain.corruption import Corruption
from dptrain.models import MODELS, model_config
from dptrain.scores import Mask
from dptrain.study_choices import CHOICES

STUDY_FILE = "study.json"

MIN_LABELS = 40
"""A threshold must leave so many training labels in every seed's split, or quantiles take its place."""

KEPT_SHARES = (1.0, 0.5, 0.25, 0.1)
"""Shares of the labels that stay when quantiles of the confidence take the place of the thresholds."""

MIN_HELD_OUT_GRAINS = 3
"""A seed whose split holds out fewer true grains is passed over, if another one holds out as many."""

SEEDS_TRIED = 100

CONFIDENT = 0.8
"""Networks and choices are compared on the labels above the highest threshold up to this one."""

Study = Literal["label-quality", "architectures", "choices", "hyperparameters"]
Kind = Literal["threshold", "random", "exact", "corrupted", "scan only", "simulated", "network", "setting"]

KINDS: dict[Kind, str] = {
    "threshold": "labels above the threshold, and simulated patterns",
    "random": "as many labels drawn at random, and simulated patterns",
    "exact": "the same patterns with exact labels, and simulated patterns",
    "corrupted": "exact labels of all patterns, a known share made wrong, and simulated patterns",
    "scan only": "all labels of the scan alone",
    "simulated": "simulated patterns alone",
    "network": "one network on the labels above the threshold, and simulated patterns",
    "setting": "one choice of hyperparameters on the labels above the threshold, and simulated patterns",
}


class Protocol(Record):
    """Everything but the scans that decides a study's result."""

    study: Study = "label-quality"
    preset: str = "full"
    seeds: int = Field(3, ge=1, description="how many; each is another split, sample and network")
    thresholds: tuple[float, ...] = Field((0.0, 0.25, 0.5, 0.7, 0.8, 0.9, 0.95), description="of confidence, ascending")
    corruptions: tuple[Corruption, ...] = ("uniform", "half turn", "pseudo-symmetric", "whole grains")
    rates: tuple[float, ...] = Field((0.1, 0.25, 0.5, 0.75), description="shares of labels made wrong")
    simulated: int = Field(4000, ge=20, description="simulated patterns that datasets hold as well")
    models: tuple[str, ...] = Field(tuple(MODELS), description="networks that are compared")
    model: str = Field("cnn", description="network of the other studies")
    steps: int = Field(12_500, ge=1, description="optimisation steps of every run, to within half an epoch")
    batch_size: int = 64
    choices: tuple[str, ...] = Field(tuple(CHOICES), description="of training, one at a time, that are compared")
    trials: int = Field(60, ge=1, description="choices of hyperparameters that are tried")
    options: dict[str, Any] = Field({}, description="of the training config, for every run")
    pixels_held_out: float = Field(0.15, gt=0, lt=0.5, description="share of the pixels that no run trains on")
    most_tested: int = Field(4000, ge=1, description="pixels of each group that a network is judged on")


def full_protocol() -> Protocol:
    """For a GPU: every threshold, kind and rate; 800,000 patterns shown in every run.

    Run:       dptrain study label-quality large.index --test dev.index --full --out study
    Measured:  not yet run
    """
    return Protocol()


def cpu_protocol() -> Protocol:
    """For some hours of a few CPU cores: frames of 64 pixels, 200,000 patterns shown in every run.

    Run:       dptrain study label-quality large.index --test dev.index --cpu --out study
    Measured:  not yet run to its end
    """
    return Protocol(
        preset="cpu",
        thresholds=(0.0, 0.5, 0.8, 0.9),
        rates=(0.25, 0.5),
        simulated=4000,
        steps=3125,
        trials=24,
        models=("cnn", "densenet121", "swin-tiny", "swin-tiny-adjusted"),
        options={"input": {"size": 64}, "head": {"max_cells": 1500}},
        most_tested=1200,
    )


def quick_protocol() -> Protocol:
    """A first look in less than 20 minutes on 2 cores, at 32 pixels: networks are far from what longer training gives.

    Run:       python benchmarks/study_quick.py
    Measured:  docs/study.md
    """
    return cpu_protocol().model_copy(
        update={
            "preset": "quick",
            "thresholds": (0.0, 0.5, 0.9),
            "rates": (0.5,),
            "simulated": 1000,
            "steps": 250,
            "options": {"input": {"size": 32}, "head": {"max_cells": 1500}},
            "trials": 6,
            "models": ("cnn", "densenet121"),
            "most_tested": 500,
        }
    )


PRESETS: dict[str, Callable[[], Protocol]] = {"quick": quick_protocol, "cpu": cpu_protocol, "full": full_protocol}


def chosen_protocol(study: Study, *, quick: bool, cpu: bool, changes: Mapping[str, object]) -> Protocol:
    """The protocol of a study under a preset, with the ``changes`` that are not None.

    Raises InputError when both presets are asked for, or a network is not known.
    """
    if quick and cpu:
        raise InputError("--quick and --cpu are two presets; give one.")
    given = {key: value for key, value in changes.items() if value is not None}
    preset = PRESETS["quick" if quick else "cpu" if cpu else "full"]()
    protocol = preset.model_copy(update={"study": study, **given})
    for name in (protocol.model, *protocol.models):
        model_config(name)
    for name in protocol.choices:
        if name not in CHOICES:
            raise InputError(f"--choices {name}: is not known; give some of: {', '.join(CHOICES)}.")
    return protocol


class Trial(Record):
    """One run of a study."""

    kind: Kind
    seed: int
    min_confidence: float = 0.0
    corruption: Corruption | None = None
    rate: float = 0.0
    model: str = "cnn"
    options: dict[str, Any] = Field({}, description="of the training config, for this run")
    setting: str = Field("", description="what tells a run of one network from another, as part of its name")

    @property
    def name(self) -> str:
        """Name of its run."""
        what: list[str] = [self.kind]
        if self.kind in ("threshold", "random", "exact"):
            what.append(f"{self.min_confidence:.3g}")
        if self.corruption:
            what += [self.corruption, f"{self.rate:.3g}"]
        if self.setting:
            what.append(self.setting)
        return "-".join([*what, f"seed{self.seed}"]).replace(" ", "-")


def trials(protocol: Protocol, thresholds: Sequence[float], seeds: Sequence[int]) -> list[Trial]:
    """Every run, setting by setting, so that a study that is not finished has intervals for its first settings.

    At the lowest threshold, which keeps all labels, there is no random control.
    """
    if protocol.study == "hyperparameters":
        return []  # asked for one by one
    at: dict[str, Any] = {"seed": 0, "model": protocol.model, "min_confidence": confident_threshold(thresholds)}
    if protocol.study == "architectures":
        each = [Trial(kind="network", **at | {"model": name}, setting=name) for name in protocol.models]
    elif protocol.study == "choices":
        each = [Trial(kind="setting", **at, options=CHOICES[name], setting=name) for name in protocol.choices]
    else:
        each = [one.model_copy(update={"model": protocol.model}) for one in _of_label_quality(protocol, thresholds)]
    return [trial.model_copy(update={"seed": seed}) for trial in each for seed in seeds]


def confident_threshold(thresholds: Sequence[float]) -> float:
    """The threshold of the labels that networks and choices are compared on."""
    return max((limit for limit in thresholds if limit <= CONFIDENT), default=min(thresholds))


def _of_label_quality(protocol: Protocol, thresholds: Sequence[float]) -> list[Trial]:
    lowest = min(thresholds)
    labels = [
        Trial(kind=kind, seed=0, min_confidence=threshold)
        for threshold in thresholds
        for kind in ("threshold", "random", "exact")
        if not (kind == "random" and threshold == lowest)
    ]
    wrong = [
        Trial(kind="corrupted", seed=0, corruption=kind, rate=rate)
        for kind in protocol.corruptions
        for rate in protocol.rates
    ]
    first = [trial for trial in labels if trial.min_confidence == lowest]
    others = [trial for trial in labels if trial.min_confidence != lowest]
    return [*first, Trial(kind="simulated", seed=0), Trial(kind="scan only", seed=0), *wrong, *others]


def choose_thresholds(
    indexes: Sequence[IndexResult], in_training: Sequence[Sequence[Mask]], *, wanted: Sequence[float]
) -> tuple[tuple[float, ...], str]:
    """Thresholds that leave enough labels, and a sentence on how they came about.

    Parameters
    ----------
    indexes
        Of the scans.
    in_training
        For each seed and scan, the pixels of the training split, masks (rows, columns).
    wanted
        Thresholds to be used when each leaves ``MIN_LABELS`` training labels in every split.

    Raises
    ------
    InputError
        Quantiles leave too few labels, too.
    """
    fewest = {limit: _fewest(indexes, in_training, limit=limit) for limit in wanted}
    if min(fewest.values()) >= MIN_LABELS:
        return tuple(wanted), "Thresholds as asked for."
    every = np.concatenate([index.confidence[index.phase_id >= 0] for index in indexes])
    chosen = tuple(_rounded_down(float(np.quantile(every, 1 - share))) if share < 1 else 0.0 for share in KEPT_SHARES)
    short = [f"{limit:g}" for limit, n in fewest.items() if n < MIN_LABELS]
    if len(set(chosen)) < len(chosen) or min(_fewest(indexes, in_training, limit=one) for one in chosen) < MIN_LABELS:
        raise InputError(
            f"Confidence {', '.join(short)} and above leaves fewer than {MIN_LABELS} training labels, and so do the "
            "best 10 %; give larger scans, or more of them."
        )
    shares = ", ".join(f"{100 * share:.0f} %" for share in KEPT_SHARES)
    return chosen, (
        f"Confidence {', '.join(short)} and above would leave fewer than {MIN_LABELS} training labels, so the "
        f"thresholds are quantiles of the confidence that keep {shares} of the labels."
    )


def choose_seeds(n_held_out: Callable[[int], int], *, n: int) -> tuple[int, ...]:
    """The first ``n`` seeds, from 0, whose split holds out enough grains; else those that hold out most.

    ``n_held_out`` gives the number of true grains that the split of a seed holds out. No result plays a part.

    Raises
    ------
    InputError
        Fewer than ``n`` of the seeds tried hold out a grain at all.
    """
    chosen: list[int] = []
    counts: dict[int, int] = {}
    for seed in range(SEEDS_TRIED):
        counts[seed] = n_held_out(seed)
        chosen += [seed] if counts[seed] >= MIN_HELD_OUT_GRAINS else []
        if len(chosen) == n:
            return tuple(chosen)
    most = sorted(counts, key=lambda seed: (-counts[seed], seed))[:n]
    if len(most) < n or not counts[most[-1]]:
        raise InputError("The splits of these scans hold no true grain out; give scans with more grains.")
    return tuple(sorted(most))


def epochs_for(protocol: Protocol, *, n_train: int, batch_size: int | None = None) -> tuple[int, int]:
    """Epochs that show nearly as many patterns as the protocol says, and their steps, for ``n_train`` patterns."""
    wanted, batch = protocol.steps * protocol.batch_size, min(batch_size or protocol.batch_size, n_train)
    per_epoch = n_train // batch
    epochs = max(1, round(wanted / (per_epoch * batch)))
    return epochs, epochs * per_epoch


def _fewest(indexes: Sequence[IndexResult], in_training: Sequence[Sequence[Mask]], *, limit: float) -> int:
    """Training labels above a threshold in the split that has fewest of them."""
    counts = [
        sum(
            int(mask.ravel()[kept_pixels(index, min_confidence=limit)].sum())
            for index, mask in zip(indexes, masks, strict=True)
        )
        for masks in in_training
    ]
    return min(counts)


def _rounded_down(value: float) -> float:
    return math.floor(value * 1000) / 1000
