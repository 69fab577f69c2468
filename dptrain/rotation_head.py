"""The rotation head: nine numbers, the nearest rotation to them is the answer; the loss is the least over symmetry."""

from collections.abc import Sequence

import torch
from torch import Tensor

from dpcurate.schema import PhaseRecord
from dptrain import rotations
from dptrain.config import HeadConfig
from dptrain.head import RegressionHead


class RotationHead(RegressionHead):
    """Nine numbers a phase, as a matrix. One answer a phase.

    The error is the squared distance to the nearest equivalent of the label, divided by 3, that of a matrix of zeros.
    A pattern that allows several answers gets their mean, which is no rotation: its singular values are below 1, and
    their mean is the confidence. Each row of the matrix is a crystal axis in the lab, so it turns with the pattern.
    """

    def __init__(self, phases: Sequence[PhaseRecord], config: HeadConfig) -> None:
        super().__init__(phases, config, widths=[9] * len(phases))
        self.orders = (0,) * self.n_logits + (1, 1, 0) * 3 * len(phases)
        self.mirror_signs = (1,) * self.n_logits + (-1, 1, -1) * 3 * len(phases)

    def phase_error(self, phase: int, values: Tensor, orientation: Tensor) -> Tensor:
        """Squared distance to the nearest equivalent over 3."""
        symmetry = self.symmetry(phase).to(values.dtype)
        return rotations.squared_chord(values.view(-1, 3, 3), orientation.to(values.dtype), symmetry) / 3

    def phase_answers(self, phase: int, values: Tensor, *, n_best: int) -> tuple[Tensor, Tensor]:
        """The nearest rotation, and the mean of the singular values, from 0 to 1."""
        del phase, n_best  # one answer, for any phase
        rotation, singular = rotations.nearest_rotation(values.view(-1, 3, 3))
        confidence = singular.mean(dim=-1).clamp(0, 1)
        return rotations.from_matrix(rotation)[:, None], torch.nan_to_num(confidence)[:, None]
