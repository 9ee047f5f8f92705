"""Videos, prompts, a reward and a function in TRL's convention with known values, for both directions of the bridge."""

from __future__ import annotations

import torch

from worldr1_core.errors import ScoreUnavailable
from worldr1_core.reward import Reward

VIDEOS = [torch.full((3, 3, 8, 8), level) for level in (0.25, 0.5, 0.75)]
PROMPTS = ["a", "b", "c"]


class Bright(Reward):
    """Mean brightness; there is none for the prompt "b"."""

    def score(self, clip, inputs):
        if clip.prompt == "b":
            raise ScoreUnavailable("nothing to see")
        return float(clip.video.frames.mean())


def dark(completions, **kwargs):
    """Mean darkness of every video."""
    return [1 - float(frames.mean()) for frames in completions]
