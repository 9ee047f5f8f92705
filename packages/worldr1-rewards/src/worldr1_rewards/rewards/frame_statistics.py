"""Statistics of the frames alone, as metrics: what a policy loses that wins by blur, fading, stillness or stripes.

The rewards `statistics-threshold` and `statistics-vs-reference` hold three of them up in training.
"""

from __future__ import annotations

import abc
from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from worldr1_core.clip import Clip
from worldr1_core.errors import ScoreUnavailable
from worldr1_core.reward import Reward, RewardInputs, Score, score_each
from worldr1_rewards import metrics
from worldr1_rewards.reconstructors.pyramid import luma

MOTION_SIDE = 16
FAINT = 0.01
"""Difference of RGB in [0, 1] below which detail hardly counts as such: the offset of logarithms."""


class FrameStatistic(Reward):
    """A number that the frames alone give, with a gradient in them."""

    @abc.abstractmethod
    def measure(self, frames: Tensor) -> Tensor:
        """The statistic, without dimensions, of the frames `(T, 3, H, W)` of one clip.

        Raises:
            ScoreUnavailable: The frames are too few or too small, or show nothing.
        """

    def score(self, clip: Clip, inputs: RewardInputs) -> Score:
        """Score one clip.

        Raises:
            ScoreUnavailable: See `measure`.
        """
        return Score(float(self.measure(clip.video.frames)))

    def score_frames(self, frames: Tensor, clips: Sequence[Clip], inputs: Sequence[RewardInputs]) -> Tensor:
        """Score many clips with a gradient in their frames; see `Reward.score_frames`."""
        return score_each(lambda own, clip, clip_inputs: self.measure(own), frames, clips, inputs)


class MeanGradientReward(FrameStatistic):
    """Mean absolute difference of neighbouring pixels, along rows plus along columns, in [0, 2]: sharpness."""

    def measure(self, frames: Tensor) -> Tensor:
        """`gradient-x` plus `gradient-y`.

        Raises:
            ScoreUnavailable: A side is a single pixel.
        """
        if min(frames.shape[-2:]) < 2:
            raise ScoreUnavailable(f"needs 2 pixels on each side, received {tuple(frames.shape[-2:])}")
        return _mean_difference(frames, -1) + _mean_difference(frames, -2)


class _DirectedStatistic(FrameStatistic):
    """A statistic of neighbouring pixels along one dimension of the frames."""

    dim: ClassVar[int]
    """-1: beside each other; -2: above each other."""


class _MeanGradient(_DirectedStatistic):
    def measure(self, frames: Tensor) -> Tensor:
        """Mean of |I(t, c, p') - I(t, c, p)| over pixels p and their neighbours p'.

        Raises:
            ScoreUnavailable: There is one pixel along the dimension.
        """
        return _mean_difference(frames, self.dim)


class GradientXReward(_MeanGradient):
    """Mean absolute difference of horizontally neighbouring pixels, over channels and frames, in [0, 1]."""

    dim = -1


class GradientYReward(_MeanGradient):
    """Mean absolute difference of vertically neighbouring pixels, over channels and frames, in [0, 1]."""

    dim = -2


class _TypicalGradient(_DirectedStatistic):
    def measure(self, frames: Tensor) -> Tensor:
        """exp(mean(log(|I(t, c, p') - I(t, c, p)| + e))) - e with e = 0.01, over pixels p and their neighbours p'.

        Raises:
            ScoreUnavailable: There is one pixel along the dimension.
        """
        return (_differences(frames, self.dim) + FAINT).log().mean().exp() - FAINT


class TypicalGradientXReward(_TypicalGradient):
    """Geometric mean of the absolute differences of horizontally neighbouring pixels, over channels and frames.

    In [0, 1]; where `gradient-x` can be made by a few strong edges, this asks for detail almost everywhere.
    """

    dim = -1


class TypicalGradientYReward(_TypicalGradient):
    """The same of vertically neighbouring pixels, in [0, 1]; see `typical-gradient-x`."""

    dim = -2


class RowVarianceReward(FrameStatistic):
    """Variance of the row means of luminance, mean over the frames, in [0, 0.25].

    The luminance of each row of pixels is averaged; the variance is that of these H means, divided by H. Horizontal
    stripes have all of their contrast here and none in `column-variance`, vertical ones the opposite.
    """

    def measure(self, frames: Tensor) -> Tensor:
        """Mean over t of var_y(mean_x(luma))."""
        return luma(frames)[:, 0].mean(2).var(1, correction=0).mean()


class ColumnVarianceReward(FrameStatistic):
    """Variance of the column means of luminance, mean over the frames, in [0, 0.25]; see `row-variance`."""

    def measure(self, frames: Tensor) -> Tensor:
        """Mean over t of var_x(mean_y(luma))."""
        return luma(frames)[:, 0].mean(1).var(1, correction=0).mean()


class SharpnessEvennessReward(FrameStatistic):
    """Sharpness of the least sharp frame over that of the sharpest, in [0, 1]: 1 if all frames are equally sharp.

    The sharpness of a frame is its mean absolute second difference of pixels along rows plus along columns, which
    weighs fine patterns more than `mean-gradient` does. Means over a clip do not see a policy that draws a fine pattern
    on one frame and blurs the others.
    """

    def measure(self, frames: Tensor) -> Tensor:
        """min_t s_t / max_t s_t, where s_t = mean |I(p + 1) - 2 I(p) + I(p - 1)|, along rows plus along columns.

        Raises:
            ScoreUnavailable: There is one frame, a side is below 3 pixels, or nothing is to be seen.
        """
        if len(frames) < 2 or min(frames.shape[-2:]) < 3:
            raise ScoreUnavailable(
                f"needs 2 frames of at least 3 x 3 pixels, received {len(frames)} of {tuple(frames.shape[-2:])}"
            )
        sharpness = torch.stack([frames.diff(n=2, dim=dim).abs().mean((1, 2, 3)) for dim in (-1, -2)]).sum(0)
        if float(sharpness.detach().max()) < 1e-4:
            raise ScoreUnavailable("no texture: frames have no sharpness")
        return sharpness.min() / sharpness.max()


class ContrastReward(FrameStatistic):
    """Standard deviation of a frame's luminance, mean over the frames, in [0, 0.5]."""

    def measure(self, frames: Tensor) -> Tensor:
        """Mean over t of std_xy(luma)."""
        return luma(frames).flatten(1).std(1, correction=0).mean()


class MotionReward(FrameStatistic):
    """Mean absolute change from frame to frame at 16 pixels on each side, over the contrast at that size: in [0, inf).

    The coarse size is blind to noise and boiling detail; the contrast makes faded clips comparable. It tells amounts of
    motion apart within one kind of scene; it does not tell motion of the camera from motion of the scene.
    """

    def measure(self, frames: Tensor) -> Tensor:
        """Mean change over mean contrast of the shrunken frames.

        Raises:
            ScoreUnavailable: There is one frame, or nothing to see.
        """
        if len(frames) < 2:
            raise ScoreUnavailable("needs 2 frames, received 1")
        small, _ = metrics.shrink(frames, torch.ones_like(frames[:, 0]), MOTION_SIDE)
        contrast = small.flatten(2).std(2, correction=0).mean().double()
        if float(contrast.detach()) < 1e-3:
            raise ScoreUnavailable("no texture: no motion can be seen")
        return small.diff(dim=0).abs().mean().double() / contrast


STATISTICS: dict[str, type[FrameStatistic]] = {
    "mean_gradient": MeanGradientReward,
    "contrast": ContrastReward,
    "motion": MotionReward,
}
"""What a policy must not lose, by the names of options."""


def _mean_difference(frames: Tensor, dim: int) -> Tensor:
    return _differences(frames, dim).mean()


def _differences(frames: Tensor, dim: int) -> Tensor:
    """Absolute differences of neighbours along a dimension.

    Raises:
        ScoreUnavailable: There is one pixel along it.
    """
    if frames.shape[dim] < 2:
        raise ScoreUnavailable(f"needs 2 pixels side by side, received frames of {tuple(frames.shape[-2:])}")
    return frames.diff(dim=dim).abs()
