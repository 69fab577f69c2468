"""Gradient-boosted trees as plain arrays: written as JSON, read without running code, evaluated with NumPy alone."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

MOST_DEPTH = 64
"""No tree of ours is so deep; an array that says otherwise has a circle."""


@dataclass(frozen=True)
class Trees:
    """Decision trees, nodes one after another; the score of a row is ``start`` plus one leaf of each tree."""

    start: float
    roots: NDArray[np.int64]
    """First node of each tree, (t,)."""
    feature: NDArray[np.int64]
    """Column on which a node decides, (m,); -1 for leaves."""
    threshold: NDArray[np.float64]
    """Rows up to it go left, (m,)."""
    missing_left: NDArray[np.bool_]
    """Whether rows without a number (NaN) go left, (m,)."""
    left: NDArray[np.int64]
    right: NDArray[np.int64]
    value: NDArray[np.float64]
    """Of leaves, (m,)."""

    def score(self, features: NDArray[np.float32]) -> NDArray[np.float64]:
        """Sum over the trees for rows of features (n, f), (n,): a log-odds if they were fitted to one."""
        rows = np.arange(len(features))
        total = np.full(len(features), self.start)
        for root in self.roots:
            node = np.full(len(features), root)
            for _ in range(MOST_DEPTH):
                column = self.feature[node]
                if (column < 0).all():
                    break
                value = features[rows, np.maximum(column, 0)].astype(np.float64)
                goes_left = np.where(np.isnan(value), self.missing_left[node], value <= self.threshold[node])
                node = np.where(column < 0, node, np.where(goes_left, self.left[node], self.right[node]))
            total += self.value[node]
        return total

    def to_plain(self) -> dict[str, Any]:
        """Lists and numbers for JSON."""
        return {
            "start": self.start,
            "roots": self.roots.tolist(),
            "feature": self.feature.tolist(),
            "threshold": self.threshold.tolist(),  # rounded, a feature at a threshold would go the other way
            "missing_left": self.missing_left.astype(int).tolist(),
            "left": self.left.tolist(),
            "right": self.right.tolist(),
            "value": [float(f"{number:.6g}") for number in self.value],
        }


def from_plain(plain: dict[str, Any], *, n_features: int) -> Trees:
    """Trees from what `Trees.to_plain` gave. ValueError, KeyError or TypeError for anything else."""
    whole: dict[str, Any] = {name: np.asarray(plain[name], np.int64) for name in ("roots", "feature", "left", "right")}
    real: dict[str, Any] = {name: np.asarray(plain[name], np.float64) for name in ("threshold", "value")}
    missing = np.asarray(plain["missing_left"], bool)
    nodes = len(whole["feature"])
    arrays = [*whole.values(), *real.values(), missing]
    if any(array.ndim != 1 for array in arrays) or any(len(array) != nodes for array in arrays[1:]):
        raise ValueError("arrays of nodes differ in length")
    inner = whole["feature"] >= 0
    if (whole["feature"] >= n_features).any() or not np.isfinite(real["value"]).all():
        raise ValueError("a node names a feature or a value that there is not")
    at = np.arange(nodes)
    for name in ("left", "right"):
        if not ((whole[name][inner] > at[inner]) & (whole[name][inner] < nodes)).all():
            raise ValueError("a node does not lead on")  # forwards only: no circles
    if not ((whole["roots"] >= 0) & (whole["roots"] < nodes)).all():
        raise ValueError("a tree has no root")
    return Trees(start=float(plain["start"]), missing_left=missing, **whole, **real)


def from_sklearn(model: Any) -> Trees:
    """The trees of a fitted `sklearn.ensemble.HistGradientBoostingClassifier` of two classes."""
    nodes = [trees[0].nodes for trees in model._predictors]
    first = np.cumsum([0, *(len(tree) for tree in nodes)])
    every = np.concatenate(nodes)
    offset = np.repeat(first[:-1], [len(tree) for tree in nodes])
    leaf = every["is_leaf"].astype(bool)
    return Trees(
        start=float(np.ravel(model._baseline_prediction)[0]),
        roots=first[:-1],
        feature=np.where(leaf, -1, every["feature_idx"].astype(np.int64)),
        threshold=np.where(leaf, 0.0, every["num_threshold"]),
        missing_left=every["missing_go_to_left"].astype(bool),
        left=np.where(leaf, 0, every["left"].astype(np.int64) + offset),
        right=np.where(leaf, 0, every["right"].astype(np.int64) + offset),
        value=every["value"],
    )
