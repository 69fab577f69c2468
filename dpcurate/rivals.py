"""Rival orientations of a grain: what its pixels' candidates have in common, by the score that they share."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from dpcurate.distinct import DISTINCT_DEG, cosines_between
from dpcurate.orientations import Array, disorientation_deg, equivalents

SHARED_DEG = 4.0
"""A pixel has a rival when one of its candidates is so near: an error of matching, and the bending of the grain."""

PROPOSERS, PROPOSED = 12, 8
"""Pixels that propose rivals, and how many candidates of each."""

MOST_PIXELS = 200
"""Pixels of a grain that are asked; those of a larger one are drawn."""


@dataclass(frozen=True)
class Rivals:
    """Rivals of one grain, best first."""

    orientation: Array
    """Mean over the pixels that have the rival, (r, 4)."""
    phase_id: NDArray[np.int16]
    score: NDArray[np.float32]
    """Mean over the grain; a pixel that does not have the rival counts with its last candidate. (r,)"""
    spread_deg: NDArray[np.float64]
    """Angle from the mean within which nine tenths of the pixels lie, (r,)."""

    def chosen(self, index: slice | NDArray[np.bool_]) -> "Rivals":
        """Some of them, in the same order."""
        return Rivals(self.orientation[index], self.phase_id[index], self.score[index], self.spread_deg[index])


def find_rivals(
    orientation: Array,
    score: NDArray[np.float32],
    phase_id: NDArray[np.int16],
    *,
    symmetries: tuple[Array, ...],
    near_best: float,
    most: int,
    seed: int = 0,
) -> Rivals:
    """At most ``most`` distinct rivals of a grain, best first, from its pixels' candidates (p, n, 4), (p, n), (p, n).

    Those whose score is at least ``near_best`` times the best.
    """
    rng = np.random.default_rng(seed)
    asked = rng.permutation(len(score))[:MOST_PIXELS]
    orientation, score, phase_id = orientation[asked], score[asked], phase_id[asked]
    proposed = (slice(PROPOSERS), slice(PROPOSED))
    h, of_phase = orientation[proposed].reshape(-1, 4), phase_id[proposed].ravel()
    ours, theirs = (h, of_phase), (orientation.reshape(-1, 4), phase_id.ravel())
    tensors = [torch.as_tensor(array)[None] for array in (*ours, *theirs)]
    cosine = cosines_between(tensors[0], tensors[1], tensors[2], tensors[3], symmetries)[0].numpy()
    cosine = cosine.reshape(len(h), *score.shape)
    has = cosine > np.cos(np.radians(SHARED_DEG / 2))
    own = np.where(has, score, 0).max(axis=2)
    shared = np.where(own > 0, own, score[:, -1]).mean(axis=1)
    chosen: list[int] = []
    means: list[tuple[Array, float]] = []
    for k in np.argsort(-shared, kind="stable"):
        if shared[k] < near_best * shared.max() or len(chosen) == most:
            break
        symmetry = symmetries[of_phase[k]]
        known = [mean for j, (mean, _) in zip(chosen, means, strict=True) if of_phase[j] == of_phase[k]]
        if all(_apart(h[k], mean, symmetry) for mean in known):
            mean, spread = _mean(h[k], orientation, cosine[k], has[k], symmetry)
            if all(_apart(mean, other, symmetry) for other in known):
                chosen.append(int(k))
                means.append((mean, spread))
    return Rivals(
        orientation=np.array([mean for mean, _ in means]),
        phase_id=of_phase[chosen],
        score=shared[chosen].astype(np.float32),
        spread_deg=np.array([spread for _, spread in means]),
    )


def _apart(a: Array, b: Array, symmetry: Array) -> bool:
    return bool(disorientation_deg(a, b, symmetry) > DISTINCT_DEG)


def _mean(
    rival: Array, orientation: Array, cosine: NDArray[np.float32], has: NDArray[np.bool_], symmetry: Array
) -> tuple[Array, float]:
    """Mean of each pixel's candidate nearest to the rival, where it has one, and the spread around it in degrees."""
    pixels = has.any(axis=1)
    nearest = orientation[pixels, cosine[pixels].argmax(axis=1)]
    every = equivalents(nearest, symmetry)
    side = every @ rival
    best = np.abs(side).argmax(axis=1)
    row = np.arange(len(best))
    mean = (every[row, best] * np.sign(side[row, best])[:, None]).sum(axis=0)
    mean /= np.linalg.norm(mean)
    return mean, float(np.quantile(disorientation_deg(nearest, mean, symmetry), 0.9))
