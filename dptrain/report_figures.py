"""The pictures of a report, each a PNG file of one panel, so that they find room on any screen."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import BoundaryNorm, ListedColormap
from matplotlib.figure import Figure
from numpy.typing import NDArray

from dpcurate.color_keys import draw_color_key, ipf_colors
from dpcurate.crystal_maps import IndexResult
from dpcurate.figures import draw_borders, draw_ipf, draw_score, dress
from dpcurate.map_pages import known_step_nm
from dpcurate.orientations import Array
from dpcurate.schema import PhaseRecord

matplotlib.use("Agg")

DPI = 150
PANEL = (3.7, 3.6)
WIDE = (5.2, 3.5)

COLORS = {"labels": "#0072B2", "network": "#D55E00", "exact": "#009E73", "random guess": "#7A7A7A"}
"""Okabe and Ito's, told apart by colour-blind readers."""

ERROR_EDGES = (0, 1, 3, 5, 10, 30, 180)
ERROR_COLORS = ("#08519c", "#3182bd", "#6baed6", "#c6dbef", "#fdae6b", "#d94801")

FINE_DEG, FINE_BIN_DEG, COARSE_BIN_DEG = 10.0, 0.5, 5.0
"""Histograms: fine bins up to here, then coarse ones."""


def save(figure: Figure, path: Path) -> Path:
    """Write a figure as PNG and return its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=DPI)
    return path


def orientation_map(
    path: Path,
    orientation: Array,
    phase_id: NDArray[np.int16],
    *,
    phases: tuple[PhaseRecord, ...],
    title: str,
    step_nm: float | None,
) -> Path:
    """A map in inverse-pole-figure colours along the beam."""
    figure, axes = _panel()
    draw_ipf(axes, ipf_colors(orientation, phase_id, phases), title=title, step_nm=step_nm)
    return save(figure, path)


def color_key(path: Path, phase: PhaseRecord) -> Path:
    """The colour key of one phase."""
    figure, axes = _panel()
    draw_color_key(axes, phase)
    return save(figure, path)


def score_map(path: Path, values: NDArray[np.float32], *, title: str, step_nm: float | None) -> Path:
    """A map of numbers from 0 to 1."""
    figure, axes = _panel()
    draw_score(axes, values, title=title, step_nm=step_nm, limits=(0.0, 1.0))
    return save(figure, path)


def error_map(path: Path, error_deg: Array, *, title: str, outline: NDArray[Any], step_nm: float | None) -> Path:
    """A map of disorientations in six classes, with black lines between pixels of different ``outline``."""
    figure, axes = _panel()
    norm = BoundaryNorm(ERROR_EDGES, len(ERROR_COLORS))
    image = axes.imshow(error_deg, cmap=ListedColormap(list(ERROR_COLORS)), norm=norm)
    bar = figure.colorbar(image, ax=axes, fraction=0.046, pad=0.03, spacing="uniform")
    bar.set_ticks(ERROR_EDGES, labels=[str(edge) for edge in ERROR_EDGES])
    bar.set_label("degrees", fontsize=8)
    bar.ax.tick_params(labelsize=8)
    draw_borders(axes, outline)
    dress(axes, title, shape=error_deg.shape, step_nm=step_nm)
    return save(figure, path)


def histograms(
    fine: Path, coarse: Path, errors_deg: Mapping[str, Array], *, guess_mean_deg: float | None
) -> list[Path]:
    """Two histograms of disorientations, each answer a line: up to 10 degrees in fine bins, and all in coarse bins."""
    known = {name: error[~np.isnan(error)] for name, error in errors_deg.items()}
    figure, axes = _panel(WIDE)
    _steps(axes, known, edges=np.arange(0, FINE_DEG + FINE_BIN_DEG / 2, FINE_BIN_DEG))
    axes.set(xlabel=f"disorientation (degrees, bins of {FINE_BIN_DEG:g})", title="up to 10 degrees")
    written = [save(figure, fine)]
    top = max([COARSE_BIN_DEG, *(float(error.max()) for error in known.values() if len(error))])
    figure, axes = _panel(WIDE)
    _steps(axes, known, edges=np.arange(0, top + COARSE_BIN_DEG, COARSE_BIN_DEG))
    axes.set(xlabel=f"disorientation (degrees, bins of {COARSE_BIN_DEG:g})", title="all", yscale="log")
    if guess_mean_deg is not None:
        axes.axvline(guess_mean_deg, color=COLORS["random guess"], linestyle="--", linewidth=1)
        axes.text(
            guess_mean_deg,
            0.98,
            " mean of a\n random guess",
            transform=axes.get_xaxis_transform(),
            fontsize=8,
            va="top",
        )
    return [*written, save(figure, coarse)]


def _steps(axes: Axes, errors_deg: Mapping[str, Array], *, edges: Array) -> None:
    for name, error in errors_deg.items():
        share = np.histogram(error, edges)[0] / max(len(error), 1)
        color = COLORS[name.split()[0]]
        axes.stairs(100 * share, edges, color=color, label=name, linewidth=1.6)
        axes.stairs(100 * share, edges, color=color, alpha=0.12, fill=True)
    axes.set_ylabel("pixels per bin (%)")
    axes.set_xlim(0, edges[-1])
    axes.legend(frameon=False, fontsize=9, loc="upper center" if edges[-1] > FINE_DEG else "upper right")
    plain(axes)


def training_curves(folder: Path, metrics: Mapping[str, Array]) -> list[Path]:
    """Loss, and the share of validation patterns within 5 degrees, against the epoch."""
    figure, axes = _panel(WIDE)
    axes.plot(metrics["epoch"], metrics["train_loss"], color="#333333", linestyle="--", label="training, augmented")
    axes.plot(metrics["epoch"], metrics["validation_loss"], color=COLORS["network"], label="validation")
    axes.set(xlabel="epoch", ylabel="cross-entropy (nats)", title="loss")
    _finish(axes)
    written = [save(figure, folder / "training_loss.png")]
    figure, axes = _panel(WIDE)
    for name, color, words in (("label", COLORS["labels"], "labels"), ("truth", COLORS["exact"], "exact truth")):
        share = metrics[f"{name}_within_5_deg"]
        if np.isfinite(share).any():
            axes.plot(metrics["epoch"], 100 * share, color=color, label=f"against {words}")
    axes.set(xlabel="epoch", ylabel="validation patterns (%)", title="within 5 degrees", ylim=(0, 100))
    _finish(axes)
    return [*written, save(figure, folder / "training_accuracy.png")]


def step_nm(result: IndexResult) -> float | None:
    """Step of a scan in nm, None where nobody stated it."""
    return known_step_nm(result.info)


def plain(axes: Axes, *, sides: Sequence[str] = ("top", "right")) -> None:
    """Take away the frame's sides that say nothing and draw a faint grid."""
    for side in sides:
        axes.spines[side].set_visible(False)
    axes.grid(color="#e6e9ed", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=9)
    axes.title.set_fontsize(10)


def _finish(axes: Axes) -> None:
    axes.legend(frameon=False, fontsize=9)
    plain(axes)


def _panel(size: tuple[float, float] = PANEL) -> tuple[Figure, Axes]:
    figure = Figure(figsize=size, layout="constrained")
    return figure, figure.subplots()
