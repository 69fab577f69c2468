"""What every head has: how many outputs, a loss, and answers in one form, whatever the outputs mean.

A head says what a network's outputs mean. It has no weights; what it must remember is saved with the network.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from dpcurate.schema import PhaseRecord
from dptrain.config import HeadConfig


class Head(nn.Module, ABC):
    """Base of all heads. A subclass sets ``n_outputs`` and ``guess_error``, and gives ``error`` and ``answers``.

    ``guess_error`` is the error of outputs that say nothing. ``orders`` tells of each output how it turns with the
    pattern (see ``polar_cnn``), ``mirror_signs`` what each is multiplied by when the pattern is mirrored, y to -y; both
    are empty where outputs do not turn.
    """

    n_outputs: int
    guess_error: float
    orders: tuple[int, ...] = ()
    mirror_signs: tuple[int, ...] = ()

    def __init__(self, config: HeadConfig) -> None:
        super().__init__()
        self.loss_name = config.loss

    @abstractmethod
    def error(self, outputs: Tensor, orientation: Tensor, phase_id: Tensor) -> Tensor:
        """Plain error of each pattern's outputs, ``(B,)``, at least 0."""

    @abstractmethod
    def answers(self, outputs: Tensor, *, n_best: int) -> tuple[Tensor, Tensor, Tensor]:
        """As ``decode``, from outputs in float32."""

    def loss(self, outputs: Tensor, orientation: Tensor, phase_id: Tensor) -> Tensor:
        """Loss of each pattern, ``(B,)``, in float32 outside autocast.

        Takes outputs ``(B, n_outputs)``, labels ``(B, 4)`` and their phases ``(B,)``. Law: an equivalent of a label
        has the same loss.
        """
        with torch.autocast(outputs.device.type, enabled=False):
            device = outputs.device
            error = self.error(outputs.float(), orientation.to(device), phase_id.to(device))
            return robust(error, self.loss_name, guess=self.guess_error)

    @torch.no_grad()
    def decode(self, outputs: Tensor, *, n_best: int) -> tuple[Tensor, Tensor, Tensor]:
        """The ``n_best`` answers to each pattern, best first.

        Takes outputs ``(B, n_outputs)``; returns orientations ``(B, n_best, 4)``, the confidence of each
        ``(B, n_best)`` from 0 to 1, and phases ``(B, n_best)``. Where there are fewer answers the rest has
        confidence 0.
        """
        with torch.autocast(outputs.device.type, enabled=False):
            return self.answers(outputs.float(), n_best=n_best)


def robust(error: Tensor, name: str, *, guess: float) -> Tensor:
    """The loss that belongs to plain errors, all >= 0, of any shape.

    ``plain``: the error itself. ``truncated``: guess (1 - exp(-error / guess)), so that a label that contradicts the
    pattern by more than ``guess``, the error of outputs that say nothing, hardly pulls (Dennis and Welsch, Commun.
    Stat. B 7, 345, 1978). ``laplace``: the root of the error, the exponent of a Rotation Laplace distribution (Yin et
    al., ICLR 2023), whose best constant answer is a median in place of a mean.
    """
    if name == "truncated":
        return guess * -torch.expm1(-error / guess)
    if name == "laplace":
        return (error + 1e-6).sqrt()
    return error


class RegressionHead(Head):
    """Heads whose outputs are numbers of each phase, after one logit a phase where there are several.

    A subclass gives ``phase_error`` and ``phase_answers``; errors are scaled so that 1 is that of saying nothing.
    """

    def __init__(self, phases: Sequence[PhaseRecord], config: HeadConfig, *, widths: Sequence[int]) -> None:
        super().__init__(config)
        self.widths = list(widths)
        self.n_logits = len(phases) if len(phases) > 1 else 0
        self.n_outputs = self.n_logits + sum(widths)
        self.guess_error = 1.0 + float(torch.tensor(float(len(phases))).log())
        for index, phase in enumerate(phases):
            symmetry = torch.tensor(phase.proper_rotations())
            self.register_buffer(f"symmetry_{index}", symmetry, persistent=False)

    def symmetry(self, phase: int) -> Tensor:
        """Proper rotations of a phase's Laue group, float64 ``(n_symmetry, 4)``."""
        return self.get_buffer(f"symmetry_{phase}")

    @abstractmethod
    def phase_error(self, phase: int, values: Tensor, orientation: Tensor) -> Tensor:
        """Error ``(B,)`` of one phase's outputs ``(B, width)`` for labels ``(B, 4)``."""

    @abstractmethod
    def phase_answers(self, phase: int, values: Tensor, *, n_best: int) -> tuple[Tensor, Tensor]:
        """Orientations ``(B, k, 4)`` and confidences ``(B, k)``, from one phase's outputs; any k."""

    def error(self, outputs: Tensor, orientation: Tensor, phase_id: Tensor) -> Tensor:
        """Error of the label's own phase's numbers, and the cross-entropy of the phase."""
        logits, values = self._parts(outputs)
        total = outputs.new_zeros(len(outputs))
        for phase, numbers in enumerate(values):
            rows = torch.nonzero(phase_id == phase)[:, 0]
            total = total.index_add(0, rows, self.phase_error(phase, numbers[rows], orientation[rows]))
        if self.n_logits:
            total = total + nn.functional.cross_entropy(logits, phase_id.long(), reduction="none")
        return total

    def answers(self, outputs: Tensor, *, n_best: int) -> tuple[Tensor, Tensor, Tensor]:
        """The best of all phases, by the phase's probability times the confidence in it."""
        logits, values = self._parts(outputs)
        share = logits.softmax(dim=-1) if self.n_logits else outputs.new_ones(outputs.shape[0], 1)
        found = [self.phase_answers(phase, numbers, n_best=n_best) for phase, numbers in enumerate(values)]
        orientation = torch.cat([answer[0] for answer in found], dim=1)
        confidence = torch.cat([answer[1] * share[:, [phase]] for phase, answer in enumerate(found)], dim=1)
        counts = torch.tensor([answer[1].shape[1] for answer in found], device=outputs.device)
        ids = torch.arange(len(found), device=outputs.device).repeat_interleave(counts)
        ranked = confidence.sort(dim=1, descending=True, stable=True)
        take = torch.arange(n_best, device=outputs.device)
        order = ranked.indices[:, take.clamp(max=confidence.shape[1] - 1)]
        beyond = (take >= confidence.shape[1])[None]
        orientation = orientation.gather(1, order[..., None].expand(-1, -1, 4))
        return orientation, confidence.gather(1, order).masked_fill(beyond, 0.0), ids[order]

    def _parts(self, outputs: Tensor) -> tuple[Tensor, list[Tensor]]:
        logits, *values = outputs.split([self.n_logits, *self.widths], dim=1)
        return logits, values
