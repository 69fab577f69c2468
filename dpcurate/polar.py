"""Polar transform of detector patterns as one sparse product, in torch.

The transform depends on calibration, shape and mask alone, so its weights are made once and serve every pattern. A
bin is a Gaussian mean around its middle, no narrower than the bin itself, so that no count is lost between bins.
"""

import math
import warnings
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

LEAST_SIGMA_PIXELS = 0.7
"""Width of the Gaussian that a bin averages with; below half the width of a spot."""

REACH = 2.5
"""Sigmas at which a bin's Gaussian is cut off."""

LEAST_COVER = 0.5
"""Share of a bin's weight that must lie on pixels that count; other bins are invalid."""


@dataclass(frozen=True)
class PolarTransform:
    """From flat patterns to polar bins; see `polar_transform`."""

    weight: Tensor
    """Sparse CSR matrix, float32, shape (n_radius * n_azimuth, h * w); rows sum to 1, or to 0 where invalid."""
    k_inv_angstrom: Tensor
    """Radius of each ring, 1/Angstrom, float64, shape (n_radius,)."""
    valid: Tensor
    """Whether a bin lies on pixels that count, bool, shape (n_radius, n_azimuth)."""

    @property
    def n_azimuth(self) -> int:
        """Bins of a ring."""
        return self.valid.shape[1]


def polar_transform(
    shape: tuple[int, int],
    *,
    center_xy: tuple[float, float],
    scale_inv_angstrom: float,
    k_min_inv_angstrom: float,
    k_max_inv_angstrom: float,
    n_radius: int,
    n_azimuth: int,
    ellipse: tuple[float, float] = (0.0, 0.0),
    mask: NDArray[np.bool_] | None = None,
    device: torch.device | str = "cpu",
) -> PolarTransform:
    """Weights that turn patterns into polar bins: rings from k_min to k_max, azimuth from x towards y, bin 0 on x.

    Parameters
    ----------
    shape
        Rows and columns of a pattern.
    center_xy
        Direct beam (column, row), pixels.
    scale_inv_angstrom
        1/Angstrom per pixel.
    k_min_inv_angstrom, k_max_inv_angstrom
        Radius of the first and of the last ring.
    n_radius, n_azimuth
        Rings, and bins of each.
    ellipse
        Rings are no circles: stretched by this share along x and narrowed along y, and the same along the diagonals.
    mask
        Pixels that do not count (beam stop, dead pixels), shape (h, w).
    device
        Where torch computes.
    """
    k = np.linspace(k_min_inv_angstrom, k_max_inv_angstrom, n_radius)
    radius = np.repeat(k / scale_inv_angstrom, n_azimuth)
    azimuth = np.tile(np.arange(n_azimuth) * (2 * np.pi / n_azimuth), n_radius)
    radial = max(LEAST_SIGMA_PIXELS, (k[1] - k[0]) / scale_inv_angstrom / 2)
    tangential = np.maximum(LEAST_SIGMA_PIXELS, radius * (np.pi / n_azimuth))
    reach = math.ceil(REACH * max(radial, tangential.max()))
    step = np.arange(-reach, reach + 1)
    circle = np.stack([radius * np.cos(azimuth), radius * np.sin(azimuth)], axis=1)
    middle = np.asarray(center_xy) + circle @ stretch_of(ellipse)
    pixel = np.round(middle)[:, None] + np.stack(np.meshgrid(step, step), axis=-1).reshape(1, -1, 2)
    away = pixel - middle[:, None]
    along = away[..., 0] * np.cos(azimuth)[:, None] + away[..., 1] * np.sin(azimuth)[:, None]
    across = away[..., 1] * np.cos(azimuth)[:, None] - away[..., 0] * np.sin(azimuth)[:, None]
    square = (along / radial) ** 2 + (across / tangential[:, None]) ** 2
    weight = np.where(square <= REACH**2, np.exp(-square / 2), 0)
    column, row = pixel[..., 0].astype(int), pixel[..., 1].astype(int)
    inside = (column >= 0) & (column < shape[1]) & (row >= 0) & (row < shape[0])
    counted = np.ones(shape, bool) if mask is None else ~mask
    counts = inside & counted[np.clip(row, 0, shape[0] - 1), np.clip(column, 0, shape[1] - 1)]
    good = np.where(counts, weight, 0)
    total = good.sum(axis=1)
    valid = total >= LEAST_COVER * weight.sum(axis=1)
    good *= (valid / np.where(total > 0, total, 1))[:, None]
    entry = good > 0
    indptr = np.concatenate([[0], np.cumsum(entry.sum(axis=1))])
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Sparse CSR tensor support", UserWarning)
        matrix = torch.sparse_csr_tensor(
            torch.from_numpy(indptr),
            torch.from_numpy((row * shape[1] + column)[entry]),
            torch.from_numpy(good[entry].astype(np.float32)),
            size=(len(good), shape[0] * shape[1]),
            check_invariants=False,
        )
    return PolarTransform(
        weight=matrix.to(device),
        k_inv_angstrom=torch.from_numpy(k).to(device),
        valid=torch.from_numpy(valid.reshape(n_radius, n_azimuth)).to(device),
    )


def stretch_of(ellipse: tuple[float, float]) -> NDArray[np.float64]:
    """Matrix (2, 2) that takes places from the direct beam to where an ellipse of the patterns has them."""
    across, diagonal = ellipse
    return np.array([[1 + across, diagonal], [diagonal, 1 - across]])


def to_polar(patterns: Tensor, transform: PolarTransform) -> Tensor:
    """Mean counts a bin of patterns ``(b, h, w)``, float32, shape ``(b, n_radius, n_azimuth)``; 0 where invalid."""
    flat = patterns.reshape(len(patterns), -1).to(transform.weight.device, torch.float32)
    return torch.mm(transform.weight, flat.T.contiguous()).T.reshape(len(patterns), *transform.valid.shape).contiguous()


def prepare(
    polar: Tensor,
    *,
    valid: Tensor,
    weight: Tensor,
    floor: float,
    power: float | None = None,
    background: bool = True,
) -> Tensor:
    """Polar patterns ready to be correlated: zero mean and unit norm, shape ``(b, n_radius, n_azimuth)``.

    With ``background`` the median of each ring is taken off. What is above becomes log(1 + x / (floor * mean)), with
    the pattern's mean of x: intensities of dynamical patterns are wrong by factors, so their logarithms are compared.
    With a ``power`` it becomes x^power instead. Rings get ``weight`` (n_radius,), the mean over the ``valid`` bins is
    taken off. Patterns that hold nothing become 0.
    """
    everywhere = bool(valid.all())
    x = polar - _ring_medians(polar, None if everywhere else valid) if background else polar.clone()
    if not everywhere:
        x = x * valid
    x = x.clamp_(min=0)
    if power is None:
        mean = x.mean(dim=(1, 2), keepdim=True) * floor
        x = torch.where(mean > 0, x / mean, 0).log1p_() * weight[:, None]
    else:
        x = x.pow_(power) * weight[:, None]
    x -= x.sum(dim=(1, 2), keepdim=True) / valid.sum()
    if not everywhere:
        x = x * valid
    norm = x.flatten(1).norm(dim=1)[:, None, None]
    return x / torch.where(norm > 0, norm, 1)


def _ring_medians(polar: Tensor, valid: Tensor | None) -> Tensor:
    if valid is None:
        return polar.median(dim=-1, keepdim=True).values
    return polar.masked_fill(~valid, math.nan).nanmedian(dim=-1, keepdim=True).values.nan_to_num(0)
