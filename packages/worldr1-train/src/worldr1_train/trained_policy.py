"""Implementation of `worldr1_core.objective.Policy` for the model in training."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any

import torch
from accelerate.utils import gather
from torch import Tensor

from worldr1_core.backbone import Backbone
from worldr1_core.clip import Clip
from worldr1_core.frame_scoring import FrameScorer
from worldr1_core.objective import Denoised
from worldr1_core.policy import PolicyScheduler, PolicyStep
from worldr1_core.video import Video
from worldr1_train.metrics_log import MetricsProcessor
from worldr1_train.policy_model import ChainInput, PolicyModel, StepInput, local_tensor, swapped_parameters
from worldr1_train.stages import Stage

SHARED_NOTES = "reward"
"""Notes whose names begin so are those of the stage, whichever of its objectives makes them."""


class TrainedPolicy:
    """Calls the wrapped model (DDP, FSDP) for objectives.

    Args:
        backbone: Backbone of the model.
        model: Returns the wrapped model.
        unwrapped: Returns the unwrapped model.
        scheduler: Policy scheduler, with its full schedule set.
        metrics: Receives the values that objectives log with `note`.
        updates_per_rollout: Optimiser steps per rollout batch.
        recompute: Recompute each step of a chain in the backward pass.
    """

    def __init__(
        self,
        backbone: Backbone,
        model: Callable[[], Any],
        unwrapped: Callable[[], PolicyModel],
        scheduler: PolicyScheduler,
        metrics: MetricsProcessor,
        *,
        updates_per_rollout: int,
        recompute: bool = False,
    ) -> None:
        self._backbone, self._model, self._unwrapped = backbone, model, unwrapped
        self._metrics, self._recompute = metrics, recompute
        self.scheduler, self.updates_per_rollout = scheduler, updates_per_rollout
        self.weights: Mapping[str, float] = {}
        self._rewards: FrameScorer | None = None
        self._statistics: FrameScorer | None = None
        self._prefix = ""
        self._scored: tuple[weakref.ref[Tensor], bool, dict[int, Tensor]] | None = None
        self._shown: list[Clip] | None = None
        self._num_shown = 0

    def enter(self, stage: Stage, objective: int) -> None:
        """Use the rewards of a stage, and the statistics and the name of one of its objectives."""
        self.weights, self._rewards = stage.weights, stage.frame_scorer
        self._statistics, self._prefix = stage.objectives[objective].statistics, stage.note_prefixes[objective]

    def collect_shown(self, clips: list[Clip] | None, count: int = 0) -> None:
        """Append the next `count` videos that an objective passes to `show` to `clips`."""
        self._shown, self._num_shown = clips, count

    def predict(self, step: PolicyStep, sample: Tensor | None = None) -> Tensor:
        """See `Policy.predict`."""
        output: Tensor = self._model()(StepInput(step, sample))
        return output

    def denoise(self, steps: Sequence[PolicyStep], *, last: int | None = None, stop: int | None = None) -> Denoised:
        """See `Policy.denoise`."""
        run = list(steps)[:stop]
        first = 0 if last is None else max(0, len(run) - last)
        chain = ChainInput(run, self.scheduler.ode_step, first, recompute=self._recompute)
        latents, samples, outputs = self._model()(chain)
        return Denoised(latents, list(samples), list(outputs), first)

    def unpack(self, latents: Tensor) -> Tensor:
        """See `Policy.unpack`."""
        return self._backbone.from_pipeline(latents)

    def decode(self, latents: Tensor) -> Tensor:
        """See `Policy.decode`."""
        return self._backbone.decode_with_gradient(self._backbone.from_pipeline(latents))

    def score_frames(self, frames: Tensor, clips: Sequence[Clip]) -> dict[str, Tensor]:
        """See `Policy.score_frames`."""
        assert self._rewards is not None, "`compose_training` gives such stages a frame scorer"
        return self._rewards(frames, clips, known=self._values_of(frames))

    def measure(self, frames: Tensor, clips: Sequence[Clip]) -> dict[str, Tensor]:
        """See `Policy.measure`."""
        return {} if self._statistics is None else self._statistics(frames, clips, known=self._values_of(frames))

    def _values_of(self, frames: Tensor) -> dict[int, Tensor]:
        """Return the values that were already computed for this tensor; a reward may be a statistic too."""
        if self._scored is None or self._scored[0]() is not frames or self._scored[1] != torch.is_grad_enabled():
            self._scored = weakref.ref(frames), torch.is_grad_enabled(), {}
        return self._scored[2]

    def reference(self) -> AbstractContextManager[None]:
        """See `Policy.reference`."""
        return self._unwrapped().reference()

    def with_parameters(self, values: Mapping[str, Tensor]) -> AbstractContextManager[None]:
        """See `Policy.with_parameters`."""
        return swapped_parameters(self._unwrapped().trainable(), dict(values))

    def parameters(self) -> dict[str, Tensor]:
        """See `Policy.parameters`."""
        return {name: local_tensor(p) for name, p in self._unwrapped().trainable().items()}

    def gather(self, values: Tensor) -> Tensor:
        """See `Policy.gather`."""
        gathered: Tensor = gather(values)
        return gathered

    def note(self, name: str, values: Tensor, valid: Tensor) -> None:
        """See `Policy.note`."""
        prefix = "" if name.startswith(SHARED_NOTES) else self._prefix
        self._metrics.note(prefix + name, values, valid)

    def show(self, frames: Tensor, clips: Sequence[Clip]) -> None:
        """See `Policy.show`."""
        if self._shown is None:
            return
        for clip, made in zip(clips, frames, strict=True):
            if len(self._shown) < self._num_shown:
                video = Video(made.detach().float().clamp(0, 1).cpu(), fps=clip.video.fps)
                self._shown.append(replace(clip, video=video))

    def zero_loss(self) -> Tensor:
        """Return a loss of 0 that depends on every trained parameter, for an empty turn."""
        return torch.stack([0.0 * p.sum() for p in self._unwrapped().trainable().values()]).sum()
