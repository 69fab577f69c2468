"""Device, precision and processes of a run, by Lightning Fabric."""

import os
from datetime import timedelta

import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins.environments import LightningEnvironment, TorchElasticEnvironment
from lightning_fabric.strategies import DDPStrategy
from torch import distributed

from dpcurate.errors import InputError

DEVICES = ("auto", "cpu", "cuda")

SILENCE = timedelta(seconds=60)
"""A process that does not answer the others for so long is taken for dead, and they stop."""


def choose_device(device: str) -> str:
    """``cpu`` or ``cuda`` for one of ``DEVICES``; InputError when it is another or this machine has no GPU."""
    if device not in DEVICES:
        raise InputError(f"--device {device} is not known; choose one of {', '.join(DEVICES)}.")
    available = torch.cuda.is_available()
    if device == "cuda" and not available:
        raise InputError("--device cuda: no GPU that this torch can use was found; choose --device cpu or auto.")
    return "cuda" if available and device != "cpu" else "cpu"


def make_fabric(device: str, *, precision: str = "auto") -> Fabric:
    """Fabric for this process, or for the processes that torchrun started (gloo on CPUs, NCCL on GPUs).

    ``precision``: float32, bfloat16, or auto, which is float32 on a CPU and bfloat16 on GPUs that have it. Slurm's
    variables are not read: torchrun, started once per node, says how many processes there are.

    Raises
    ------
    InputError
        No such device, or one without bfloat16 where it was asked for.
    """
    accelerator = choose_device(device)
    elastic = TorchElasticEnvironment.detect()
    local = int(os.environ["LOCAL_WORLD_SIZE"]) if elastic else 1
    world = int(os.environ["WORLD_SIZE"]) if elastic else 1
    able = accelerator == "cpu" or torch.cuda.is_bf16_supported()
    if precision == "bfloat16" and not able:
        raise InputError("--precision bfloat16: this GPU does not have it; choose float32 or auto.")
    half = precision == "bfloat16" or (precision == "auto" and accelerator == "cuda" and able)
    backend = "gloo" if accelerator == "cpu" else "nccl"
    return Fabric(
        accelerator=accelerator,
        devices=local,
        num_nodes=world // local,
        strategy=DDPStrategy(process_group_backend=backend, timeout=SILENCE) if world > 1 else "auto",
        precision="bf16-mixed" if half else "32-true",
        plugins=[TorchElasticEnvironment() if elastic else LightningEnvironment()],
    )


class Agreement:
    """What one process wants, known to all of them, without waiting for a GPU."""

    def __init__(self, world_size: int):
        self.group = distributed.new_group(backend="gloo", timeout=SILENCE) if world_size > 1 else None

    def anybody(self, wants: bool) -> bool:
        """Whether any process ``wants``; each has to ask."""
        if self.group is None:
            return wants
        said = torch.tensor([float(wants)])
        distributed.all_reduce(said, op=distributed.ReduceOp.MAX, group=self.group)
        return bool(said.item() > 0)
