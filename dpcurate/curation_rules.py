"""The rules of curation: which of the labels that are confident enough go into a dataset, and in which order.

Pure functions: each gives a mask or an order of the rows that it is given; what is random follows from a seed.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dpcurate.errors import InputError
from dpcurate.orientations import Array, zone_representative
from dpcurate.recipe import CurationRecipe

Mask = NDArray[np.bool_]

SAMPLE_STREAM, GRAIN_STREAM, CELL_STREAM = 1, 2, 3
"""Keep the draws of the rules apart from each other and from others that share their seed."""

STRATA = 10
"""Classes of confidence, equally wide from 0 to 1, of which a stratified sample takes equally many."""


@dataclass(frozen=True)
class Rows:
    """Labels that a dataset may hold, those of all scans one after another, each array ``(n, ...)``."""

    scan: NDArray[np.int64]
    pixel: NDArray[np.int64]
    """Number along the rows of its scan."""
    grain: NDArray[np.int64]
    """In its scan."""
    phase: NDArray[np.int64]
    """In the dataset."""
    confidence: NDArray[np.float32]
    orientation: Array
    """In the frame of the scan."""

    def __len__(self) -> int:
        return len(self.scan)

    def at(self, mask: Mask) -> "Rows":
        """Only the rows where ``mask`` is true."""
        return Rows(**{name: values[mask] for name, values in vars(self).items()})


def apply_rules(rows: Rows, recipe: CurationRecipe, *, symmetries: Sequence[Array], seed: int) -> dict[str, Mask]:
    """What each rule leaves out, masks ``(n,)`` by the rule's words, in the order in which they act.

    First the cap of each grain, then the balance over orientation space, then the sample. A row is left out by one rule
    only; rules that were not asked for are not there. InputError when a sample is larger than what is left for it.
    """
    left, out = np.ones(len(rows), bool), dict[str, Mask]()

    def leave(words: str, kept: Mask) -> None:
        out[words] = np.zeros(len(rows), bool)
        out[words][np.flatnonzero(left)[~kept]] = True
        left[out[words]] = False

    if recipe.max_per_grain is not None:
        group = joined([rows.scan, rows.grain])
        leave("dropped, over the cap of their grain", at_most(group, recipe.max_per_grain, seed=[seed, GRAIN_STREAM]))
    if recipe.balance is not None:
        some = rows.at(left)
        cell = phase_cells(some.orientation, some.phase, symmetries=symmetries, cell_deg=recipe.cell_deg)
        most = cell_cap(cell, balance=recipe.balance)
        leave("dropped, over the cap of their orientation cell", at_most(cell, most, seed=[seed, CELL_STREAM]))
    if recipe.sample is not None:
        some = rows.at(left)
        if not 1 <= recipe.sample <= len(some):
            raise InputError(
                f"--sample {recipe.sample}: must be from 1 to {len(some)}, the labels that are left for it."
            )
        strata = some.confidence if recipe.sample_by == "confidence" else None
        leave(
            "dropped, not in the sample", draw(len(some), recipe.sample, confidence=strata, seed=[seed, SAMPLE_STREAM])
        )
    return out


def at_most(group: ArrayLike, n: int, *, seed: Sequence[int]) -> Mask:
    """Which rows stay so that no group has more than ``n``, drawn at random in each, ``(len(group),)``."""
    order = np.random.default_rng(seed).permutation(len(np.asarray(group)))
    values, member = np.unique(np.asarray(group)[order], return_inverse=True)
    by_group = np.argsort(member, kind="stable")
    start = np.searchsorted(member[by_group], np.arange(len(values)))
    rank = np.arange(len(order)) - start[member[by_group]]
    kept = np.zeros(len(order), bool)
    kept[order[by_group]] = rank < n
    return kept


def draw(n: int, sample: int, *, confidence: ArrayLike | None, seed: Sequence[int]) -> Mask:
    """``sample`` of ``n`` rows at random, ``(n,)``; with confidences equally many of each stratum while they last."""
    rng, chosen = np.random.default_rng(seed), np.zeros(n, bool)
    if confidence is None:
        chosen[rng.choice(n, sample, replace=False)] = True
        return chosen
    stratum = np.minimum((np.asarray(confidence) * STRATA).astype(int), STRATA - 1)
    for number, take in enumerate(shared_out(np.bincount(stratum, minlength=STRATA), sample)):
        chosen[rng.choice(np.flatnonzero(stratum == number), take, replace=False)] = True
    return chosen


def shared_out(there: NDArray[np.int64], total: int) -> NDArray[np.int64]:
    """How many of each stratum, ``(len(there),)``, so that ``total`` are taken, equally many but where fewer are there.

    What cannot be shared equally comes from the more confident strata.
    """
    level = int(np.searchsorted([np.minimum(there, k).sum() for k in range(int(there.max(initial=0)) + 1)], total))
    taken = np.minimum(there, level)
    over = int(taken.sum()) - total
    full = np.flatnonzero(there >= level)
    taken[full[:over]] -= 1
    return taken


def phase_cells(
    orientation: Array, phase: NDArray[np.int64], *, symmetries: Sequence[Array], cell_deg: float
) -> NDArray[np.int64]:
    """Number of the cell of orientation space that each orientation ``(n, 4)`` lies in, the phases apart, ``(n,)``."""
    place = np.zeros((len(phase), 3), np.int64)
    for number, symmetry in enumerate(symmetries):
        here = phase == number
        place[here] = zone_cells(orientation[here], symmetry, cell_deg=cell_deg)
    return joined([phase, *place.T])


def zone_cells(orientation: Array, symmetry: Array, *, cell_deg: float) -> NDArray[np.int64]:
    """Cell of the fundamental zone of each orientation ``(n, 4)``, three whole numbers, ``(n, 3)``.

    Cells are cubes in homochoric space, where equal volumes hold equally many random orientations: a rotation by w
    about n lies at (3/4 (w - sin w))^(1/3) n. A cube's edge is ``cell_deg`` near no rotation at all, and somewhat more
    farther out. Cubes that the border of the zone cuts are smaller.

    Source: Roşca, Morawiec and De Graef, Modelling Simul. Mater. Sci. Eng. 22 (2014) 075013, section 2.
    """
    q = zone_representative(orientation, symmetry)
    sine = np.linalg.norm(q[:, 1:], axis=1, keepdims=True)
    angle = 2 * np.arctan2(sine, q[:, :1])
    axis = q[:, 1:] / np.maximum(sine, 1e-300)
    homochoric = np.cbrt(0.75 * (angle - np.sin(angle))) * axis
    return np.floor(homochoric / (np.radians(cell_deg) / 2) + 0.5).astype(np.int64)


def cell_cap(cell: NDArray[np.int64], *, balance: float) -> int:
    """The most that a cell may hold: ``balance`` times the median of the cells that hold any, at least 1."""
    _, number = np.unique(cell, return_counts=True)
    return max(1, int(balance * np.median(number))) if len(number) else 1


def by_confidence(confidence: ArrayLike) -> NDArray[np.int64]:
    """Order of rows by falling confidence, equal ones as they stand, ``(n,)``."""
    return np.argsort(-np.asarray(confidence, float), kind="stable")


def joined(columns: Sequence[ArrayLike]) -> NDArray[np.int64]:
    """One number for each different row of some columns of whole numbers, ``(n,)``."""
    _, number = np.unique(np.stack([np.asarray(column) for column in columns]), axis=1, return_inverse=True)
    return np.asarray(number.ravel())
