"""The density head: the grid head's distribution, its logarithm given by harmonics, so that it turns with the pattern.

As Klee et al., ICLR 2023 (Image to Sphere), here with functions that the crystal's symmetry leaves alone.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from dpcurate.orientations import Array
from dpcurate.schema import PhaseRecord
from dptrain import harmonics
from dptrain.config import HeadConfig
from dptrain.grid_head import GridHead


class DensityHead(GridHead):
    """Coefficients of each phase's harmonics, after one constant a phase where there are several.

    ``basis`` ``(n_cells, n_outputs)`` holds the value of each function at each cell. It is saved with the network:
    which function a coefficient belongs to is a choice where there are several.
    """

    basis: Tensor

    def __init__(self, phases: Sequence[PhaseRecord], config: HeadConfig, *, cells: Array, cell_phase: np.ndarray):
        super().__init__(phases, config, cells=cells, cell_phase=cell_phase)
        n_constants = len(phases) if len(phases) > 1 else 0
        blocks = [torch.tensor(np.eye(len(phases))[cell_phase][:, :n_constants])]
        orders, signs = [0] * n_constants, [1] * n_constants
        for index, phase in enumerate(phases):
            functions = harmonics.invariant_functions(phase.proper_rotations(), up_to=config.max_degree)
            of_phase = harmonics.orders_of(functions)
            rows = {degree: torch.tensor(part) * len(of_phase) ** 0.5 for degree, part in functions.items()}
            blocks.append(harmonics.vectors(rows, torch.tensor(cells)) * torch.tensor(cell_phase == index)[:, None])
            orders += of_phase
            signs += harmonics.mirror_signs_of(functions)
        self.register_buffer("basis", torch.cat(blocks, dim=1).float())
        self.n_outputs, self.orders, self.mirror_signs = self.basis.shape[1], tuple(orders), tuple(signs)

    def error(self, outputs: Tensor, orientation: Tensor, phase_id: Tensor) -> Tensor:
        """Cross-entropy to the soft targets for each pattern, shape ``(B,)``."""
        return super().error(outputs @ self.basis.T, orientation, phase_id)

    def answers(self, outputs: Tensor, *, n_best: int) -> tuple[Tensor, Tensor, Tensor]:
        """As the grid head's."""
        return super().answers(outputs @ self.basis.T, n_best=n_best)
