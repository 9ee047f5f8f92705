"""Checks for launch options that accelerate would silently ignore."""

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
    """Check that the launch of this process agrees with the requested devices and sharding.

    Args:
        device: Device type that is asked for; `None` for CUDA where there is one.
        fsdp: Whether the training arguments ask for FSDP.
        deepspeed: Whether they ask for DeepSpeed.
        environment: Environment variables; the process's own if left out.

    Raises:
        UserError: FSDP or DeepSpeed on the CPU, or several processes of which accelerate starts one.
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
                f"{name} is asked for, and the run is on the CPU, where accelerate ignores it. Run on GPUs, or take "
                f"plain data parallelism: {TORCHRUN}"
            )
    # Accelerate's simple launcher names a master for several processes, but starts this one alone.
    if "ACCELERATE_MIXED_PRECISION" in env and "MASTER_ADDR" in env and "WORLD_SIZE" not in env:
        raise UserError(
            "accelerate launch was asked for several processes and started one, as it does with --cpu. "
            f"Start them with: {TORCHRUN}"
        )


def _is_on(env: Mapping[str, str], name: str) -> bool:
    return env.get(name, "").lower() in ("1", "true", "yes", "on")
