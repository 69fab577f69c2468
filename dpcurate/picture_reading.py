"""Scores of freely placed spots, read from spot pictures: for spots whose intensities come from many thicknesses."""

import math

import torch
from torch import Tensor

from dpcurate.correlate import Frame
from dpcurate.refine import PICTURE_ANGLES, PICTURE_RADII


def picture_place(q: Tensor, frame: Frame) -> tuple[Tensor, Tensor]:
    """Radius and angle of spots ``(..., 2)`` in rows and columns of a spot picture, float32, each ``(...)``."""
    k = frame.k_inv_angstrom
    radius = (q.norm(dim=-1) - k[0]) * ((PICTURE_RADII - 1) / (k[-1] - k[0]))
    angle = torch.atan2(q[..., 1], q[..., 0]) * (PICTURE_ANGLES / (2 * math.pi))
    return radius.clamp(0, PICTURE_RADII - 1).float(), angle.float()


def read_between(pictures: Tensor, radius: Tensor, angle: Tensor, turns: Tensor) -> Tensor:
    """Values of pictures (p, radii, angles) at places ``(n, k)``, turned by each of ``turns`` (t,), (p, n, k, t)."""
    low = radius.floor().clamp(max=PICTURE_RADII - 2)
    up = (radius - low)[..., None]
    at = angle[..., None] + turns
    left = at.floor()
    right = at - left
    column = left.long() % PICTURE_ANGLES
    beside = (column + 1) % PICTURE_ANGLES
    row = (low.long() * PICTURE_ANGLES)[..., None]
    flat = pictures.flatten(1)
    inner, inner_beside, outer, outer_beside = (
        flat[:, place]
        for place in (row + column, row + beside, row + PICTURE_ANGLES + column, row + PICTURE_ANGLES + beside)
    )
    return torch.lerp(torch.lerp(inner, inner_beside, right), torch.lerp(outer, outer_beside, right), up)


def spot_norms(q: Tensor, amplitude: Tensor, radius: Tensor, frame: Frame, kernels: Tensor) -> Tensor:
    """Norms of templates of zero mean, (n, t): spots ``q`` (n, k, 2) with each of t sets of amplitudes (n, t, k).

    ``radius`` (n, k) is from `picture_place`, ``kernels`` from `refine.spot_kernels`.
    """
    square = 2 * kernels.square().sum(dim=(0, 2)) - kernels[0].square().sum(dim=1)
    total = kernels[0].sum(dim=1) / math.sqrt(len(frame.k_inv_angstrom))
    row = radius.round().long()
    height = amplitude * square[row].sqrt()[:, None]
    apart = torch.cdist(q, q).square()
    near = torch.exp(apart / (-4 * frame.spot_sigma_inv_angstrom**2)).to(height.dtype)
    mean = (amplitude * total[row][:, None]).sum(dim=-1)
    return (torch.einsum("ntk,nkl,ntl->nt", height, near, height) - mean.square()).clamp(min=1e-12).sqrt()
