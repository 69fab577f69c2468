"""Beams that wander over the detector while they scan: found out, and every pattern moved back."""

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dpcurate.direct_beams import beam_places, steady
from dpcurate.scan_sample import ScanSample
from dpcurate.scans import Scan

LEAST_PX, MOST_PX = 0.15, 4.0
"""Standard deviation of the direct beam's place, in pixels of a detector 128 across: below, nothing is moved, as moving
blurs a pattern; above, it is not believed."""

CLEAR_SHARE = 0.9
"""So many patterns must show a clear direct beam."""


def steadied(scan: Scan, sample: ScanSample) -> tuple[Scan, dict[str, Any]]:
    """The scan with each pattern moved so that its direct beam is at one place, where beams wander; and a report.

    The report has ``applied``, a sentence ``said`` and, where the beam is seen, ``wander_px``: its standard deviation
    along one axis. Patterns are moved when they are read, and become float32.
    """
    if not len(sample.patterns):
        return scan, {"applied": False, "said": "patterns are not moved: none can be used."}
    place, clear = beam_places(sample.patterns, scan.calibration.center_xy)
    if clear.sum() < CLEAR_SHARE * len(clear):
        return scan, {"applied": False, "said": "patterns are not moved: the direct beam is not seen in all of them."}
    wander = float(np.sqrt(np.mean([_robust_variance(axis) for axis in place[clear].T])))
    measured = {"wander_px": round(wander, 3)}
    if not LEAST_PX <= wander * 128 / max(scan.patterns.shape[2:]) <= MOST_PX:
        said = f"patterns are not moved: the direct beam wanders by {wander:.2f} pixels."
        return scan, {"applied": False, "said": said, **measured}
    x, y = (float(part) for part in np.median(place[clear], axis=0))
    faulty = tuple(np.flatnonzero(sample.faulty).tolist())
    moved = replace(
        scan,
        patterns=steady(scan.patterns, (x, y), faulty=faulty),
        mended=faulty,
        calibration=scan.calibration.model_copy(update={"steadied_xy": (x, y)}),
    )
    said = f"each pattern is moved: the direct beam wanders by {wander:.2f} pixels."
    return moved, {"applied": True, "said": said, **measured}


def _robust_variance(values: NDArray[np.float64]) -> float:
    return float((1.4826 * np.median(np.abs(values - np.median(values)))) ** 2)
