"""The Euler head: three Bunge angles from 0 to 1, the loss of the first networks for this task.

Kept for comparison. The angles jump: two orientations one degree apart may differ by half a circle in one of them.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn

from dpcurate import orientations
from dpcurate.orientations import Array
from dpcurate.schema import PhaseRecord
from dptrain import rotations
from dptrain.config import HeadConfig
from dptrain.head import RegressionHead

RANGES_DEG = (360.0, 180.0, 360.0)
"""Of phi1, Phi and phi2."""

NEAR_DEG = 10.0
"""The fourth output says how likely the answer is nearer to the label than about this."""


def bunge_deg(g: ArrayLike) -> Array:
    """Bunge angles (phi1, Phi, phi2) in degrees ``(..., 3)`` of orientations ``(..., 4)``, as orix ``to_euler``."""
    w, x, y, z = np.moveaxis(np.asarray(g, float), -1, 0)
    total, difference = np.arctan2(-z, w), np.arctan2(-y, -x)
    degenerate_half = np.hypot(x, y) < 1e-12
    degenerate_zero = np.hypot(w, z) < 1e-12
    difference = np.where(degenerate_half, total, difference)
    total = np.where(degenerate_zero, difference, total)
    tilt = 2 * np.arctan2(np.hypot(x, y), np.hypot(w, z))
    return np.degrees(np.stack([(total + difference) % (2 * np.pi), tilt, (total - difference) % (2 * np.pi)], axis=-1))


def from_bunge(angles_deg: Tensor) -> Tensor:
    """Orientations ``(..., 4)`` of Bunge angles in degrees ``(..., 3)``; as orix 0.15 ``Rotation.from_euler``."""
    first, tilt, second = (torch.deg2rad(angles_deg) / 2).unbind(dim=-1)
    total, difference = first + second, first - second
    return torch.stack(
        [
            torch.cos(tilt) * torch.cos(total),
            -torch.sin(tilt) * torch.cos(difference),
            -torch.sin(tilt) * torch.sin(difference),
            -torch.cos(tilt) * torch.sin(total),
        ],
        dim=-1,
    )


class EulerHead(RegressionHead):
    """Three angles of the label's equivalent with the smallest rotation angle, and one logit of confidence, a phase.

    The error is the mean square of the angles' errors, times 12, so that always saying 0.5 of evenly spread labels
    costs 1. The logit learns how near the answer is; it takes no part in the answer.
    """

    def __init__(self, phases: Sequence[PhaseRecord], config: HeadConfig) -> None:
        super().__init__(phases, config, widths=[4] * len(phases))
        self.clamped = config.clamp

    def targets(self, phase: int, orientation: Tensor) -> Tensor:
        """Angles from 0 to 1, ``(B, 3)``, of labels ``(B, 4)``. Law: an equivalent of the label has the same."""
        label = orientation.detach().cpu().double().numpy()
        zone = orientations.zone_representative(label, self.symmetry(phase).cpu().numpy())
        return torch.tensor(bunge_deg(zone) / RANGES_DEG, dtype=torch.float32, device=orientation.device)

    def phase_error(self, phase: int, values: Tensor, orientation: Tensor) -> Tensor:
        """Mean square of the angles' errors, and the cross-entropy of being near."""
        angles = values[:, :3]
        square = 12 * (angles - self.targets(phase, orientation)).square().mean(dim=-1)
        with torch.no_grad():
            symmetry = self.symmetry(phase).to(values.dtype)
            off = rotations.disorientation_deg(self._orientation(angles), orientation.to(values.dtype), symmetry)
            near = torch.exp(-0.5 * (off / NEAR_DEG).square())
        confidence = nn.functional.binary_cross_entropy_with_logits(values[:, 3], near, reduction="none")
        return square + confidence

    def phase_answers(self, phase: int, values: Tensor, *, n_best: int) -> tuple[Tensor, Tensor]:
        """The orientation of the angles, and how likely it is near."""
        del phase, n_best  # one answer, for any phase
        return self._orientation(values[:, :3])[:, None], values[:, 3:].sigmoid()

    def _orientation(self, angles: Tensor) -> Tensor:
        inside = angles.clamp(0, 1) if self.clamped else angles
        return from_bunge(inside * inside.new_tensor(RANGES_DEG))
