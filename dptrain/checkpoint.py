"""Networks on disk: weights, cells, config and phases in one .safetensors file, and the state of an unfinished run."""

import io
import os
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from pydantic import TypeAdapter, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn
from torch.nn.utils import convert_conv2d_weight_memory_format

from dpcurate.errors import InputError
from dpcurate.schema import PhaseRecord
from dptrain.augment import canonical, no_change
from dptrain.config import TrainConfig
from dptrain.head import Head
from dptrain.heads import saved_head
from dptrain.models import build_network
from dptrain.views import averaged_outputs

FORMAT = "dptrain-1"
"""Change it when an old reader would misread a new checkpoint."""

BEST, LAST, STATE = "model.safetensors", "last.safetensors", "last.state.pt"
"""Files of a run: the network of the lowest validation loss, the newest one, and what is needed to go on."""

CHUNK = 256
"""Patterns that a network sees at a time when it predicts."""

PHASES = TypeAdapter(tuple[PhaseRecord, ...])


@dataclass(frozen=True)
class Predictor:
    """A trained network, ready to say which orientations patterns have."""

    network: nn.Module
    head: Head
    config: TrainConfig
    phases: tuple[PhaseRecord, ...]
    device: torch.device

    @torch.inference_mode()
    def predict(
        self, patterns: ArrayLike, center_xy: ArrayLike, scale: ArrayLike, *, n_best: int = 20, average: bool = False
    ) -> tuple[NDArray[np.float64], NDArray[np.float32], NDArray[np.int16]]:
        """The ``n_best`` answers to each pattern, best first.

        Parameters
        ----------
        patterns
            Counts ``(B, H, W)``; NaN and negative counts are taken as 0.
        center_xy, scale
            Direct beam (column, row) in pixels ``(B, 2)`` and 1/Angstrom per pixel ``(B,)``, or one for all.
        n_best
            How many answers are wanted.
        average
            Whether outputs are means over turned and mirrored views; see ``views.check_views``.

        Returns
        -------
        Orientations ``(B, n_best, 4)`` lab to crystal, the probability mass around each ``(B, n_best)``, and indices
        into ``phases`` ``(B, n_best)``.
        """
        patterns = np.asarray(patterns)
        n = len(patterns)
        center_xy = np.broadcast_to(np.asarray(center_xy, float), (n, 2))
        scale = np.broadcast_to(np.asarray(scale, float), (n,))
        orientation = np.empty((n, n_best, 4))
        probability, phase_id = np.empty((n, n_best), np.float32), np.empty((n, n_best), np.int16)
        for start in range(0, n, CHUNK):
            part = slice(start, start + CHUNK)
            counts = np.nan_to_num(patterns[part].astype(np.float32), posinf=0, neginf=0)
            frames = canonical(
                torch.from_numpy(counts).to(self.device),
                center_xy=center_xy[part],
                scale=scale[part],
                config=self.config.input,
                change=no_change(len(counts)),
            )
            outputs = averaged_outputs(self.network, self.head, frames) if average else self.network(frames)
            answer = self.head.decode(outputs, n_best=n_best)
            orientation[part], probability[part], phase_id[part] = (value.cpu().numpy() for value in answer)
        return orientation, probability, phase_id


def save_model(
    path: Path, network: nn.Module, *, head: Head, config: TrainConfig, phases: tuple[PhaseRecord, ...]
) -> None:
    """Write a checkpoint aside and rename it, so that ``path`` is whole or as it was. InputError when it cannot be."""
    metadata = {
        "format": FORMAT,
        "config": config.model_dump_json(),
        "phases": PHASES.dump_json(phases).decode(),
    }
    write_aside(path, save(_tensors(network, head), metadata))


def load_model(path: str | Path, device: str | torch.device = "cpu") -> Predictor:
    """The network in a checkpoint, or the best one of a run's folder.

    Raises
    ------
    InputError
        There is no such file, it is damaged, or it is not a checkpoint of dptrain or lacks tensors of its model.
    """
    path = Path(path)
    path = path / BEST if path.is_dir() else path
    if not path.is_file():
        raise InputError(f"{path}: no such checkpoint; give a run's folder or its {BEST}, as `dptrain run` writes it.")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            names = file.keys()
            state = {name: file.get_tensor(name) for name in names}
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path}: cannot be read as a checkpoint ({error}); train again or copy it again.") from error
    if metadata.get("format") != FORMAT:
        raise InputError(f"{path}: not a checkpoint of dptrain ({FORMAT}); give one that `dptrain run` wrote.")
    try:
        config = TrainConfig.model_validate_json(metadata["config"])
        phases = PHASES.validate_json(metadata["phases"])
    except (KeyError, ValidationError) as error:
        raise InputError(
            f"{path}: its config or phases are damaged ({type(error).__name__}); copy it again."
        ) from error
    network, head = _rebuilt(path, state, config=config, phases=phases)
    device = torch.device(device)
    return Predictor(network.eval().to(device), head.to(device), config, phases, device)


def _rebuilt(
    path: Path, state: Mapping[str, Tensor], *, config: TrainConfig, phases: tuple[PhaseRecord, ...]
) -> tuple[nn.Module, Head]:
    problem = f"{path}: does not fit its model {config.model}: "
    own_tensors = {name.removeprefix("head."): value for name, value in state.items() if name.startswith("head.")}
    try:
        head = saved_head(phases, config.head, own_tensors)
    except InputError as error:
        raise InputError(f"{problem}{error}") from error
    network = build_network(config, n_outputs=head.n_outputs, orders=head.orders)
    weights = {name.removeprefix("network."): value for name, value in state.items() if name.startswith("network.")}
    own = network.state_dict()
    for name in sorted(own.keys() ^ weights.keys()):
        fault = "is missing" if name in own else "is not one of its tensors"
        raise InputError(f"{problem}{name} {fault}; train again or copy it again.")
    for name, value in own.items():
        if weights[name].shape != value.shape:
            shapes = f"{tuple(weights[name].shape)} instead of {tuple(value.shape)}"
            raise InputError(f"{problem}{name} has shape {shapes}; train again or copy it again.")
    network.load_state_dict(weights)
    convert_conv2d_weight_memory_format(network, torch.channels_last)
    return network, head


def _tensors(network: nn.Module, head: Head) -> dict[str, Tensor]:
    tensors = {f"network.{name}": value for name, value in network.state_dict().items()}
    tensors |= {f"head.{name}": value for name, value in head.state_dict().items()}
    return {name: value.detach().cpu().contiguous() for name, value in tensors.items()}


def save_state(path: Path, state: Mapping[str, Any]) -> None:
    """Write the state of a run (tensors, numbers, text) aside and rename it; InputError when it cannot be written."""
    buffer = io.BytesIO()
    torch.save(dict(state), buffer)
    write_aside(path, buffer.getvalue())


def load_state(path: Path) -> dict[str, Any]:
    """The state of a run, on the CPU; InputError when it is missing or damaged. Nothing in the file is executed."""
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise InputError(f"{path}: missing, so the run cannot go on; start it again under another --name.") from None
    except (RuntimeError, pickle.UnpicklingError, EOFError, ValueError) as error:
        raise InputError(f"{path}: damaged, so the run cannot go on; start it again under another --name.") from error
    return state


def write_aside(path: Path, content: bytes) -> None:
    """Put ``content`` at ``path``, whole or not at all: written beside it, synced, renamed.

    Raises
    ------
    InputError
        The disk is full or does not allow it; what was at ``path`` before is still there.
    """
    aside = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with aside.open("wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        aside.replace(path)
    except OSError as error:
        raise InputError(
            f"{path}: could not be written ({error.strerror}, {len(content) / 1e6:.1f} MB); make room, or choose "
            "another folder, and give the command again; a run goes on with --resume."
        ) from error
    finally:
        aside.unlink(missing_ok=True)
