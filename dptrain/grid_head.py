"""The grid head: a distribution over the cells of one orientation grid per phase, its soft targets, its decoding.

The network gives one logit per cell of all phases together. One softmax then tells phase and orientation, and keeps
every orientation that a pattern allows, which a single regressed rotation cannot.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from dpcurate import orientations
from dpcurate.orientations import Array
from dpcurate.schema import PhaseRecord
from dptrain.config import HeadConfig
from dptrain.head import Head

MODE_RADIUS_DEG = 10.0
"""Two answers to one pattern lie at least so far apart."""

WINDOW_SIGMAS = 2.0
"""Width of the window in which an answer is refined, in widths of the soft target."""

REACH_SIGMAS = 3.2
"""Cells farther than this from an answer do not count in it: window times target leave 0.2 % of the weight there."""

REFINE_STEPS = 5
"""Measured on exact targets of -3m, m-3m, 6/mmm, mmm and 2/m: below 0.1 of the grid's spacing after five."""

SO3_VOLUME = 8 * np.pi**2
"""Volume of all rotations when a small turn is measured by its angle in radians."""

PHI, PSI = 2**0.5, 1.533751168755204288118041
"""Constants of the super-Fibonacci spiral; PSI**4 = PSI + 4."""


def covering(n: int) -> Array:
    """``n`` orientations spread nearly evenly over all rotations, shape ``(n, 4)``.

    Super-Fibonacci spirals: Alexa, CVPR 2022, algorithm 1.
    """
    t = (np.arange(n) + 0.5) / n
    inner, outer = np.sqrt(t), np.sqrt(1 - t)
    a, b = 2 * np.pi * n * t / PHI, 2 * np.pi * n * t / PSI
    return np.stack([inner * np.sin(a), inner * np.cos(a), outer * np.sin(b), outer * np.cos(b)], axis=-1)


def zone_grid(symmetry: Array, *, n: int) -> Array:
    """About ``n`` orientations spread nearly evenly over the fundamental zone, shape ``(about n, 4)``.

    The zone is where no equivalent has a smaller rotation angle; ``symmetry`` holds the proper rotations of the Laue
    group, shape ``(n_symmetry, 4)``.
    """
    every = covering(n * len(symmetry))
    inside = np.abs(every[:, 0]) >= np.abs(orientations.zone_representative(every, symmetry)[:, 0]) - 1e-12
    return every[inside]


def grid_cells(phases: Sequence[PhaseRecord], config: HeadConfig) -> tuple[Array, np.ndarray]:
    """Cells ``(n_cells, 4)`` and the phase of each ``(n_cells,)``, at one spacing for all phases.

    The spacing (edge of a cube of one cell's volume) is the config's, or as much wider as ``max_cells`` asks.
    """
    zones = [SO3_VOLUME / len(phase.symmetry) for phase in phases]
    cell_volume = max(np.radians(config.spacing_deg) ** 3, sum(zones) / config.max_cells)
    grids = [
        zone_grid(phase.proper_rotations(), n=max(1, int(zone / cell_volume)))
        for phase, zone in zip(phases, zones, strict=True)
    ]
    return np.concatenate(grids), np.repeat(np.arange(len(phases)), [len(grid) for grid in grids])


class GridHead(Head):
    """Soft targets, loss and decoding on fixed cells; it has no weights.

    ``cells`` are orientations ``(n_cells, 4)``, ``cell_phase`` ``(n_cells,)`` ascending indices into ``phases``. They
    are saved with the network: which orientation a logit means must not hang on rounding at the zone's faces.
    """

    cells: Tensor
    cell_phase: Tensor
    neighbours: Tensor
    neighbour_cells: Tensor

    def __init__(self, phases: Sequence[PhaseRecord], config: HeadConfig, *, cells: Array, cell_phase: np.ndarray):
        super().__init__(config)
        self.n_outputs = self.n_cells = len(cells)
        self.guess_error = float(np.log(len(cells)))
        self.counts = np.bincount(cell_phase, minlength=len(phases)).tolist()
        volume = sum(SO3_VOLUME / len(phase.symmetry) for phase in phases)
        self.spacing_deg = float(np.degrees((volume / len(cells)) ** (1 / 3)))
        self.sigma_deg = config.sigma_spacings * self.spacing_deg
        self.radius_deg = max(MODE_RADIUS_DEG, REACH_SIGMAS * self.sigma_deg)
        self.register_buffer("cells", torch.tensor(cells))
        self.register_buffer("cell_phase", torch.tensor(cell_phase))
        for i, (phase, start) in enumerate(zip(phases, np.cumsum([0, *self.counts]), strict=False)):
            spread = orientations.equivalents(cells[start : start + self.counts[i]], phase.proper_rotations())
            self.register_buffer(f"spread_{i}", torch.tensor(spread, dtype=torch.float32), persistent=False)
        self.register_buffer("neighbours", torch.empty(0, 0, dtype=torch.long), persistent=False)
        self.register_buffer("neighbour_cells", torch.empty(0, 0, 4), persistent=False)

    def spread(self, phase: int) -> Tensor:
        """All equivalents of the cells of one phase, shape ``(n_cells_of_phase, n_symmetry, 4)``."""
        return self.get_buffer(f"spread_{phase}")

    @torch.no_grad()
    def targets(self, orientation: Tensor, phase_id: Tensor) -> Tensor:
        """Soft targets ``(B, n_cells)`` of labels ``(B, 4)`` and phases ``(B,)``: each row is >= 0 and sums to 1.

        The weight of a cell at disorientation d is exp(-(d / sigma)^2 / 2), 0 in other phases. Law: an equivalent of
        the label has the same targets.
        """
        target = torch.zeros(len(orientation), self.n_cells, device=self.cells.device)
        q = orientation.to(self.cells.device, torch.float32)
        start = 0
        for phase, count in enumerate(self.counts):
            rows = torch.nonzero(phase_id.to(q.device) == phase)[:, 0]
            angle = angle_deg(torch.einsum("bi,csi->bcs", q[rows], self.spread(phase)).abs().amax(dim=-1))
            logits = -0.5 * (angle / self.sigma_deg) ** 2
            target[rows, start : start + count] = logits.softmax(dim=-1)
            start += count
        return target

    def error(self, outputs: Tensor, orientation: Tensor, phase_id: Tensor) -> Tensor:
        """Cross-entropy to the soft targets for each pattern, shape ``(B,)``."""
        return -(self.targets(orientation, phase_id) * outputs.log_softmax(dim=-1)).sum(dim=-1)

    def answers(self, outputs: Tensor, *, n_best: int) -> tuple[Tensor, Tensor, Tensor]:
        """The ``n_best`` answers and the probability mass around each.

        The best cell is taken with all cells within ``radius_deg``, then the best of the rest, and so on; the masses
        are disjoint. When no probability is left an answer has mass 0.
        """
        probability = nn.functional.pad(outputs.softmax(dim=-1), (0, 1))
        neighbours, _ = self._neighbourhood()
        left = probability.clone()
        cell, mass = [], []
        for _ in range(n_best):
            best = left[:, :-1].argmax(dim=-1)
            cell.append(best)
            mass.append(left.gather(1, neighbours[best]).sum(dim=-1))
            left.scatter_(1, neighbours[best], 0.0)
        cells, masses = torch.stack(cell, dim=1), torch.stack(mass, dim=1)
        order = masses.argsort(dim=1, descending=True, stable=True)
        cells, masses = cells.gather(1, order), masses.gather(1, order)
        return self._refined(probability, cells), masses, self.cell_phase[cells]

    def _refined(self, probability: Tensor, cell: Tensor) -> Tensor:
        """Orientations ``(B, n, 4)`` between the cells around each of ``cell`` ``(B, n)``.

        Moment matching: the orientation whose own soft target has, in a window around it, the same mean as the
        distribution has. Unlike a plain mean it is exact on targets, whatever the grid's irregularity.
        """
        neighbours, around = self._neighbourhood()
        around, near = around[cell], neighbours[cell]
        p = probability.gather(1, near.flatten(1)).view(near.shape)
        exists = near < self.n_cells
        gain = 1 + WINDOW_SIGMAS**-2
        q = self.cells[cell].float()
        for _ in range(REFINE_STEPS):
            squared = (angle_deg((around * q[..., None, :]).sum(dim=-1).abs()) / self.sigma_deg) ** 2
            window = torch.exp(-0.5 * squared / WINDOW_SIGMAS**2) * exists
            found, own = window * p, window * torch.exp(-0.5 * squared)
            weight = found / found.sum(-1, keepdim=True).clamp_min(1e-30) - own / own.sum(-1, keepdim=True)
            q = nn.functional.normalize(q + gain * (weight[..., None] * around).sum(dim=-2), dim=-1)
        return q

    def _neighbourhood(self) -> tuple[Tensor, Tensor]:
        """Cells within ``radius_deg`` of each cell, made on first use.

        Returns indices ``(n_cells, k)``, filled up with ``n_cells``, and the equivalent of each that lies nearest to
        the cell ``(n_cells, k, 4)``.
        """
        if not len(self.neighbours):
            rows = [row for phase in range(len(self.counts)) for row in self._neighbours_in(phase)]
            self.neighbours = nn.utils.rnn.pad_sequence([row[0] for row in rows], True, float(self.n_cells))
            self.neighbour_cells = nn.utils.rnn.pad_sequence([row[1] for row in rows], True, 0.5)
        return self.neighbours, self.neighbour_cells

    def _neighbours_in(self, phase: int) -> list[tuple[Tensor, Tensor]]:
        """For each cell of a phase: indices ``(k,)`` of the cells around it, their nearest equivalents ``(k, 4)``."""
        spread, start = self.spread(phase), sum(self.counts[:phase])
        rows = []
        for block in self.cells[start : start + len(spread)].float().split(256):
            dots = torch.einsum("bi,csi->bcs", block, spread)
            best, which = dots.abs().max(dim=-1)
            for row, near in enumerate(angle_deg(best) <= self.radius_deg):
                index = torch.nonzero(near)[:, 0]
                operation = which[row, index]
                sign = dots[row, index, operation].sign()
                rows.append((index + start, spread[index, operation] * sign[:, None]))
        return rows


def angle_deg(w: Tensor) -> Tensor:
    """Rotation angle in degrees from the absolute scalar part of a unit quaternion (float32: good to 0.05 degrees)."""
    return torch.rad2deg(2 * torch.arccos(w.clamp(max=1.0)))
