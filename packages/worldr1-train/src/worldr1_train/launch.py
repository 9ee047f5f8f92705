"""Checks of launch options that accelerate would silently ignore."""

from __future__ import annotations

import os
from collections.abc import Mapping

import torch

from worldr1_core.errors import UserError

TORCHRUN = "OMP_NUM_THREADS=1 torchrun --nproc-per-node N --no-python worldr1 train MANIFEST"


def check_launch(
    device: str | None = None,
    *,
    fsdp: bool = False,
    deepspeed: bool = False,
    environment: Mapping[str, str] | None = None,
) -> None:
    """Check that the launch of this process agrees with the requested device and sharding.

    Args:
        device: Requested device type; `None` for CUDA if it is available.
        fsdp: Whether the training arguments request FSDP.
        deepspeed: Whether the training arguments request DeepSpeed.
        environment: Environment variables. Defaults to those of the process.

    Raises:
        UserError: FSDP or DeepSpeed is requested on the CPU, or accelerate started only one of several requested
            processes.
    """
    env = os.environ if environment is None else environment
    on_cpu = device == "cpu" or (device is None and not torch.cuda.is_available())
    asked = {
        "FSDP": fsdp or _is_on(env, "ACCELERATE_USE_FSDP"),
        "DeepSpeed": deepspeed or _is_on(env, "ACCELERATE_USE_DEEPSPEED"),
    }
    for name, wanted in asked.items():
        if wanted and on_cpu:
            raise UserError(
                f"{name} is requested, but the run is on the CPU, where accelerate ignores it. Run on GPUs, or use "
                f"plain data parallelism: {TORCHRUN}"
            )
    # For several processes, accelerate's simple launcher sets MASTER_ADDR but starts only this process.
    if "ACCELERATE_MIXED_PRECISION" in env and "MASTER_ADDR" in env and "WORLD_SIZE" not in env:
        raise UserError(
            "accelerate launch was asked to start several processes but started only one, as it does with --cpu. "
            f"Start them with: {TORCHRUN}"
        )


def _is_on(env: Mapping[str, str], name: str) -> bool:
    return env.get(name, "").lower() in ("1", "true", "yes", "on")
