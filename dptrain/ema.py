"""A moving average of a network's weights, which is steadier than the weights themselves."""

from copy import deepcopy

import torch
from torch import nn

YOUNG = 10
"""The decay of step t is at most (1 + t) / (YOUNG + t), so that the random first weights are forgotten soon."""


def first_average(network: nn.Module) -> nn.Module:
    """A copy of ``network`` for `update_average`, ready to judge with."""
    return deepcopy(network).requires_grad_(False).eval()


@torch.no_grad()
def update_average(average: nn.Module, network: nn.Module, *, decay: float, step: int) -> None:
    """Move the weights of ``average`` towards those of ``network`` after ``step`` 0, 1, ... of training.

    They become ``decay`` times themselves plus (1 - decay) times the new ones (Polyak and Juditsky, SIAM J. Control
    Optim. 30 (1992) 838, with exponential weights). Buffers, such as the running statistics of batch normalisation, are
    averages already and are copied.
    """
    decay = min(decay, (1 + step) / (YOUNG + step))
    for mean, value in zip(average.parameters(), network.parameters(), strict=True):
        mean.lerp_(value, 1 - decay)
    for kept, now in zip(average.buffers(), network.buffers(), strict=True):
        kept.copy_(now)
