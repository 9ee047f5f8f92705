"""Classifier-free guidance, bit for bit as pipelines apply it, so that the replay repeats the scheduler's input."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor


def separate_passes(outputs: Sequence[Tensor], scale: float) -> Tensor:
    """Guidance of pipelines that call the denoiser twice, conditional first (Wan).

    Args:
        outputs: The conditional and the unconditional prediction `(B, ...)`; the conditional alone without guidance.
        scale: Guidance scale w of Ho and Salimans, "Classifier-Free Diffusion Guidance", 2022: u + w (c - u).

    Returns:
        `(B, ...)` in the denoiser's dtype.
    """
    if len(outputs) == 1:
        return outputs[0]
    conditional, unconditional = outputs
    return unconditional + scale * (conditional - unconditional)


def stacked_passes(outputs: Sequence[Tensor], scale: float) -> Tensor:
    """Guidance of pipelines that call the denoiser once with the unconditional half before the conditional one.

    Args:
        outputs: One prediction, `(2 B, ...)`; `(B, ...)` without guidance, which is `scale` at most 1.
        scale: As in `separate_passes`.

    Returns:
        `(B, ...)` float32.
    """
    (output,) = outputs
    if scale <= 1:
        return output.float()
    unconditional, conditional = output.float().chunk(2)
    return unconditional + scale * (conditional - unconditional)
