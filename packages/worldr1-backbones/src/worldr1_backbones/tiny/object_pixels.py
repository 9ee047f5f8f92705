"""The metric `tiny-object-pixels`: how much of a clip has the hue of the objects that its caption names.

A count of pixels without a learnt model, which verifies gains on `tiny-text-alignment`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from worldr1_backbones.tiny.text_alignment import caption_of
from worldr1_backbones.tiny.textures import RGB
from worldr1_core.clip import Clip
from worldr1_core.errors import ScoreNotApplicable
from worldr1_core.reward import Reward, RewardInputs, Score

COLOURLESS = ("white", "gray")
LEAST_COSINE = 0.95
"""Between a pixel and the colour, both without their mean: about 18 degrees of hue."""
LEAST_SATURATION = 0.18
"""Length of RGB in [0, 1] without its mean, below which a pixel has no hue; the warm floor reaches 0.15."""


class TinyObjectPixelsReward(Reward):
    """Share of the pixels with the hue of a named object, mean over the objects that have one, in [0, 1].

    Higher means more pixels, which is better only up to a point: renders have 0.06 to 0.18, an all-red picture 1. White
    and gray objects have no hue and are left out.
    """

    def score(self, clip: Clip, inputs: RewardInputs) -> Score:
        """Score one clip.

        Raises:
            ScoreNotApplicable: The prompt is no caption of the tiny world, or names no object with a hue.
        """
        colours = [colour for colour, _ in caption_of(clip).objects if colour not in COLOURLESS]
        if not colours:
            raise ScoreNotApplicable("the caption's objects are white or gray: they have no hue to look for")
        shares = {colour: float(hue_share(clip.video.frames, colour).mean()) for colour in colours}
        return Score(sum(shares.values()) / len(shares), details=shares)


def hue_share(frames: Tensor, colour: str) -> Tensor:
    """Share of each frame's pixels that have a colour's hue, `(T,)` in [0, 1].

    Args:
        frames: `(T, 3, H, W)` in [0, 1].
        colour: One of `textures.RGB`, neither white nor gray.
    """
    wanted = torch.tensor(RGB[colour])
    wanted = torch.nn.functional.normalize(wanted - wanted.mean(), dim=0)
    chroma = frames - frames.mean(1, keepdim=True)
    saturation = chroma.norm(dim=1)
    along = torch.einsum("tchw,c->thw", chroma, wanted.to(frames))
    return ((along > LEAST_COSINE * saturation) & (saturation > LEAST_SATURATION)).float().mean((1, 2))
