"""Does an index give the grains of the specimen back: as areas, and with their orientations."""

import numpy as np
from sklearn.metrics import adjusted_rand_score

from dpcurate.crystal_maps import IndexResult
from dpcurate.orientations import disorientation_deg, equivalents
from dpcurate.truth import Truth

LEAST_PIXELS = 5
"""Of a grain that counts."""

RIGHT_DEG, BOUNDARY_DEG = 3.0, 5.0


def mean_orientation(orientation: np.ndarray, symmetry: np.ndarray) -> np.ndarray:
    """Mean orientation (4,) of a grain's pixels (n, 4): of those within `BOUNDARY_DEG` of the most central one.

    Others are misindexed pixels that joined the grain.
    """
    apart = disorientation_deg(orientation[:, None], orientation, symmetry)
    centre = np.median(apart, axis=1).argmin()
    every = equivalents(orientation[apart[centre] < BOUNDARY_DEG], symmetry)
    near = np.take_along_axis(every, np.abs(every @ orientation[centre]).argmax(axis=1)[:, None, None], axis=1)[:, 0]
    return np.linalg.eigh(near.T @ near)[1][:, -1]


def grains_back(index: IndexResult, truth: Truth) -> dict[str, float]:
    """Numbers of true and found grains, agreement of the areas, and share of true grains with the right mean.

    A true grain is right when the found grain that covers most of it has its phase and, as a mean over the found
    grain, its mean orientation to within `RIGHT_DEG`. Only grains of `LEAST_PIXELS` and more count.
    """
    inside = truth.inside
    names, counts = np.unique(truth.grain[truth.grain >= 0], return_counts=True)
    names = names[counts >= LEAST_PIXELS]
    found, sizes = np.unique(index.grain_id[index.grain_id >= 0], return_counts=True)
    right = [_is_right(index, truth, truth.grain == name) for name in names]
    return {
        "true grains": len(names),
        "found grains": len(found[sizes >= LEAST_PIXELS]),
        "adjusted Rand index, all": adjusted_rand_score(truth.grain.ravel(), index.grain_id.ravel()),
        "inside grains": adjusted_rand_score(truth.grain[inside], index.grain_id[inside]),
        "grains with the right mean": float(np.mean(right)),
    }


def _is_right(index: IndexResult, truth: Truth, here: np.ndarray) -> bool:
    """Whether the found grain that covers most of a true grain's pixels has its phase and orientation."""
    names = index.grain_id[here]
    if not (names >= 0).any():
        return False
    area = index.grain_id == np.bincount(names[names >= 0]).argmax()
    phase, true_phase = (int(np.bincount(of[of >= 0]).argmax()) for of in (index.phase_id[area], truth.phase_id[here]))
    if phase != true_phase:
        return False
    symmetry, area = index.phases[phase].proper_rotations(), area & (index.phase_id == phase)
    means = [mean_orientation(maps[mask], symmetry) for maps, mask in ((index.orientation, area), (truth.quat, here))]
    return bool(disorientation_deg(*means, symmetry) < RIGHT_DEG)
