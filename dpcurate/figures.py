"""Pictures of maps: inverse-pole-figure colours with their key, scores, grains. Drawn without a display."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import Normal, Stroke
from numpy.typing import NDArray
from orix.plot import DirectionColorKeyTSL, IPFColorKeyTSL
from orix.quaternion import Orientation
from orix.vector import Miller, Vector3d

from dpcurate.orientations import Array
from dpcurate.phases import orix_phase
from dpcurate.schema import PhaseRecord

if TYPE_CHECKING:
    from dpcurate.crystal_maps import IndexResult

NOT_INDEXED = (0.25, 0.25, 0.25)
"""Colour of pixels without an orientation."""

DPI = 130


def ipf_colors(orientation: Array, phase_id: NDArray[np.int16], phases: tuple[PhaseRecord, ...]) -> Array:
    """Inverse-pole-figure colours (TSL) of the lab's z direction, the beam, shape (..., 3) of orientations (..., 4)."""
    colors = np.full((*phase_id.shape, 3), NOT_INDEXED)
    for index, record in enumerate(phases):
        here = phase_id == index
        if here.any():
            group = orix_phase(record).point_group
            key = IPFColorKeyTSL(group)
            colors[here] = key.orientation2color(Orientation(orientation[here], symmetry=group))
    return colors


def draw_ipf(axes: Axes, colors: Array, *, title: str, step_nm: float) -> None:
    """Draw a colour map of orientations with a scale bar."""
    axes.imshow(colors, interpolation="nearest")
    _dress(axes, title)
    _scale_bar(axes, colors.shape[1], step_nm)


def draw_color_key(axes: Axes, phase: PhaseRecord) -> None:
    """Draw the inverse-pole-figure colour key of a phase: its fundamental sector, the corners with their indices."""
    image, (left, right, bottom, top) = _color_key(phase)
    axes.imshow(image, interpolation="bilinear", extent=(left, right, bottom, top))
    margin = 0.12 * (right - left)
    for (x, y), label in _corners(phase):
        outward = np.array([x - (left + right) / 2, y - (bottom + top) / 2])
        place = np.array([x, y]) + outward / max(float(np.linalg.norm(outward)), 1e-9) * margin / 2
        axes.text(float(place[0]), float(place[1]), label, ha="center", va="center", fontsize=8)
    axes.set_xlim(left - margin, right + margin)
    axes.set_ylim(bottom - margin, top + margin)
    axes.set_title(f"{phase.name}, {phase.point_group}, beam direction", fontsize=9)
    axes.axis("off")


def draw_score(axes: Axes, values: NDArray[Any], *, title: str, limits: tuple[float, float] | None = None) -> None:
    """Draw a scalar map with its colour bar."""
    low, high = limits if limits is not None else (None, None)
    image = axes.imshow(values, cmap="viridis", vmin=low, vmax=high, interpolation="nearest")
    axes.figure.colorbar(image, ax=axes, fraction=0.046, pad=0.03)
    _dress(axes, title)


def write_maps(result: "IndexResult", folder: Path) -> list[Path]:
    """Write ``orientation.png``, ``scores.png`` and ``grains.png`` into ``folder``; the paths written."""
    matplotlib.use("Agg")
    folder.mkdir(parents=True, exist_ok=True)
    step = float(result.info["calibration"]["step_nm"])
    colors = ipf_colors(result.orientation, result.phase_id, result.phases)
    n_keys = len(result.phases)
    figure = Figure(figsize=(5.2 + 2.6 * n_keys, 5), layout="constrained")
    panels = figure.subplots(1, 1 + n_keys, width_ratios=[5, *[2.2] * n_keys])
    draw_ipf(panels[0], colors, title="Orientation, inverse pole figure along the beam", step_nm=step)
    for axes, phase in zip(panels[1:], result.phases, strict=True):
        draw_color_key(axes, phase)
    scores = Figure(figsize=(10, 8.5), layout="constrained")
    for axes, name in zip(
        scores.subplots(2, 2).ravel(), ("confidence", "correlation", "reliability", "agreement"), strict=True
    ):
        limits = (0.0, 1.0) if name in ("confidence", "agreement") else None
        draw_score(axes, getattr(result, name), title=name, limits=limits)
    grains = Figure(figsize=(5.5, 5), layout="constrained")
    axes = grains.subplots()
    axes.imshow(_shuffled(result.grain_id), cmap="tab20", interpolation="nearest")
    _dress(axes, f"{result.grain_id.max() + 1} grains")
    written = []
    for name, picture in (("orientation", figure), ("scores", scores), ("grains", grains)):
        written.append(folder / f"{name}.png")
        picture.savefig(written[-1], dpi=DPI)
    return written


def _color_key(phase: PhaseRecord, size: int = 600) -> tuple[Array, tuple[float, float, float, float]]:
    """Colours over the stereographic projection of the fundamental sector, transparent outside, and their extent."""
    group = orix_phase(phase).point_group.laue
    y, x = np.mgrid[1 : -1 : size * 1j, -1 : 1 : size * 1j]
    radius2 = x**2 + y**2
    vectors = np.stack([2 * x, 2 * y, 1 - radius2], axis=-1) / (1 + radius2)[..., None]
    inside = (radius2 <= 1) & (Vector3d(vectors) <= group.fundamental_sector)
    image = np.zeros((size, size, 4))
    image[inside, :3] = DirectionColorKeyTSL(group).direction2color(Vector3d(vectors[inside]))
    image[inside, 3] = 1
    rows, columns = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
    cut = image[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return cut, (x[0, columns[0]], x[0, columns[-1]], y[rows[-1], 0], y[rows[0], 0])


def _corners(phase: PhaseRecord) -> list[tuple[Array, str]]:
    """Corners of the fundamental sector: stereographic (x, y) and direction indices, negative ones with a bar."""
    crystal = orix_phase(phase)
    directions = crystal.point_group.laue.fundamental_sector.vertices.data.reshape(-1, 3)
    if not len(directions):
        return []
    miller = Miller(xyz=directions, phase=crystal)
    miller.coordinate_format = "UVTW" if crystal.point_group.system in ("trigonal", "hexagonal") else "uvw"
    indices = np.rint(miller.round().coordinates).astype(int)
    labels = ["$[" + "".join(rf"\bar{{{-i}}}" if i < 0 else str(i) for i in row) + "]$" for row in indices]
    return [(v[:2] / (1 + v[2]), label) for v, label in zip(directions, labels, strict=True)]


def _shuffled(grain_id: NDArray[np.int32]) -> NDArray[np.float64]:
    """Grain numbers spread over the colours so that neighbours differ; NaN where there is none."""
    return np.where(grain_id < 0, np.nan, (grain_id * 7919) % 20)


def _dress(axes: Axes, title: str) -> None:
    axes.set_title(title, fontsize=10)
    axes.set_xticks([])
    axes.set_yticks([])


def _scale_bar(axes: Axes, columns: int, step_nm: float) -> None:
    """A bar of a round length, about a quarter of the map."""
    wanted = columns * step_nm / 4
    power = 10.0 ** np.floor(np.log10(wanted))
    length = max(factor * power for factor in (1, 2, 5) if factor * power <= wanted)
    y = axes.get_ylim()[0] * 0.96
    outline = [Stroke(linewidth=5, foreground="black"), Normal()]
    start = columns * 0.04
    axes.plot([start, start + length / step_nm], [y, y], color="white", linewidth=3, path_effects=outline)
    label = f"{length:g} nm" if length < 1000 else f"{length / 1000:g} µm"
    thin = [Stroke(linewidth=2, foreground="black"), Normal()]
    axes.text(start, y - columns * 0.02, label, color="white", fontsize=8, path_effects=thin)
