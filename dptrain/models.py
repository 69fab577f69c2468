"""The seven networks: a table of seven functions, each returning the complete config of its training."""

from collections.abc import Callable, Sequence

from torch import nn

from dpcurate.errors import InputError
from dptrain import backbones, polar_backbones
from dptrain.cnn import cnn
from dptrain.config import NetworkConfig, TrainConfig
from dptrain.polar_cnn import polar_cnn

DENSENET_PATTERNS, SWIN_PATTERNS = 30_000, 18_000
"""Training patterns shown unless --epochs says otherwise: what two CPU cores manage within an hour at the rates of
docs/results/models.md. Far too few for a good network; with a GPU, give --epochs."""


def cnn_config() -> TrainConfig:
    """A small convolutional network, the default; trains on two CPU cores.

    Run:       dptrain run --model cnn
    Measured:  docs/results/models.md, docs/results/networks.md
    """
    return TrainConfig(model="cnn", network=NetworkConfig(architecture="cnn"))


def densenet121_config() -> TrainConfig:
    """DenseNet-121 from random weights.

    Run:       dptrain run --model densenet121
    Measured:  speed in docs/results/models.md; accuracy not yet
    """
    network = NetworkConfig(architecture="densenet121")
    return TrainConfig(model="densenet121", network=network, learning_rate=1e-3, patterns_seen=DENSENET_PATTERNS)


def densenet121_pretrained_config() -> TrainConfig:
    """DenseNet-121 that starts from ImageNet weights (timm densenet121.ra_in1k).

    Run:       dptrain run --model densenet121-pretrained
    Measured:  speed in docs/results/models.md; accuracy not yet
    """
    network = NetworkConfig(architecture="densenet121", pretrained=True)
    return TrainConfig(
        model="densenet121-pretrained", network=network, learning_rate=5e-4, patterns_seen=DENSENET_PATTERNS
    )


def swin_tiny_config() -> TrainConfig:
    """Swin-T with windows of 7 tokens as published, from random weights; at 128 pixels three stages are padded.

    Run:       dptrain run --model swin-tiny
    Measured:  speed in docs/results/models.md; accuracy not yet
    """
    network = NetworkConfig(architecture="swin")
    return TrainConfig(
        model="swin-tiny", network=network, learning_rate=5e-4, warmup_share=0.1, patterns_seen=SWIN_PATTERNS
    )


def swin_tiny_pretrained_config() -> TrainConfig:
    """Swin-T with windows of 7 tokens that starts from ImageNet weights (timm swin_tiny_patch4_window7_224.ms_in1k).

    Run:       dptrain run --model swin-tiny-pretrained
    Measured:  speed in docs/results/models.md; accuracy not yet
    """
    network = NetworkConfig(architecture="swin", pretrained=True)
    return TrainConfig(
        model="swin-tiny-pretrained", network=network, learning_rate=2e-4, warmup_share=0.1, patterns_seen=SWIN_PATTERNS
    )


def swin_tiny_adjusted_config() -> TrainConfig:
    """Swin-T with windows that fit the frame without padding, on polar frames around the circle, from random weights.

    Run:       dptrain run --model swin-tiny-adjusted
    Measured:  speed in docs/results/models.md; accuracy not yet
    """
    network = NetworkConfig(architecture="swin", window="fitted")
    return TrainConfig(
        model="swin-tiny-adjusted", network=network, learning_rate=5e-4, warmup_share=0.1, patterns_seen=SWIN_PATTERNS
    )


def swin_tiny_adjusted_pretrained_config() -> TrainConfig:
    """The adjusted Swin-T that starts from ImageNet weights; their position tables are interpolated to its windows.

    Run:       dptrain run --model swin-tiny-adjusted-pretrained
    Measured:  speed in docs/results/models.md; accuracy not yet
    """
    network = NetworkConfig(architecture="swin", pretrained=True, window="fitted")
    return TrainConfig(
        model="swin-tiny-adjusted-pretrained",
        network=network,
        learning_rate=2e-4,
        warmup_share=0.1,
        patterns_seen=SWIN_PATTERNS,
    )


MODELS: dict[str, Callable[[], TrainConfig]] = {
    "cnn": cnn_config,
    "densenet121": densenet121_config,
    "densenet121-pretrained": densenet121_pretrained_config,
    "swin-tiny": swin_tiny_config,
    "swin-tiny-pretrained": swin_tiny_pretrained_config,
    "swin-tiny-adjusted": swin_tiny_adjusted_config,
    "swin-tiny-adjusted-pretrained": swin_tiny_adjusted_pretrained_config,
}


def model_config(name: str) -> TrainConfig:
    """The complete config of one of the seven; InputError names all of them when it is another."""
    if name not in MODELS:
        raise InputError(f"--model {name} is not known; choose one of {', '.join(MODELS)}.")
    return MODELS[name]()


def build_network(config: TrainConfig, *, n_outputs: int, orders: Sequence[int] = ()) -> nn.Module:
    """The network of a config with random weights: frames to outputs ``(B, n_outputs)``.

    Frames are ``(B, 1, size, size)``, or in the polar frame ``(B, 1, size / 2, 2 size)``. ``orders`` are the head's:
    how each output turns with the pattern, for networks that keep to it.
    """
    architecture, size, kernel = config.network.architecture, config.input.size, config.network.kernel
    fitted = config.network.window == "fitted"
    if config.input.frame == "polar":
        if architecture == "cnn":
            return polar_cnn(n_outputs, size=size, orders=orders, kernel=kernel)
        if architecture == "densenet121":
            return polar_backbones.polar_densenet121(n_outputs, size=size, orders=orders)
        return polar_backbones.polar_swin_tiny(n_outputs, size=size, fitted=fitted, orders=orders)
    if architecture == "cnn":
        return cnn(n_outputs, kernel=kernel)
    if architecture == "densenet121":
        return backbones.densenet121(n_outputs)
    window = backbones.fitted_window(size) if fitted else backbones.STANDARD_WINDOW
    return backbones.swin_tiny(n_outputs, size=size, windows=window)


def initial_network(config: TrainConfig, *, n_outputs: int, orders: Sequence[int] = ()) -> nn.Module:
    """The network a run starts from: as ``build_network``, with pretrained weights where the config says so.

    Raises
    ------
    InputError
        The weights cannot be had or do not fit; a weights file is given for a network that starts from random ones.
    """
    if config.weights and not config.network.pretrained:
        raise InputError(f"--weights {config.weights} goes with a '-pretrained' model, not with {config.model}.")
    network = build_network(config, n_outputs=n_outputs, orders=orders)
    if config.network.pretrained:
        timm_network = network.backbone if isinstance(network, polar_backbones.PolarNetwork) else network
        backbones.load_pretrained(timm_network, config.weights)
    return network
