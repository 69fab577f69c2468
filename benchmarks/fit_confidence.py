"""Fit the coefficients of dpcurate.confidence on one scan with exact truth and judge them on another.

Example: python benchmarks/fit_confidence.py --fit scan_dev.index --judge scan_large.index
Both are folders that `dpcurate index` wrote for scans with NAME.truth.npz beside them. No coefficient may be negative:
confidence rises with every feature. The free fit is printed beside it.
"""

import argparse

import numpy as np
from scipy.optimize import minimize

from dpcurate.confidence import confidence
from dpcurate.crystal_maps import IndexResult, read_index, read_truth
from dpcurate.orientations import disorientation_deg

RIGHT_DEG = 3.0
FEATURES = ("reliability", "correlation", "agreement")


def right(result: IndexResult) -> np.ndarray:
    """Return whether each label lies within 3 degrees of the exact truth, shape (pixels,)."""
    truth = read_truth(result.info["scan"]["path"])
    if truth is None:
        raise SystemExit(f"{result.info['scan']['path']}: no truth file beside it")
    symmetry = result.phases[0].proper_rotations()
    return (disorientation_deg(result.orientation, truth.quat, symmetry) < RIGHT_DEG).ravel()


def fit(features: np.ndarray, ok: np.ndarray, *, rising: bool) -> np.ndarray:
    """Return intercept and coefficients of the likeliest logistic function, shape (1 + n_features,)."""
    design = np.column_stack([np.ones(len(features)), features])

    def loss(c: np.ndarray) -> float:
        return float(np.logaddexp(0, np.where(ok, -1, 1) * (design @ c)).mean())

    bounds = [(None, None)] + [(0 if rising else None, None)] * features.shape[1]
    return minimize(loss, np.zeros(design.shape[1]), bounds=bounds).x


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
    parser.add_argument("--fit", required=True)
    parser.add_argument("--judge", required=True)
    arguments = parser.parse_args()
    fitted = read_index(arguments.fit)
    features = np.stack([getattr(fitted, name).ravel() for name in FEATURES], axis=1)
    free = fit(features, right(fitted), rising=False)
    found = fit(features, right(fitted), rising=True)
    for name, coefficients in (("free fit", free), ("fit with no negative coefficient", found)):
        print(name, dict(zip(("intercept", *FEATURES), coefficients.round(2).tolist(), strict=True)))
    for role, folder in (("fitted on", arguments.fit), ("judged on", arguments.judge)):
        result = read_index(folder)
        ok = right(result)
        values = np.stack([getattr(result, name).ravel() for name in FEATURES], axis=1)
        for label, c in (("free fit", free), ("no negative coefficient", found)):
            judged(f"{role} {folder}, {label}", 1 / (1 + np.exp(-(c[0] + values @ c[1:]))), ok)
        now = confidence(*(getattr(result, name).ravel() for name in FEATURES))
        judged(f"{role} {folder}, as shipped", now, ok)
        for k, name in enumerate(FEATURES):
            order = np.argsort(-values[:, k], kind="stable")
            risk = (1 - np.cumsum(ok[order]) / np.arange(1, len(ok) + 1)).mean()
            print(f"  {name} alone: area under the risk-coverage curve {risk:.3f}")


if __name__ == "__main__":
    main()
