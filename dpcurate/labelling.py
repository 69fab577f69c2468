"""From matches, and what neighbours agreed on, to labels that say how far they can be trusted."""

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dpcurate.calibrator import Adjustment, confidence_of, file_sha256, read_calibrator
from dpcurate.confidence import confidence, neighbour_agreement, reliability
from dpcurate.consensus import Consensus
from dpcurate.crystal_maps import IndexResult
from dpcurate.grains import find_grains
from dpcurate.matching import Matches
from dpcurate.orientations import turn_pattern
from dpcurate.own_candidates import label_score
from dpcurate.recipe import GrainRecipe
from dpcurate.schema import PhaseRecord

DOUBTED = 0.2
"""Most confidence of a label where phase, scale or centre must be wrong."""

RECORD = "confidence"
"""What an index says of its confidence, in index.json."""


def label(
    matches: Matches,
    skipped: NDArray[np.bool_],
    phases: tuple[PhaseRecord, ...],
    *,
    grains: GrainRecipe,
    rotation_deg: float,
    info: dict[str, Any],
    agreed: Consensus | None = None,
) -> IndexResult:
    """Labels in the scan's frame, with their confidence.

    Parameters
    ----------
    matches, skipped, phases
        Of all patterns, in the detector's frame; those (rows, columns) that are not to be labelled; what was matched.
    grains
        What makes a grain.
    rotation_deg
        Turn of the detector's axes onto the scan's.
    info
        What goes into index.json; what is said of spots that no phase explains is heeded.
    agreed
        What neighbours agreed on. Without it each pattern speaks for itself.
    """
    symmetries = [phase.proper_rotations() for phase in phases]
    if agreed is None:
        best, phase_id = matches.orientation[:, :, 0], np.where(skipped, -1, matches.phase_id[..., 0]).astype(np.int16)
        grain_id, extra = find_grains(best, phase_id, symmetries=symmetries, **grains.model_dump()), dict[str, Any]()
        score = matches.score[..., 0]
    else:
        best, phase_id, grain_id = agreed.orientation, agreed.phase_id, agreed.grain_id
        skipped = skipped | (phase_id < 0)
        score = label_score(matches, best, phase_id, symmetries=symmetries)
        extra = {name: getattr(agreed, name) for name in ("source", "support", "phase2_id", "weight")}
        extra["orientation2"] = turn_pattern(agreed.orientation2, rotation_deg)
    found: dict[str, Any] = {
        "reliability": reliability(matches.score[..., 0], matches.runner_up_score),
        "correlation": score,
        "agreement": neighbour_agreement(best, phase_id, symmetries=symmetries, boundary_deg=grains.boundary_deg),
    }
    features: dict[str, Any] = {name: np.where(skipped, 0, values).astype(np.float32) for name, values in found.items()}
    alone = confidence(reliability=features["reliability"], agreement=features["agreement"])
    result = IndexResult(
        orientation=turn_pattern(best, rotation_deg),
        phase_id=phase_id,
        confidence=np.where(skipped, 0, alone).astype(np.float32),
        grain_id=grain_id,
        candidate_orientation=turn_pattern(matches.orientation, rotation_deg),
        candidate_score=matches.score,
        candidate_phase_id=matches.phase_id,
        phases=phases,
        info=info,
        **features,
        **extra,
    )
    return with_confidence(result) if agreed is not None else _doubted(result)


def with_confidence(result: IndexResult, adjustment: Adjustment | None = None) -> IndexResult:
    """A result on which neighbours agreed, with calibrated confidence and expected error, adjusted if so wished."""
    line = adjustment or Adjustment()
    trust, error = confidence_of(result, adjustment=line)
    record = {"calibrator_sha256": file_sha256(), "slope": line.slope, "offset": line.offset}
    info = result.info | {RECORD: record}
    return _doubted(replace(result, confidence=trust, expected_error_deg=error, info=info))


def _doubted(result: IndexResult) -> IndexResult:
    """The result, trusted little where most spots of the scan are not those of its phases."""
    if result.info.get("spots_explained", {}).get("warning") is None:
        return result
    trust = np.minimum(result.confidence, np.float32(DOUBTED))
    if result.expected_error_deg is None:
        return replace(result, confidence=trust)
    least = read_calibrator().expected_error_deg(np.array([DOUBTED]))[0]
    return replace(
        result, confidence=trust, expected_error_deg=np.maximum(result.expected_error_deg, np.float32(least))
    )
