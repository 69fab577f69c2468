"""timm's networks with one input channel, and pretrained weights for them from timm's hub or from a file."""

import importlib
import warnings
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from dpcurate.errors import InputError

HUB_SECONDS = 5
"""Longest wait for the hub's first answer."""

HUB_FILE = "model.safetensors"

STANDARD_WINDOW = 7
"""Tokens along a side of Swin's windows, as published."""

LARGEST_WINDOW = 8
"""Swin's windows grow no wider when they are fitted to the frame, so that the cost per pixel stays."""

TORCHVISION_SCHEMAS = {
    "nms": "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms": "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
}


@cache
def load_timm() -> ModuleType:
    """The module timm.

    timm imports torchvision, and torchvision built for CUDA stops beside a CPU-only torch with "operator
    torchvision::nms does not exist". Then, and only then, the two missing schemas are defined; nothing here calls
    them. This can go when the registry's torchvision imports without its compiled operators.
    """
    try:
        importlib.import_module("torchvision")
    except RuntimeError as error:
        if "torchvision::nms" not in str(error):
            raise
        for name, schema in TORCHVISION_SCHEMAS.items():
            torch.library.define(f"torchvision::{name}", schema)
        importlib.import_module("torchvision")
    return importlib.import_module("timm")


def densenet121(n_outputs: int) -> nn.Module:
    """DenseNet-121 (Huang et al., CVPR 2017) as in timm: ``(B, 1, S, S)`` to ``(B, n_outputs)``, any S from 32."""
    network: nn.Module = load_timm().create_model("densenet121", in_chans=1, num_classes=n_outputs)
    return network


def swin_tiny(
    n_outputs: int, *, size: int | tuple[int, int], windows: int | list[tuple[int, int]] = STANDARD_WINDOW
) -> nn.Module:
    """Swin-T (Liu et al., ICCV 2021) as in timm, made for ``size`` (pixels, or rows and columns).

    ``(B, 1, rows, columns)`` to ``(B, n_outputs)``. ``windows``: tokens along a side, or rows and columns for each of
    the four stages. A stage whose token map is not a multiple of a side is padded; one that is smaller is one window.
    """
    network: nn.Module = load_timm().create_model(
        "swin_tiny_patch4_window7_224",
        in_chans=1,
        num_classes=n_outputs,
        img_size=size,
        window_size=windows,
        always_partition=not isinstance(windows, int),
    )
    return network


def fitted_window(size: int) -> int:
    """The largest window up to 8 tokens that pads no stage of a Swin with 4-pixel patches; 8 at 128 pixels.

    The stages have size / 4, / 8, / 16 and / 32 tokens along a side; what divides the third divides the first two.
    """
    tokens = size // 16
    return max(window for window in range(1, LARGEST_WINDOW + 1) if tokens % window == 0)


def load_pretrained(network: nn.Module, weights: str | None) -> None:
    """Fill a timm network, except for its classifier, with weights for RGB images.

    ``weights`` is a .safetensors file with timm's names, or None for the network's default on timm's hub. The first
    layer becomes the sum over the colours, and Swin's position tables are interpolated to its windows, as timm does.

    Raises
    ------
    InputError
        The file cannot be read, lacks a tensor or holds one of another shape; the hub cannot be reached.
    """
    source = weights or f"timm's hub ({_origin(network)['hf_hub_id']})"
    state = adapted(network, read_weights(weights) if weights else download_weights(network))
    own = network.state_dict()
    classifier = tuple(f"{name}." for name in _names(network, "classifier"))
    for name, tensor in own.items():
        if name.startswith(classifier) or name.endswith("num_batches_tracked"):
            continue
        if name not in state:
            raise InputError(f"{source}: tensor {name} is missing; give weights of the same timm network.")
        if state[name].shape != tensor.shape:
            raise InputError(
                f"{source}: tensor {name} has shape {tuple(state[name].shape)}, expected {tuple(tensor.shape)}; "
                "give weights of the same timm network."
            )
    network.load_state_dict({k: v for k, v in state.items() if k in own and not k.startswith(classifier)}, strict=False)


def adapted(network: nn.Module, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights renamed and resized for ``network`` by timm's own filter, the first layer made for one channel."""
    timm = load_timm()
    architecture = importlib.import_module(type(network).__module__)
    rename = getattr(architecture, "checkpoint_filter_fn", None)
    with warnings.catch_warnings():
        # timm 1.0.31 interpolates Swin's tables with strided points and lists as indices. torch 2.13 warns of both and
        # still does what is meant (a test holds it); this goes when timm's interpolate.py indexes with tuples.
        for message in (r"torch\.searchsorted\(\)", "Using a non-tuple sequence"):
            warnings.filterwarnings("ignore", message=message, category=UserWarning)
        state = dict(rename(state, network) if rename else state)
    for name in _names(network, "first_conv"):
        weight = state.get(f"{name}.weight")
        if weight is not None and weight.ndim == 4 and weight.shape[1] == 3:
            state[f"{name}.weight"] = timm.models.adapt_input_conv(1, weight)
    return state


def read_weights(path: str) -> dict[str, Tensor]:
    """Tensors of a .safetensors file by name; InputError when there is none or it cannot be read."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if not Path(path).is_file():
        raise InputError(f"{path}: no such file; --weights needs a .safetensors file of the same timm network.")
    try:
        return load_file(path)
    except SafetensorError as error:
        raise InputError(f"{path}: not a readable .safetensors file ({error}); download or save it again.") from error


def download_weights(network: nn.Module) -> dict[str, Tensor]:
    """The default pretrained weights of a timm network from its hub or the hub's cache on this machine."""
    hub = importlib.import_module("huggingface_hub")
    errors = importlib.import_module("huggingface_hub.errors")
    hub_id = _origin(network)["hf_hub_id"]
    try:
        path = hub.try_to_load_from_cache(hub_id, HUB_FILE)
        if not isinstance(path, str):
            # Asked first without repeats, because the download tries a dead network for 23 s (huggingface_hub 2.4).
            hub.get_hf_file_metadata(hub.hf_hub_url(hub_id, HUB_FILE), timeout=HUB_SECONDS)
            path = hub.hf_hub_download(hub_id, HUB_FILE)
    except (OSError, errors.HTTPError, errors.EntryNotFoundError) as error:
        raise InputError(
            f"Pretrained weights {hub_id} could not be fetched from timm's hub ({type(error).__name__}). Connect to "
            "the network once, or give a file: --weights FILE.safetensors; a model without '-pretrained' needs none."
        ) from error
    return read_weights(path)


def _names(network: nn.Module, key: str) -> tuple[str, ...]:
    value = _origin(network)[key]
    return (value,) if isinstance(value, str) else tuple(value)


def _origin(network: nn.Module) -> dict[str, Any]:
    """What timm records of a network: its weights on the hub, the names of its first layer and its classifier."""
    return dict(vars(network)["pretrained_cfg"])
