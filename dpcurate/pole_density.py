"""How densely orientations lie: density of crystal directions along the beam, over the fundamental sector."""

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray
from orix.vector import Vector3d

from dpcurate.color_keys import draw_corners, orix_setting
from dpcurate.orientations import Array, multiply, to_matrix
from dpcurate.phases import orix_phase
from dpcurate.schema import PhaseRecord

HALF_WIDTH_DEG = 5.0
"""Angle at which the kernel has fallen to half; a texture's usual 5 degrees."""

SIDE = 121
"""Points along a side of the projection."""

MOST = 4_000
"""Orientations that the density is made of."""

AT_ONCE = 500
"""Orientations that are spread over the sector at a time."""


def density(points: Array, directions: Array, group: Array) -> NDArray[np.float64]:
    """Density of crystal directions ``(n, 3)`` at unit vectors ``points`` ``(m, 3)``, multiples of random, ``(m,)``.

    ``group`` holds the proper rotations ``(k, 4)``; a direction and its opposite are one. A von Mises-Fisher kernel,
    exp(kappa (cos w - 1)), of which the mean over the sphere is taken off as a factor, so that the mean density is 1.
    Laws: the same for symmetric equivalents of the directions and of the points.
    """
    kappa = np.log(2) / (1 - np.cos(np.radians(HALF_WIDTH_DEG)))
    mean = (1 - np.exp(-2 * kappa)) / (2 * kappa)
    turns = to_matrix(group)
    total = np.zeros(len(points))
    for start in range(0, len(directions), AT_ONCE):
        some = np.einsum("kij,nj->kni", turns, directions[start : start + AT_ONCE]).reshape(-1, 3)
        cosine = points @ np.concatenate([some, -some]).T
        total += np.exp(kappa * (cosine - 1)).sum(axis=1)
    return np.asarray(total / (2 * len(turns) * max(len(directions), 1) * mean))


def draw_density(axes: Axes, orientation: Array, phase: PhaseRecord, *, title: str) -> None:
    """Draw the density of the crystal directions along the beam of orientations ``(n, 4)``, with its colour bar.

    The fundamental sector of the Laue group of the phase, stereographic; a large number of orientations is thinned out.
    """
    every = max(1, -(-len(orientation) // MOST))
    turn, group = orix_setting(phase), orix_phase(phase).point_group.laue
    directions = to_matrix(multiply(turn, orientation[::every]))[..., 2]
    y, x = np.mgrid[-1 : 1 : SIDE * 1j, -1 : 1 : SIDE * 1j]
    radius2 = x**2 + y**2
    vectors = np.stack([2 * x, 2 * y, 1 - radius2], axis=-1) / (1 + radius2)[..., None]
    inside = (radius2 <= 1 + 1e-9) & (Vector3d(vectors) <= group.fundamental_sector)
    values = np.full(x.shape, np.nan)
    values[inside] = density(vectors[inside], directions, group.proper_subgroup.data)
    image = axes.pcolormesh(x, y, values, cmap="viridis", vmin=0, shading="nearest")
    rim = x[inside].min(), x[inside].max(), y[inside].min(), y[inside].max()
    margin = 0.3 * max(rim[1] - rim[0], rim[3] - rim[2])
    draw_corners(axes, phase, middle=((rim[0] + rim[1]) / 2, (rim[2] + rim[3]) / 2))
    axes.set(xlim=(rim[0] - margin, rim[1] + margin), ylim=(rim[2] - margin, rim[3] + margin), aspect="equal")
    axes.set_title(title, fontsize=9)
    axes.axis("off")
    bar = axes.figure.colorbar(image, ax=axes, fraction=0.046, pad=0.02)
    bar.ax.set_title("times random", fontsize=8, loc="left")
    bar.ax.tick_params(labelsize=8)
