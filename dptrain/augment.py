"""Patterns in the one canonical frame that every network sees, with or without random changes.

The Cartesian frame is ``size`` x ``size`` pixels, covers -k_max to k_max in 1/Angstrom along both axes and has the
direct beam in its middle: output pixel (i, j) lies at q_x = (j - (size - 1) / 2) * 2 k_max / size, q_y the same with i.
The polar frame has as many pixels, ``size / 2`` radii x ``2 size`` azimuths: pixel (i, j) lies at the radius
(i + 1/2) * 2 k_max / size and at the azimuth j * 180 / size degrees from x towards y.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor
from torch.nn import functional

from dpcurate import counters, orientations
from dptrain.config import AugmentConfig, InputConfig

N_DRAWS = 8
"""Uniform numbers drawn for each sample and epoch."""


@dataclass(frozen=True)
class Change:
    """Changes of ``n`` patterns: first mirrored y -> -y, then turned from x towards y, then scaled and shifted.

    ``angle_deg`` (n,); ``mirror`` (n,) bool; ``scale`` (n,) factor by which the pattern grows; ``shift`` (n, 2) in
    input pixels (column, row), an error of the direct beam's position.
    """

    angle_deg: NDArray[np.float64]
    mirror: NDArray[np.bool_]
    scale: NDArray[np.float64]
    shift: NDArray[np.float64]


def no_change(n: int) -> Change:
    """The change of ``n`` patterns that leaves them as they are."""
    return Change(np.zeros(n), np.zeros(n, bool), np.ones(n), np.zeros((n, 2)))


def uniform_draws(index: ArrayLike, *, seed: int, epoch: int) -> NDArray[np.float64]:
    """``N_DRAWS`` numbers in [0, 1) for each sample index ``(n,)``, shape ``(n, N_DRAWS)``.

    What a sample gets depends on seed, epoch and its index alone, not on batches, processes or what was drawn before.
    """
    return counters.uniform(index, seed=seed, stream=epoch, n=N_DRAWS)


def draw_change(index: ArrayLike, config: AugmentConfig, *, seed: int, epoch: int) -> Change:
    """The random changes of the samples ``index`` ``(n,)`` in one epoch, as widely as the config says."""
    u = uniform_draws(index, seed=seed, epoch=epoch)
    normal = counters.normal(u[:, 2:5], u[:, 5:8])
    return Change(
        angle_deg=360 * u[:, 0] * config.turn,
        mirror=(u[:, 1] < 0.5) & config.mirror,
        scale=np.exp(config.scale_sd * normal[:, 0]),
        shift=config.shift_sd_pixels * normal[:, 1:],
    )


def change_label(g: ArrayLike, change: Change) -> NDArray[np.float64]:
    """Orientations of the changed patterns, from those of the patterns as they were, both ``(n, 4)``; exact."""
    g = np.asarray(g, float)
    mirrored = np.where(change.mirror[:, None], orientations.mirror_pattern(g), g)
    return orientations.turn_pattern(mirrored, change.angle_deg)


def canonical(
    patterns: Tensor, *, center_xy: ArrayLike, scale: ArrayLike, config: InputConfig, change: Change
) -> Tensor:
    """Network input: patterns resampled in one step, masked, compressed and standardised.

    Returns ``(B, 1, size, size)``, or in the polar frame ``(B, 1, size / 2, 2 size)``.

    Parameters
    ----------
    patterns
        Float32 counts ``(B, H, W)``.
    center_xy, scale
        Direct beam (column, row) in pixels ``(B, 2)``; 1/Angstrom per pixel ``(B,)``.
    config
        Its ``k_max`` is set.
    change
        Applied while resampling; what falls outside the pattern is 0.

    Notes
    -----
    Laws: a changed pattern is, up to interpolation, the pattern of the changed label (``change_label``). In the polar
    frame a turn by whole azimuths is exactly a shift of columns.
    """
    assert config.k_max is not None, "the run sets k_max before its first batch"
    center_xy, scale = np.asarray(center_xy, float), np.asarray(scale, float)
    frame = patterns.new_empty(len(patterns), 1, *frame_shape(config))
    binning = np.maximum(1, (2 * config.k_max / config.size / scale).astype(int))
    for factor in np.unique(binning).tolist():
        rows = np.flatnonzero(binning == factor)
        binned = functional.avg_pool2d(patterns[rows][:, None], factor) if factor > 1 else patterns[rows][:, None]
        theta = sampling_matrix(
            (binned.shape[-2] * factor, binned.shape[-1] * factor),
            center_xy=center_xy[rows],
            scale=scale[rows],
            k_max=config.k_max,
            change=Change(change.angle_deg[rows], change.mirror[rows], change.scale[rows], change.shift[rows]),
        )
        matrix = torch.tensor(theta, dtype=torch.float32, device=patterns.device)
        points = sampling_points(matrix, config)
        frame[rows] = functional.grid_sample(binned, points, mode="bilinear", align_corners=False)
    return standardise(frame, config)


def sampling_matrix(
    shape: tuple[int, int], *, center_xy: ArrayLike, scale: ArrayLike, k_max: float, change: Change
) -> NDArray[np.float64]:
    """Where each point of the frame is read in a pattern of ``shape`` (H, W): ``affine_grid``'s matrices ``(B, 2, 3)``.

    A point q of the frame shows what the unchanged pattern has at mirror(turn back(q)) / scale.
    """
    angle = np.radians(change.angle_deg)
    flip = np.where(change.mirror, -1.0, 1.0)
    cosine, sine = np.cos(angle), np.sin(angle)
    back = np.stack([np.stack([cosine, sine], -1), flip[:, None] * np.stack([-sine, cosine], -1)], axis=-2)
    pixels = back * (k_max / np.asarray(scale) / change.scale)[:, None, None]
    center = np.asarray(center_xy) + change.shift
    width_height = np.array([shape[1], shape[0]])
    offset = (2 * center + 1) / width_height - 1
    return np.concatenate([2 * pixels / width_height[:, None], offset[..., None]], axis=-1)


def frame_shape(config: InputConfig) -> tuple[int, int]:
    """Rows and columns of a network's input."""
    return (config.size // 2, 2 * config.size) if config.frame == "polar" else (config.size, config.size)


def sampling_points(matrix: Tensor, config: InputConfig) -> Tensor:
    """Points ``(B, rows, columns, 2)`` at which ``grid_sample`` reads (x, y), from ``sampling_matrix``'s matrices.

    Without a loss of speed over ``affine_grid``, which is slow on a CPU and knows no polar frame.
    """
    along_x, along_y, offset = matrix[:, None, None].unbind(dim=-1)
    if config.frame == "polar":
        radius, azimuth = polar_axes(config, device=matrix.device)
        return offset + radius[:, None, None] * (azimuth.cos()[:, None] * along_x + azimuth.sin()[:, None] * along_y)
    axis = _axis(config.size, device=matrix.device)
    return (along_y * axis[:, None, None] + offset) + along_x * axis[:, None]


def polar_axes(config: InputConfig, *, device: torch.device) -> tuple[Tensor, Tensor]:
    """Radii of the polar frame's rows in units of k_max, and azimuths of its columns in radians from x towards y."""
    rows, columns = frame_shape(config)
    radius = (torch.arange(rows, device=device) + 0.5) / rows
    return radius, torch.arange(columns, device=device) * (2 * torch.pi / columns)


def _axis(size: int, *, device: torch.device) -> Tensor:
    """Pixel centres along a side of the Cartesian frame, in units of k_max."""
    return (torch.arange(size, device=device) * 2 + 1) / size - 1


def standardise(frame: Tensor, config: InputConfig) -> Tensor:
    """Frames with the direct beam masked, raised to the config's power, with mean 0 and variance 1 each."""
    k_max = config.k_max or 1
    if config.frame == "polar":
        square = polar_axes(config, device=frame.device)[0][:, None] ** 2
    else:
        axis = _axis(config.size, device=frame.device)
        square = axis[:, None] ** 2 + axis**2
    outside = square * k_max**2 >= config.k_min**2
    compressed = (frame.clamp(min=0) * outside) ** config.power
    compressed = compressed - compressed.mean(dim=(-2, -1), keepdim=True)
    return compressed / (compressed.square().mean(dim=(-2, -1), keepdim=True) + 1e-12).sqrt()
