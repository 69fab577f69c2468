"""What makes several processes compute what one would: batch normalisation and dropout over the whole batch.

Both look at, or draw for, the patterns of all processes together. So a step means the same on any number of them, up to
the order of sums. Sample k of a process stands at place k * world_size + rank of the whole batch.
"""

from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.nn.modules.batchnorm import _BatchNorm


def spread(network: nn.Module, *, rank: int, world_size: int, cuda: bool) -> nn.Module:
    """``network`` with its batch normalisations and dropouts replaced; names of weights stay."""
    if world_size == 1:
        return network
    if cuda:
        network = nn.SyncBatchNorm.convert_sync_batchnorm(network)
    for name, child in network.named_children():
        setattr(network, name, _spread_one(child, rank=rank, world_size=world_size, cuda=cuda))
    return network


def _spread_one(child: nn.Module, *, rank: int, world_size: int, cuda: bool) -> nn.Module:
    if isinstance(child, _BatchNorm) and not isinstance(child, nn.SyncBatchNorm):
        return _wide_norm(child)
    if isinstance(child, nn.Dropout):
        return WideDropout(child.p, each_value=True, rank=rank, world_size=world_size)
    if type(child).__name__ == "DropPath":  # timm's; imported only where a network needs it
        return WideDropout(
            float(getattr(child, "drop_prob", 0) or 0), each_value=False, rank=rank, world_size=world_size
        )
    return spread(child, rank=rank, world_size=world_size, cuda=cuda)


class WideDropout(nn.Module):
    """Dropout of values, or of whole samples, whose draws are those of one process that has the whole batch.

    All processes have the same state of torch's generator when they come here.
    """

    def __init__(self, p: float, *, each_value: bool, rank: int, world_size: int):
        super().__init__()
        self.p, self.each_value, self.rank, self.world_size = p, each_value, rank, world_size

    def forward(self, x: Tensor) -> Tensor:
        """``(B, ...)`` to the same shape."""
        if not self.training or self.p == 0:
            return x
        rest = x.shape[1:] if self.each_value else (1,) * (x.ndim - 1)
        kept = x.new_empty(len(x) * self.world_size, *rest).bernoulli_(1 - self.p)[self.rank :: self.world_size]
        return x * kept / (1 - self.p)


class WideBatchNorm(_BatchNorm):
    """Batch normalisation by mean and variance over all processes, on CPUs; torch's own needs GPUs."""

    def _check_input_dim(self, input: Tensor) -> None:
        assert input.ndim >= 2

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C, ...)`` to the same shape."""
        if not self.training:
            return super().forward(x)
        assert self.num_batches_tracked is not None
        assert self.running_mean is not None
        assert self.running_var is not None
        dims, shape = [0, *range(2, x.ndim)], [1, -1, *[1] * (x.ndim - 2)]
        mean = _mean_over_processes(x.mean(dims))
        centred = x - mean.view(shape)
        variance = _mean_over_processes(centred.square().mean(dims))
        n = x.numel() / x.shape[1] * distributed.get_world_size()
        self.num_batches_tracked.add_(1)
        momentum = self.momentum if self.momentum is not None else 1 / float(self.num_batches_tracked)
        self.running_mean.lerp_(mean.detach(), momentum)
        self.running_var.lerp_(variance.detach() * n / (n - 1), momentum)
        normal = centred * (variance + self.eps).rsqrt().view(shape)
        return normal * self.weight.view(shape) + self.bias.view(shape)


def _wide_norm(old: _BatchNorm) -> WideBatchNorm:
    new = WideBatchNorm(old.num_features, old.eps, old.momentum)
    new.load_state_dict(old.state_dict())
    return new.train(old.training)


class _Sum(torch.autograd.Function):
    @staticmethod
    def forward(_context: Any, value: Tensor) -> Tensor:
        total = value.clone()
        distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(_context: Any, *gradients: Tensor) -> Tensor:
        total = gradients[0].clone()
        distributed.all_reduce(total)
        return total


def _mean_over_processes(value: Tensor) -> Tensor:
    total: Tensor = _Sum.apply(value)
    return total / distributed.get_world_size()
