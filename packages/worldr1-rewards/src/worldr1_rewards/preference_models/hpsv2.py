"""HPSv2.1: a CLIP model tuned on human choices between pictures of one prompt (arXiv 2306.09341, checkpoint 2.1).

Loaded into `open_clip`'s ViT-H-14 from the released checkpoint alone; none of `open_clip`'s own weights are fetched.
"""

from __future__ import annotations

import contextlib
import logging
import re
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from PIL.Image import Image
from torch import Tensor
from torch.nn import functional

from worldr1_core.errors import require
from worldr1_core.weights_source import WeightsSource
from worldr1_rewards.judges.images import to_pil
from worldr1_rewards.pretrained import fill_strictly, find_file, read_state_dict

RELEASED = "xswu/HPSv2"
FILENAME = "HPS_v2.1_compressed.pt"
ARCHITECTURE = "ViT-H-14"

LOWEST, HIGHEST = 0.1, 0.4
"""Cosines that map to 0 and 1: unrelated pictures lie near the first, none of today's generators reaches the second."""


class HPSv2:
    """Cosine between picture and prompt in the tuned CLIP space.

    Args:
        source: Hub id, folder or file of the checkpoint.
        device: Where to run.
        dtype: Type to run in; float32 if `None`. The released code runs under CUDA's automatic mixed precision.

    Raises:
        MissingExtraError: `open_clip` is not installed.
        WeightsError: The checkpoint is not there or does not fit.
    """

    def __init__(self, source: WeightsSource, *, device: str = "cpu", dtype: torch.dtype | None = None) -> None:
        open_clip = require("open_clip", extra="worldr1-rewards[hps]")
        what = "HPSv2.1"
        state = read_state_dict(find_file(source, FILENAME, what), source, what)
        self.device, self.dtype = device, dtype or torch.float32
        with _without_warnings():
            model = open_clip.create_model(ARCHITECTURE, pretrained=None, pretrained_text=False)
        self.model: Any = fill_strictly(model, state, source, what).to(device, self.dtype).requires_grad_(False)
        self.tokenizer = open_clip.get_tokenizer(ARCHITECTURE)
        self.preprocess = open_clip.image_transform(model.visual.image_size, is_train=False, resize_mode="longest")

    def tokenize(self, prompt: str) -> Tensor:
        """Token ids `(1, context_length)`; a prompt that spells the model's start or end token is freed of brackets."""
        ids = self.tokenizer([prompt])
        marks = (self.tokenizer.sot_token_id, self.tokenizer.eot_token_id)
        if any(int((ids == mark).sum()) != 1 for mark in marks):
            ids = self.tokenizer([re.sub(r"[<>&]", " ", prompt)])
        return ids

    @torch.inference_mode()
    def score(self, images: Sequence[Image], prompts: Sequence[str]) -> Tensor:
        """Cosines `(B,)` float32 in [-1, 1]; pictures are scaled to fit a square and padded with black."""
        return self._cosines(torch.stack([self.preprocess(image) for image in images]), prompts)

    def score_frames(self, frames: Tensor, prompts: Sequence[str]) -> Tensor:
        """Score pictures as `score` does, with a gradient in their pixels.

        Pictures are rounded to 8 bits and scaled by Pillow, as for `score`. The gradient is that of the same scaling
        without rounding.

        Args:
            frames: `(B, 3, H, W)` RGB in [0, 1].
            prompts: B prompts.

        Returns:
            Cosines `(B,)` float32 on the CPU.
        """
        exact = torch.stack([self.preprocess(image) for image in to_pil(frames)]).to(frames)
        smooth = self._preprocess_frames(frames)
        return self._cosines(smooth + (exact - smooth).detach(), prompts)

    def _cosines(self, pixels: Tensor, prompts: Sequence[str]) -> Tensor:
        tokens = torch.cat([self.tokenize(prompt) for prompt in prompts]).to(self.device)
        seen = self.model.encode_image(pixels.to(self.device, self.dtype), normalize=True)
        said = self.model.encode_text(tokens, normalize=True)
        return (seen.float() * said.float()).sum(-1).cpu()

    def _preprocess_frames(self, frames: Tensor) -> Tensor:
        """`preprocess` without its rounding, differentiable: scaled to fit, padded with black, normalised."""
        fit, pad, *_, normalise = self.preprocess.transforms
        height, width = frames.shape[-2:]
        ratio = max(height / fit.size[0], width / fit.size[1])
        size = [round(height / ratio), round(width / ratio)]
        fitted = functional.interpolate(frames, size=size, mode="bicubic", antialias=True, align_corners=False)
        smooth: Tensor = normalise(pad(fitted.clamp(0, 1)))
        return smooth

    @staticmethod
    def to_unit(raw: float) -> float:
        """Cosine to [0, 1]: a straight line from `LOWEST` to `HIGHEST`, clamped outside.

        Example:
            >>> HPSv2.to_unit(0.0), round(HPSv2.to_unit(0.25), 6), HPSv2.to_unit(1.0)
            (0.0, 0.5, 1.0)
        """
        return float(HPSv2.to_unit_range(torch.tensor(raw, dtype=torch.float64)))

    @staticmethod
    def to_unit_range(raw: Tensor) -> Tensor:
        """`to_unit` of tensors, with a gradient."""
        return ((raw - LOWEST) / (HIGHEST - LOWEST)).clamp(0, 1)


@contextlib.contextmanager
def _without_warnings() -> Iterator[None]:
    """Keep `open_clip` from warning of random weights, which the checkpoint replaces at once."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(level)
