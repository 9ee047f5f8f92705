"""Precision of the denoisers, shared by manifests and training arguments."""

from __future__ import annotations

from typing import Literal

Precision = Literal["auto", "float32", "bfloat16"]


def runs_in_bfloat16(precision: Precision, device: str) -> bool:
    """Return True if denoisers run in bfloat16.

    Args:
        precision: `"auto"` is bfloat16 on a GPU and float32 on the CPU.
        device: Torch device, e.g. `"cpu"` or `"cuda:0"`.

    Example:
        >>> runs_in_bfloat16("auto", "cpu"), runs_in_bfloat16("auto", "cuda:0"), runs_in_bfloat16("bfloat16", "cpu")
        (False, True, True)
    """
    return precision == "bfloat16" or (precision == "auto" and not device.startswith("cpu"))
