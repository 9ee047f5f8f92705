"""The metrics `ssim` and `lpips-similarity`: similarity of a clip and the re-render of its own reconstruction."""

from __future__ import annotations

from typing import ClassVar

from worldr1_core.clip import Clip
from worldr1_core.errors import ScoreUnavailable
from worldr1_core.reconstructor import Render
from worldr1_core.reward import Requirement, Reward, RewardInputs, Score
from worldr1_rewards import metrics
from worldr1_rewards.evaluation.columns import STILLNESS, Column
from worldr1_rewards.rewards.lpips_net import lpips_distance
from worldr1_rewards.rewards.moving_parts import MovingConfig, as_configured

UNCOVERED = "the reconstruction covers no pixel of the clip"


class SSIMReward(Reward):
    """SSIM between the clip and its re-render, mean over the frames, in [-1, 1], higher is better.

    Windows that the re-render does not cover are left out; see `worldr1_rewards.metrics.ssim`. Like `psnr`, it prefers
    blur and stillness: never train on it alone. `moving: mask` leaves out what moves by itself, see
    `worldr1_rewards.rewards.moving_parts`.
    """

    class Config(MovingConfig):
        """Options of `ssim`."""

    requires: ClassVar[frozenset[Requirement]] = frozenset({Requirement.RECONSTRUCTION})
    columns: ClassVar[tuple[Column, ...]] = (Column("ssim", "SSIM", blind_to=STILLNESS),)
    config: Config

    def score(self, clip: Clip, inputs: RewardInputs) -> Score:
        """Score one clip.

        Raises:
            ScoreUnavailable: The re-render covers no whole window of the clip.
        """
        reconstruction = inputs.require_reconstruction("The metric 'ssim'")
        whole, frames = reconstruction.rerender(), clip.video.frames
        render, moving = as_configured(self.config, whole, frames, reconstruction)
        value = float(metrics.ssim(render.frames.to(frames), frames, render.coverage.to(frames)).nanmean())
        if value != value:
            raise ScoreUnavailable("the reconstruction covers no window of the clip")
        return Score(value, details={"ssim": value, "coverage": float(whole.coverage.mean()), **moving})


class LPIPSReward(Reward):
    """1 - LPIPS (AlexNet) between the clip and its re-render, mean over the frames; the column `lpips` is LPIPS itself.

    Pixels that the re-render does not cover are taken from the clip. Needs torchvision's AlexNet weights, which are
    downloaded on first use.
    """

    requires: ClassVar[frozenset[Requirement]] = frozenset({Requirement.RECONSTRUCTION})
    columns: ClassVar[tuple[Column, ...]] = (Column("lpips", "LPIPS", higher_is_better=False, blind_to=STILLNESS),)

    def score(self, clip: Clip, inputs: RewardInputs) -> Score:
        """Score one clip.

        Raises:
            ScoreUnavailable: The re-render covers nothing of the clip.
            WeightsError: The weights are missing.
        """
        render = inputs.require_reconstruction("The metric 'lpips-similarity'").rerender()
        distance = self._distance(render, clip)
        return Score(1 - distance, details={"lpips": distance, "coverage": float(render.coverage.mean())})

    def _distance(self, render: Render, clip: Clip) -> float:
        frames = clip.video.frames
        coverage = render.coverage.to(frames)[:, None]
        if not bool((coverage > 0).any()):
            raise ScoreUnavailable(UNCOVERED)
        shown = coverage * render.frames.to(frames).nan_to_num() + (1 - coverage) * frames
        return float(lpips_distance(shown.clamp(0, 1), frames, device=self.device).mean())
