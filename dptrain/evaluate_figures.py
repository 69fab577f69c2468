"""Curves of an evaluation as PNG files: disorientation against confidence, distance to the boundary, thickness."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from dptrain.curves import COLORS
from dptrain.evaluate_scores import Group

matplotlib.use("Agg")

FILES = {
    "network confidence": "network_confidence.png",
    "label confidence": "label_confidence.png",
    "distance to the boundary (px)": "boundary.png",
    "thickness (Å)": "thickness.png",
}
"""Picture of each quantity by which patterns are grouped."""

PANELS = (("median_deg", 1.0, "median disorientation (degrees)"), ("within_3_deg", 100.0, "within 3 degrees (%)"))

SIZE = (9.0, 3.8)
DPI = 150


def draw_groups(folder: Path, found: Sequence[Group]) -> list[Path]:
    """One picture for each quantity by which there are groups: median, and share within 3 degrees, with intervals."""
    written = []
    for by, name in FILES.items():
        some = [group for group in found if group.by == by]
        if some:
            written.append(folder / name)
            _draw(written[-1], some, by=by)
    return written


def _draw(path: Path, found: Sequence[Group], *, by: str) -> None:
    figure = Figure(figsize=SIZE, layout="constrained")
    for axes, (metric, factor, words) in zip(figure.subplots(1, len(PANELS)), PANELS, strict=True):
        for number, population in enumerate(dict.fromkeys(group.population for group in found)):
            some = [group for group in found if group.population == population]
            _curve(axes, some, metric=metric, factor=factor, color=COLORS[number])
        axes.set(xlabel=by, ylabel=words)
        axes.set_ylim(0, 103 if factor > 1 else None)
        axes.grid(color="#e6e9ed")
    handles, names = axes.get_legend_handles_labels()
    handles.append(Line2D([], [], color="#5b6570", linewidth=1.2))
    names.append("95 % interval over grains")
    figure.legend(handles, names, loc="outside lower center", ncols=len(names), frameon=False, fontsize=8)
    figure.savefig(path, dpi=DPI)


def _curve(axes: Axes, found: Sequence[Group], *, metric: str, factor: float, color: str) -> None:
    """One population: a mark for each group at the middle of its range, a bar for its 95 % interval."""
    place = _places(found)
    value, low, high = factor * np.array([group.scores[metric] for group in found]).T
    n = sum(group.n_patterns for group in found)
    axes.plot(place, value, color=color, marker="o", ms=4, label=f"{found[0].population} ({n} patterns)")
    known = ~np.isnan(low)
    axes.vlines(place[known], low[known], high[known], color=color, linewidth=1.2)


def _places(found: Sequence[Group]) -> np.ndarray:
    """Middles of groups; one that reaches to infinity stands a step behind the one before."""
    middle = np.array([(group.low + group.high) / 2 for group in found])
    if not np.isfinite(middle[-1]):
        last = found[-1].low
        middle[-1] = last if np.isfinite(last) else (middle[-2] + 2 if len(middle) > 1 else 0.0)
    return middle
