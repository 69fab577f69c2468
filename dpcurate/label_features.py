"""What speaks for and against each label of an index: the numbers from which its confidence is made.

All are measured against the label, which need not be the best candidate of its own pattern. None depends on the frame
of the orientations, on the numbers of phases or grains, or on how many pixels a scan has.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter

from dpcurate.crystal_maps import IndexResult
from dpcurate.neighbourhood import WITHIN_DEG, half_cosines_from

Values = NDArray[np.float64]

ANGLES_DEG = (4.0, 10.0, 25.0)
"""A candidate farther than this from the label is a rival."""

TEMPERATURE = 0.02
"""Differences of scores, as shares of the best, that count in the entropy of the candidates."""

MOST_MARGIN = 0.3
"""A lead or lag of more does not count."""

FAR_RANK = 1.0
"""Rank of a label that is none of its pattern's candidates, as a share of their number."""

AROUND = 5
"""Pixels along a side of the surroundings of a pixel."""

RISING = (
    *(f"margin_{angle:.0f}" for angle in ANGLES_DEG),
    "reliability",
    "above_noise",
    "agreement",
    "around_own",
    "grain_own",
    "grain_margin",
    "grain_lead",
    "support",
)
"""Features with which confidence never falls, all else being equal."""

FALLING = ("own_rank",)
"""Features with which it never rises."""

FREE = (
    "correlation",
    "correlation_in_grain",
    "entropy",
    "rival_deg",
    "decided_by_dynamics",
    "decided_by_share",
    "weight",
)
"""All others."""

FEATURES = (*RISING, *FALLING, *FREE)


def label_features(result: IndexResult) -> NDArray[np.float32]:
    """Features of every pixel, (rows * columns, n) in the order of `FEATURES`; NaN where an index does not say."""
    score = np.asarray(result.candidate_score, float)
    best = np.maximum(score[..., 0], 1e-9)
    angle = candidate_angles(result)
    grain = _Grains(result.grain_id)
    found = {f"margin_{limit:.0f}": _margin(result, angle, limit) for limit in ANGLES_DEG}
    near = angle < WITHIN_DEG
    own = near[..., 0].astype(float)
    rank = np.where(near.any(axis=-1), near.argmax(axis=-1) / near.shape[-1], FAR_RANK)
    share = _softmax(score / best[..., None] / TEMPERATURE)
    margin = found["margin_10"]
    found |= {
        "reliability": np.asarray(result.reliability, float),
        "above_noise": _above_noise(result),
        "agreement": np.asarray(result.agreement, float),
        "around_own": uniform_filter(own, AROUND, mode="nearest"),
        "grain_own": grain.mean(own),
        "grain_margin": grain.mean(margin),
        "grain_lead": grain.mean((margin > 0).astype(float)),
        "support": _or_nan(result.support, result),
        "own_rank": rank,
        "correlation": np.asarray(result.correlation, float),
        "correlation_in_grain": result.correlation - grain.mean(np.asarray(result.correlation, float)),
        "entropy": -(share * np.log(np.maximum(share, 1e-12))).sum(axis=-1) / np.log(max(share.shape[-1], 2)),
        "rival_deg": _rival_deg(result, angle),
        "decided_by_dynamics": _decided(result, 2),
        "decided_by_share": _decided(result, 3),
        "weight": _or_nan(result.weight, result),
    }
    return np.stack([np.asarray(found[name], np.float32).ravel() for name in FEATURES], axis=1)


def candidate_angles(result: IndexResult) -> Values:
    """Disorientation of each candidate from the label of its pixel in degrees, (rows, columns, n); 180: other phase."""
    symmetries = tuple(phase.proper_rotations() for phase in result.phases)
    cosine = half_cosines_from(
        result.orientation,
        result.phase_id,
        result.candidate_orientation,
        result.candidate_phase_id,
        symmetries=symmetries,
    )
    return np.asarray(np.degrees(2 * np.arccos(np.clip(cosine, 0, 1))) * (cosine >= 0) + 180.0 * (cosine < 0), float)


def _margin(result: IndexResult, angle: Values, limit_deg: float) -> Values:
    """Lead of the label over its best rival in its own pattern as a share, within ± `MOST_MARGIN`; full without one."""
    rival = np.where(angle > limit_deg, result.candidate_score, 0).max(axis=-1, initial=0)
    lead = result.correlation / np.maximum(rival, 1e-9) - 1
    return np.clip(np.where(rival > 0, lead, MOST_MARGIN), -MOST_MARGIN, MOST_MARGIN)


def _rival_deg(result: IndexResult, angle: Values) -> Values:
    """How far the best rival lies: pseudo-symmetric variants lie at angles of their own. NaN without a rival."""
    score = np.where(angle > ANGLES_DEG[1], result.candidate_score, 0)
    at = score.argmax(axis=-1)[..., None]
    far = np.take_along_axis(angle, at, axis=-1)[..., 0]
    return np.where(np.take_along_axis(score, at, axis=-1)[..., 0] > 0, far, np.nan)


def _above_noise(result: IndexResult) -> Values:
    """Score of the label over that which noise reaches in the scan; NaN where that is not known."""
    noise = result.info.get("neighbours", {}).get("noise_score", 0)
    return np.asarray(result.correlation / noise if noise > 0 else np.full(result.shape, np.nan), float)


def _decided(result: IndexResult, source: int) -> Values:
    return _or_nan(None if result.source is None else result.source == source, result)


def _or_nan(values: NDArray[np.generic] | None, result: IndexResult) -> Values:
    return np.full(result.shape, np.nan) if values is None else np.asarray(values, float)


def _softmax(values: Values) -> Values:
    weight = np.exp(values - values.max(axis=-1, keepdims=True))
    return np.asarray(weight / weight.sum(axis=-1, keepdims=True))


class _Grains:
    """Means over the grains of a map (rows, columns); a pixel without a grain is one of its own."""

    def __init__(self, grain_id: NDArray[np.int32]) -> None:
        alone = grain_id < 0
        self._member = np.where(alone, 0, grain_id).ravel() + 1
        self._member[alone.ravel()] = 0
        self._alone, self._shape = alone, grain_id.shape
        self._size = np.bincount(self._member)

    def mean(self, values: Values) -> Values:
        """Mean of values over the grain of each pixel."""
        total = np.bincount(self._member, values.ravel(), minlength=len(self._size))
        mean = (total / np.maximum(self._size, 1))[self._member].reshape(self._shape)
        return np.where(self._alone, values, mean)
