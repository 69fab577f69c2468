"""Fit the coefficients of dpcurate.confidence, for patterns that speak for themselves, and judge them on others.

Example: python benchmarks/fit_confidence.py --fit scan_dev.index --fit scan_precession.index --judge scan_large.index
All are folders that `dpcurate index` wrote with neighbours.pool = false; NAME.truth.npz lies beside each scan. No
coefficient may be negative: confidence falls with no feature. Every scan has the same weight in the fit. The free fit
is printed beside it.
"""

import argparse

import numpy as np
from scipy.optimize import minimize

from dpcurate.crystal_maps import IndexResult, read_index
from dpcurate.orientations import disorientation_deg
from dpcurate.truth import read_truth

RIGHT_DEG = 3.0
FEATURES = ("reliability", "agreement")


def features_of(result: IndexResult) -> np.ndarray:
    """Return the features of each pixel, shape (pixels, features); each pattern must have spoken for itself."""
    if result.support is not None:
        raise SystemExit(f"{result.folder}: was indexed with neighbours.pool = true; see benchmarks/confidence.py")
    return np.stack([getattr(result, name).ravel() for name in FEATURES], axis=1)


def right(result: IndexResult) -> np.ndarray:
    """Return whether each label lies within 3 degrees of the exact truth, shape (pixels,)."""
    truth = read_truth(result.info["scan"]["path"])
    if truth is None:
        raise SystemExit(f"{result.info['scan']['path']}: no truth file beside it")
    right = np.zeros(result.phase_id.shape, bool)
    for number, phase in enumerate(result.phases):
        own = (result.phase_id == number) & (truth.phase_id == number)
        angle = disorientation_deg(result.orientation[own], truth.quat[own], phase.proper_rotations())
        right[own] = angle < RIGHT_DEG
    return right.ravel()


def fit(features: list[np.ndarray], ok: list[np.ndarray], *, rising: bool) -> np.ndarray:
    """Return intercept and coefficients of the likeliest logistic function, shape (1 + n_features,)."""
    designs = [np.column_stack([np.ones(len(some)), some]) for some in features]

    def loss(c: np.ndarray) -> float:
        losses = [np.logaddexp(0, np.where(o, -1, 1) * (d @ c)).mean() for d, o in zip(designs, ok, strict=True)]
        return float(np.mean(losses)) + 1e-4 * float(c @ c)

    bounds = [(None, None)] + [(0 if rising else None, None)] * (designs[0].shape[1] - 1)
    return minimize(loss, np.zeros(designs[0].shape[1]), bounds=bounds).x


def judged(name: str, value: np.ndarray, ok: np.ndarray) -> None:
    """Print precision and coverage at 0.8 and the expected calibration error over ten equal bins."""
    keep = value >= 0.8
    bins = np.clip((value * 10).astype(int), 0, 9)
    error = sum(abs(ok[bins == b].mean() - value[bins == b].mean()) * (bins == b).mean() for b in np.unique(bins))
    precision = ok[keep].mean() if keep.any() else float("nan")
    order = np.argsort(-value, kind="stable")
    risk = (1 - np.cumsum(ok[order]) / np.arange(1, len(ok) + 1)).mean()
    print(
        f"{name}: right {ok.mean():.3f}, at 0.8 precision {precision:.3f} coverage {keep.mean():.3f}, "
        f"calibration error {error:.3f}, area under the risk-coverage curve {risk:.3f}"
    )


def main() -> None:
    """Fit, judge, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fit", required=True, action="append")
    parser.add_argument("--judge", required=True, action="append")
    arguments = parser.parse_args()
    fitted = [read_index(folder) for folder in arguments.fit]
    features, ok = [features_of(result) for result in fitted], [right(result) for result in fitted]
    free, found = fit(features, ok, rising=False), fit(features, ok, rising=True)
    for name, coefficients in (("free fit", free), ("fit with no negative coefficient", found)):
        print(name, dict(zip(("intercept", *FEATURES), coefficients.round(2).tolist(), strict=True)))
    for role, folders in (("fitted on", arguments.fit), ("judged on", arguments.judge)):
        for folder in folders:
            result = read_index(folder)
            ok_here, values = right(result), features_of(result)
            for label, c in (("free fit", free), ("no negative coefficient", found)):
                judged(f"{role} {folder}, {label}", 1 / (1 + np.exp(-(c[0] + values @ c[1:]))), ok_here)
            judged(f"{role} {folder}, as shipped then", result.confidence.ravel(), ok_here)
            for k, name in enumerate(FEATURES):
                order = np.argsort(-values[:, k], kind="stable")
                risk = (1 - np.cumsum(ok_here[order]) / np.arange(1, len(ok_here) + 1)).mean()
                print(f"  {name} alone: area under the risk-coverage curve {risk:.3f}")


if __name__ == "__main__":
    main()
