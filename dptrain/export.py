"""A network handed on, as ONNX or as a program of torch.export (.pt2), checked against the network it came from."""

import hashlib
import io
import json
import warnings
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from dpcurate.errors import InputError
from dptrain.augment import canonical, no_change
from dptrain.checkpoint import Predictor, load_model, write_aside
from dptrain.extras import require
from dptrain.model_card import CARD, CONVENTIONS, write_card
from dptrain.runs import checkpoint_file

FORMATS = {"onnx": ".onnx", "torch": ".pt2"}

KEY, EXTRA_FILE = "dptrain", "dptrain.json"
"""Where the metadata lie: a property of an ONNX model, an extra file of a .pt2."""

TOLERANCE = 1e-4
"""Of the largest output; what sums in another order differ by in float32 is ten times less."""

ANGLE_DEG = 0.1
"""Best answers may differ by so much; float32 angles are good to 0.05 degrees."""

BATCHES = (1, 3, 8)
"""Patterns in each comparison; 3 is what the program was traced with."""

N_BEST = 20

Run = Callable[[Tensor], tuple[Tensor, ...]]


class Answering(nn.Module):
    """A network with its head: frames to outputs, and to the best answers (see ``Head.decode``)."""

    def __init__(self, predictor: Predictor):
        super().__init__()
        self.network, self.head = predictor.network, predictor.head

    def forward(self, frames: Tensor) -> tuple[Tensor, ...]:
        """``(B, 1, rows, columns)`` to outputs, orientations, confidences and phases."""
        outputs = self.network(frames)
        return outputs, *self.head.decode(outputs, n_best=N_BEST)


class Plain(nn.Module):
    """A network alone; what its head does with the outputs has no counterpart in ONNX for every head."""

    def __init__(self, predictor: Predictor):
        super().__init__()
        self.network = predictor.network

    def forward(self, frames: Tensor) -> tuple[Tensor, ...]:
        """``(B, 1, rows, columns)`` to outputs."""
        return (self.network(frames),)


def export_model(
    checkpoint: str | Path, *, file_format: str, out: Path | None = None, overwrite: bool = False
) -> tuple[Path, float]:
    """Write a network in another format with its card beside it; returns the file and the largest difference found.

    Parameters
    ----------
    checkpoint
        A run's folder (its best network) or a checkpoint file.
    file_format
        One of ``FORMATS``.
    out, overwrite
        Default: beside the checkpoint, with its name. Whether a file there may be replaced.

    Raises
    ------
    InputError
        No checkpoint; an unknown format or a missing package; ``out`` is there or cannot be written; the exported
        network does not give the same as the network.
    """
    if file_format not in FORMATS:
        raise InputError(f"--format {file_format}: is not known; choose {' or '.join(FORMATS)}.")
    if file_format == "onnx":
        require("export --format onnx", "onnx", "onnxscript", "onnxruntime", extra="export")
    predictor, file = load_model(checkpoint), checkpoint_file(checkpoint)
    out = out or file.with_suffix(FORMATS[file_format])
    if out.exists() and (not overwrite or out.resolve() == file.resolve()):
        raise InputError(f"{out}: exists already. Give --overwrite to replace it, or another --out.")
    module = (Plain if file_format == "onnx" else Answering)(predictor).eval()
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # torch's exporters warn of their own ways
        frames = sample_frames(predictor, BATCHES[1])
        module(frames)  # what heads make on first use is there before they are traced
        shapes = {"frames": {0: torch.export.Dim("batch")}}
        program = torch.export.export(module, (frames,), dynamic_shapes=shapes)
        run, content = (_onnx if file_format == "onnx" else _torch)(program)
        difference = largest_difference(run, module, predictor, what=str(out))
        data = content(json.dumps(metadata(predictor, file) | {"largest_difference": difference}, ensure_ascii=False))
    write_aside(out, data)
    write_card(predictor, file, out.with_name(CARD))
    return out, difference


def sample_frames(predictor: Predictor, n: int) -> Tensor:
    """Frames ``(n, 1, rows, columns)`` as the network sees them, of patterns of noise."""
    config, size = predictor.config.input, 64
    assert config.k_max is not None, "a trained network has looked at patterns"
    counts = np.random.default_rng(n).poisson(3.0, (n, size, size)).astype(np.float32)
    middle = (size - 1) / 2
    return canonical(
        torch.from_numpy(counts),
        center_xy=np.full((n, 2), middle),
        scale=np.full(n, config.k_max / middle),
        config=config,
        change=no_change(n),
    )


def largest_difference(run: Run, module: nn.Module, predictor: Predictor, *, what: str) -> float:
    """Largest difference of outputs, as a share of the largest output, over batches of several sizes.

    Raises InputError when it is above ``TOLERANCE``, or a best answer more than ``ANGLE_DEG`` off.
    """
    worst = 0.0
    for n in BATCHES:
        frames = sample_frames(predictor, n)
        found, wanted = run(frames), module(frames)
        difference = float((found[0] - wanted[0]).abs().max() / wanted[0].abs().max().clamp(min=1e-9))
        angle = 0.0
        if len(found) > 1:
            cosine = (found[1][:, 0].double() * wanted[1][:, 0].double()).sum(dim=-1).abs().clamp(max=1)
            angle = float(torch.rad2deg(2 * cosine.arccos()).max())
        if not difference <= TOLERANCE or not angle <= ANGLE_DEG:
            raise InputError(
                f"{what}: not written, for the exported network differs from the checkpoint's by {difference:.2g} of "
                f"its largest output (at most {TOLERANCE:g}) and {angle:.2g} degrees. Try the other --format."
            )
        worst = max(worst, difference)
    return worst


def _onnx(program: torch.export.ExportedProgram) -> tuple[Run, Callable[[str], bytes]]:
    """What runs an exported program in ONNX Runtime, and its file with given metadata."""
    import onnx
    import onnxruntime

    made = torch.onnx.export(program, dynamo=True, input_names=["frames"], output_names=["outputs"], verbose=False)
    assert made is not None
    model = made.model_proto
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])

    def content(text: str) -> bytes:
        onnx.helper.set_model_props(model, {KEY: text})
        onnx.checker.check_model(model)
        return bytes(model.SerializeToString())

    return lambda frames: tuple(map(torch.from_numpy, session.run(None, {"frames": frames.numpy()}))), content


def _torch(program: torch.export.ExportedProgram) -> tuple[Run, Callable[[str], bytes]]:
    """What runs an exported program after it was saved and loaded, and its file with given metadata."""

    def content(text: str) -> bytes:
        buffer = io.BytesIO()
        torch.export.save(program, buffer, extra_files={EXTRA_FILE: text})
        return buffer.getvalue()

    return torch.export.load(io.BytesIO(content("{}"))).module(), content


def metadata(predictor: Predictor, file: Path) -> dict[str, Any]:
    """What whoever runs an exported network has to know."""
    config = predictor.config
    state = {name: value.tolist() for name, value in predictor.head.state_dict().items()}
    return {
        "checkpoint": {"file": file.name, "sha256": hashlib.sha256(file.read_bytes()).hexdigest()},
        "preprocessing": preprocessing(predictor),
        "conventions": CONVENTIONS,
        "phases": [phase.model_dump(mode="json") for phase in predictor.phases],
        "head": {"kind": type(predictor.head).__name__, **config.head.model_dump(), **state},
        "config": config.model_dump(mode="json"),
        "software": {name: version(name) for name in ("dpcurate", "torch")},
    }


def preprocessing(predictor: Predictor) -> dict[str, Any]:
    """How a pattern becomes a frame, step by step, with its numbers; ``augment.canonical`` does it."""
    config = predictor.config.input
    places = {
        "cartesian": "q = (j - (size - 1) / 2, i - (size - 1) / 2) * 2 k_max / size in 1/Angstrom from the direct beam",
        "polar": "the radius (i + 1/2) * 2 k_max / size in 1/Angstrom from the direct beam and the azimuth j * 180 / "
        "size degrees from x (columns) towards y (rows)",
    }
    return {
        **config.model_dump(mode="json"),
        "shape": list(sample_frames(predictor, 1).shape[1:]),
        "steps": [
            "counts: NaN, infinite and negative ones are 0",
            "where 2 k_max / size is 2 or more detector pixels, the mean of whole blocks of so many",
            f"bilinear at output pixel (i, j), which lies at {places[config.frame]}; 0 outside the pattern",
            "0 within k_min of the direct beam",
            "raised to power",
            "minus the mean of the frame, divided by its standard deviation",
        ],
    }
