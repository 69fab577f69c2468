"""The small convolutional network: fast enough to train on two CPU cores."""

from torch import Tensor, nn

WIDTHS = (16, 32, 64, 96, 160)
"""Channels from the first layer to the last; at 128 pixels their maps are 64, 16, 16, 8 and 4 pixels wide."""

HIDDEN = 384
"""Width of the layer before the cells."""

MAP = 4
"""Side of the last map. It is not averaged away: where a spot lies is what tells the orientation."""

DROPOUT = 0.2


def cnn(n_outputs: int, *, kernel: int = 3) -> nn.Module:
    """A network from frames ``(B, 1, S, S)`` to outputs ``(B, n_outputs)``; any S from 32, made for 128.

    ``kernel``: side of the convolutions after the first.
    """
    a, b, c, d, e = WIDTHS
    layers = [
        *block(1, a, kernel=5, stride=2),
        nn.MaxPool2d(2),
        *block(a, b, kernel=kernel, stride=2),
        *block(b, c, kernel=kernel),
        *block(c, d, kernel=kernel, stride=2),
        *block(d, d, kernel=kernel),
        *block(d, e, kernel=kernel, stride=2),
        *block(e, e, kernel=kernel),
        FixedMap(),
        nn.Flatten(),
        nn.Linear(e * MAP**2, HIDDEN),
        nn.BatchNorm1d(HIDDEN),
        nn.ReLU(inplace=True),
        nn.Dropout(DROPOUT),
        nn.Linear(HIDDEN, n_outputs),
    ]
    return nn.Sequential(*layers)


def block(inputs: int, outputs: int, *, kernel: int, stride: int = 1) -> list[nn.Module]:
    """A convolution with batch normalisation and rectifier."""
    convolution = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)
    return [convolution, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)]


class FixedMap(nn.Module):
    """Maps of any size averaged or repeated to ``MAP`` x ``MAP``; at 128 pixels nothing happens."""

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C, h, w)`` to ``(B, C, MAP, MAP)``."""
        return x if x.shape[-2:] == (MAP, MAP) else nn.functional.adaptive_avg_pool2d(x, MAP)
