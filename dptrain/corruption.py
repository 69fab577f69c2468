"""Labels made wrong on purpose, at a known rate and in a known way: pure functions on orientations."""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from dpcurate.orientations import Array, about_z, disorientation_deg, multiply, random_uniform, turn_pattern

Corruption = Literal["uniform", "half turn", "pseudo-symmetric", "whole grains"]

CORRUPTIONS: dict[Corruption, str] = {
    "uniform": "each wrong label any orientation at all",
    "half turn": "each wrong label that of the pattern turned by 180 degrees, which has the same places of spots",
    "pseudo-symmetric": "each wrong label turned in the crystal by what is nearly, but not, a symmetry",
    "whole grains": "all labels of a grain the same wrong orientation, grain after grain",
}

DIAGONAL = np.array([np.cos(np.pi / 6), *(np.full(3, np.sin(np.pi / 6) / np.sqrt(3)))])
"""A turn of 60 degrees about [111]: the twin of cubic crystals."""

SAME_DEG = 1e-3
"""An operation nearer to a symmetry than this is one."""


def corrupt(
    orientation: Array,
    *,
    kind: Corruption,
    rate: float,
    grain: NDArray[np.integer],
    symmetry: Array,
    seed: int,
) -> tuple[Array, NDArray[np.bool_]]:
    """Orientations ``(n, 4)`` with a share ``rate`` of them wrong, and which these are ``(n,)``.

    Parameters
    ----------
    orientation, grain
        Lab to crystal ``(n, 4)``, and the grain of each ``(n,)``.
    kind, rate
        One of ``CORRUPTIONS``; share of the labels, 0 to 1. Of whole grains as many as bring the share nearest to it.
    symmetry
        Proper rotations of the Laue group ``(n_symmetry, 4)``.
    seed
        Another seed, other labels and other wrong orientations.

    Notes
    -----
    Laws: labels that are wrong at one rate are wrong, in the same way, at every higher one; the others stay what they
    were; ``round(rate * n)`` labels are wrong, but for whole grains.
    """
    rng = np.random.default_rng(seed)
    if kind == "whole grains":
        return _whole_grains(orientation, rate=rate, grain=grain, rng=rng)
    n = len(orientation)
    wrong = np.zeros(n, bool)
    wrong[rng.permutation(n)[: round(rate * n)]] = True
    if kind == "uniform":
        other = random_uniform(n, seed=rng)
    elif kind == "half turn":
        other = turn_pattern(orientation, 180.0)
    else:
        other = multiply(pseudo_symmetry(symmetry), orientation)
    return np.where(wrong[:, None], other, orientation), wrong


def pseudo_symmetry(symmetry: Array) -> Array:
    """A turn ``(4,)`` in the crystal that is none of its proper rotations ``(n_symmetry, 4)``.

    The first of 60 and 90 degrees about z and 60 degrees about [111]: in a trigonal crystal the sixfold axis that it
    lacks, in a tetragonal one that of a hexagonal lattice, in a cubic one its twin.
    """
    unit = np.array([1.0, 0.0, 0.0, 0.0])
    candidates = [DIAGONAL] if len(symmetry) in (12, 24) and _cubic(symmetry) else [about_z(60.0), about_z(90.0)]
    return next(turn for turn in candidates if disorientation_deg(turn, unit, symmetry) > SAME_DEG)


def _cubic(symmetry: Array) -> bool:
    """Whether there are threefold axes other than z."""
    threefold = symmetry[np.isclose(np.abs(symmetry[:, 0]), 0.5)]
    return bool((np.abs(threefold[:, 1:3]) > SAME_DEG).any())


def _whole_grains(
    orientation: Array, *, rate: float, grain: NDArray[np.integer], rng: np.random.Generator
) -> tuple[Array, NDArray[np.bool_]]:
    names, member, size = np.unique(grain, return_inverse=True, return_counts=True)
    order = rng.permutation(len(names))
    share = np.concatenate([[0.0], np.cumsum(size[order])]) / max(size.sum(), 1)
    chosen = np.zeros(len(names), bool)
    chosen[order[: int(np.abs(share - rate).argmin())]] = True
    wrong = chosen[member]
    return np.where(wrong[:, None], random_uniform(len(names), seed=rng)[member], orientation), wrong
