"""How likely spots are behind a pattern: counts against a drawn model, in torch.

Square roots of counts scatter by 1/2 whatever their mean (Anscombe, Biometrika 35 (1948) 246), and a model whose
intensities are wrong by a share adds its own scatter, to all pixels of a spot together.
"""

import math

import numpy as np
import torch
from torch import Tensor

SPOT_ERROR = 0.2
"""Relative error of a simulated spot's intensity: tilts and thicknesses are on grids, azimuths few, crystals bent."""

SHAPE_ERROR = 0.1
"""Relative error of a drawn spot in each pixel by itself: spots are no perfect Gaussians, nor quite in place."""

RING_WIDTH_PX = 1.5
"""Of the rings whose medians make the background."""

LEAST_BACKGROUND = 0.02
"""Counts a pixel."""

LEAST_EXPONENT = -20.0
"""Of a Gaussian. Processors are slow with numbers that are nearly nothing."""

SCALES = (0.2, 1.5)
"""Within which the electrons in the spots may differ from the simulated share of all."""


def ring_background(counts: Tensor, *, center_xy: tuple[float, float]) -> Tensor:
    """Median of counts ``(b, h, w)`` around the direct beam, interpolated along the radius, same shape."""
    row, column = np.indices(counts.shape[1:])
    radius = np.hypot(column - center_xy[0], row - center_xy[1]) / RING_WIDTH_PX
    ring = np.round(radius).astype(int)
    flat = counts.flatten(1)
    medians = [flat[:, torch.as_tensor((ring == k).ravel())].median(dim=1).values for k in range(ring.max() + 1)]
    table = torch.stack(medians, dim=1)
    low = torch.as_tensor(np.minimum(radius.astype(int), ring.max() - 1))
    share = torch.as_tensor(np.clip(radius - low.numpy(), 0, 1), dtype=torch.float32)
    return torch.lerp(table[:, low], table[:, low + 1], share).clamp(min=LEAST_BACKGROUND)


def log_likelihood(
    counts: Tensor,
    background: Tensor,
    place_xy: Tensor,
    electrons: Tensor,
    *,
    sigma_px: float,
    counted: Tensor,
    spot_error: float = SPOT_ERROR,
    shape_error: float = SHAPE_ERROR,
) -> Tensor:
    """Log-likelihoods (n,) of a pattern (h, w) under a background and each of n sets of spots, up to a constant.

    Spots ``(n, k, 2)`` with electrons ``(n, k)`` are scaled as fits best, within `SCALES`. Each spot's intensity may be
    wrong by a share of its own, normally distributed with ``spot_error``, and all these shares are integrated over: the
    covariance of square roots is 1/4 plus one outer product for each spot. What spots that overlap share is taken from
    their distance. Only pixels ``counted`` (h, w) are looked at.
    """
    across, down = _profiles(place_xy, sigma_px=sigma_px, shape=counts.shape)
    here = counted.to(counts.dtype)
    drawn = (down * electrons[..., None]).mT @ across
    weighted = drawn * (here / (background + drawn))
    scale = _sums(weighted, counts - background) / _sums(weighted, drawn).clamp(min=1e-9)
    scale = scale.clamp(*SCALES)
    spots, own = drawn.mul_(scale[:, None, None]), electrons * scale[:, None]
    mean = background + spots
    excess = (spots * spots).mul_(shape_error**2).div_(mean).add_(1)
    root = mean.sqrt()
    rest = (counts.sqrt() - root).mul_(here)
    told = rest / excess
    misfit = 2 * _sums(told, rest) + _sums(excess.log(), here) / 2
    along = own / 2 * ((down @ told.div_(root)) * across).sum(dim=-1)
    size = own * own / 4 * ((down * down) @ (here / mean.mul_(excess)) * (across * across)).sum(dim=-1)
    each = 2 * spot_error * size.sqrt()
    shared = _bell(torch.cdist(place_xy, place_xy), sigma_px * math.sqrt(2))
    lower = torch.linalg.cholesky(torch.eye(shared.shape[-1]) + each[..., None] * each[..., None, :] * shared)
    pull = torch.linalg.solve_triangular(lower, 4 * spot_error * along[..., None], upper=False)[..., 0]
    return (pull.square() / 2 - lower.diagonal(dim1=1, dim2=2).log()).sum(dim=1) - misfit


def _sums(images: Tensor, weights: Tensor) -> Tensor:
    """Sums over the pixels of images (n, h, w) times weights, of all of them (h, w) or of each."""
    return torch.linalg.vecdot(images.flatten(-2), weights.flatten(-2))


def _profiles(place_xy: Tensor, *, sigma_px: float, shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Spots of one electron are products of a profile across, (..., k, w), and one down, (..., k, h)."""
    across, down = (
        _bell(torch.arange(n) - place_xy[..., axis, None], sigma_px) for axis, n in ((0, shape[1]), (1, shape[0]))
    )
    return across, down / (2 * math.pi * sigma_px**2)


def _bell(distance: Tensor, sigma: float) -> Tensor:
    return (distance * distance).div_(-2 * sigma**2).clamp_(min=LEAST_EXPONENT).exp_()
