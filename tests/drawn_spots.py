"""Gaussian spots on a detector, as the models that patterns are compared with draw them."""

import math

import torch
from torch import Tensor


def draw_spots(place_xy: Tensor, electrons: Tensor, *, sigma_px: float, shape: tuple[int, ...]) -> Tensor:
    """Spots at places ``(..., k, 2)`` in pixels with so many electrons ``(..., k)``, drawn ``(..., h, w)``."""
    across, down = (
        torch.exp(-((torch.arange(n) - place_xy[..., axis, None]) ** 2) / (2 * sigma_px**2))
        for axis, n in ((0, shape[1]), (1, shape[0]))
    )
    return (down * electrons[..., None]).mT @ across / (2 * math.pi * sigma_px**2)
