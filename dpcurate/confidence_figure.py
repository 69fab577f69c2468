"""The picture of an index's confidence: how it is spread, what a threshold keeps, and how true it is."""

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from dpcurate.calibration_scores import BINS, reliability_diagram

Values = NDArray[np.float64]
Right = NDArray[np.bool_]

DPI = 200
SIZE = (3.5, 3.1)
"""Width of a panel and height of the figure in inches."""

BLUE, ORANGE, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "0.6"

THRESHOLDS = np.linspace(0, 0.99, 100)

DOT = 500
"""Area in square points of a dot that stands for all labels."""


def write_confidence(confidence: Values, right: Right | None, path: Path) -> Path:
    """Draw the confidence of labels (n,); with their ``right`` (n,), where the truth is known, beside what it promises.

    Panels: its histogram; the share of labels that a threshold keeps, and the share of right ones among them that is
    promised (their mean confidence) and found; where the truth is known, a reliability diagram.
    """
    n_panels = 2 if right is None else 3
    figure = Figure(figsize=(SIZE[0] * n_panels, SIZE[1]), layout="constrained")
    panels = figure.subplots(1, n_panels)
    panels[0].hist(
        confidence,
        bins=np.linspace(0, 1, 2 * BINS + 1),
        color=BLUE,
        weights=np.full(len(confidence), 1 / len(confidence)),
    )
    panels[0].set(xlim=(0, 1), xlabel="confidence", ylabel="share of all pixels")
    _thresholds(panels[1], confidence, right)
    if right is not None:
        _reliability(panels[2], confidence, right)
    figure.savefig(path, dpi=DPI)
    return path


def _thresholds(axes: Axes, confidence: Values, right: Right | None) -> None:
    order = np.argsort(confidence)
    ordered = confidence[order]
    first = np.searchsorted(ordered, THRESHOLDS)
    kept = len(ordered) - first
    axes.plot(THRESHOLDS, kept / len(ordered), color=GREEN, label="kept")
    axes.plot(THRESHOLDS, _means(ordered, first), color=BLUE, label="right, as promised")
    if right is not None:
        axes.plot(THRESHOLDS, _means(right[order].astype(float), first), color=ORANGE, ls="--", label="right, in truth")
    axes.set(xlim=(0, 1), ylim=(0, 1.02), xlabel="least confidence", ylabel="share")
    axes.legend(fontsize=8, loc="lower left", frameon=False)


def _means(ordered: Values, first: NDArray[np.intp]) -> Values:
    """Means of values from each of ``first`` to the end; NaN where nothing is left."""
    sums = np.append(np.cumsum(ordered[::-1])[::-1], 0.0)
    kept = len(ordered) - first
    return np.asarray(np.where(kept > 0, sums[first] / np.maximum(kept, 1), np.nan))


def _reliability(axes: Axes, confidence: Values, right: Right) -> None:
    diagram = reliability_diagram(confidence, right)
    axes.plot([0, 1], [0, 1], color=GREY, lw=0.8)
    axes.scatter(
        diagram.confidence, diagram.right, s=12 + DOT * diagram.share, color=BLUE, alpha=0.7, lw=0, clip_on=False
    )
    axes.set(xlim=(0, 1), ylim=(0, 1.02), xlabel="confidence", ylabel="share of right labels")
    words = f"calibration error {diagram.error:.3f}\narea of a dot: share of pixels"
    axes.text(0.97, 0.03, words, fontsize=8, ha="right", va="bottom", transform=axes.transAxes)
