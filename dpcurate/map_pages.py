"""The pictures of an index: pages of maps of one size, with scale bars, colour bars and colour keys."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from numpy.typing import NDArray

from dpcurate import figures as draw
from dpcurate.color_keys import NOT_INDEXED, LabDirection, draw_color_key, ipf_colors
from dpcurate.misorientation_maps import (
    OUTLIER_DEG,
    grain_deviation,
    kernel_average_misorientation,
)

if TYPE_CHECKING:
    from dpcurate.crystal_maps import IndexResult

DPI = 200
PANEL = 3.2
"""Longer side of a map in inches, about: a pixel of the map gets a whole number of dots, so that none is blurred."""

STRIP = 6.4
"""Length in inches of a map that is four times as long as high, or more."""

THINNEST = 0.45
"""Of a map in inches. A line scan is drawn so high, out of proportion, and the page says so."""

TITLE, FOOT, GAP, UPRIGHT, LEGEND = 0.3, 0.28, 0.15, 0.35, 0.19
"""Inches: above a map, below it, left of it, left of it with an upright scale bar, a line of the legend."""

BAR, BAR_LABELS, NARROWEST, LEAST_WIDTH = 0.12, 0.5, 1.4, 4.2
"""Inches: a colour bar, its labels, the least width of a map's column and of a page."""

KEY = (1.9, 1.7)
"""Width and height of a colour key in inches."""

LEAST_SPAN = {"degrees": 0.1}
"""Of a colour bar: less is noise of the numbers."""

Box = tuple[float, float, float, float]

LAB: dict[LabDirection, str] = {"x": "to the right", "y": "down", "z": "along the beam"}


@dataclass(frozen=True)
class Page:
    """A figure with equal panels, axes of their colour bars and of colour keys, and whether maps are stretched."""

    figure: Figure
    panels: list[Axes]
    bars: list[Axes]
    keys: list[Axes]
    stretched: bool


def write_maps(result: "IndexResult", folder: Path) -> list[Path]:
    """Write the pictures of a result into ``folder``; the paths written.

    ``orientation.png`` (IPF-X, IPF-Y, IPF-Z), ``scores.png``, ``grains.png`` (grains and phases), ``deformation.png``
    (GROD and KAM), and ``overlap.png`` (weight and second orientation) where the result has them.
    """
    matplotlib.use("Agg")
    folder.mkdir(parents=True, exist_ok=True)
    pages = {"orientation": _orientation, "scores": _scores, "grains": _grains, "deformation": _deformation}
    if getattr(result, "orientation2", None) is not None and getattr(result, "weight", None) is not None:
        pages["overlap"] = _overlap
    written = []
    for name, make in pages.items():
        written.append(folder / f"{name}.png")
        make(result).figure.savefig(written[-1], dpi=DPI)
    return written


def known_step_nm(info: dict[str, Any]) -> float | None:
    """Step of a scan in nm, None where nobody stated it."""
    calibration = info["calibration"]
    return None if calibration.get("sources", {}).get("step_nm") == "assumed" else float(calibration["step_nm"])


def page(shape: tuple[int, int], n_panels: int, *, bars: bool = False, n_keys: int = 0, legend_lines: int = 1) -> Page:
    """Return a page of equal panels for maps of ``shape`` (rows, columns), with room for keys and a legend below.

    Long maps lie one below another, others side by side.
    """
    across, down = _panel_inches(shape)
    columns = 1 if shape[1] >= 4 * shape[0] else 2 if n_panels == 4 and shape[0] < 4 * shape[1] else n_panels
    lines = -(-n_panels // columns)
    edge = UPRIGHT if draw.is_upright(shape) else GAP
    cell = edge + max(across, NARROWEST) + (BAR + BAR_LABELS + GAP if bars else 0)
    width = _dots(max(GAP + columns * cell, LEAST_WIDTH))
    keys_a_line = int((width - GAP) // KEY[0])
    key_lines = -(-n_keys // keys_a_line)
    top_of_keys = lines * (TITLE + down + FOOT)
    size = width, _dots(top_of_keys + key_lines * KEY[1] + LEGEND * legend_lines)
    figure = Figure(figsize=size)
    panels, bar_axes, keys = [], [], []
    for k in range(n_panels):
        left, top = edge + (k % columns) * cell, (k // columns) * (TITLE + down + FOOT) + TITLE
        panels.append(figure.add_axes(_box(size, left, top, across, down)))
        if bars:
            bar_axes.append(figure.add_axes(_box(size, left + across + 0.6 * GAP, top, BAR, down)))
    for k in range(n_keys):
        left, top = GAP + (k % keys_a_line) * KEY[0], top_of_keys + (k // keys_a_line) * KEY[1] + TITLE
        keys.append(figure.add_axes(_box(size, left, top, KEY[0] - 0.1, KEY[1] - TITLE - 0.05)))
    stretched = bool(abs(across / shape[1] - down / shape[0]) > 1e-9)
    return Page(figure, panels, bar_axes, keys, stretched)


def _panel_inches(shape: tuple[int, int]) -> tuple[float, float]:
    """Width and height of a panel: whole dots a pixel, or as many as fit of the thinnest side."""
    rows, columns = shape
    long = STRIP if max(shape) >= 4 * min(shape) else PANEL
    dots = max(1, round(long * DPI / max(shape)))
    return max(columns * dots / DPI, THINNEST), max(rows * dots / DPI, THINNEST)


def _box(size: tuple[float, float], left: float, top: float, width: float, height: float) -> Box:
    """Place of axes as shares of a figure, on whole dots."""
    right, up = size
    return _dots(left) / right, _dots(up - top - height) / up, _dots(width) / right, _dots(height) / up


def _dots(inches: float) -> float:
    """The nearest whole number of dots, in inches."""
    return round(inches * DPI) / DPI


def _orientation(result: "IndexResult") -> Page:
    """IPF-X, IPF-Y, IPF-Z and the keys."""
    made = page(result.shape, 3, n_keys=len(result.phases))
    for axes, (direction, where) in zip(made.panels, LAB.items(), strict=True):
        colors = ipf_colors(result.orientation, result.phase_id, result.phases, direction)
        title = f"IPF-{direction.upper()}, {where}"
        draw.draw_ipf(axes, colors, title=title, step_nm=known_step_nm(result.info))
    for axes, phase in zip(made.keys, result.phases, strict=True):
        draw_color_key(axes, phase)
    return _finished(made, result.phase_id < 0)


def _scores(result: "IndexResult") -> Page:
    """Correlation, reliability, confidence, agreement."""
    made = page(result.shape, 4, bars=True)
    fixed = {"confidence": (0.0, 1.0), "agreement": (0.0, 1.0)}
    least = {"reliability": 0.0}
    for k, name in enumerate(("correlation", "reliability", "confidence", "agreement")):
        values = np.where(result.phase_id >= 0, getattr(result, name), np.nan)
        title = name if np.isfinite(values).any() else f"{name}: none"
        _numbers(made, k, values, result, title=title, limits=fixed.get(name), low=least.get(name))
    return _finished(made, result.phase_id < 0, color=draw.NO_VALUE)


def _grains(result: "IndexResult") -> Page:
    """Grains and phases, both with the grains' borders."""
    made = page(result.shape, 2, legend_lines=len(result.phases) + 1)
    step, n_grains = known_step_nm(result.info), int(result.grain_id.max(initial=-1)) + 1
    draw.draw_grains(made.panels[0], result.grain_id, title=f"{n_grains} grains", step_nm=step)
    colors = [draw.STRONG[k % len(draw.STRONG)] for k in range(len(result.phases))]
    draw.draw_categories(made.panels[1], result.phase_id, colors, title="phase", step_nm=step)
    draw.draw_borders(made.panels[1], result.grain_id)
    indexed = max(1, int((result.phase_id >= 0).sum()))
    shares = [(result.phase_id == k).sum() / indexed for k in range(len(colors))]
    names = [f"{phase.name}, {share:.1%}" for phase, share in zip(result.phases, shares, strict=True)]
    return _finished(made, result.phase_id < 0, patches=dict(zip(names, colors, strict=True)))


def _deformation(result: "IndexResult") -> Page:
    """GROD but for misindexed pixels, and KAM."""
    symmetries = [phase.proper_rotations() for phase in result.phases]
    grod = grain_deviation(result.orientation, result.phase_id, result.grain_id, symmetries=symmetries).deviation_deg
    kam = kernel_average_misorientation(result.orientation, result.phase_id, symmetries=symmetries)
    grod[grod > OUTLIER_DEG[1]] = np.nan
    made = page(result.shape, 2, bars=True)
    _numbers(made, 0, grod, result, title="GROD", unit="degrees", low=0.0)
    _numbers(made, 1, kam, result, title="KAM", unit="degrees", low=0.0)
    for axes in made.panels:
        draw.draw_borders(axes, result.grain_id, thickest_pt=0.7)
    words = "misindexed, or no neighbour alike"
    return _finished(made, np.isnan(grod) | np.isnan(kam), color=draw.NO_VALUE, words=words)


def _overlap(result: "IndexResult") -> Page:
    """Weight of the first orientation, and the second orientation where there is one."""
    weight, second = (np.asarray(getattr(result, name)) for name in ("weight", "orientation2"))
    made = page(result.shape, 2, bars=True, n_keys=len(result.phases))
    values = np.where(result.phase_id >= 0, weight, np.nan)
    _numbers(made, 0, values, result, title="weight", limits=(0.5, 1.0))
    phase2 = getattr(result, "phase2_id", None)
    phase2 = result.phase_id if phase2 is None else phase2
    shown = np.where((weight < 1) & (result.phase_id >= 0), phase2, -1)
    step = known_step_nm(result.info)
    colors = ipf_colors(second, shown, result.phases)
    draw.draw_ipf(made.panels[1], colors, title="second, IPF-Z", step_nm=step)
    made.bars[1].axis("off")
    for axes, phase in zip(made.keys, result.phases, strict=True):
        draw_color_key(axes, phase)
    return _finished(made, shown < 0, words="no second orientation")


def _numbers(
    made: Page,
    k: int,
    values: NDArray[Any],
    result: "IndexResult",
    *,
    title: str,
    unit: str = "",
    limits: draw.Limits | None = None,
    low: float | None = None,
) -> None:
    """Draw numbers in panel k."""
    limits = limits or draw.spread_limits(values, low=low, least_span=LEAST_SPAN.get(unit, 1e-3))
    step = known_step_nm(result.info)
    draw.draw_score(made.panels[k], values, title=title, step_nm=step, limits=limits, unit=unit, bar_axes=made.bars[k])


def _finished(
    made: Page,
    without: NDArray[np.bool_],
    *,
    color: tuple[float, ...] = NOT_INDEXED,
    words: str = "not indexed",
    patches: dict[str, Any] | None = None,
) -> Page:
    """Let the panels fill their places, and say at the bottom what colours mean and where proportions are not kept."""
    for axes in made.panels:
        axes.set_aspect("auto")
    meant = dict(patches or {}) | ({words: color} if without.any() else {})
    handles = [Patch(facecolor=value, edgecolor="black", linewidth=0.4, label=name) for name, value in meant.items()]
    if made.stretched:
        handles.append(Patch(alpha=0, label="not to scale across the line"))
    if handles:
        n_columns = 1 if patches else len(handles)
        made.figure.legend(
            handles=handles, loc="lower right", ncols=n_columns, fontsize=8, frameon=False, borderaxespad=0.2
        )
    return made
