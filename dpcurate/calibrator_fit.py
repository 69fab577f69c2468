"""Fitting a calibrator to scans with exact truth, and adjusting one to scans in the likeness of a scan."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from dpcurate.boosted_trees import Trees, from_sklearn
from dpcurate.calibration_scores import RIGHT_DEG
from dpcurate.calibrator import Adjustment, Calibrator
from dpcurate.crystal_maps import IndexResult
from dpcurate.label_features import FALLING, FEATURES, RISING, label_features
from dpcurate.truth import Truth, label_errors_deg

OPTIONS = {
    "max_iter": 120,
    "learning_rate": 0.06,
    "max_leaf_nodes": 6,
    "min_samples_leaf": 100,
    "l2_regularization": 10.0,
    "max_features": 0.5,
}
"""Of the trees: few and small ones, since pixels of a grain stand or fall together and there are few grains."""

FOLDS = 6

KNOTS = 40
"""Scores at which the step function is kept."""

ERROR_KNOTS = 12

PRIOR = 5.0
"""An adjustment is held to none as by so many grains."""

Values = NDArray[np.float64]


@dataclass(frozen=True)
class Judged:
    """Labels of one scan with their truth."""

    features: NDArray[np.float32]
    """As `label_features` gives them, (n, f)."""
    error_deg: Values
    """Disorientation from the truth, (n,); 180 for another phase."""
    grain: NDArray[np.int64]
    """True grain, (n,)."""

    @property
    def right(self) -> NDArray[np.bool_]:
        """Whether each label is within 3 degrees of the truth, (n,)."""
        return np.asarray(self.error_deg < RIGHT_DEG)


def judged(result: IndexResult, truth: Truth) -> Judged:
    """The labels of an index, those that are not indexed left out, with their truth."""
    indexed = result.phase_id.ravel() >= 0
    error = label_errors_deg(result.orientation, result.phase_id, truth, phases=result.phases)
    return Judged(label_features(result)[indexed], error.ravel()[indexed], np.asarray(truth.grain).ravel()[indexed])


def fit(scans: Sequence[Judged], *, seed: int = 0, origin: dict[str, Any] | None = None) -> Calibrator:
    """A calibrator from scans with truth; every scan has the same weight.

    The step function is fitted to scores that trees give to scans which they have not seen: whole scans are left out
    in turn.
    """
    from sklearn.isotonic import IsotonicRegression

    right = np.concatenate([scan.right for scan in scans])
    weight = np.concatenate([np.full(len(scan.right), 1000 / max(len(scan.right), 1)) for scan in scans])
    unseen = _unseen_scores(scans, seed=seed)
    step = IsotonicRegression(out_of_bounds="clip").fit(unseen, right, sample_weight=weight)
    score = np.unique(np.quantile(unseen, np.linspace(0, 1, KNOTS)))
    share = np.asarray(step.predict(score), float)
    probability = np.interp(unseen, score, share)
    error = np.minimum(np.concatenate([scan.error_deg for scan in scans]), 180)
    falling = IsotonicRegression(increasing=False, out_of_bounds="clip").fit(probability, error, sample_weight=weight)
    knots = np.linspace(0, 1, ERROR_KNOTS)
    return Calibrator(
        trees=_trees(scans, seed=seed),
        score=score,
        right=np.maximum.accumulate(share),
        error_confidence=knots,
        error_deg=np.minimum.accumulate(np.asarray(falling.predict(knots), float)),
        origin={"scans": len(scans), "labels": len(right), "grains": _grains(scans), "seed": seed, **(origin or {})},
    )


def adjust(calibrator: Calibrator, scans: Sequence[Judged]) -> Adjustment:
    """The line through log-odds that suits these scans best; grains count, not pixels, and few grains change little."""
    odds, right, weight = [], [], []
    for scan in scans:
        probability = calibrator.probability(scan.features)
        odds.append(np.log(probability) - np.log1p(-probability))
        right.append(scan.right)
        weight.append(1 / np.bincount(scan.grain)[scan.grain])  # a grain counts once
    x, y, w = np.concatenate(odds), np.where(np.concatenate(right), 1.0, -1.0), np.concatenate(weight)

    def loss(line: Values) -> float:
        log_slope, offset = line
        misfit = (w * np.logaddexp(0, -y * (np.exp(log_slope) * x + offset))).sum()
        return float(misfit + PRIOR * (log_slope**2 + offset**2) / 2)

    log_slope, offset = minimize(loss, np.zeros(2)).x
    return Adjustment(slope=float(np.exp(log_slope)), offset=float(offset))


def _unseen_scores(scans: Sequence[Judged], *, seed: int) -> Values:
    """Scores of every label by trees fitted without its scan."""
    fold = np.random.default_rng(seed).permutation(len(scans)) % min(FOLDS, len(scans))
    scores = [np.zeros(0)] * len(scans)
    for number in range(int(fold.max()) + 1):
        trees = _trees([scan for scan, f in zip(scans, fold, strict=True) if f != number], seed=seed)
        for k in np.flatnonzero(fold == number).tolist():
            scores[k] = trees.score(scans[k].features)
    return np.concatenate(scores)


def _trees(scans: Sequence[Judged], *, seed: int) -> Trees:
    from sklearn.ensemble import HistGradientBoostingClassifier

    model = HistGradientBoostingClassifier(
        **OPTIONS,
        monotonic_cst=[1 if name in RISING else -1 if name in FALLING else 0 for name in FEATURES],
        early_stopping=False,
        random_state=seed,
    )
    weight = np.concatenate([_grain_weights(scan) for scan in scans])
    features = np.concatenate([scan.features for scan in scans])
    model.fit(features, np.concatenate([scan.right for scan in scans]), sample_weight=weight)
    return from_sklearn(model)


def _grain_weights(scan: Judged) -> Values:
    """Weights of labels (n,), 1 on the mean: pixels of large grains weigh less, for they say the same."""
    weight = 1 / np.sqrt(np.bincount(scan.grain)[scan.grain])
    return np.asarray(weight / weight.mean() * 1000 / max(len(weight), 1))


def _grains(scans: Sequence[Judged]) -> int:
    return sum(len(np.unique(scan.grain)) for scan in scans)
