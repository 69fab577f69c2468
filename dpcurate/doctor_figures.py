"""The doctor's picture: patterns with the rings that a phase predicts, radii, counts and dose of a scan."""

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from numpy.typing import NDArray

from dpcurate.checkup import Checkup
from dpcurate.spot_geometry import Shells

DPI = 150

COLORS = ("#d1495b", "#1f78b4", "#e6a100", "#2a9d8f")
"""Of the phases, in their order."""

FAINTEST = 0.15
"""Opacity of the ring with fewest spots to be expected; the one with most has 0.9."""

BLUE = "#27587f"


def write_doctor_figure(checkup: Checkup, path: Path) -> Path:
    """Write the picture as PNG and return its path."""
    figure = Figure(figsize=(12.6, 7.6), layout="constrained")
    panels = figure.subplots(2, 3).ravel()
    _pattern(panels[0], checkup.mean, checkup, title="Mean pattern")
    panels[0].plot(*checkup.calibration.center_xy, "+", color=COLORS[0], markersize=12, label="stated centre")
    panels[0].plot(*checkup.beam_xy, "x", color=COLORS[1], markersize=9, label="direct beam")
    panels[0].legend(loc="upper right", fontsize=7, framealpha=0.85)
    _pattern(panels[1], checkup.maximum, checkup, title="Largest value of each pixel, with predicted rings")
    _rings(panels[1], checkup)
    _radii(panels[2], checkup)
    _around(panels[3], checkup)
    _counts(panels[4], checkup)
    _dose(figure, panels[5], checkup)
    for letter, axes in zip("abcdef", panels, strict=True):
        axes.text(-0.02, 1.03, letter, transform=axes.transAxes, fontweight="bold", fontsize=11, ha="right")
    figure.savefig(path, dpi=DPI)
    return path


def _pattern(axes: Axes, image: NDArray[Any], checkup: Checkup, *, title: str) -> None:
    """A pattern on a logarithmic scale, its faulty pixels in blue."""
    positive = image[image > 0]
    low = max(float(np.quantile(positive, 0.02)), float(positive.max()) * 1e-5) if positive.size else 1e-3
    high = max(float(positive.max()) if positive.size else 1.0, 2 * low)
    axes.imshow(np.clip(image, low, None), cmap="gray_r", norm=LogNorm(low, high), interpolation="nearest")
    faulty = checkup.dead | checkup.hot
    if faulty.any():
        overlay = np.zeros((*faulty.shape, 4))
        overlay[faulty] = (0.15, 0.45, 0.9, 0.9)
        axes.imshow(overlay, interpolation="nearest")
    axes.set(xticks=[], yticks=[])
    axes.set_title(title, fontsize=9)


def _rings(axes: Axes, checkup: Checkup) -> None:
    """Rings of the phases around the stated centre at the stated scale."""
    azimuth = np.linspace(0, 2 * np.pi, 361)
    x, y = checkup.calibration.center_xy
    for phase, shells, color in zip(checkup.phases, checkup.shells, COLORS, strict=False):
        axes.plot([], [], color=color, linewidth=0.8, label=f"{phase.name}, stated scale")
        radii = shells.radius / checkup.calibration.scale_inv_angstrom
        for radius, alpha in zip(radii, _visible(shells), strict=True):
            place = x + radius * np.cos(azimuth), y + radius * np.sin(azimuth)
            axes.plot(*place, color=color, linewidth=0.7, alpha=alpha)
    height, width = checkup.shape[2:]
    axes.set(xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5))
    if checkup.phases:
        axes.legend(loc="upper right", fontsize=7, framealpha=0.85)


def _visible(shells: Shells) -> NDArray[Any]:
    """Opacity of each ring, by how many spots are to be expected on it."""
    return np.asarray(FAINTEST + (0.9 - FAINTEST) * np.sqrt(shells.weight / shells.weight.max()))


def _radii(axes: Axes, checkup: Checkup) -> None:
    """Radial profile of the mean pattern, radii of the spots, and those of the phases below."""
    scale = checkup.calibration.scale_inv_angstrom
    edges = np.arange(0, checkup.reach_px + 0.5, 0.5)
    axes.hist(checkup.spots.radius_px * scale, (edges * scale).tolist(), color="0.75", label="spots found")
    top = axes.get_ylim()[1]
    for phase, shells, color in zip(checkup.phases, checkup.shells, COLORS, strict=False):
        inside = shells.radius < checkup.reach_px * scale
        height = shells.weight[inside] / max(shells.weight[inside].max(initial=0), 1e-9)
        axes.vlines(shells.radius[inside], -0.3 * top * height, 0, color=color, linewidth=1.0, label=phase.name)
    axes.axhline(0, color="black", linewidth=0.6)
    axes.set(xlabel="distance from the direct beam (1/Å, stated scale)", ylabel="spots")
    axes.set(xlim=(0, checkup.reach_px * scale), ylim=(-0.35 * top if checkup.phases else 0, 1.12 * top))
    profile = checkup.mean_profile()
    rings = np.arange(len(profile))
    inside = (rings <= checkup.reach_px) & (profile > 0)
    twin = axes.twinx()
    twin.semilogy(rings[inside] * scale, profile[inside], color=BLUE, linewidth=1.2)
    twin.set_ylabel("mean electrons a pixel", color=BLUE)
    twin.tick_params(axis="y", colors=BLUE)
    axes.set_title("Mean profile; spots found, reflections below", fontsize=9)
    axes.legend(loc="upper right", fontsize=7, framealpha=0.85)
    axes.set_yticks([tick for tick in axes.get_yticks() if 0 <= tick <= top])


def _around(axes: Axes, checkup: Checkup) -> None:
    """Radius of each spot against its azimuth: rings are level lines, an ellipse makes waves of them."""
    scale, spots = checkup.calibration.scale_inv_angstrom, checkup.spots
    axes.plot(np.degrees(spots.azimuth) % 360, spots.radius_px * scale, ".", color="black", markersize=1.5, alpha=0.6)
    for shells, color in zip(checkup.shells, COLORS, strict=False):
        axes.hlines(shells.radius, 0, 360, color=color, linewidth=0.7, alpha=_visible(shells))
    axes.set(xlim=(0, 360), ylim=(0, checkup.reach_px * scale), xticks=range(0, 361, 90))
    axes.set(xlabel="azimuth (degrees, from x towards y)", ylabel="distance (1/Å, stated scale)")
    axes.set_title("Spots around the direct beam: level if round", fontsize=9)


def _counts(axes: Axes, checkup: Checkup) -> None:
    """How often each value occurs among the largest ones of the pixels, and the ceiling."""
    values = checkup.maximum[checkup.maximum > 0]
    low, high = (float(values.min()), float(values.max())) if values.size else (1.0, 2.0)
    edges = np.geomspace(low, max(high, 1.01 * low) * 1.05, 50)
    if (values == np.round(values)).all():
        edges = np.unique(np.round(edges)) - 0.5
    axes.hist(values, edges.tolist(), color="0.6")
    axes.axvline(checkup.ceiling.value, color=COLORS[0], linewidth=1.2, label=f"highest: {checkup.ceiling.value:g}")
    axes.set(xscale="log", yscale="log", xlabel="largest counts of a pixel", ylabel="detector pixels")
    axes.set_title("Counts" + (": cut off" if checkup.ceiling.cut_off else ""), fontsize=9)
    axes.legend(fontsize=7, loc="upper right")


def _dose(figure: Figure, axes: Axes, checkup: Checkup) -> None:
    """Map of the electrons of the sampled patterns; white where a pattern cannot be used."""
    rows, columns = (np.unique(checkup.pixel[:, axis]) for axis in (0, 1))
    grid = np.full((len(rows), len(columns)), np.nan)
    place = np.searchsorted(rows, checkup.pixel[:, 0]), np.searchsorted(columns, checkup.pixel[:, 1])
    grid[place] = checkup.features.total
    image = axes.imshow(grid, cmap="viridis", interpolation="nearest")
    figure.colorbar(image, ax=axes, fraction=0.046, pad=0.03, label="electrons a pattern")
    axes.set(xticks=[], yticks=[])
    axes.set_title(f"Dose over the scan, {len(checkup.pixel)} patterns looked at", fontsize=9)
