"""Inverse-pole-figure colours (TSL) of orientations, and the key that explains them."""

from collections.abc import Iterator
from itertools import permutations
from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray
from orix.plot import DirectionColorKeyTSL, IPFColorKeyTSL
from orix.quaternion import Orientation
from orix.vector import Miller, Vector3d
from scipy.spatial.transform import Rotation

from dpcurate.orientations import Array, about_z, conjugate, multiply, to_matrix
from dpcurate.phases import orix_phase
from dpcurate.schema import PhaseRecord

NOT_INDEXED = (0.25, 0.25, 0.25)
"""Colour of pixels without an orientation. The colours of the key are all brighter."""

LabDirection = Literal["x", "y", "z"]
"""x runs to the right of the map, y down, z along the beam (against the electrons)."""

SETTINGS = np.array([[1.0, 0, 0, 0], [0.5, 0.5, 0.5, 0.5], [0.5, -0.5, -0.5, -0.5], *about_z([30.0, -30.0])])
"""Turns between settings of a group: none, axes exchanged in a circle, a and a* exchanged."""

PIXELS = 65_536
"""Pixels that are coloured at a time, to bound memory: orix holds every symmetric equivalent of each."""


def ipf_colors(
    orientation: Array, phase_id: NDArray[np.int16], phases: tuple[PhaseRecord, ...], direction: LabDirection = "z"
) -> Array:
    """Colours (..., 3) of the crystal direction along a direction of the lab, for orientations (..., 4)."""
    colors = np.full((*phase_id.shape, 3), NOT_INDEXED)
    axis = Vector3d(np.eye(3)["xyz".index(direction)])
    for index, record in enumerate(phases):
        group, turn = orix_phase(record).point_group, orix_setting(record)
        key = IPFColorKeyTSL(group, direction=axis)
        here = np.flatnonzero(phase_id.ravel() == index)
        for start in range(0, len(here), PIXELS):
            some = here[start : start + PIXELS]
            g = Orientation(multiply(turn, orientation.reshape(-1, 4)[some]), symmetry=group)
            colors.reshape(-1, 3)[some] = key.orientation2color(g)
    return colors


def draw_color_key(axes: Axes, phase: PhaseRecord) -> None:
    """Draw the colour key of a phase: its fundamental sector, the corners with their direction indices."""
    image, (left, right, bottom, top) = _color_key(phase)
    axes.imshow(image, interpolation="bilinear", extent=(left, right, bottom, top))
    margin = 0.35 * max(right - left, top - bottom)
    draw_corners(axes, phase, middle=((left + right) / 2, (bottom + top) / 2))
    axes.set_xlim(left - margin, right + margin)
    axes.set_ylim(bottom - margin, top + margin)
    axes.set_title(f"{phase.name}, {group_label(phase.point_group)}", fontsize=9)
    axes.set_anchor("N")
    axes.axis("off")


def draw_corners(axes: Axes, phase: PhaseRecord, *, middle: tuple[float, float]) -> None:
    """Write the direction indices of the corners of a phase's fundamental sector, away from its middle."""
    for place, label in _corners(phase):
        outward = (place - middle) / max(float(np.linalg.norm(place - middle)), 1e-9)
        side = "center" if abs(outward[0]) < 0.5 else "left" if outward[0] > 0 else "right"
        level = "center" if abs(outward[1]) < 0.5 else "bottom" if outward[1] > 0 else "top"
        axes.annotate(
            label, tuple(place), tuple(4 * outward), textcoords="offset points", ha=side, va=level, fontsize=8
        )


def orix_setting(phase: PhaseRecord) -> Array:
    """Quaternion r with which ``r * g`` is orientation g in the setting of orix' group of the phase, shape (4,).

    The axes of some groups lie elsewhere in orix 0.15: the two-fold one of 2/m along z (docs/conventions.md, trap 8).
    """
    ours, theirs = phase.proper_rotations(), orix_phase(phase).point_group.laue.proper_subgroup.data
    for turn in _settings(ours, theirs):
        turned = multiply(multiply(turn, ours), conjugate(turn))
        if (np.abs(turned @ theirs.T).max(axis=1) > 1 - 1e-6).all():
            return turn
    raise ValueError(f"phase {phase.name}: its symmetry is not {phase.point_group}")


def _settings(ours: Array, theirs: Array) -> Iterator[Array]:
    """Turns that may take one group to another: the usual ones, then those that take two axes to two axes."""
    yield from SETTINGS
    start, goal = _axes(ours), _axes(theirs)
    number = min(2, len(start))
    for pair in permutations(np.concatenate([goal, -goal]), number):
        if np.allclose(np.dot(pair[0], pair[-1]), np.dot(start[0], start[number - 1])):
            turn, _ = Rotation.align_vectors(np.array(pair), start[:number])
            yield np.asarray(turn.as_quat(scalar_first=True))


def _axes(group: Array) -> Array:
    """Axes of a group's rotations, each once, shape (n, 3)."""
    axes = group[np.abs(group[:, 0]) < 1 - 1e-6, 1:]
    axes = axes / np.linalg.norm(axes, axis=1, keepdims=True)
    earlier = np.tril(np.abs(axes @ axes.T) > 1 - 1e-6, k=-1)
    return np.asarray(axes[~earlier.any(axis=1)])


def group_label(name: str) -> str:
    """The name of a point group with bars over its negative axes, as matplotlib writes it."""
    parts = [name[k - 1 : k + 1] if name[k - 1 : k] == "-" else name[k] for k in range(len(name)) if name[k] != "-"]
    return "$" + "".join(rf"\bar{{{part[1]}}}" if part[0] == "-" else part for part in parts) + "$"


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
    miller = Miller(xyz=directions @ to_matrix(orix_setting(phase)), phase=crystal)
    miller.coordinate_format = "UVTW" if crystal.point_group.system in ("trigonal", "hexagonal") else "uvw"
    indices = np.rint(miller.round().coordinates).astype(int)
    labels = ["$[" + "".join(rf"\bar{{{-i}}}" if i < 0 else str(i) for i in row) + "]$" for row in indices]
    return [(v[:2] / (1 + v[2]), label) for v, label in zip(directions, labels, strict=True)]
