"""Device, precision and processes of a run, by Lightning Fabric."""

import os

import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins.environments import LightningEnvironment, TorchElasticEnvironment
from lightning_fabric.strategies import DDPStrategy

from dpcurate.errors import InputError

DEVICES = ("auto", "cpu", "cuda")


def choose_device(device: str) -> str:
    """``cpu`` or ``cuda`` for one of ``DEVICES``; InputError when it is another or this machine has no GPU."""
    if device not in DEVICES:
        raise InputError(f"--device {device} is not known; choose one of {', '.join(DEVICES)}.")
    available = torch.cuda.is_available()
    if device == "cuda" and not available:
        raise InputError("--device cuda: no GPU that this torch can use was found; choose --device cpu or auto.")
    return "cuda" if available and device != "cpu" else "cpu"


def make_fabric(device: str) -> Fabric:
    """Fabric for this process, or for the processes that torchrun started (gloo on CPUs, NCCL on GPUs).

    Float32 on a CPU; bfloat16 where it is safe on GPUs that have it. Slurm's variables are not read: torchrun, started
    once per node, says how many processes there are.
    """
    accelerator = choose_device(device)
    elastic = TorchElasticEnvironment.detect()
    local = int(os.environ["LOCAL_WORLD_SIZE"]) if elastic else 1
    world = int(os.environ["WORLD_SIZE"]) if elastic else 1
    half = accelerator == "cuda" and torch.cuda.is_bf16_supported()
    return Fabric(
        accelerator=accelerator,
        devices=local,
        num_nodes=world // local,
        strategy=DDPStrategy(process_group_backend="gloo" if accelerator == "cpu" else "nccl") if world > 1 else "auto",
        precision="bf16-mixed" if half else "32-true",
        plugins=[TorchElasticEnvironment() if elastic else LightningEnvironment()],
    )
