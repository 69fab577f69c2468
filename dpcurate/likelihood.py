"""How likely spots are behind a pattern: counts against a drawn model, in torch.

Square roots of counts scatter by 1/2 whatever their mean (Anscombe, Biometrika 35 (1948) 246), and a model whose
intensities are wrong by a share adds its own scatter: to each pixel by itself in `log_likelihood`, which is quick, or
to all pixels of a spot together in `marginal_likelihood`, which is right, and decides.
"""

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

PIXEL_ERROR = 0.7
"""Relative error of a simulated spot in each pixel, as if they were independent: several times that of the spot."""

SPOT_ERROR = 0.2
"""Relative error of a simulated spot's intensity: tilts and thicknesses are on grids, azimuths few, crystals bent."""

SHAPE_ERROR = 0.1
"""Relative error of a drawn spot in each pixel by itself: spots are no perfect Gaussians, nor quite in place."""

RING_WIDTH_PX = 1.5
"""Of the rings whose medians make the background."""

LEAST_BACKGROUND = 0.02
"""Counts a pixel."""

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


def draw_spots(place_xy: Tensor, electrons: Tensor, *, sigma_px: float, shape: tuple[int, ...]) -> Tensor:
    """Gaussian spots at places ``(..., k, 2)`` in pixels with so many electrons ``(..., k)``, drawn ``(..., h, w)``."""
    across, down = _profiles(place_xy, sigma_px=sigma_px, shape=shape)
    return (down * electrons[..., None]).mT @ across


def _profiles(place_xy: Tensor, *, sigma_px: float, shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Spots of one electron are products of a profile across, (..., k, w), and one down, (..., k, h)."""
    across, down = (
        torch.exp(-((torch.arange(n) - place_xy[..., axis, None]) ** 2) / (2 * sigma_px**2))
        for axis, n in ((0, shape[1]), (1, shape[0]))
    )
    return across, down / (2 * math.pi * sigma_px**2)


def log_likelihood(counts: Tensor, background: Tensor, drawn: Tensor, *, pixel_error: float = PIXEL_ERROR) -> Tensor:
    """Log-likelihood of counts ``(x,)`` under a background ``(x,)`` and drawn spots ``(n, x)``, up to a constant, (n,).

    The spots are scaled as fits best, within `SCALES`.
    """
    weight = 1 / (background + drawn)
    scale = ((counts - background) * drawn * weight).sum(dim=1) / (drawn.square() * weight).sum(dim=1).clamp(min=1e-9)
    spots = drawn * scale.clamp(*SCALES)[:, None]
    mean = background + spots
    excess = 1 + (pixel_error * spots).square() / mean
    return -2 * ((counts.sqrt() - mean.sqrt()).square() / excess).sum(dim=1) - excess.log().sum(dim=1) / 2


def marginal_likelihood(
    counts: Tensor,
    background: Tensor,
    place_xy: Tensor,
    electrons: Tensor,
    *,
    sigma_px: float,
    counted: Tensor,
    spot_error: float = SPOT_ERROR,
    shape_error: float = SHAPE_ERROR,
) -> float:
    """Log-likelihood of a pattern (h, w) under a background and spots ``(k, 2)``, ``(k,)``, up to a constant.

    Each spot's intensity may be wrong by a share of its own, normally distributed with ``spot_error``, and all these
    shares are integrated over: the covariance of square roots is 1/4 plus one outer product for each spot. Spots that
    overlap are treated as if they did not. Only pixels ``counted`` (h, w) are looked at.
    """
    across, down = _profiles(place_xy, sigma_px=sigma_px, shape=counts.shape)
    here = counted.to(counts.dtype)
    drawn = (down * electrons[:, None]).mT @ across
    weight = here / (background + drawn)
    scale = ((counts - background) * drawn * weight).sum() / (drawn.square() * weight).sum().clamp(min=1e-9)
    scale = scale.clamp(*SCALES)
    mean, own = background + scale * drawn, scale * electrons
    excess = 1 + (shape_error * scale * drawn).square() / mean
    rest = (counts.sqrt() - mean.sqrt()) * here
    along = own / 2 * torch.einsum("kh,hw,kw->k", down, rest / excess / mean.sqrt(), across)
    size = own.square() / 4 * torch.einsum("kh,hw,kw->k", down.square(), here / excess / mean, across.square())
    spread = 4 * spot_error**2 * size
    gain = 8 * spot_error**2 * along.square() / (1 + spread) - spread.log1p() / 2
    return float(gain.sum() - 2 * (rest.square() / excess).sum() - (excess.log() * here).sum() / 2)


def near_spots(drawn: Tensor, background: Tensor, counted: NDArray[np.bool_], *, least: float = 0.05) -> Tensor:
    """Pixels that tell hypotheses apart, bool (h, w): a spot of one of ``drawn`` (n, h, w) is there, or beside it."""
    bright = (drawn.amax(dim=0) > least * background)[None, None].float()
    return torch.nn.functional.max_pool2d(bright, 3, stride=1, padding=1)[0, 0].bool() & torch.as_tensor(counted)
