"""The plan of a label-quality study: what is trained on which labels, for how long, fixed before the first run."""

import math
from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
from pydantic import Field

from dpcurate.crystal_maps import IndexResult
from dpcurate.errors import InputError
from dpcurate.labels import kept_pixels
from dpcurate.schema import Record
from dptrain.scores import Mask

STUDY_FILE = "study.json"

MIN_LABELS = 40
"""A threshold must leave so many training labels in every seed's split, or quantiles take its place."""

KEPT_SHARES = (1.0, 0.5, 0.25, 0.1)
"""Shares of the labels that stay when quantiles of the confidence take the place of the thresholds."""

QUICK_STEPS = 150
"""Chosen so that 22 runs on a scan of 36 x 36 pixels stay below 15 minutes on 2 cores: with 250 steps a run took 42 s
of processor time, of which about 9 s were not training."""

Kind = Literal["threshold", "random", "exact"]

KINDS: dict[Kind, str] = {
    "threshold": "labels above the threshold",
    "random": "as many labels drawn at random",
    "exact": "the patterns above the threshold with exact labels",
}


MIN_HELD_OUT_GRAINS = 3
"""A seed whose split holds out fewer true grains is passed over, if another one holds out as many."""

SEEDS_TRIED = 100


class Protocol(Record):
    """Everything but the scans that decides a study's result."""

    quick: bool = False
    seeds: int = Field(2, ge=1, description="how many; each is another split, sample and network")
    thresholds: tuple[float, ...] = Field((0.0, 0.5, 0.8, 0.9), description="of the labels' confidence, ascending")
    simulated: int = Field(4000, ge=0, description="simulated patterns that every dataset holds as well")
    model: str = "cnn"
    steps: int = Field(12_500, ge=1, description="optimisation steps of every run, to within half an epoch")
    batch_size: int = 64
    input_size: int = 128
    max_cells: int = 4000
    learning_rate: float = 2e-3


def full_protocol() -> Protocol:
    """The defaults of `dptrain run`: as many patterns are shown in every run.

    Run:       dptrain study label-quality demo.index --out study
    Measured:  not yet run
    """
    return Protocol()


def quick_protocol() -> Protocol:
    """A first look: small frames, a coarse grid, few steps; networks are far from what longer training gives.

    Run:       dptrain study label-quality demo.index --quick --out study
    Measured:  time in docs/results/baseline.md
    """
    return Protocol(quick=True, simulated=1000, steps=QUICK_STEPS, input_size=64, max_cells=1500)


class Trial(Record):
    """One run of a study."""

    kind: Kind
    seed: int
    min_confidence: float

    @property
    def name(self) -> str:
        """Name of its run."""
        return f"{self.kind}-{self.min_confidence:.3g}-seed{self.seed}"


def trials(thresholds: Sequence[float], seeds: Sequence[int]) -> list[Trial]:
    """Every run, seed by seed; at the lowest threshold, which keeps all labels, there is no random control."""
    return [
        Trial(kind=kind, seed=seed, min_confidence=threshold)
        for seed in seeds
        for threshold in thresholds
        for kind in KINDS
        if not (kind == "random" and threshold == min(thresholds))
    ]


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


def epochs_for(protocol: Protocol, *, n_train: int) -> tuple[int, int]:
    """Epochs whose steps come nearest to the protocol's, and those steps, for ``n_train`` training patterns."""
    per_epoch = n_train // min(protocol.batch_size, n_train)
    epochs = max(1, round(protocol.steps / per_epoch))
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
