"""The interface of backbones: a text-to-video model as the ground that sampling and training stand on."""

from __future__ import annotations

import abc
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from worldr1_core.component import Component
from worldr1_core.errors import UserError

if TYPE_CHECKING:  # see worldr1_core.reward
    from torch import Tensor
    from torch.nn import Module, Parameter

    from worldr1_core.clip import Clip
    from worldr1_core.policy import PolicyRun, PolicyScheduler, PolicyStep


@dataclass(frozen=True, slots=True)
class LatentGeometry:
    """Sizes of a video and of its latent.

    Attributes:
        channels: C of the latent.
        num_frames: Latent frames that belong to the video.
        height: Latent rows.
        width: Latent columns.
        video_frames: T of the video.
        video_height: H of the video.
        video_width: W of the video.
        temporal_stride: Video frames from one latent frame to the next; latent frame k shows video frame k x stride.
        spatial_stride: Video pixels per latent pixel, along each side.
        leading_padding: Latent frames in front that the decoder drops (CogVideoX 1.5).
    """

    channels: int
    num_frames: int
    height: int
    width: int
    video_frames: int
    video_height: int
    video_width: int
    temporal_stride: int
    spatial_stride: int
    leading_padding: int = 0

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """`(C, T, H, W)` of the latent, padding included."""
        return self.channels, self.leading_padding + self.num_frames, self.height, self.width


@dataclass(frozen=True, slots=True)
class Conditioning:
    """Encoded prompts.

    Attributes:
        prompts: B prompts.
        tensors: Keyword arguments of the pipeline, each with first dimension B.
    """

    prompts: tuple[str, ...]
    tensors: Mapping[str, Tensor]

    def __len__(self) -> int:
        return len(self.prompts)

    def select(self, rows: Sequence[int]) -> Conditioning:
        """The prompts at `rows`; a row may stand more than once."""
        index = list(rows)
        return Conditioning(tuple(self.prompts[i] for i in index), {k: v[index] for k, v in self.tensors.items()})

    def repeat_interleave(self, count: int) -> Conditioning:
        """Every prompt `count` times in a row."""
        return self.select([row for row in range(len(self)) for _ in range(count)])


@dataclass(frozen=True, slots=True)
class Rollout:
    """Result of a run of the pipeline.

    Attributes:
        latents: `(B, C, T, H, W)` float32 after the last step of the segment, padding included.
        steps: Recorded stochastic steps, in the order of the schedule.
    """

    latents: Tensor
    steps: list[PolicyStep] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class AdapterSpec:
    """A low-rank adapter (LoRA).

    Attributes:
        rank: Rank r.
        alpha: Scale alpha; the update is alpha / r x B A.
        target_modules: Names of the linear layers; the backbone's own list if `None`.
        seed: Seed of the initial weights (A is drawn, B is zero).
    """

    rank: int = 32
    alpha: float = 64.0
    target_modules: tuple[str, ...] | None = None
    seed: int = 0


class Backbone(Component, abc.ABC):
    """A text-to-video model behind an unmodified pipeline.

    Weights are loaded on first use, not in `__init__`. Latents are `(B, C, T, H, W)` float32 here, whatever layout the
    pipeline has inside.
    """

    @property
    @abc.abstractmethod
    def geometry(self) -> LatentGeometry:
        """Sizes of the video that the options request, and of its latent.

        Raises:
            UserError: The model cannot make this size or number of frames.
            WeightsError: The model's configuration is not available.
        """

    @property
    def fps(self) -> float:
        """Frames per second of the model's videos."""
        return 16.0

    @property
    @abc.abstractmethod
    def denoisers(self) -> Mapping[str, Module]:
        """The modules that predict noise or velocity, by their name in the pipeline."""

    @property
    @abc.abstractmethod
    def base_scheduler(self) -> Any:
        """The scheduler that the checkpoint names, with the options' flow shift; samplers build theirs from it."""

    @abc.abstractmethod
    def encode(self, prompts: Sequence[str]) -> Conditioning:
        """Encode prompts (and the negative prompt, where guidance is on); gradients are not kept."""

    @abc.abstractmethod
    def sample(
        self,
        conditioning: Conditioning,
        latents: Tensor,
        *,
        num_inference_steps: int,
        scheduler: PolicyScheduler | None = None,
        run: PolicyRun | None = None,
    ) -> Rollout:
        """Run the pipeline over a segment of its schedule, without gradients.

        Args:
            conditioning: B encoded prompts.
            latents: `(B, C, T, H, W)` at the start of the segment, of `geometry.shape`.
            num_inference_steps: Steps of the full schedule.
            scheduler: Policy; `base_scheduler` (deterministic, nothing recorded) by default.
            run: Segment, window, generators and injection; `step_delta` is `(B, C, T, H, W)`. Needs `scheduler`.

        Raises:
            UserError: Shapes do not fit, or the latents are not finite.
            WorldR1Error: The model gave NaN or infinite values.
        """

    @abc.abstractmethod
    def predict(self, step: PolicyStep, sample: Tensor | None = None) -> Tensor:
        """Repeat the recorded denoiser call with gradients and apply guidance, which gives the input of the scheduler.

        Args:
            step: A recorded step, or some of its rows (`select_step`).
            sample: `(B, ...)` float32 in the pipeline's layout, in place of the recorded sample; at the same noise
                level and with the same conditioning. Its gradient is kept.

        Returns:
            `(B, ...)` float32 in the pipeline's layout. At the recorded batch, sample and weights it equals the
            recorded model output exactly.
        """

    def to_pipeline(self, latents: Tensor) -> Tensor:
        """Latents `(B, C, T, H, W)` in the layout that the pipeline's `latents` argument has; the same by default."""
        return latents

    def from_pipeline(self, latents: Tensor) -> Tensor:
        """The inverse of `to_pipeline`."""
        return latents

    @abc.abstractmethod
    def select_step(self, step: PolicyStep, rows: Sequence[int]) -> PolicyStep:
        """Some samples of a recorded step, denoiser arguments included."""

    def replace_rows(self, step: PolicyStep, other: PolicyStep, rows: Sequence[int]) -> PolicyStep:
        """A recorded step with some samples of another run of the same prompts, denoiser arguments included.

        Override it together with `select_step` where some denoiser arguments belong to no single sample.
        """
        return step.with_rows(other, rows)

    @abc.abstractmethod
    def decode(self, latents: Tensor) -> Tensor:
        """Latents `(B, C, T, H, W)` to videos `(B, T, 3, H, W)` float32 RGB in [0, 1] on the CPU, without gradients."""

    def encode_video(self, frames: Tensor) -> Tensor:
        """Videos to the latents that the denoisers work on, the inverse of `decode`; gradients are not kept.

        Evaluations of true clips need it; sampling and training do not, and a backbone may leave it out.

        Args:
            frames: `(B, T, 3, H, W)` RGB in [0, 1], of the sizes that `geometry` states.

        Returns:
            `(B, C, T, H, W)` float32 of `geometry.shape`, padding included, normalised as the denoisers see them.

        Raises:
            UserError: The backbone has no encoder of videos, or the frames do not fit.
        """
        raise UserError(
            f"{type(self).__name__} has no encoder of videos, which true clips need. Override encode_video, or leave "
            "out what needs it (evaluation.reference_clips)."
        )

    def reference_clips(self, count: int, seed: int = 0) -> list[Clip]:
        """True clips of the world that the model was trained on, for backbones that can make them.

        Args:
            count: How many, >= 1.
            seed: Equal arguments give equal clips.

        Raises:
            UserError: The backbone has none.
        """
        raise UserError(
            f"{type(self).__name__} has no true clips of its own. Name a folder of videos with their prompts as "
            "evaluation.reference_clips.source."
        )

    def decode_with_gradient(self, latents: Tensor) -> Tensor:
        """Latents `(B, C, T, H, W)` to videos `(B, T, 3, H, W)` float32 RGB in [0, 1], keeping the gradient.

        The values are those of `decode`; videos stay on the device of the latents. Implement it so that objectives can
        train on the gradient of rewards.

        Raises:
            UserError: The backbone cannot.
        """
        raise UserError(
            f"{type(self).__name__} decodes without gradients: it does not implement decode_with_gradient. Choose an "
            "objective that needs scores alone, such as flow-grpo."
        )

    @abc.abstractmethod
    def add_adapter(self, spec: AdapterSpec) -> None:
        """Put a fresh trainable adapter (float32, zero effect) on every denoiser and freeze everything else.

        Raises:
            UserError: There is one already, or `target_modules` matches no layer.
        """

    @abc.abstractmethod
    def adapter_disabled(self) -> AbstractContextManager[None]:
        """Context in which the model is the one before post-training: the reference of the KL term."""

    @abc.abstractmethod
    def save_adapter(self, folder: str | Path) -> None:
        """Write the adapter in diffusers' LoRA layout: `pipeline.load_lora_weights(folder)` reads it.

        Raises:
            UserError: There is no adapter.
            OutputError: The folder cannot be written.
        """

    @abc.abstractmethod
    def load_adapter(self, folder: str | Path, *, trainable: bool = False) -> None:
        """Load an adapter that `save_adapter` wrote, and switch it on.

        Args:
            folder: Folder of the adapter.
            trainable: Train it further; if false, it is frozen.

        Raises:
            UserError: There is an adapter already.
            WeightsError: There is none, or it belongs to another architecture.
        """

    def set_gradient_checkpointing(self, enabled: bool) -> None:
        """Switch gradient checkpointing on or off: recompute activations of `predict` in the backward pass.

        Raises:
            UserError: The model does not support it.
        """
        if enabled:
            raise UserError(f"{type(self).__name__} has no gradient checkpointing. Switch it off.")

    def trainable_parameters(self) -> Iterator[tuple[str, Parameter]]:
        """Parameters that require gradients, named `denoiser.parameter`."""
        for name, module in self.denoisers.items():
            for inner, parameter in module.named_parameters():
                if parameter.requires_grad:
                    yield f"{name}.{inner}", parameter
