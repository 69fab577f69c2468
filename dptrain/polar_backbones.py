"""timm's networks for the polar frame: maps that wrap around the azimuth, and answers that turn with the pattern.

Weights keep timm's names and shapes, so that those for images can be loaded.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from dptrain import backbones
from dptrain.polar_cnn import PolarConv, Stacked, answer_layers

COLUMNS = 16
"""Maps are not made narrower along the azimuth: a column is 22.5 degrees at most."""

PATCH, N_STAGES = 4, 4
"""Side of Swin's patches in pixels; its stages, each with half as many tokens along a side as the one before."""

WINDOW_ROWS, WINDOW_COLUMNS, WINDOW_TOKENS = 8, (16, 8), 64
"""A fitted window's largest height, its widths, of which the wider is taken that fits, and its tokens at most."""

WRAPPED = -100.0
"""What timm adds to the attention between tokens that a shift brought together from two ends of a map."""


class PolarNetwork(nn.Module):
    """A timm network without its classifier, and layers that make outputs of its last maps."""

    backbone: Any

    def __init__(self, backbone: nn.Module, answer: Sequence[nn.Module]) -> None:
        super().__init__()
        self.backbone, self.answer = backbone, nn.Sequential(*answer)

    def forward(self, x: Tensor) -> Tensor:
        """Polar frames ``(B, 1, size / 2, 2 size)`` to ``(B, n_outputs)``."""
        outputs: Tensor = self.answer(self.backbone.forward_features(x))
        return outputs


def polar_densenet121(n_outputs: int, *, size: int, orders: Sequence[int] = ()) -> PolarNetwork:
    """DenseNet-121 whose convolutions and pools wrap around the azimuth; ``orders`` as ``TurningPool``.

    Maps are halved down to ``COLUMNS`` and to one row. Law: with ``orders``, a pattern turned by whole columns of the
    last map has exactly the turned outputs.
    """
    network = backbones.densenet121(0)
    features = network.get_submodule("features")
    for name, module in list(features.named_modules()):
        if isinstance(module, nn.Conv2d) and module.kernel_size[0] > 1:
            features.set_submodule(name, wrapping(module))
    shape = (size // 4, size)  # of the maps after the first convolution
    for pool in ("pool0", "transition1.pool", "transition2.pool", "transition3.pool"):
        by = halving(shape)
        features.set_submodule(pool, PolarMaxPool(by) if pool == "pool0" else nn.AvgPool2d(by))
        shape = (shape[0] // by[0], shape[1] // by[1])
    width = len(features.get_submodule("norm5").get_parameter("weight"))
    return PolarNetwork(network, [Stacked(), *answer_layers(width * shape[0], n_outputs, orders=orders)])


def polar_swin_tiny(n_outputs: int, *, size: int, fitted: bool, orders: Sequence[int] = ()) -> PolarNetwork:
    """Swin-T on polar frames; ``orders`` as ``TurningPool``.

    As published: windows of 7 tokens that end at azimuth 0, and padding. Fitted: windows fill the maps and go on across
    azimuth 0 when they are shifted; maps are halved down to ``COLUMNS``, which one window then holds.
    """
    shapes = swin_shapes(size, fitted=fitted)
    windows = [fitted_window(shape) for shape in shapes] if fitted else backbones.STANDARD_WINDOW
    network: Any = backbones.swin_tiny(0, size=(size // 2, 2 * size), windows=windows)
    for index, (stage, shape) in enumerate(zip(network.layers, shapes, strict=True) if fitted else ()):
        if index and shape[1] == shapes[index - 1][1]:
            stage.downsample = RadialMerging(stage.downsample)
        for block in stage.blocks:
            fit_block(block, shape)
    answer = answer_layers(network.num_features * shapes[-1][0], n_outputs, orders=orders)
    return PolarNetwork(network, [ChannelsFirst(), Stacked(), *answer])


def halving(shape: tuple[int, int]) -> tuple[int, int]:
    """By how much maps of ``shape`` (rows, columns) are pooled: 2, or 1 where too little would be left."""
    rows, columns = shape
    return (2 if rows > 1 else 1), (2 if columns % 16 == 0 and columns // 2 >= COLUMNS else 1)


def wrapping(convolution: nn.Conv2d) -> PolarConv:
    """The same convolution, without bias, that wraps around the azimuth."""
    rows, columns = convolution.kernel_size
    down, across = convolution.stride
    made = PolarConv(convolution.in_channels, convolution.out_channels, (rows, columns), stride=(down, across))
    made.weight = convolution.weight
    return made


def swin_shapes(size: int, *, fitted: bool) -> list[tuple[int, int]]:
    """Rows and columns of the tokens of each of Swin's stages."""
    shapes = [(size // 2 // PATCH, 2 * size // PATCH)]
    for _ in range(N_STAGES - 1):
        rows, columns = shapes[-1]
        across = halving(shapes[-1])[1] if fitted else 2
        shapes.append((-(-rows // 2), -(-columns // across)))
    return shapes


class PolarMaxPool(nn.MaxPool2d):
    """The largest of 3 x 3 pixels around every pixel, or every second one, around the azimuth too."""

    def __init__(self, stride: tuple[int, int]) -> None:
        super().__init__(3, stride=stride, padding=(1, 0))

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C, h, w)`` to ``(B, C, h / stride, w / stride)``."""
        return super().forward(functional.pad(x, (1, 1, 0, 0), mode="circular"))


class ChannelsFirst(nn.Module):
    """Swin's maps in the order of convolutions."""

    def forward(self, x: Tensor) -> Tensor:
        """``(B, h, w, C)`` to ``(B, C, h, w)``."""
        return x.permute(0, 3, 1, 2)


class RadialMerging(nn.Module):
    """Swin's merging of 2 x 2 tokens at every azimuth, where it is published for every second one; same weights."""

    def __init__(self, merging: Any) -> None:
        super().__init__()
        self.norm, self.reduction = merging.norm, merging.reduction

    def forward(self, x: Tensor) -> Tensor:
        """``(B, h, w, C)`` to ``(B, h / 2, w, 2 C)``; a last single row is merged with zeros."""
        x = functional.pad(x, (0, 0, 0, 0, 0, x.shape[1] % 2))
        here, beside = x, x.roll(-1, dims=2)
        tokens = torch.cat([part[:, first::2] for part in (here, beside) for first in (0, 1)], dim=-1)
        merged: Tensor = self.reduction(self.norm(tokens))
        return merged


def fit_block(block: Any, shape: tuple[int, int]) -> None:
    """Make a block of Swin with fitted windows attend across azimuth 0, in maps of ``shape`` (rows, columns)."""
    window = fitted_window(shape)
    block.set_input_size(shape, window, always_partition=False)
    block.register_buffer("attn_mask", radial_mask(shape, window, shift=block.shift_size[0]), persistent=False)
    if window[1] == shape[1]:
        block.attn.register_buffer("relative_position_index", circular_positions(window), persistent=False)


def fitted_window(shape: tuple[int, int]) -> tuple[int, int]:
    """Rows and columns of the largest window without padding, at most ``WINDOW_ROWS`` high and ``WINDOW_TOKENS``."""
    rows = max(height for height in range(1, WINDOW_ROWS + 1) if shape[0] % height == 0)
    columns = [width for width in WINDOW_COLUMNS if shape[1] % width == 0 and rows * width <= WINDOW_TOKENS]
    return rows, columns[0]


def radial_mask(shape: tuple[int, int], window: tuple[int, int], *, shift: int) -> Tensor | None:
    """What is added to the attention in shifted windows ``(n_windows, n_tokens, n_tokens)``; None: nothing.

    The smallest and the largest radii, which a shift brings into one window, do not see each other.
    """
    if not shift:
        return None
    end = torch.arange(shape[0]) >= shape[0] - shift
    rows = (
        end.view(-1, 1, window[0], 1)
        .expand(-1, shape[1] // window[1], -1, window[1])
        .reshape(-1, window[0] * window[1])
    )
    return WRAPPED * (rows[:, None] != rows[:, :, None]).float()


def circular_positions(window: tuple[int, int]) -> Tensor:
    """Entries of Swin's position table for pairs of tokens of a window that holds a circle: the shorter way around."""
    rows, columns = (axis.flatten() for axis in torch.meshgrid(*map(torch.arange, window), indexing="ij"))
    down, across = (axis[:, None] - axis for axis in (rows, columns))
    across = (across + window[1] // 2) % window[1] - window[1] // 2
    return (down + window[0] - 1) * (2 * window[1] - 1) + across + window[1] - 1
