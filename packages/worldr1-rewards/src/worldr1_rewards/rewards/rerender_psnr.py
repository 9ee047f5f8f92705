"""The metrics `psnr` and `psnr-normalised`: accuracy in decibels of the re-render by the clip's own reconstruction.

They are rewards intended as metrics: a manifest lists them with weight 0, and training evaluates with
them. The paper's tables give the first (section on 3D consistency).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from worldr1_core.clip import Clip
from worldr1_core.errors import ScoreUnavailable
from worldr1_core.reconstructor import Render
from worldr1_core.reward import Requirement, Reward, RewardInputs, Score, score_each
from worldr1_rewards import metrics
from worldr1_rewards.rewards.moving_parts import MovingConfig, as_configured
from worldr1_rewards.rewards.plane_sweep import normalise_local_contrast


class PSNRReward(Reward):
    """PSNR in dB between the clip and its re-render, mean over the frames, in [0, 100], higher is better.

    Pixels that the re-render does not cover are left out. It prefers blur and stillness: never train on it alone.
    `moving: mask` leaves out what moves by itself, see `worldr1_rewards.rewards.moving_parts`.
    """

    class Config(MovingConfig):
        """Options of `psnr` and `psnr-normalised`."""

    requires: ClassVar[frozenset[Requirement]] = frozenset({Requirement.RECONSTRUCTION})
    config: Config

    def score(self, clip: Clip, inputs: RewardInputs) -> Score:
        """Score one clip.

        Raises:
            ScoreUnavailable: The re-render covers nothing of the clip.
        """
        reconstruction = inputs.require_reconstruction(type(self).__name__)
        whole = reconstruction.rerender()
        render, moving = as_configured(self.config, whole, clip.video.frames, reconstruction)
        details = {"coverage": float(whole.coverage.mean()), **moving}
        return Score(float(self._evaluate(render, clip.video.frames)), details=details)

    def score_frames(self, frames: Tensor, clips: Sequence[Clip], inputs: Sequence[RewardInputs]) -> Tensor:
        """Score many clips with a gradient in their frames; see `Reward.score_frames`.

        The gradient is that of the frames as they are and as colours of the re-render; the geometry is held fixed.

        Raises:
            UserError: A reconstruction has no gradient in the frames.
        """

        def value(own: Tensor, clip: Clip, known: RewardInputs) -> Tensor:
            reconstruction = known.require_reconstruction(type(self).__name__)
            render, _ = as_configured(self.config, reconstruction.rerender_frames(own), own, reconstruction)
            return self._evaluate(render, own)

        return score_each(value, frames, clips, inputs)

    def _evaluate(self, render: Render, frames: Tensor) -> Tensor:
        """The score, without dimensions.

        Raises:
            ScoreUnavailable: The re-render covers nothing of the clip.
        """
        value = self._value(render.frames.to(frames), frames, render.coverage.to(frames))
        if not bool(torch.isfinite(value)):
            raise ScoreUnavailable("the reconstruction covers no pixel of the clip")
        return value.clamp(0, metrics.MAX_PSNR)

    def _value(self, rendered: Tensor, frames: Tensor, coverage: Tensor) -> Tensor:
        return metrics.psnr(rendered, frames, coverage).nanmean()


class NormalisedPSNRReward(PSNRReward):
    """The same on luminance whose local mean and contrast are taken away, in [0, 100] dB, higher is better.

    Blur, fading and low contrast gain nothing here. The normalised pixels have a variance of about 1, so that 0 dB is
    as bad as a flat image. NaN where a side is smaller than 9 pixels.
    """

    def _value(self, rendered: Tensor, frames: Tensor, coverage: Tensor) -> Tensor:
        if min(frames.shape[-2:]) < 9:
            raise ScoreUnavailable(f"frames of {tuple(frames.shape[-2:])} pixels are too small for local contrast")
        normal = normalise_local_contrast(torch.stack([rendered, frames]))[:, :, 0]
        error = metrics.masked_mean((normal[0] - normal[1]).square(), coverage)
        return (-10 * torch.log10(error.clamp(min=10 ** (-metrics.MAX_PSNR / 10)))).nanmean()
