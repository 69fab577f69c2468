"""Dynamical spots as they stand in the patterns of one scan: on its detector, and in spot pictures."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dpcurate.bloch import dynamical_spots
from dpcurate.correlate import Frame, ring_weight
from dpcurate.orientations import Array
from dpcurate.polar import LEAST_SIGMA_PIXELS, PolarTransform, stretch_of
from dpcurate.refine import spot_kernels
from dpcurate.scattering import ScatteringTable

MOST_AZIMUTHS = 16
"""Of the precession. With 32 or 60, variants of crystals that were seen with 60 are told apart no better."""

MOST_SPOTS = 64
"""Strongest spots of an orientation that are drawn."""

MODEL_POWER = 0.5
"""Of intensities in the correlation: square roots of counts all scatter alike."""

N_HARMONICS = 64
"""Of the azimuth in spot pictures."""


@dataclass(frozen=True)
class Ranker:
    """What all patterns of a scan share."""

    tables: tuple[ScatteringTable, ...]
    """Of each phase."""
    transform: PolarTransform
    frame: Frame
    kernels: Tensor
    center_xy: tuple[float, float]
    scale_inv_angstrom: float
    precession_deg: float
    n_azimuths: int
    sigma_px: float
    """Of a spot on the detector."""
    ellipse: tuple[float, float]
    """By which share patterns are stretched along x and as much narrower along y, and along the diagonal."""
    counted: NDArray[np.bool_]
    """Pixels that count: between the first and the last ring, and not faulty. (h, w)"""


def make_ranker(
    tables: tuple[ScatteringTable, ...],
    transform: PolarTransform,
    *,
    faulty: NDArray[np.bool_],
    center_xy: tuple[float, float],
    scale_inv_angstrom: float,
    precession_deg: float,
    sigma_px: float,
    ellipse: tuple[float, float] = (0.0, 0.0),
    n_azimuths: int = MOST_AZIMUTHS,
) -> Ranker:
    """Prepare to rank patterns of the shape of ``faulty`` (h, w); ``sigma_px`` is a spot's width on the detector."""
    k = transform.k_inv_angstrom
    row, column = np.indices(faulty.shape)
    radius = np.hypot(column - center_xy[0], row - center_xy[1]) * scale_inv_angstrom
    # the square root of a Gaussian is wider than the Gaussian
    width = math.hypot(sigma_px / math.sqrt(MODEL_POWER), LEAST_SIGMA_PIXELS) * scale_inv_angstrom
    frame = Frame(k, ring_weight(k, power=0.5), width, N_HARMONICS)
    return Ranker(
        tables=tables,
        transform=transform,
        frame=frame,
        kernels=spot_kernels(frame),
        center_xy=center_xy,
        scale_inv_angstrom=scale_inv_angstrom,
        precession_deg=precession_deg,
        n_azimuths=n_azimuths if precession_deg else 1,
        sigma_px=sigma_px,
        ellipse=ellipse,
        counted=(radius > float(k[0])) & (radius < float(k[-1])) & ~faulty,
    )


def strongest_spots(
    ranker: Ranker, table: ScatteringTable, nodes: Array, thickness: NDArray[np.float64]
) -> tuple[Tensor, Tensor]:
    """The strongest spots of orientations (n, 4): q (n, k, 2) and shares of the beam (n, t, k)."""
    found = dynamical_spots(
        table,
        nodes,
        thickness_angstrom=thickness,
        precession_deg=ranker.precession_deg,
        n_azimuths=ranker.n_azimuths,
    )
    k, sigma = ranker.frame.k_inv_angstrom, ranker.frame.spot_sigma_inv_angstrom
    r = found.q.norm(dim=-1)
    inside = (r > k[0] - sigma / 2) & (r < k[-1] + sigma / 2)
    intensity = torch.where(inside[:, None], found.intensity.clamp(min=0), 0)
    strongest = intensity.amax(dim=1).topk(min(MOST_SPOTS, intensity.shape[2]), dim=1).indices
    q = found.q.gather(1, strongest[..., None].expand(*strongest.shape, 2))
    return q, intensity.gather(2, strongest[:, None].expand(-1, intensity.shape[1], -1))


def spot_places(ranker: Ranker, q: Tensor, *, shift_px: Tensor | None = None) -> Tensor:
    """Pixels (column, row) of spots, in a pattern that is shifted by ``shift_px``."""
    stretch = torch.from_numpy(stretch_of(ranker.ellipse)).float()
    place = q.float() @ (stretch / ranker.scale_inv_angstrom) + torch.tensor(ranker.center_xy)
    return place if shift_px is None else place + shift_px


def turned(q: Tensor, angle_deg: Tensor) -> Tensor:
    """Spots ``(n, k, 2)`` turned by angles ``(n,)`` from x towards y."""
    angle = torch.deg2rad(angle_deg).to(q.dtype)
    cosine, sine = angle.cos()[:, None], angle.sin()[:, None]
    return torch.stack([cosine * q[..., 0] - sine * q[..., 1], sine * q[..., 0] + cosine * q[..., 1]], dim=-1)
