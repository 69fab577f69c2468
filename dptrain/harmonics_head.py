"""The harmonics head: the label as a vector that is the same for all its equivalents and turns with the pattern.

The vector holds the lab-frame coefficients of the functions on the sphere that the crystal's symmetry leaves alone. A
mean-square loss on it has no jumps. For a pattern that allows several answers the best vector is their mean: it is
shorter, and the share of each answer in it is that answer's confidence.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from dpcurate import orientations
from dpcurate.orientations import Array
from dpcurate.schema import PhaseRecord
from dptrain import harmonics, rotations
from dptrain.config import HeadConfig
from dptrain.grid_head import SO3_VOLUME, angle_deg, zone_grid
from dptrain.head import RegressionHead

WIDEST_DEG = 18.0

NEIGHBOURS_SPACINGS = 1.6
"""A grid point is an answer when no point within so many spacings fits better."""

STEPS, TERMS = 6, 8
"""Steps from a grid point, and terms of the exponential that turns the vector with each."""

LARGEST_STEP_DEG = 45.0
"""Times the highest degree: within it the series is good to 1e-6."""

LEAST_STARTS = 8
"""Maxima that are climbed even for one answer: which is highest is told on the top, not on the grid."""


class HarmonicsHead(RegressionHead):
    """Vectors of unit length, one a phase, as above.

    ``invariant_{phase}_{part}`` are saved with the network: which function a coefficient belongs to is a choice where
    there are several.
    """

    def __init__(self, phases: Sequence[PhaseRecord], config: HeadConfig) -> None:
        found = [harmonics.invariant_functions(phase.proper_rotations(), up_to=config.max_degree) for phase in phases]
        super().__init__(phases, config, widths=[len(harmonics.orders_of(functions)) for functions in found])
        self.degrees = [list(functions) for functions in found]
        self.orders = (0,) * self.n_logits + tuple(m for functions in found for m in harmonics.orders_of(functions))
        signs = (sign for functions in found for sign in harmonics.mirror_signs_of(functions))
        self.mirror_signs = (1,) * self.n_logits + tuple(signs)
        for phase, functions in enumerate(found):
            for degree, rows in functions.items():
                self.register_buffer(f"invariant_{phase}_{degree}", torch.tensor(rows))
            for name in ("grid", "neighbours", "table"):
                self.register_buffer(f"{name}_{phase}", torch.empty(0), persistent=False)

    def vectors(self, phase: int, orientation: Tensor) -> Tensor:
        """The vectors ``(..., width)`` of orientations ``(..., 4)``, in their dtype, of length 1."""
        functions = {degree: self._functions(phase, degree) for degree in self.degrees[phase]}
        return harmonics.vectors(functions, orientation)

    def phase_error(self, phase: int, values: Tensor, orientation: Tensor) -> Tensor:
        """Squared distance from the label's vector; 1 for a vector of zeros."""
        with torch.no_grad():
            target = self.vectors(phase, orientation.double()).to(values.dtype)
        return (values - target).square().sum(dim=-1)

    def phase_answers(self, phase: int, values: Tensor, *, n_best: int) -> tuple[Tensor, Tensor]:
        """Orientations at which the vector has its largest local maxima, and the share of each in it."""
        self._make_search(phase)
        table, neighbours = self._table(phase), self.get_buffer(f"neighbours_{phase}")
        score = nn.functional.pad(values @ table.T, (0, 1), value=-torch.inf)
        highest = torch.stack([score[:, column] for column in neighbours.T]).amax(dim=0)
        peaks = torch.where(score[:, :-1] >= highest, score[:, :-1], -torch.inf)
        start = peaks.topk(min(max(n_best, LEAST_STARTS), peaks.shape[1]), dim=1)
        q, vector = self._refined(phase, values, start.indices)
        vector = vector * (start.values > -torch.inf)[..., None]
        order = torch.einsum("bkw,bw->bk", vector, values).argsort(dim=1, descending=True)[..., None]
        return q.gather(1, order.expand_as(q)), shares(vector.gather(1, order.expand_as(vector)), values)

    def _refined(self, phase: int, values: Tensor, start: Tensor) -> tuple[Tensor, Tensor]:
        """From grid points ``(B, k)`` to the tops: orientations ``(B, k, 4)`` and their vectors ``(B, k, width)``.

        Newton's method where the function is concave, Gauss-Newton steps elsewhere; a step that leads down is taken
        back and halved.
        """
        q = self.get_buffer(f"grid_{phase}").to(values.dtype)[start]
        vector = self._table(phase)[start]
        ridge = 1e-6 * torch.eye(3, device=values.device, dtype=values.dtype)
        values = values[:, None]
        height = (vector * values).sum(dim=-1, keepdim=True)
        largest = np.radians(LARGEST_STEP_DEG) / max(self.degrees[phase])
        damping, slope_of_values = torch.ones_like(height), self._slopes(phase, values)
        for _ in range(STEPS):
            slope = self._slopes(phase, vector)
            curvature = slope @ slope_of_values.mT  # minus the second derivatives, as turns are antisymmetric
            concave = torch.linalg.cholesky_ex(curvature + curvature.mT).info[..., None, None] == 0
            metric = torch.where(concave, (curvature + curvature.mT) / 2, slope @ slope.mT * height[..., None])
            pull = (slope * values[..., None, :]).sum(dim=-1)
            step = damping * torch.linalg.solve(metric + ridge, pull)
            step = step * (largest / step.norm(dim=-1, keepdim=True).clamp_min(1e-12)).clamp(max=1)
            there = self._turn(phase, vector, step)
            higher = (there * values).sum(dim=-1, keepdim=True)
            up = higher >= height
            turned = rotations.multiply(q, rotations.conjugate(rotations.turn_quaternion(step)))
            q, vector = torch.where(up, turned, q), torch.where(up, there, vector)
            height, damping = torch.maximum(height, higher), torch.where(up, damping, damping / 2)
        return nn.functional.normalize(q, dim=-1), vector

    def _slopes(self, phase: int, vector: Tensor) -> Tensor:
        """How vectors ``(..., width)`` change with turns of the pattern about x, y and z, ``(..., 3, width)``."""
        blocks, first = [], 0
        for degree in self.degrees[phase]:
            size, n = 2 * degree + 1, len(self._functions(phase, degree))
            part = vector[..., first : first + n * size].unflatten(-1, (n, size))
            constant = torch.tensor(harmonics.generators(degree), dtype=vector.dtype, device=vector.device)
            blocks.append(torch.einsum("xij,...kj->...xki", constant, part).flatten(-2))
            first += n * size
        return torch.cat(blocks, dim=-1)

    def _turn(self, phase: int, vector: Tensor, turn: Tensor) -> Tensor:
        """Vectors turned by rotation vectors ``(..., 3)``: the exponential's series, for turns of some degrees."""
        total, term = vector, vector
        for power in range(1, TERMS + 1):
            term = (self._slopes(phase, term) * turn[..., None]).sum(dim=-2) / power
            total = total + term
        return total

    def _functions(self, phase: int, degree: int) -> Tensor:
        return self.get_buffer(f"invariant_{phase}_{degree}")

    def _make_search(self, phase: int) -> None:
        """Make grid, neighbours and table when they are first needed: training needs none of them."""
        if len(self.get_buffer(f"table_{phase}")):
            return
        symmetry = self.symmetry(phase)
        grid, spacing_deg = _search_grid(symmetry.cpu().numpy(), max(self.degrees[phase]))
        setattr(self, f"grid_{phase}", torch.tensor(grid, device=symmetry.device))
        around = _neighbours(symmetry.cpu().numpy(), grid, spacing_deg)
        setattr(self, f"neighbours_{phase}", around.to(symmetry.device))
        setattr(self, f"table_{phase}", self.vectors(phase, self.get_buffer(f"grid_{phase}")).float())

    def _table(self, phase: int) -> Tensor:
        """Vectors of the grid's orientations, float32 ``(n_grid, width)``."""
        return self.get_buffer(f"table_{phase}")


def shares(vectors: Tensor, values: Tensor) -> Tensor:
    """How much of ``values`` ``(B, width)`` each of ``vectors`` ``(B, k, width)`` explains, ``(B, k)``, from 0 to 1.

    Vectors have length 1 or 0, the one that fits best first. It gets the length along it, the next the length along it
    of what is left, and so on (matching pursuit); none gets more than the first, and all together at most 1.
    """
    left = values
    found: list[Tensor] = []
    for vector in vectors.unbind(dim=1):
        along = (vector * left).sum(dim=1).clamp(0, 1)
        found.append(torch.minimum(along, found[0]) if found else along)
        left = left - found[-1][:, None] * vector
    share = torch.stack(found, dim=1)
    return share / share.sum(dim=1, keepdim=True).clamp_min(1.0)


def _search_grid(symmetry: Array, degree: int) -> tuple[Array, float]:
    """Orientations over the zone, ``(n, 4)``, dense enough for functions of this degree, and their spacing."""
    spacing_deg = min(WIDEST_DEG, harmonics.GRID_DEG / degree)
    n = SO3_VOLUME / len(symmetry) / np.radians(spacing_deg) ** 3
    return zone_grid(symmetry, n=int(n)), spacing_deg


def _neighbours(symmetry: Array, grid: Array, spacing_deg: float) -> Tensor:
    """Indices of the grid points around each, ``(n, k)``, filled up with ``n``."""
    spread = torch.tensor(orientations.equivalents(grid, symmetry), dtype=torch.float32)
    rows = []
    for block in torch.tensor(grid, dtype=torch.float32).split(256):
        near = angle_deg(torch.einsum("bi,csi->bcs", block, spread).abs().amax(dim=-1)) <= (
            NEIGHBOURS_SPACINGS * spacing_deg
        )
        rows += [torch.nonzero(row)[:, 0] for row in near]
    return nn.utils.rnn.pad_sequence(rows, True, float(len(grid)))
