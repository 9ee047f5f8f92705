"""The reward `reconstruction`: how well one static 3D scene explains the clip (S_recon of the paper)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from worldr1_core.clip import Clip
from worldr1_core.errors import PluginError, ScoreUnavailable
from worldr1_core.reconstructor import Reconstruction, Render
from worldr1_core.reward import Requirement, Reward, RewardInputs, Score, score_each
from worldr1_rewards import metrics
from worldr1_rewards.rewards.lpips_net import lpips_distance
from worldr1_rewards.rewards.moving_parts import MovingConfig, as_configured
from worldr1_rewards.rewards.path_agreement import achieved
from worldr1_rewards.rewards.rerender_quality import agreement, error_burst, within_reach
from worldr1_rewards.rewards.trajectory import TrajectoryReward

REWARD = "The reward 'reconstruction'"
PSNR_CEILING = 40.0
"""PSNR in dB that counts as 1."""
COVERAGE_HALF = 0.35
"""Share of explained pixels at which the score is halved."""
COARSE_SIDE, FINE_SIDE = 16, 64
"""Shorter sides in pixels at which `photometric` compares."""
REACH = 2
"""Pixels of the finer size by which `photometric` lets the content of the re-render be off."""
PLAIN_WEIGHT, DETAIL_WEIGHT = 1 / 16, 1 / 128
"""Weights of the plain error at the coarse and the finer size, beside 1 for what displacement does not explain."""
AGREEMENT_POWER = 2.5
"""Chosen on rendered and filmed clips together: rooms that bend then earn at most 0.7 of the honest clip, cuts half."""
STATIC_FINE_WEIGHT = 1 / 16
STATIC_FLOOR = 0.05
"""Unexplained share of variance of a static copy of which a perfect re-render earns half: a clip that hardly moves
proves little."""
STATIC_CANDIDATES = 5
"""Frames that are tried as the one static copy."""


class ReconstructionReward(Reward):
    """Agreement of the clip with the re-render of its own 3D reconstruction, in [0, 1], higher is better.

    score = quality(metric) x coverage factor x sharpness factor x gate

    - `local` (default, no weights): agreement^2.5 / (1 + (burst / b0)²); see
      `worldr1_rewards.rewards.rerender_quality`. The agreement compares every pixel's error with what a third of a
      pixel of displacement and a little noise would cause there, so that it means the same for rendered and for
      filmed clips; the burst detects content that appears, vanishes or jumps.
    - `photometric` (no weights): u0 / (u0 + u), where u is the squared error of the re-render over the
      variance of the frame, at a coarse size, of what no displacement by up to two pixels of a finer size explains,
      plus a small share of the plain error at both sizes. In units of the frame's contrast a soft scene is judged as
      strictly as a rich one. In every clean clip with a moving camera, slightly wrong depth behind a silhouette moves
      content by a pixel or two; content that vanishes, appears or changes colour is not found nearby. The plain error
      detects scenes that bend and detail that boils.
    - `lpips`: 1 - LPIPS with AlexNet, mean over the frames, as in the paper. Needs downloaded weights.
    - `psnr`: PSNR / 40 dB, at most 1. `ssim`: SSIM, at least 0.

    Pixels that the re-render does not cover are left out of the quality, and lower the coverage factor, which grows
    smoothly from 0 to 1 with the covered share and is about 0.5 at 0.35.

    Blur makes any scene easier to explain, so it lowers the sharpness factor: the sharpness of the frames' sharpest
    edges (`worldr1_rewards.metrics.edge_sharpness`, median over the frames) divided by `sharpness`, at most 1. Some
    sharp edges are enough, so soft textures and plain walls do not lower the score.

    A reconstruction score by itself prefers less motion. The gate corrects this:

    - `trajectory` (default): multiply by S_traj of the reward `trajectory`; `static-gain` if no path is commanded.
      A clip that is commanded to stay still does not lose anything.
    - `static-gain`: multiply by the share of the error of the best static copy (one frame for the whole clip) that the
      reconstruction removes.
    - `none`: the bare score.

    `moving: mask` takes quality and static-gain gate over the rigid part of the scene, as
    `worldr1_rewards.rewards.moving_parts` finds it: honest motion of objects then costs nothing, and what neither
    stands still nor moves steadily keeps its cost. The share that moves is the detail `moving_share`.
    """

    class Config(MovingConfig):
        """Options of `reconstruction`."""

        metric: Literal["local", "photometric", "lpips", "psnr", "ssim"] = Field(
            "local", description="How re-render and frame are compared; only lpips needs weights."
        )
        gate: Literal["trajectory", "static-gain", "none"] = Field(
            "trajectory", description="What keeps stillness from paying; trajectory needs a commanded path."
        )
        unexplained: float = Field(
            0.002, gt=0, le=1, description="u0: unexplained share of the variance that earns half (photometric)."
        )
        burst: float = Field(
            0.01, gt=0, le=1, description="b0: rise of one frame's error, over the variance, that earns half (local)."
        )
        sharpness: float = Field(
            0.2, ge=0, le=1, description="Sharpness of the sharpest edges below which blur costs; 0 switches it off."
        )

    requires: ClassVar[frozenset[Requirement]] = frozenset({Requirement.RECONSTRUCTION})
    config: Config

    def score(self, clip: Clip, inputs: RewardInputs) -> Score:
        """Score one clip.

        Raises:
            ScoreUnavailable: The re-render covers nothing of the clip, or almost everything moves.
            WeightsError: `metric: lpips` without its weights.
            TrajectoryError: The commanded path has another number of poses than the clip has frames.
        """
        reconstruction = inputs.require_reconstruction(REWARD)
        frames = clip.video.frames
        value, details = self._evaluate(reconstruction.rerender(), frames, clip, reconstruction)
        return Score(float(value), details={name: float(detail) for name, detail in details.items()})

    def score_frames(self, frames: Tensor, clips: Sequence[Clip], inputs: Sequence[RewardInputs]) -> Tensor:
        """Score many clips with a gradient in their frames; see `Reward.score_frames`.

        The gradient is that of the frames as they are and as colours of the re-render. Held fixed are the geometry,
        and with it the coverage factor and the value of the trajectory gate.

        Raises:
            UserError: A reconstruction has no gradient in the frames.
            WeightsError: `metric: lpips` without its weights.
            TrajectoryError: The commanded path has another number of poses than the clip has frames.
        """

        def value(own: Tensor, clip: Clip, known: RewardInputs) -> Tensor:
            reconstruction = known.require_reconstruction(REWARD)
            return self._evaluate(reconstruction.rerender_frames(own), own, clip, reconstruction)[0]

        return score_each(value, frames, clips, inputs)

    def _evaluate(
        self, render: Render, frames: Tensor, clip: Clip, reconstruction: Reconstruction
    ) -> tuple[Tensor, Mapping[str, Tensor | float]]:
        """Score, without dimensions, and its parts, in float64.

        Raises:
            ScoreUnavailable: The re-render covers nothing of the clip or is not finite, or almost everything moves.
        """
        render = _checked(render, frames)
        coverage = float(render.coverage.mean())
        if coverage == 0:
            raise ScoreUnavailable("the reconstruction covers no pixel of the clip")
        render, moving = as_configured(self.config, render, frames, reconstruction)
        quality, details = self._quality(render, frames)
        covered = achieved(coverage, COVERAGE_HALF)
        sharp = self._sharpness(frames)
        gate, gate_details = self._gate(render, frames, clip, reconstruction)
        parts = {**details, "coverage": coverage, "quality": quality, "sharpness": sharp, **gate_details, **moving}
        return quality * covered * sharp * gate, parts

    def _sharpness(self, frames: Tensor) -> Tensor | float:
        """Factor in [0, 1]; 1 where the frames are too small or too flat to have edges."""
        if self.config.sharpness == 0 or min(frames.shape[-2:]) <= metrics.EDGE_REACH:
            return 1.0
        found = metrics.edge_sharpness(frames).nanmedian().double()
        return torch.where(found.isnan(), 1.0, (found / self.config.sharpness).clamp(max=1))

    def _quality(self, render: Render, frames: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Value in [0, 1] of the chosen metric, and the metric in its own unit."""
        metric = self.config.metric
        if metric == "local":
            agreed = agreement(render.frames, frames, render.coverage).nanmean().double()
            burst = error_burst(render.frames, frames, render.coverage).double()
            steady = 1 / (1 + (burst / self.config.burst) ** 2)
            return agreed**AGREEMENT_POWER * steady, {"agreement": agreed, "burst": burst}
        if metric == "photometric":
            share = unexplained(render.frames, frames, render.coverage).double()
            return self.config.unexplained / (self.config.unexplained + share), {"unexplained": share}
        if metric == "lpips":
            shown = render.coverage[:, None] * render.frames + (1 - render.coverage[:, None]) * frames
            distance = lpips_distance(shown.clamp(0, 1), frames, device=self.device).mean().to(frames.device).double()
            return _to_unit_range(1 - distance, metric), {"lpips": distance}
        measure: Callable[..., Tensor] = metrics.psnr if metric == "psnr" else metrics.ssim
        value = measure(render.frames, frames, render.coverage).nanmean().double()
        scaled = value / PSNR_CEILING if metric == "psnr" else value
        return _to_unit_range(scaled, metric), {metric: value}

    def _gate(
        self, render: Render, frames: Tensor, clip: Clip, reconstruction: Reconstruction
    ) -> tuple[Tensor | float, Mapping[str, Tensor | float]]:
        if self.config.gate == "none":
            return 1.0, {}
        if self.config.gate == "trajectory" and clip.target is not None:
            value = TrajectoryReward().judge(clip, reconstruction).value
            return value, {"gate_trajectory": value}
        gain = static_gain(render, frames)
        return gain, {"gate_static_gain": gain}


def _to_unit_range(value: Tensor, metric: str) -> Tensor:
    """Clamp to [0, 1].

    Raises:
        ScoreUnavailable: The value is NaN.
    """
    if bool(value.isnan()):
        raise ScoreUnavailable(f"no covered part of the clip is large enough for the metric {metric!r}")
    return value.clamp(0, 1)


def static_gain(render: Render, frames: Tensor, floor: float = STATIC_FLOOR) -> Tensor:
    """Share of the best static copy's error that the re-render removes, in [0, 1], float64 without dimensions.

    0 for a clip that stands still, whatever the re-render: there is nothing to gain. Errors are plain squared errors
    here: to let content be displaced would forgive a static copy the motion that it misses.

    Args:
        render: Re-render of the clip.
        frames: `(T, 3, H, W)`.
        floor: Unexplained share of variance of the static copy at which a perfect re-render earns half.
    """
    indices = sorted({round(i) for i in torch.linspace(0, len(frames) - 1, STATIC_CANDIDATES).tolist()})
    copies = [_plain_share(frames[i : i + 1].expand_as(frames), frames, render.coverage) for i in indices]
    rest = torch.stack(copies).min()
    own = _plain_share(render.frames, frames, render.coverage)
    return ((rest - own) / (rest + floor)).clamp(min=0)


def _plain_share(prediction: Tensor, frames: Tensor, coverage: Tensor) -> Tensor:
    coarse, fine = (
        metrics.unexplained_share(prediction, frames, coverage, side=side).nanmean().double()
        for side in (COARSE_SIDE, FINE_SIDE)
    )
    return coarse + STATIC_FINE_WEIGHT * fine


def unexplained(prediction: Tensor, frames: Tensor, coverage: Tensor) -> Tensor:
    """Unexplained share of the variance, of displaced content and of detail, mean over the frames covered at all.

    Args:
        prediction: `(T, 3, H, W)` re-render.
        frames: The same shape.
        coverage: `(T, H, W)` in [0, 1].

    Returns:
        Without dimensions, >= 0.
    """
    target, weight = metrics.shrink(frames, coverage, FINE_SIDE)
    shown, _ = metrics.shrink(prediction, coverage, FINE_SIDE)
    reached = within_reach(shown, target, weight, REACH)
    coarse = metrics.unexplained_share(reached, target, weight, side=COARSE_SIDE)
    fine = metrics.unexplained_share(shown, target, weight, side=FINE_SIDE)
    plain = metrics.unexplained_share(shown, target, weight, side=COARSE_SIDE)
    return (coarse + PLAIN_WEIGHT * plain + DETAIL_WEIGHT * fine).nanmean()


def _checked(render: Render, frames: Tensor) -> Render:
    """The re-render on the frames' device, in float32.

    Raises:
        PluginError: A reconstructor returned views of another form.
    """
    size = (frames.shape[0], *frames.shape[2:])
    if render.frames.shape != frames.shape or tuple(render.coverage.shape) != size:
        raise PluginError(
            f"rerender() must return frames {tuple(frames.shape)!r} and coverage {size!r}, received "
            f"{tuple(render.frames.shape)!r} and {tuple(render.coverage.shape)!r}."
        )
    images, coverage = render.frames.to(frames), render.coverage.to(frames)
    if not bool(torch.isfinite(torch.where(coverage[:, None] > 0, images, 0)).all()):
        raise ScoreUnavailable("the re-render holds NaN or infinite values")
    return Render(torch.where(coverage[:, None] > 0, images, 0.0), coverage.clamp(0, 1), render.depth)
