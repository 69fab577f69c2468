"""Maps of the truth and of each method side by side, with where and how each is wrong."""

from pathlib import Path
from typing import Any

import numpy as np
from failure_classes import CLASSES, WITHIN_DEG
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from orix.plot import IPFColorKeyTSL
from orix.quaternion import Orientation
from orix.vector import Vector3d

from dpcurate.phases import orix_phase

SHOWN = {
    "pyxem, documented, its mirror": "pyxem, as documented",
    "pyxem, tuned, mirror mended": "pyxem, tuned and mended",
    "py4DSTEM": "py4DSTEM",
    "dpcurate, single patterns": "dpcurate, single patterns",
    "dpcurate": "dpcurate",
}
"""Methods that are drawn, from the left, and what they are called there."""

WRONG = {
    "near": "#56B4E9",
    "second grain": "#F0E442",
    "half turn": "#E69F00",
    "pseudo-symmetric": "#D55E00",
    "both": "#CC79A7",
    "other": "#000000",
    "wrong phase": "#0072B2",
    "not indexed": "#FFFFFF",
}
"""Okabe and Ito's colours, told apart by the colour-blind."""

NEAR = colormaps["Greens"]
"""Of the right ones: pale is exact."""

INCHES = 1.9
"""Across one map."""


def draw(answers: dict[str, tuple[np.ndarray, np.ndarray]], case: Any, path: Path) -> None:
    """Draw orientation and phase by method at the pixels that were compared; the truth first, wrong ones below."""
    shape = case.truth.weight[:: case.every, :: case.every].shape
    truth = case.at(case.truth.quat), case.at(case.truth.phase_id)
    shown = [(title, *answers[name]) for name, title in SHOWN.items() if name in answers]
    height = 2 * (INCHES * shape[0] / shape[1] + 0.28)
    figure = Figure(figsize=(INCHES * (1 + len(shown)) + 0.2, height), layout="constrained")
    upper, lower = figure.subplots(2, 1 + len(shown))
    _show(upper[0], ipf_colors(*truth, case.phases), shape, "truth")
    lower[0].axis("off")
    seen: set[str] = set()
    for column, (name, orientation, phase_id) in enumerate(shown, start=1):
        _show(upper[column], ipf_colors(orientation, phase_id, case.phases), shape, name)
        error = case.error_deg(orientation, phase_id)
        classes = case.classes(orientation, phase_id)
        seen |= {CLASSES[number] for number in np.unique(classes)}
        _show(lower[column], wrong_colors(error, classes), shape, f"{(error < WITHIN_DEG).mean():.0%} right")
    _legend(lower[0], seen)
    figure.savefig(path, dpi=160)


def ipf_colors(orientation: np.ndarray, phase_id: np.ndarray, phases: list) -> np.ndarray:
    """Colours (n, 3) of the crystal direction along the beam; pale grey where there is no phase."""
    colors = np.full((len(orientation), 3), 0.86)
    for number, phase in enumerate(phases):
        here = phase_id == number
        if here.any():
            symmetry = orix_phase(phase).point_group.laue
            key = IPFColorKeyTSL(symmetry, direction=Vector3d.zvector())
            colors[here] = key.orientation2color(Orientation(orientation[here], symmetry=symmetry))
    return colors


def wrong_colors(error: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Colours (n, 3): greens by the error where it is right, one colour for each class of failure."""
    colors = NEAR(0.15 + 0.7 * np.clip(error / WITHIN_DEG, 0, 1))[:, :3]
    for name, color in WRONG.items():
        colors[classes == CLASSES.index(name)] = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    return colors


def _show(axes: Axes, colors: np.ndarray, shape: tuple[int, int], title: str) -> None:
    """One map without ticks."""
    axes.imshow(colors.reshape(*shape, 3), interpolation="nearest")
    axes.set_title(title, fontsize=8.5)
    axes.set(xticks=[], yticks=[])
    for spine in axes.spines.values():
        spine.set_linewidth(0.6)


def _legend(axes: Axes, seen: set[str]) -> None:
    """What the colours of the lower row mean, in the place below the truth."""
    patches = [Patch(facecolor=color, edgecolor="0.4", label=name) for name, color in WRONG.items() if name in seen]
    axes.legend(handles=patches, loc="upper left", fontsize=7.5, frameon=False, borderpad=0, title="wrong by")
    axes.get_legend().get_title().set_fontsize(8)
    place = axes.inset_axes((0.05, 0.13, 0.85, 0.06))
    ramp = NEAR(0.15 + 0.7 * np.linspace(0, 1, 256))[None]
    place.imshow(ramp, aspect="auto", extent=(0, WITHIN_DEG, 0, 1))
    place.set(yticks=[], xticks=[0, 1, 2, 3])
    place.tick_params(labelsize=8, length=2)
    place.set_xlabel("error of the right ones (°)", fontsize=8, labelpad=1)
