"""From the best templates to orientations between the grid's points, in torch.

A prepared pattern is correlated once with the shape of a spot, at every place: its spot picture. The score of a
template is then the sum of that picture over the template's spots, so that only a few numbers are read for each
orientation tried. Around each zone axis of the coarse grid lie the nodes of a local grid; a candidate climbs on it,
and a parabola through the scores around the summit gives the orientation below the grid.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from dpcurate.correlate import Frame
from dpcurate.orientations import Array, mirror_pattern, multiply, turn_pattern

PICTURE_RADII = 64
"""Radii of a spot picture; with `PICTURE_ANGLES` the nearest place is off by a quarter of a spot's width at most."""

PICTURE_ANGLES = 512
"""Angles of a spot picture; a power of 2, so that angles wrap by their bits."""

NORM_CHUNK = 4096
"""Nodes whose spots are compared with one another at a time."""

SUMMIT_WIDTH = 0.005
"""Difference in score at which a neighbour counts e times less; docs/results/indexing.md."""

OFFSETS = torch.tensor([[u, v, a] for u in (-1, 0, 1) for v in (-1, 0, 1) for a in (-1, 0, 1)])
"""Neighbours of a point of the local grid, itself in the middle: two tilts and the in-plane angle."""

TILTS = OFFSETS[OFFSETS[:, 2] == 0]
"""Those with the same in-plane angle."""


@dataclass(frozen=True)
class LocalGrid:
    """Spots of the nodes around each zone axis: square grids of tilts, with no in-plane turn."""

    place: Tensor
    """Nearest element of a picture at which the spot lies, int32, (n_nodes, k)."""
    exact: Tensor
    """Radius and angle of the spot in rows and columns of the picture, float32, (n_nodes, k, 2)."""
    amplitude: Tensor
    """Weight of the spot; the template has zero mean and unit norm. (n_nodes, k), float32; 0 is padding."""
    step_deg: float
    """Between neighbouring nodes."""
    reach: int
    """Nodes lie from -reach to reach steps of tilt about x, then y; the second runs fastest."""

    @property
    def per_axis(self) -> int:
        """Nodes around one zone axis."""
        return (2 * self.reach + 1) ** 2


@dataclass(frozen=True)
class Climbers:
    """Candidates of patterns on the local grids; all arrays have the shape (b, c)."""

    axis: Tensor
    """Zone axis, int64."""
    mirror: Tensor
    """1, or -1 for the mirror image, int64."""
    tilt: Tensor
    """Steps of tilt about x and y, int64, (b, c, 2)."""
    angle: Tensor
    """In-plane angle in steps of the picture, int64."""
    score: Tensor
    """float32."""


def local_rotations(rotation: Array, *, step_deg: float, reach: int) -> Array:
    """Orientations of the nodes around orientations ``(n, 4)``, shape ``(n * (2 reach + 1)^2, 4)``.

    A node's crystal is tilted by a rotation vector in the lab's plane: g times the inverse of that rotation.
    """
    step = np.arange(-reach, reach + 1) * step_deg
    tilt = np.stack(np.meshgrid(step, step, indexing="ij"), axis=-1).reshape(-1, 2)
    return multiply(rotation[:, None], tilts(tilt)).reshape(-1, 4)


def tilts(tilt_deg: Array) -> Array:
    """Quaternions ``(..., 4)`` to multiply from the right: inverse turns by rotation vectors (x, y, 0) in degrees."""
    angle = np.linalg.norm(tilt_deg, axis=-1)
    half = np.radians(angle) / 2
    axis = tilt_deg / np.where(angle > 0, angle, 1)[..., None]
    vector = -np.sin(half)[..., None] * axis
    return np.concatenate([np.cos(half)[..., None], vector, np.zeros_like(half)[..., None]], axis=-1)


def spot_kernels(frame: Frame) -> Tensor:
    """Harmonics of a weighted spot of height 1 on the x axis at each radius of a picture, ``(m, n_out, n_radius)``."""
    k, sigma = frame.k_inv_angstrom, frame.spot_sigma_inv_angstrom
    radius = torch.linspace(float(k[0]), float(k[-1]), PICTURE_RADII, dtype=k.dtype, device=k.device)
    width = sigma / radius.clamp(min=sigma)
    radial = torch.exp(-((k - radius[:, None]) ** 2) / (2 * sigma**2)) * frame.weight * width[:, None]
    m = torch.arange(frame.n_harmonics, device=k.device)
    return (torch.exp(-((m[:, None] * width) ** 2) / 2)[..., None] * radial).float()


def spot_pictures(harmonics: Tensor, kernels: Tensor) -> Tensor:
    """Correlation of patterns with a spot at each place, ``(b, PICTURE_RADII, PICTURE_ANGLES)``.

    ``harmonics`` (m, n_radius, 2, b) are from `correlate.pattern_harmonics`, ``kernels`` from `spot_kernels`.
    """
    m, r, _, b = harmonics.shape
    product = torch.matmul(kernels, harmonics.reshape(m, r, 2 * b)).view(m, PICTURE_RADII, 2, b)
    spectrum = torch.complex(product[:, :, 0], product[:, :, 1]).permute(2, 1, 0)
    return torch.fft.irfft(spectrum, n=PICTURE_ANGLES, dim=-1, norm="forward")


def local_grid(
    q: Tensor, amplitude: Tensor, frame: Frame, *, step_deg: float, reach: int, most_spots: int
) -> LocalGrid:
    """Nodes from the spots ``q`` (n, k, 2), ``amplitude`` (n, k) of `local_rotations`; the strongest spots are kept."""
    k, sigma = frame.k_inv_angstrom, frame.spot_sigma_inv_angstrom
    radius = (q.norm(dim=-1) - k[0]) * ((PICTURE_RADII - 1) / (k[-1] - k[0]))
    amplitude = torch.where((radius > -0.5) & (radius < PICTURE_RADII - 0.5), amplitude, 0)
    amplitude, order = amplitude.topk(min(most_spots, amplitude.shape[1]), dim=1)
    q = q.gather(1, order[..., None].expand(*order.shape, 2))
    radius = radius.gather(1, order).clamp(0, PICTURE_RADII - 1)
    angle = torch.atan2(q[..., 1], q[..., 0]) * (PICTURE_ANGLES / (2 * math.pi)) % PICTURE_ANGLES
    place = radius.round().long()
    kernels = spot_kernels(frame)
    square = 2 * kernels.square().sum(dim=(0, 2)) - kernels[0].square().sum(dim=1)
    total = kernels[0].sum(dim=1) / math.sqrt(len(k))
    height = (amplitude * square[place].sqrt()).float()
    norm = _overlaps(q.float(), height, sigma=sigma) - (amplitude * total[place]).sum(1).square()
    norm = norm.clamp(min=1e-12).sqrt()
    return LocalGrid(
        place=(place * PICTURE_ANGLES + angle.round().long() % PICTURE_ANGLES).int(),
        exact=torch.stack([radius, angle], dim=-1).float(),
        amplitude=(amplitude / norm[:, None]).float(),
        step_deg=step_deg,
        reach=reach,
    )


def _overlaps(q: Tensor, height: Tensor, *, sigma: float) -> Tensor:
    """Squared norms (n,) of sums of Gaussian spots: ``q`` (n, k, 2), ``height`` (n, k), 0 where padded, at the end."""
    count = (height > 0).sum(dim=1)
    square = torch.empty_like(height[:, 0])
    for nodes in count.argsort().split(NORM_CHUNK):  # those with few spots together, the square of which counts
        longest = int(count[nodes].max())
        h, at = height[nodes, :longest], q[nodes, :longest]
        apart = (at[:, :, None] - at[:, None]).square().sum(dim=-1)
        square[nodes] = (h[:, :, None] * h[:, None] * torch.exp(apart / (-4 * sigma**2))).sum(dim=(1, 2))
    return square


def scores_at(
    pictures: Tensor, grid: LocalGrid, climbers: Climbers, *, tilt: Tensor, angle: Tensor, exact: bool = False
) -> Tensor:
    """Scores of candidates at other ``tilt`` (b, c, n, 2) and ``angle`` (b, c, n) than theirs, shape ``(b, c, n)``.

    Spots are read at the nearest place of the picture or, if ``exact``, between its four nearest. Tilts beyond the grid
    score -1.
    """
    b, c, n = angle.shape
    inside = (tilt.abs() <= grid.reach).all(dim=-1)
    within = tilt.clamp(-grid.reach, grid.reach) + grid.reach
    node = climbers.axis[..., None] * grid.per_axis + within[..., 0] * (2 * grid.reach + 1) + within[..., 1]
    node, turn = node.reshape(b, c * n), angle.reshape(b, c * n, 1)
    mirror = climbers.mirror.repeat_interleave(n, dim=1)[..., None]
    read = _between if exact else _nearest
    value = read(pictures.flatten(1), grid, node, mirror=mirror, turn=turn)
    score = torch.linalg.vecdot(value, _rows(grid.amplitude, node)).view(b, c, n)
    return torch.where(inside, score, -1.0)


def _rows(table: Tensor, index: Tensor) -> Tensor:
    """``table[index]``; on a CPU ten times as fast."""
    return table.index_select(0, index.flatten()).view(*index.shape, *table.shape[1:])


def _nearest(pictures: Tensor, grid: LocalGrid, node: Tensor, *, mirror: Tensor, turn: Tensor) -> Tensor:
    """Values (b, n, k) of pictures (b, places) at the spots of nodes (b, n), turned and mirrored (b, n, 1)."""
    place = _rows(grid.place, node)
    around = (place * mirror.int()).add_(turn.int()).bitwise_and_(PICTURE_ANGLES - 1)
    place = place.bitwise_and_(~(PICTURE_ANGLES - 1)).add_(around)
    return pictures.gather(1, place.flatten(1).long()).view(place.shape)


def _between(pictures: Tensor, grid: LocalGrid, node: Tensor, *, mirror: Tensor, turn: Tensor) -> Tensor:
    """As `_nearest`, interpolated linearly in radius and angle."""
    radius, angle = _rows(grid.exact, node).unbind(dim=-1)
    low = radius.floor().clamp_(max=PICTURE_RADII - 2)
    angle = angle * mirror + turn
    left = angle.floor()
    up, right = radius - low, angle - left
    first = left.long() & (PICTURE_ANGLES - 1)
    second = (first + 1) & (PICTURE_ANGLES - 1)
    row = low.long() * PICTURE_ANGLES
    corners = [pictures.gather(1, (row + column).flatten(1)).view(row.shape) for column in (first, second)]
    row += PICTURE_ANGLES
    corners += [pictures.gather(1, (row + column).flatten(1)).view(row.shape) for column in (first, second)]
    return torch.lerp(torch.lerp(corners[0], corners[1], right), torch.lerp(corners[2], corners[3], right), up)


def start(
    pictures: Tensor, grid: LocalGrid, score: Tensor, index: Tensor, angle: Tensor, *, n_axes: int, n_angles: int
) -> Climbers:
    """Candidates from what `correlate.search` found, each (b, c), turned to their best in-plane angle nearby."""
    spread = math.ceil(PICTURE_ANGLES / n_angles / 2)
    level = torch.zeros(*index.shape, 2, dtype=torch.int64, device=index.device)
    middle = (angle * PICTURE_ANGLES).div(n_angles, rounding_mode="floor").long()
    found = Climbers(index % n_axes, torch.where(index >= n_axes, -1, 1), level, middle, score)
    turns = torch.arange(-spread, spread + 1, device=pictures.device)
    tilt = level[:, :, None].expand(*index.shape, len(turns), 2)
    score, best = scores_at(pictures, grid, found, tilt=tilt, angle=middle[..., None] + turns).max(dim=-1)
    return Climbers(found.axis, found.mirror, level, middle + best - spread, score)


def orientations(climbers: Climbers, rotation: Array, *, step_deg: float, offset: Tensor | None = None) -> Array:
    """Orientations ``(b, c, 4)`` of candidates on the zone axes ``rotation`` (n, 4).

    ``offset`` (b, c, 3): tilts and angle beyond theirs, in steps; from `summit`.
    """
    tilt, angle = climbers.tilt.double(), climbers.angle.double()
    if offset is not None:
        tilt, angle = tilt + offset[..., :2], angle + offset[..., 2]
    node = multiply(rotation[climbers.axis.cpu().numpy()], tilts(tilt.cpu().numpy() * step_deg))
    mirrored = (climbers.mirror < 0).cpu().numpy()[..., None]
    return turn_pattern(np.where(mirrored, mirror_pattern(node), node), angle.cpu().numpy() * (360 / PICTURE_ANGLES))


def chosen(climbers: Climbers, index: Tensor) -> Climbers:
    """Candidates ``index`` (b, n) of each pattern."""
    tilt = climbers.tilt.gather(1, index[..., None].expand(*index.shape, 2))
    flat = (x.gather(1, index) for x in (climbers.axis, climbers.mirror, climbers.angle, climbers.score))
    axis, mirror, angle, score = flat
    return Climbers(axis, mirror, tilt, angle, score)


def around(
    pictures: Tensor,
    grid: LocalGrid,
    climbers: Climbers,
    *,
    offsets: Tensor = OFFSETS,
    step: int = 1,
    exact: bool = False,
) -> Tensor:
    """Scores of the neighbours of each candidate at ``offsets`` (n, 3) times ``step``, ``(b, c, n)``."""
    offsets = offsets.to(pictures.device) * step
    tilt = climbers.tilt[:, :, None] + offsets[:, :2]
    angle = climbers.angle[..., None] + offsets[:, 2]
    return scores_at(pictures, grid, climbers, tilt=tilt, angle=angle, exact=exact)


def climb(pictures: Tensor, grid: LocalGrid, climbers: Climbers, *, offsets: Tensor, step: int) -> Climbers:
    """Candidates moved to the best of their neighbours (see `around`), which may be where they are."""
    score, best = around(pictures, grid, climbers, offsets=offsets, step=step).max(dim=-1)
    moved = offsets.to(pictures.device)[best] * step
    tilt, angle = climbers.tilt + moved[..., :2], climbers.angle + moved[..., 2]
    return Climbers(climbers.axis, climbers.mirror, tilt, angle, score)


def summit(scores: Tensor) -> tuple[Tensor, Tensor]:
    """Where the top lies among 27 neighbours ``(..., 27)``: offset in steps ``(..., 3)``, and the highest score.

    The mean of the neighbours, weighted by exp(score / SUMMIT_WIDTH). The scores of real patterns are rough, for
    their intensities are not those of the templates: a paraboloid through the same scores lies farther from the truth.
    """
    weight = torch.softmax(scores / SUMMIT_WIDTH, dim=-1)
    return weight @ OFFSETS.to(scores.device, torch.float32), scores.amax(dim=-1)
