"""The convolutional network for the polar frame: turning the pattern shifts all its maps, and nothing else.

Convolutions wrap around the azimuth. Where the head says how its outputs turn with the pattern, the last layer gives
one signal over the azimuth for each of them; the signals are turned to one azimuth and averaged, so that a turned
pattern has exactly the turned outputs, if the turn is by whole columns of the last map.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

WIDTHS = (24, 32, 48, 64, 128)
"""Channels from the first layer to the last."""

AZIMUTH_STRIDE = 4
"""Columns of the frame in one column of the last map."""

RADIUS_STRIDE = 16

DILATIONS = (1, 2, 4, 8)
"""Of the layers along the azimuth: together they see half the circle on either side."""

AZIMUTHS, HIDDEN, DROPOUT = 16, 384, 0.2
"""Columns that are left, width and dropout before outputs that do not turn with the pattern."""


class PolarConv(nn.Conv2d):
    """A convolution of maps (radius, azimuth) that wraps around the azimuth and is padded with 0 along the radius."""

    def __init__(
        self, inputs: int, outputs: int, kernel: tuple[int, int], *, stride: tuple[int, int] = (1, 1), dilation: int = 1
    ) -> None:
        padding = (kernel[0] // 2, 0)
        super().__init__(inputs, outputs, kernel, stride, padding, dilation=(1, dilation), bias=False)
        self.wrap = dilation * (kernel[1] // 2)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C, h, w)`` to ``(B, outputs, h / stride, w / stride)``."""
        return super().forward(functional.pad(x, (self.wrap, self.wrap, 0, 0), mode="circular") if self.wrap else x)


class AroundLayer(nn.Module):
    """A residual layer along the azimuth."""

    def __init__(self, width: int, *, dilation: int) -> None:
        super().__init__()
        self.convolution = PolarConv(width, width, (1, 5), dilation=dilation)
        self.norm = nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C, 1, w)`` to the same."""
        return functional.relu(x + self.norm(self.convolution(x)))


class TurningPool(nn.Module):
    """One signal over the azimuth for each output, turned to azimuth 0 and averaged over the azimuth.

    ``orders``: the azimuthal order m of each output; those of one m > 0 come in pairs, coefficients of cos and sin, and
    the pair is multiplied by exp(i m azimuth). Law: a pattern turned by a has outputs turned by exp(i m a).
    """

    orders: Tensor

    def __init__(self, inputs: int, orders: Sequence[int]) -> None:
        super().__init__()
        self.signals = nn.Conv2d(inputs, len(orders), 1)
        partner, sign = partners(orders)
        self.register_buffer("orders", torch.tensor(orders), persistent=False)
        self.register_buffer("partner", partner, persistent=False)
        self.register_buffer("sign", sign, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C, 1, w)`` to ``(B, n_outputs)``."""
        signal = self.signals(x)[:, :, 0].float()
        azimuth = torch.arange(signal.shape[-1], device=x.device) * (2 * torch.pi / signal.shape[-1])
        phase = self.orders[:, None] * azimuth
        sine = self.get_buffer("sign")[:, None] * phase.sin()
        return (signal * phase.cos() + signal[:, self.get_buffer("partner")] * sine).mean(dim=-1)


def partners(orders: Sequence[int]) -> tuple[Tensor, Tensor]:
    """For outputs of azimuthal ``orders``: the other one of each pair, and the sign of its share in a turn.

    A turn by a makes ``outputs * cos(m a) + outputs[partner] * sign * sin(m a)`` of outputs.
    """
    m, first = torch.tensor(orders), torch.zeros(len(orders), dtype=torch.bool)
    for index, order in enumerate(orders):
        first[index] = order > 0 and (index == 0 or not first[index - 1] or orders[index - 1] != order)
    partner = torch.arange(len(orders)) + torch.where(first, 1, -1) * (m > 0)
    return partner, torch.where(first, -1.0, 1.0) * (m > 0)


def polar_cnn(n_outputs: int, *, size: int, orders: Sequence[int] = (), kernel: int = 3) -> nn.Module:
    """A network from polar frames ``(B, 1, size / 2, 2 size)`` to ``(B, n_outputs)``; ``orders`` as ``TurningPool``.

    ``kernel``: side of the convolutions after the first, in the maps that have radii.
    """
    assert not orders or len(orders) == n_outputs
    a, b, c, d, e = WIDTHS
    layers = [
        *block(1, a, (5, 5), stride=(2, 2)),
        *block(a, b, (kernel, kernel), stride=(2, 2)),
        *block(b, c, (kernel, kernel), stride=(2, 1)),
        *block(c, d, (kernel, kernel), stride=(2, 1)),
        Stacked(),
        *block(d * (size // 2 // RADIUS_STRIDE), e, (1, 3)),
        *(AroundLayer(e, dilation=dilation) for dilation in DILATIONS),
    ]
    return nn.Sequential(*layers, *answer_layers(e, n_outputs, orders=orders))


def answer_layers(width: int, n_outputs: int, *, orders: Sequence[int] = ()) -> list[nn.Module]:
    """The last layers, from maps ``(B, width, 1, w)`` to ``(B, n_outputs)``; ``orders`` as ``TurningPool``."""
    if orders:
        return [TurningPool(width, orders)]
    return [
        nn.AdaptiveAvgPool2d((1, AZIMUTHS)),
        nn.Flatten(),
        nn.Linear(width * AZIMUTHS, HIDDEN),
        nn.BatchNorm1d(HIDDEN),
        nn.ReLU(inplace=True),
        nn.Dropout(DROPOUT),
        nn.Linear(HIDDEN, n_outputs),
    ]


def block(
    inputs: int, outputs: int, kernel: tuple[int, int], *, stride: tuple[int, int] = (1, 1)
) -> tuple[nn.Module, ...]:
    """A convolution with batch normalisation and rectifier."""
    return PolarConv(inputs, outputs, kernel, stride=stride), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)


class Stacked(nn.Module):
    """Maps whose radii have become channels: what a spot means depends on its radius."""

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C, h, w)`` to ``(B, C h, 1, w)``."""
        return x.flatten(1, 2)[:, :, None]
