"""The picture of a preview: maps of every k-th pixel, and patterns with the spots of their template drawn over them."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from scipy.ndimage import gaussian_filter

from dpcurate.color_keys import draw_color_key, ipf_colors
from dpcurate.explained import template_spots
from dpcurate.figures import draw_ipf, draw_score
from dpcurate.orientations import turn_pattern

if TYPE_CHECKING:
    from dpcurate.preview import Preview

DPI = 150

EXAMPLES = 4
"""Patterns that are shown."""

SMOOTH_PX, BLACK = 0.8, 0.998
"""Standard deviation that patterns are smoothed by for the eye, pixels, and quantile of the counts outside the direct
beam that is black."""

SPOT_COLOR = "#d1495b"


def write_preview(preview: "Preview", path: Path) -> Path:
    """Write the picture as PNG and return its path."""
    n_keys = min(len(preview.phases), 2)
    figure = Figure(figsize=(12.6, 7.4), layout="constrained")
    top, bottom = np.ravel(np.array(figure.subfigures(2, 1, height_ratios=[0.95, 1.0]), object))
    maps = top.subplots(1, 3 + n_keys, width_ratios=[1.0, 1.0, 1.0, *[0.62] * n_keys])
    phase_id = np.where(preview.good, preview.matches.phase_id[..., 0], -1).astype(np.int16)
    in_scan = turn_pattern(preview.matches.orientation[:, :, 0], preview.scan.calibration.rotation_deg)
    colors = ipf_colors(in_scan, phase_id, preview.phases)
    step_nm = preview.scan.calibration.step_nm if preview.step_is_known else None
    draw_ipf(maps[0], colors, title="Orientation, IPF along the beam", step_nm=step_nm)
    for axes, values, title in (
        (maps[1], preview.correlation, "Correlation"),
        (maps[2], preview.reliability, "Reliability"),
    ):
        draw_score(axes, np.where(preview.good, values, np.nan), title=title, step_nm=step_nm)
    for axes, phase in zip(maps[3:], preview.phases, strict=False):
        draw_color_key(axes, phase)
    for number, axes in enumerate(bottom.subplots(1, EXAMPLES, squeeze=False)[0]):
        if number < len(preview.shown):
            _example(axes, preview, number)
        else:
            axes.axis("off")
    bottom.supxlabel(
        "From well to poorly matched. Circles: spots of the matched template; they lie on spots if all is right.",
        fontsize=9,
    )
    figure.savefig(path, dpi=DPI)
    return path


def _example(axes: Axes, preview: "Preview", number: int) -> None:
    """One pattern on a logarithmic scale with the spots of its best template."""
    row, column = preview.shown[number]
    c = preview.scan.calibration
    counts = gaussian_filter(np.clip(np.asarray(preview.patterns[number], float), 0, None), SMOOTH_PX)
    line, place = np.indices(counts.shape)
    outside = np.hypot(place - c.center_xy[0], line - c.center_xy[1]) > preview.k_min / c.scale_inv_angstrom
    high = max(float(np.quantile(counts[outside], BLACK)) if outside.any() else 0.0, 1e-6)
    axes.imshow(counts, cmap="gray_r", norm=PowerNorm(0.5, 0, high), interpolation="nearest")
    phase = preview.phases[int(preview.matches.phase_id[row, column, 0])]
    orientation = preview.matches.orientation[row, column, 0]
    offset, share = template_spots(preview.scan, phase, orientation, k_min_inv_angstrom=preview.k_min)
    spot = offset + np.array(c.center_xy)
    axes.scatter(
        spot[:, 0],
        spot[:, 1],
        s=18 + 90 * np.sqrt(share),
        facecolors="none",
        edgecolors=SPOT_COLOR,
        linewidths=0.9,
    )
    height, width = counts.shape
    axes.set(xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5), xticks=[], yticks=[])
    where = "row {}, column {}".format(*preview.in_scan(row, column))
    fits = f"correlation {preview.correlation[row, column]:.2f}, reliability {preview.reliability[row, column]:.2f}"
    axes.set_title(f"{phase.name}; {where}\n{fits}", fontsize=8)
