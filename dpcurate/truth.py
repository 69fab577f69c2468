"""The exact truth of a simulated scan, and how far labels lie from it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dpcurate.calibration_scores import RIGHT_DEG
from dpcurate.errors import InputError
from dpcurate.orientations import Array, disorientation_deg
from dpcurate.schema import PhaseRecord

INSIDE_WEIGHT = 0.97
"""A pixel lies inside a grain when its exact truth gives the dominant grain more than this share."""


@dataclass(frozen=True)
class Truth:
    """Exact truth of a simulated scan, axes (rows, columns)."""

    quat: Array
    quat2: Array
    weight: Array
    grain: NDArray[np.int64]
    thickness_angstrom: Array
    phase_id: NDArray[np.int16]
    """Phase of the dominant grain, -1 where there is no crystal. 0 in files that do not say: they hold one phase."""
    phase2_id: NDArray[np.int16]
    """That of the second grain."""

    @property
    def inside(self) -> NDArray[np.bool_]:
        """Pixels that hold one grain alone."""
        return np.asarray(self.weight > INSIDE_WEIGHT)


def read_truth(scan_path: str | Path) -> Truth | None:
    """Return the exact truth that lies beside a scan as ``NAME.truth.npz``, or None."""
    path = Path(scan_path)
    path = path.with_name(path.stem + ".truth.npz")
    if not path.is_file():
        return None
    try:
        with np.load(path) as file:
            one_phase = dict.fromkeys(("phase_id", "phase2_id"), np.zeros(file["weight"].shape, np.int16))
            return Truth(**{key: file[key] if key in file else one_phase[key] for key in Truth.__dataclass_fields__})
    except (KeyError, ValueError, OSError) as error:
        raise InputError(f"{path.name}: not a truth file ({error}). Remove it, or see docs/formats.md.") from error


def label_errors_deg(
    orientation: Array, phase_id: NDArray[np.integer], truth: Truth, *, phases: Sequence[PhaseRecord]
) -> Array:
    """Disorientation of labels from the truth, degrees, (rows, columns); 180 for another phase or none.

    Takes orientations (rows, columns, 4) and their phases (rows, columns), which count in ``phases`` as the truth's do.
    """
    error = np.full(phase_id.shape, 180.0)
    for number, phase in enumerate(phases):
        own = (phase_id == number) & (truth.phase_id == number)
        error[own] = disorientation_deg(orientation[own], truth.quat[own], phase.proper_rotations())
    return error


def right_labels(
    info: Mapping[str, Any], orientation: Array, phase_id: NDArray[np.integer], *, phases: Sequence[PhaseRecord]
) -> NDArray[np.bool_] | None:
    """Which labels (rows * columns,) of an index are right, where a truth file of its shape lies beside its scan."""
    path = info.get("scan", {}).get("path")
    truth = read_truth(path) if path else None
    if truth is None or truth.phase_id.shape != phase_id.shape:
        return None
    return np.asarray(label_errors_deg(orientation, phase_id, truth, phases=phases) < RIGHT_DEG).ravel()
