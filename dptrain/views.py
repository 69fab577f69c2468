"""Averages over views: a pattern shown turned and mirrored, the outputs turned and mirrored back.

A polar network keeps to turns by whole columns of its last map, and learns those in between, and mirrors, as well as it
can. The mean over views is nearer to what each should have said.
"""

import torch
from torch import Tensor, nn

from dpcurate.errors import InputError
from dptrain.config import TrainConfig
from dptrain.head import Head
from dptrain.polar_cnn import partners

TURNS, STEP_DEG = 4, 2.8125
"""Turns of each pattern and of its mirror image, and degrees from one to the next: together one column at 64 pixels."""

N_VIEWS = 2 * TURNS


def check_views(config: TrainConfig, head: Head, *, what: str) -> None:
    """InputError where the outputs of a network do not say how they turn."""
    if config.input.frame != "polar" or not head.orders:
        raise InputError(
            f"{what}: --average needs outputs that turn with the pattern: heads density, harmonics and rotation on "
            f"polar frames, not {config.head.name} on {config.input.frame} ones; leave it out."
        )


def averaged_outputs(network: nn.Module, head: Head, frames: Tensor) -> Tensor:
    """Mean outputs ``(B, n_outputs)`` over ``N_VIEWS`` views of polar frames ``(B, 1, h, w)``."""
    width = frames.shape[-1]
    step = max(1, round(STEP_DEG * width / 360))
    signs = torch.tensor(head.mirror_signs, device=frames.device)
    total = torch.zeros((), device=frames.device)
    for mirrored in (False, True):
        shown = frames.flip(-1).roll(1, -1) if mirrored else frames  # azimuth j to -j
        for columns in range(0, TURNS * step, step):
            outputs = turned_outputs(network(shown.roll(columns, -1)).float(), -360 * columns / width, head.orders)
            total = total + (outputs * signs if mirrored else outputs)
    return total / N_VIEWS


def turned_outputs(outputs: Tensor, angle_deg: float, orders: tuple[int, ...]) -> Tensor:
    """Outputs ``(B, n_outputs)`` of patterns turned by an angle, from x towards y; ``orders`` as ``head.Head``."""
    partner, sign = (part.to(outputs.device) for part in partners(orders))
    phase = torch.deg2rad(torch.tensor(orders, device=outputs.device) * angle_deg)
    return outputs * phase.cos() + outputs[:, partner] * (sign * phase.sin())
