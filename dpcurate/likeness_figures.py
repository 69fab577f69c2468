"""The picture that shows a scan's patterns beside simulated ones, and how their measurements are distributed."""

from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from dpcurate.pattern_features import PatternFeatures

SHOWN = 6
"""Patterns of each kind."""

POWER = 0.4
"""Of the counts, in grey: faint spots show beside the direct beam."""

WHITE = 0.997
"""Quantile of a pattern's pixels that is white."""

COLORS = ("#1b5e9e", "#c8641e")
"""The scan's and the simulated; told apart by the colour-blind too."""

NAMES = ("scan", "simulated")

DPI = 130


def write_likeness(
    patterns: tuple[NDArray[Any], NDArray[Any]],
    features: tuple[PatternFeatures, PatternFeatures],
    path: Path,
    *,
    scale_inv_angstrom: float,
    paired: bool = False,
) -> Path:
    """Write the picture to ``path`` and return it.

    ``patterns`` are a scan's and simulated ones, each (n, rows, columns), in counts, ``features`` what was measured of
    them. ``paired``: pattern k of both has the same orientation.
    """
    matplotlib.use("Agg")
    figure = Figure(figsize=(12, 9.5), layout="constrained")
    grid = figure.add_gridspec(2, 1, height_ratios=[4.2, 5])
    top, bottom = figure.add_subfigure(grid[0]), figure.add_subfigure(grid[1])
    number = min(SHOWN, *(len(some) for some in patterns))
    chosen = [np.linspace(0, len(some) - 1, number).astype(int) for some in patterns]
    for line, some, rows, name in zip(top.subplots(2, number, squeeze=False), patterns, chosen, NAMES, strict=True):
        for axes, row in zip(line, rows, strict=True):
            _draw_pattern(axes, some[row])
        line[0].set_ylabel(name, fontsize=11)
    top.suptitle(
        f"Counts to the power {POWER}, " + ("same orientations" if paired else "orientations not paired"), fontsize=10
    )
    _draw_distributions(bottom.subplots(2, 3), features, scale_inv_angstrom=scale_inv_angstrom)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=DPI)
    return path


def _draw_pattern(axes: Axes, pattern: NDArray[Any]) -> None:
    """One pattern in grey, the brightest pixels white, so that the direct beam does not dim the rest."""
    image = np.maximum(pattern, 0).astype(float) ** POWER
    axes.imshow(image, cmap="gray", interpolation="nearest", vmax=max(float(np.quantile(image, WHITE)), 1e-9))
    axes.set_xticks([])
    axes.set_yticks([])


def _draw_distributions(
    panels: NDArray[Any], features: tuple[PatternFeatures, PatternFeatures], *, scale_inv_angstrom: float
) -> None:
    """Radial profile with its scatter over patterns, and five histograms."""
    _draw_profiles(panels.flat[0], features, scale_inv_angstrom=scale_inv_angstrom)
    values = (
        ("total electrons", [f.total for f in features]),
        ("direct beam, share of all", [f.direct_share for f in features]),
        ("spots found", [f.spot_count for f in features]),
        ("background, share of all", [f.background_share for f in features]),
        ("strongest spot, share of all", [f.spot_share[:, 0] for f in features]),
    )
    for axes, (label, both) in zip(panels.flat[1:], values, strict=True):
        low, high = np.quantile(np.concatenate(both), (0.005, 0.995))
        whole = label == "spots found"
        edges = np.arange(low - 0.5, high + 1.5) if whole and high - low < 40 else np.linspace(low, high + 1e-9, 25)
        for some, color, name in zip(both, COLORS, NAMES, strict=True):
            axes.hist(some, bins=edges, density=True, histtype="step", linewidth=1.6, color=color, label=name)
        axes.set_xlabel(label)
        axes.set_yticks([])
    panels.flat[1].legend(frameon=False, fontsize=9)


def _draw_profiles(axes: Axes, features: tuple[PatternFeatures, PatternFeatures], *, scale_inv_angstrom: float) -> None:
    """Mean share of a pixel in each ring: median over patterns, and a band that holds 80 % of them."""
    for some, color, name in zip(features, COLORS, NAMES, strict=True):
        shown = np.flatnonzero(np.isfinite(some.profile).all(axis=0))
        k = shown * scale_inv_angstrom
        low, middle, high = np.quantile(some.profile[:, shown], (0.1, 0.5, 0.9), axis=0)
        axes.fill_between(k, low, high, color=color, alpha=0.2, linewidth=0)
        axes.plot(k, middle, color=color, linewidth=1.6, label=name)
    axes.set_yscale("log")
    axes.set_xlabel("distance from the direct beam, 1/Å")
    axes.set_ylabel("share of a pixel")
