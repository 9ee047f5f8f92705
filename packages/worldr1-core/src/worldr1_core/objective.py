"""The interface of objectives: the loss that post-training minimises, and what has to be sampled for it.

A trainer samples a rollout batch as the objective's `plan` says, scores it where the plan asks for scores, and divides
its items into micro-batches. An item is one term of the loss: a video, or a video at one noise level. For every
micro-batch the trainer calls `loss`, leaves out the items whose video has no reward, and takes the mean of the others
over all processes.
"""

from __future__ import annotations

import abc
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol

from worldr1_core.component import Component

if TYPE_CHECKING:  # see worldr1_core.reward
    from torch import Generator, Tensor

    from worldr1_core.clip import Clip
    from worldr1_core.policy import PolicyScheduler
    from worldr1_core.policy_step import PolicyStep


@dataclass(frozen=True, slots=True)
class RolloutPlan:
    """What a trainer samples for an objective.

    Attributes:
        steps: `"window"`: the videos of a group share their initial noise and the steps before the sampler's window,
            and its stochastic steps are recorded. `"all"`: every video has initial noise of its own and is sampled
            without stochastic steps, each of which is recorded.
        policy: Weights that sample: those that are trained (`"current"`), those that the objective keeps
            (`"behaviour"`, see `Objective.behaviour`), or the model before training (`"reference"`).
        scored: Whether the rewards score the videos, which gives advantages. If false, the objective computes rewards
            with gradients itself, through `Policy.score_frames`.
    """

    steps: Literal["window", "all"] = "all"
    policy: Literal["current", "behaviour", "reference"] = "current"
    scored: bool = True


@dataclass(frozen=True, slots=True)
class AdvantageOptions:
    """How the scores of a group become advantages.

    Attributes:
        aggregation: `"weighted-sum"` standardises the weighted sum of the rewards within the group, `"gdpo"` each
            reward first.
        clip: Bound of the absolute advantage.
        credit: `"video"`: one advantage a video; `"spatial"`: one for every place of the latents.
    """

    aggregation: Literal["weighted-sum", "gdpo"] = "weighted-sum"
    clip: float = 5.0
    credit: Literal["video", "spatial"] = "video"


@dataclass(frozen=True, slots=True)
class UpdateBatch:
    """A micro-batch: the same item of b videos.

    Attributes:
        item: Number of the item, below `Objective.num_items`.
        num_steps: Recorded steps of every video.
        select: Returns recorded step `i` of the b videos; use `step`.
        latents: `(b, ...)` finished latents in the pipeline's layout; empty for `"window"` plans.
        advantages: `(b,)`, or `(b, h, w)` by place; 0 where the plan asks for no scores.
        valid: `(b,)` bool: videos that count.
        clips: The b videos with prompts and commanded paths, for plans without scores; of the policy that sampled.
        data: What `Objective.prepare` returned for this micro-batch.
        generator: Random numbers of this micro-batch, the same however often it is visited.
    """

    item: int
    num_steps: int
    select: Callable[[int], PolicyStep]
    latents: Tensor
    advantages: Tensor
    valid: Tensor
    clips: Sequence[Clip] = ()
    data: Mapping[str, Tensor] = field(default_factory=dict)
    generator: Generator | None = None

    def step(self, index: int) -> PolicyStep:
        """Recorded step `index` of the b videos."""
        return self.select(index)

    def steps(self) -> list[PolicyStep]:
        """Every recorded step of the b videos, in the order of the schedule."""
        return [self.select(index) for index in range(self.num_steps)]


@dataclass(frozen=True, slots=True)
class Denoised:
    """A run of the deterministic sampler with gradients.

    Attributes:
        latents: `(b, ...)` in the pipeline's layout.
        samples: `(b, ...)` before each step that has a gradient, detached.
        outputs: The model's output at each of them.
        first: Index of the first step that has a gradient.
    """

    latents: Tensor
    samples: list[Tensor]
    outputs: list[Tensor]
    first: int


class Policy(Protocol):
    """The model in training, as an objective sees it."""

    @property
    def scheduler(self) -> PolicyScheduler:
        """Densities and deterministic steps of the schedule."""

    @property
    def updates_per_rollout(self) -> int:
        """Optimiser steps that are made from one rollout batch."""

    def predict(self, step: PolicyStep, sample: Tensor | None = None) -> Tensor:
        """The model's output; see `Backbone.predict`."""

    def denoise(self, steps: Sequence[PolicyStep], *, last: int | None = None, stop: int | None = None) -> Denoised:
        """Repeat a recorded run from its initial noise with the weights as they are.

        Args:
            steps: All recorded steps of the videos.
            last: Only the last so many of the steps that are run have a gradient; all of them if `None`.
            stop: Run the steps before this one; all of them if `None`.
        """

    def unpack(self, latents: Tensor) -> Tensor:
        """Latents `(b, ...)` in the pipeline's layout as `(b, C, T, H, W)`, padding included."""

    def decode(self, latents: Tensor) -> Tensor:
        """Latents `(b, ...)` in the pipeline's layout to frames `(b, T, 3, H, W)` in [0, 1], with their gradient."""

    def score_frames(self, frames: Tensor, clips: Sequence[Clip]) -> dict[str, Tensor]:
        """Rewards of the stage with their gradients: name -> `(b,)`, NaN where one does not apply."""

    def measure(self, frames: Tensor, clips: Sequence[Clip]) -> dict[str, Tensor]:
        """Rewards that `Objective.statistics` names, likewise."""

    @property
    def weights(self) -> Mapping[str, float]:
        """Reward name -> its factor in the total, of the rewards that train in the stage."""

    def reference(self) -> AbstractContextManager[None]:
        """Within the block the model is the one before training."""

    def with_parameters(self, values: Mapping[str, Tensor]) -> AbstractContextManager[None]:
        """Within the block the trained parameters have other values."""

    def parameters(self) -> dict[str, Tensor]:
        """The trained parameters by name, this process's part of sharded ones."""

    def gather(self, values: Tensor) -> Tensor:
        """Values `(n,)` of every process, one after the other."""

    def note(self, name: str, values: Tensor, valid: Tensor) -> None:
        """Log the mean of `values` `(b,)` over the items that count; the maximum for names with `max_`."""

    def show(self, frames: Tensor, clips: Sequence[Clip]) -> None:
        """Offer videos for the samples that a run writes."""


class Objective(Component, abc.ABC):
    """A loss on videos of the policy.

    Attributes:
        plan: What is sampled.
    """

    plan: ClassVar[RolloutPlan] = RolloutPlan()

    @property
    def needs_reference(self) -> bool:
        """Whether the model before training is compared with."""
        return self.plan.policy == "reference"

    @property
    def compares_videos(self) -> bool:
        """Whether `loss` or `prepare` compares videos of one prompt, so that micro-batches must not split groups."""
        return False

    @property
    def statistics(self) -> Sequence[str]:
        """Rewards that `Policy.measure` computes, beside those that train."""
        return ()

    @property
    def advantage_options(self) -> AdvantageOptions:
        """How scores become advantages, for plans with scores."""
        return AdvantageOptions()

    def num_items(self, num_steps: int) -> int:
        """Items of every video.

        Args:
            num_steps: Recorded steps of every video.

        Raises:
            UserError: The options ask for more steps than there are.
        """
        return 1

    def start(self, policy: Policy) -> None:
        """Begin a run; the parameters are prepared, and loaded if the run is resumed. `load_state_dict` follows."""

    def behaviour(self) -> Mapping[str, Tensor] | None:
        """Parameters that sample, for plans with `policy="behaviour"`; `None` for those that are trained."""
        return None

    def prepare(self, batches: Sequence[UpdateBatch], policy: Policy) -> list[dict[str, Tensor]]:
        """Compute, without gradients, what the updates of a rollout batch need beside the recorded steps.

        Args:
            batches: Micro-batches of this process, in the order of the updates.
            policy: The policy before the first update.

        Returns:
            The `data` of every micro-batch, saved in checkpoints that lie within a rollout batch.
        """
        return [{} for _ in batches]

    def begin_update(self, batches: Sequence[UpdateBatch], policy: Policy) -> None:
        """Precede the first `loss` of an optimiser step, without gradients, on every process.

        What depends on all videos of the step can be measured here, so that it is the same however they are divided
        into micro-batches and over processes.

        Args:
            batches: Micro-batches of the step on this process, in order. Every process has equally many.
            policy: The policy before the step.
        """

    @abc.abstractmethod
    def loss(self, batch: UpdateBatch, policy: Policy) -> Tensor:
        """Loss of every item of a micro-batch: `(b,)` with gradients."""

    def end_update(self, policy: Policy) -> None:
        """Follow an optimiser step, on every process."""

    def state_dict(self) -> dict[str, Any]:
        """State to save in checkpoints: tensors, numbers, strings, lists and dictionaries."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` returned."""
