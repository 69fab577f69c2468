"""Drawing one map on one axes: colours, numbers, categories, grains, borders, and the scale bar below."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import BoundaryNorm, ListedColormap
from matplotlib.patches import PathPatch
from matplotlib.path import Path
from matplotlib.transforms import ScaledTranslation
from numpy.typing import NDArray

from dpcurate.color_keys import NOT_INDEXED
from dpcurate.orientations import Array

NO_VALUE = (0.86, 0.86, 0.86)
"""Colour of pixels without a number: viridis has nothing so pale and grey."""

SCALAR_MAP = "viridis"
"""Even in lightness, and told apart by the colour-blind."""

PALE = ("#77AADD", "#EE8866", "#EEDD88", "#FFAABB", "#99DDFF", "#44BB99", "#BBCC33", "#AAAA00")
"""Paul Tol's light scheme for areas that are outlined in black; for grains."""

STRONG = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442")
"""Okabe and Ito's, told apart by the colour-blind; for phases."""

SHARE_SHOWN = 0.99
"""Quantile of the numbers at which a colour bar ends; beyond it an arrow shows that there are others."""

Limits = tuple[float, float]


def draw_ipf(axes: Axes, colors: Array, *, title: str, step_nm: float | None) -> None:
    """Draw a colour map (rows, columns, 3) of orientations with its scale bar."""
    axes.imshow(colors)
    dress(axes, title, shape=colors.shape, step_nm=step_nm)


def draw_score(
    axes: Axes,
    values: NDArray[Any],
    *,
    title: str,
    step_nm: float | None,
    limits: Limits | None = None,
    unit: str = "",
    bar_axes: Axes | None = None,
) -> None:
    """Draw a map of numbers with its colour bar, in ``bar_axes`` if given; pixels without a number (NaN) are pale grey.

    Without ``limits`` colours span all but the outermost hundredth of the numbers at each end.
    """
    low, high = limits if limits is not None else spread_limits(values)
    image = axes.imshow(values, cmap=colormaps[SCALAR_MAP].with_extremes(bad=NO_VALUE), vmin=low, vmax=high)
    known = values[np.isfinite(values)]
    below, above = bool((known < low).any()), bool((known > high).any())
    extend = {(0, 0): "neither", (1, 0): "min", (0, 1): "max", (1, 1): "both"}[below, above]
    place: dict[str, Any] = {"cax": bar_axes} if bar_axes is not None else {"ax": axes, "fraction": 0.046, "pad": 0.03}
    bar = axes.figure.colorbar(image, extend=extend, extendfrac=0.06, **place)
    bar.ax.tick_params(labelsize=8)
    bar.ax.locator_params(nbins=5)
    bar.ax.set_title(unit, fontsize=8, loc="left")
    dress(axes, title, shape=values.shape, step_nm=step_nm)


def draw_categories(
    axes: Axes, number: NDArray[np.integer], colors: Sequence[Any], *, title: str, step_nm: float | None
) -> None:
    """Draw a map of numbers into ``colors``; -1 is not indexed."""
    every = ListedColormap([NOT_INDEXED, *colors])
    axes.imshow(number, cmap=every, norm=BoundaryNorm(np.arange(-1.5, len(colors)), len(colors) + 1))
    dress(axes, title, shape=number.shape, step_nm=step_nm)


def draw_grains(axes: Axes, grain_id: NDArray[np.int32], *, title: str, step_nm: float | None) -> None:
    """Draw grains in pale colours that differ between neighbours, with their borders."""
    number = np.where(grain_id < 0, -1, np.append(_colors_of_grains(grain_id), -1)[grain_id])
    draw_categories(axes, number, PALE, title=title, step_nm=step_nm)
    draw_borders(axes, grain_id)


def draw_borders(axes: Axes, number: NDArray[Any], *, color: str = "black", thickest_pt: float = 1.4) -> None:
    """Draw the pixel edges between different numbers (rows, columns) as lines, thinner on larger maps."""
    box = axes.get_window_extent().width * 72 / axes.figure.dpi / number.shape[1]
    width = min(thickest_pt, max(0.25, 0.35 * box))
    lines = border_lines(number)
    if len(lines):
        path = Path(lines.reshape(-1, 2), np.tile([Path.MOVETO, Path.LINETO], len(lines)))
        style = {"edgecolor": color, "linewidth": width, "capstyle": "projecting"}
        axes.add_artist(PathPatch(path, fill=False, **style))


def border_lines(number: NDArray[Any]) -> Array:
    """Pixel edges between different numbers (rows, columns): two points (x, y) each, (n, 2, 2).

    The rim of the map and pixels below 0 (no grain) have none.
    """
    number = np.asarray(number, int)
    row, column = np.nonzero(_differ(number[:, 1:], number[:, :-1]))
    upright = [[column + 0.5, row - 0.5], [column + 0.5, row + 0.5]]
    row, column = np.nonzero(_differ(number[1:], number[:-1]))
    level = [[column - 0.5, row + 0.5], [column + 0.5, row + 0.5]]
    return np.concatenate([np.moveaxis(np.array(lines), -1, 0) for lines in (upright, level)])


def _differ(a: NDArray[np.int64], b: NDArray[np.int64]) -> NDArray[np.bool_]:
    return np.asarray((a != b) & (a >= 0) & (b >= 0))


def spread_limits(values: NDArray[Any], *, low: float | None = None, least_span: float = 1e-3) -> Limits:
    """Limits of a colour bar that leave out the outermost hundredth at each end; ``low`` fixes the lower one."""
    known = np.asarray(values, float)[np.isfinite(values)]
    if not len(known):
        return 0.0, 1.0
    found = np.quantile(known, [1 - SHARE_SHOWN, SHARE_SHOWN]) if known.size > 100 else (known.min(), known.max())
    first = float(found[0]) if low is None else low
    return first, max(float(found[1]), first + least_span)


def dress(axes: Axes, title: str, *, shape: tuple[int, ...], step_nm: float | None) -> None:
    """Title, no ticks, a scale bar outside the map of ``shape``; in pixels where the step is not known (None)."""
    axes.set_title(title, fontsize=9)
    axes.set_xticks([])
    axes.set_yticks([])
    rows, columns = shape[:2]
    upright = is_upright(shape)
    side = rows if upright else columns
    length = round_length(side * 0.4 * step_nm) if step_nm is not None else max(1.0, round_length(side * 0.4))
    share = length / (side * (step_nm or 1.0))
    if step_nm is None:
        label = f"{length:g} pixel{'s' if length > 1 else ''}"
    else:
        label = f"{length:g} nm" if length < 1000 else f"{length / 1000:g} µm"
    away = ScaledTranslation(-8 / 72, 0, axes.figure.dpi_scale_trans) if upright else _points_down(axes, 8)
    place = axes.transAxes + away
    ends = ([0, 0], [0, share]) if upright else ([0, share], [0, 0])
    axes.plot(*ends, color="black", linewidth=2.5, transform=place, clip_on=False, solid_capstyle="butt")
    axes.annotate(
        label,
        (0, share) if upright else (share, 0),
        xycoords=place,
        xytext=(0, 4) if upright else (5, 0),
        textcoords="offset points",
        fontsize=8,
        ha="center" if upright else "left",
        va="bottom" if upright else "center",
        rotation=90 if upright else 0,
        annotation_clip=False,
    )


def is_upright(shape: tuple[int, ...]) -> bool:
    """Whether the scale bar of a map (rows, columns) stands upright at its left."""
    return shape[0] > 2 * shape[1]


def round_length(longest: float) -> float:
    """The largest of 1, 2, 5 times a power of ten that is not above ``longest``."""
    power = 10.0 ** np.floor(np.log10(longest))
    return float(max(factor * power for factor in (1, 2, 5) if factor * power <= longest * (1 + 1e-9)))


def _points_down(axes: Axes, points: float) -> ScaledTranslation:
    return ScaledTranslation(0, -points / 72, axes.figure.dpi_scale_trans)


def _colors_of_grains(grain_id: NDArray[np.int32]) -> NDArray[np.int64]:
    """Number of a colour for each grain, the least used one that no neighbour has."""
    sides = [(grain_id[:, 1:], grain_id[:, :-1]), (grain_id[1:], grain_id[:-1])]
    pairs = np.concatenate([np.stack([a[a != b], b[a != b]], axis=1) for a, b in sides])
    pairs = np.unique(np.sort(pairs[(pairs >= 0).all(axis=1)], axis=1), axis=0)
    color = np.full(int(grain_id.max(initial=-1)) + 1, -1)
    used = np.zeros(len(PALE), int)
    bounds = np.searchsorted(np.sort(pairs[:, 1]), np.arange(len(color) + 1))
    earlier = pairs[np.argsort(pairs[:, 1], kind="stable"), 0]
    for grain in range(len(color)):
        taken = np.bincount(color[earlier[bounds[grain] : bounds[grain + 1]]], minlength=len(PALE)) > 0
        color[grain] = np.argmin(used + (used.sum() + 1) * taken)
        used[color[grain]] += 1
    return color
