"""From what speaks for a label to the probability that it is right, and to the error to be expected.

Right means within 3 degrees of the truth. Boosted trees rank labels; a rising step function, fitted to scans that the
trees had not seen, turns their score into a share of right labels. Both were fitted to virtual scans with exact truth
(`benchmarks/confidence.py`) and lie in ``confidence.json`` beside this module. `Adjustment` moves the result to
a scan at hand.
"""

import functools
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dpcurate.boosted_trees import Trees, from_plain
from dpcurate.calibration_scores import RIGHT_DEG
from dpcurate.crystal_maps import IndexResult
from dpcurate.errors import InputError
from dpcurate.label_features import FEATURES, label_features

SHIPPED = Path(__file__).with_name("confidence.json")

FORMAT = 1

LEAST, MOST = 0.001, 0.999
"""No label is sure to be wrong or right."""

Values = NDArray[np.float64]


@dataclass(frozen=True)
class Adjustment:
    """A straight line through log-odds: sharper or blunter, higher or lower, fitted to scans in the likeness of one."""

    slope: float = 1.0
    offset: float = 0.0

    def __call__(self, probability: Values) -> Values:
        """Adjusted probabilities; the order stays."""
        odds = np.log(probability) - np.log1p(-probability)
        return np.asarray(np.clip(1 / (1 + np.exp(-(self.slope * odds + self.offset))), LEAST, MOST))


NONE = Adjustment()


@dataclass(frozen=True)
class Calibrator:
    """What turns features of labels into confidence and expected error."""

    trees: Trees
    score: Values
    """Scores of the trees between which confidence is drawn in straight lines, rising, (k,)."""
    right: Values
    """Share of right labels at each, never falling, (k,)."""
    error_confidence: Values
    """Confidences at which the expected error is known, rising, (e,)."""
    error_deg: Values
    """Mean disorientation from the truth there, degrees, never rising, (e,)."""
    origin: dict[str, Any]
    """What it was fitted to."""

    def probability(self, features: NDArray[np.float32]) -> Values:
        """Probability that labels with these features (n, f) are right, (n,)."""
        return np.asarray(np.clip(np.interp(self.trees.score(features), self.score, self.right), LEAST, MOST))

    def expected_error_deg(self, confidence: Values) -> Values:
        """Mean disorientation from the truth to be expected of labels of a confidence, degrees, same shape."""
        return np.asarray(np.interp(confidence, self.error_confidence, self.error_deg))

    def to_json(self) -> str:
        """As text."""
        plain = {
            "format": FORMAT,
            "features": list(FEATURES),
            "right_deg": RIGHT_DEG,
            "trees": self.trees.to_plain(),
            **{name: [float(f"{v:.6g}") for v in getattr(self, name)] for name in CURVES},
            "origin": self.origin,
        }
        return json.dumps(plain, indent=None, separators=(",", ":")) + "\n"


CURVES = ("score", "right", "error_confidence", "error_deg")


@functools.cache
def read_calibrator(path: Path = SHIPPED) -> Calibrator:
    """The calibrator at ``path``; InputError for a file that is missing, damaged, or made for other features."""
    try:
        plain = json.loads(path.read_text(encoding="utf-8"))
        if plain["format"] != FORMAT or tuple(plain["features"]) != FEATURES:
            raise ValueError("it was made for other features")
        curves = {name: np.asarray(plain[name], np.float64) for name in CURVES}
        _check_curves(curves)
        trees = from_plain(plain["trees"], n_features=len(FEATURES))
        return Calibrator(trees=trees, origin=dict(plain["origin"]), **curves)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: no calibrator for this version ({error}). Install dpcurate again.") from error


def file_sha256(path: Path = SHIPPED) -> str:
    """SHA-256 of a calibrator's file, for the record."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def confidence_of(
    result: IndexResult, *, calibrator: Calibrator | None = None, adjustment: Adjustment = NONE
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Confidence and expected error in degrees of every label, each (rows, columns); 0 and 180 where not indexed.

    The index must hold what neighbours agreed on (``neighbours.pool``).
    """
    known = calibrator or read_calibrator()
    trust = adjustment(known.probability(label_features(result))).reshape(result.shape)
    error = known.expected_error_deg(trust)
    indexed = result.phase_id >= 0
    return np.where(indexed, trust, 0).astype(np.float32), np.where(indexed, error, 180).astype(np.float32)


def _check_curves(curves: dict[str, Values]) -> None:
    for x, y in (("score", "right"), ("error_confidence", "error_deg")):
        if curves[x].ndim != 1 or curves[x].shape != curves[y].shape or not len(curves[x]):
            raise ValueError(f"{x} and {y} do not belong together")
        if not (np.diff(curves[x]) > 0).all() or not np.isfinite(np.concatenate([curves[x], curves[y]])).all():
            raise ValueError(f"{x} does not rise")
    if not (np.diff(curves["right"]) >= 0).all():
        raise ValueError("right falls")
