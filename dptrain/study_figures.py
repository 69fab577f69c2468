"""The pictures of a study: curves of accuracy as PNG, and maps of disorientation side by side."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from dpcurate.orientations import Array
from dptrain.curves import COLORS, Series
from dptrain.report_figures import error_map, plain, save
from dptrain.study_numbers import Run

CURVE = (6.6, 3.6)
"""Inches; the names of the series stand beside the axes."""


def draw_curves(path: Path, series: Sequence[Series], *, group: str, metric: str, x: str, joined: bool) -> Path:
    """One curve a series over one group: large marks are means, bars intervals, small dots single seeds."""
    figure = Figure(figsize=CURVE, layout="constrained")
    axes = figure.subplots()
    factor = 100 if metric.startswith("within") else 1
    for number, one in enumerate(series):
        color = COLORS[number % len(COLORS)]
        found = [(point.x, point.values[group][metric]) for point in one.points if group in point.values]
        if not found:
            continue
        place = np.array([at for at, _ in found])
        middle = factor * np.array([value[0] for _, value in found])
        axes.plot(place, middle, color=color, marker="o", ms=6, linewidth=1.8 if joined else 0, label=one.name)
        for at, (_, low, high, seeds) in found:
            if low is not None and high is not None:
                axes.vlines(at, factor * low, factor * high, color=color, linewidth=1.2)
            axes.scatter([at] * len(seeds), factor * np.array(seeds), s=8, color=color, alpha=0.55)
    axes.set(xlabel=x, ylabel="pixels within 5 degrees (%)" if factor == 100 else "disorientation (degrees)")
    axes.set_title(group)
    axes.set_ylim(0, 103 if factor == 100 else None)
    figure.legend(loc="outside right upper", frameon=False, fontsize=7)
    plain(axes)
    return save(figure, path)


def draw_maps(folder: Path, run: Run, *, group: str, shape: tuple[int, int], step_nm: float | None) -> list[Path]:
    """Maps of disorientation from the truth of a scan that was judged whole: labels, then the run's network."""
    grain = run.of(group, "grain").reshape(shape)
    written = []
    for name, title in (("label_error", "template matching"), ("error", run.trial.name)):
        of = "labels" if name == "label_error" else run.trial.name
        path = folder / f"map_{group.replace(' ', '_')}_{of}.png"
        error: Array = run.of(group, name).reshape(shape)
        written.append(
            error_map(path, error, title=f"{group.removeprefix('scan ')}: {title}", outline=grain, step_nm=step_nm)
        )
    return written
