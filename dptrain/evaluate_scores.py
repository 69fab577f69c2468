"""Numbers of an evaluation: patterns in groups, and intervals from drawing grains anew."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dptrain.metrics import WITHIN_DEG

RESAMPLES = 1000
"""Of a bootstrap; the ends of a 95 % interval then rest on 25 resamples each."""

BLOCK = 50
"""Resamples that are held in memory at a time."""

BOOTSTRAP_SEED = 20_260

METRICS = ("median_deg", "mean_deg", *(f"within_{limit:g}_deg" for limit in WITHIN_DEG))

DECILES, QUINTILES = 10, 5

BOUNDARY_EDGES_PX = (1.0, 2.0, 3.0, 5.0, 8.0)
"""Groups of distances begin here; the first touch another grain, if only at a corner."""

Float = NDArray[np.float64]


@dataclass(frozen=True)
class Judged:
    """Every pattern that was judged, once; arrays of shape ``(n,)`` unless said otherwise."""

    index: NDArray[np.int64]
    """Place in the dataset."""
    error_deg: Float
    """From the exact orientation where it is known, else from the label; 180 where the phase is wrong."""
    exact: NDArray[np.bool_]
    """Whether it was the exact one."""
    simulated: NDArray[np.bool_]
    orientation: Float
    """The network's best answer (n, 4), lab to crystal."""
    phase_id: NDArray[np.int16]
    """Its phase, a number among the network's phases."""
    confidence: NDArray[np.float32]
    """The network's."""
    label_confidence: NDArray[np.float32]
    """NaN for simulated patterns."""
    grain: NDArray[np.int64]
    """Equal for patterns of one grain of one scan; a simulated pattern stands alone."""
    boundary_px: Float
    """See ``boundaries.boundary_distance_px``; NaN for simulated patterns."""
    thickness_angstrom: Float
    """NaN where it is unknown."""

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Every array by its name."""
        return asdict(self)


@dataclass(frozen=True)
class Group:
    """Patterns of one population for which a quantity lies from ``low`` to ``high``, and their scores.

    ``scores`` gives for each of ``METRICS`` the value and the ends of its 95 % interval, NaN with one grain alone.
    """

    population: str
    by: str
    low: float
    high: float
    n_patterns: int
    n_grains: int
    scores: dict[str, tuple[float, float, float]]

    def row(self) -> dict[str, Any]:
        """The group as a row of a table."""
        told = {name: value for name, value in vars(self).items() if name != "scores"}
        for name, values in self.scores.items():
            told |= dict(zip((name, f"{name}_low", f"{name}_high"), values, strict=True))
        return told


def groups(judged: Judged) -> list[Group]:
    """Scores of each population, whole and by confidence, distance to the boundary and thickness."""
    return [
        Group(population, by, low, high, **_scored(judged, here))
        for population, members in populations(judged).items()
        for by, low, high, here in _groupings(judged, members)
    ]


def populations(judged: Judged) -> dict[str, NDArray[np.bool_]]:
    """Patterns that are told apart, those there are: of scans or simulated, judged by truth or by labels."""
    every = {
        "scans, by exact truth": ~judged.simulated & judged.exact,
        "scans, by labels": ~judged.simulated & ~judged.exact,
        "simulated": judged.simulated,
    }
    return {name: mask for name, mask in every.items() if mask.any()}


def _groupings(judged: Judged, members: NDArray[np.bool_]) -> Iterator[tuple[str, float, float, NDArray[np.bool_]]]:
    yield "all", np.nan, np.nan, members
    quantities: dict[str, tuple[NDArray[Any], int | tuple[float, ...]]] = {
        "network confidence": (judged.confidence, DECILES),
        "label confidence": (judged.label_confidence, DECILES),
        "distance to the boundary (px)": (judged.boundary_px, BOUNDARY_EDGES_PX),
        "thickness (Å)": (judged.thickness_angstrom, QUINTILES),
    }
    for by, (value, cut) in quantities.items():
        known = members & ~np.isnan(value)
        if not known.any():
            continue
        edges = np.array(cut) if isinstance(cut, tuple) else quantile_edges(value[known], parts=cut)
        number = np.searchsorted(edges, value, side="right") - 1
        for k in np.unique(number[known]).tolist():
            here = known & (number == k)
            yield by, float(value[here].min()), float(value[here].max()), here


def quantile_edges(value: NDArray[Any], *, parts: int) -> Float:
    """Where about equal shares of values begin; fewer parts where values are equal, which are never separated."""
    return np.unique(np.sort(value.astype(np.float64))[len(value) * np.arange(parts) // parts])


def _scored(judged: Judged, here: NDArray[np.bool_]) -> dict[str, Any]:
    error, grain = judged.error_deg[here], judged.grain[here]
    n_grains = len(np.unique(grain))
    value = {
        "median_deg": float(np.median(error)),
        "mean_deg": float(error.mean()),
        **{f"within_{limit:g}_deg": float(np.mean(error <= limit)) for limit in WITHIN_DEG},
    }
    ends = intervals(error, grain)
    return {
        "n_patterns": len(error),
        "n_grains": n_grains,
        "scores": {name: (value[name], *ends[:, k].tolist()) for k, name in enumerate(METRICS)},
    }


def intervals(error_deg: Float, grain: NDArray[np.int64]) -> Float:
    """Ends of the 95 % interval of each of ``METRICS``, shape ``(2, n_metrics)``; NaN with fewer than two grains.

    Grains are drawn with replacement, each with all its patterns, for patterns of one grain share an orientation and
    its difficulties (Davison and Hinkley, Bootstrap Methods, 1997, section 3.8). Law: the order of patterns does not
    matter.
    """
    _, member = np.unique(grain, return_inverse=True)
    n = int(member.max()) + 1
    if n < 2:
        return np.full((2, len(METRICS)), np.nan)
    order = np.argsort(error_deg, kind="stable")
    error, member = error_deg[order], member[order]
    small = np.stack([error, *(error <= limit for limit in WITHIN_DEG)], axis=1)
    rng = np.random.default_rng(BOOTSTRAP_SEED)
    found = []
    for _ in range(RESAMPLES // BLOCK):
        drawn = rng.multinomial(n, np.full(n, 1 / n), size=BLOCK)[:, member]
        reached = drawn.cumsum(axis=1)
        middle = error[(reached < reached[:, -1:] / 2).sum(axis=1)]
        found.append(np.column_stack([middle, drawn @ small / reached[:, -1:]]))
    return np.quantile(np.concatenate(found), (0.025, 0.975), axis=0)
