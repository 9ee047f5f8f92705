"""The interface of objectives: the loss that post-training minimises, and what has to be sampled for it.

A trainer samples a rollout batch as the objective's `plan` says, scores it where the plan asks for scores, and divides
its items into micro-batches. An item is one term of the loss: a video, or a video at one noise level. For every
micro-batch the trainer calls `loss`, leaves out the items whose video has no reward, and takes the mean of the others
over all micro-batches of the optimiser step and all processes.
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
        steps: `"all"`: every video has initial noise of its own and is sampled with deterministic steps, all of which
            are recorded. `"window"`: the videos of a group share their initial noise and the steps before the sampler's
            window, whose stochastic steps are recorded.
        policy: Weights that sample: those that are trained (`"current"`), those that the objective keeps
            (`"behaviour"`, see `Objective.behaviour`), or the model before training (`"reference"`).
        scored: Whether the rewards score the videos, which gives advantages. If false, the objective computes rewards
            with gradients itself, through `Policy.score_frames`, and gets the videos as `UpdateBatch.clips`.
    """

    steps: Literal["window", "all"] = "all"
    policy: Literal["current", "behaviour", "reference"] = "current"
    scored: bool = True


@dataclass(frozen=True, slots=True)
class AdvantageOptions:
    """How the scores of a group become advantages.

    Attributes:
        aggregation: `"weighted-sum"` standardises the weighted sum of the rewards within the group. `"gdpo"`
            standardises each reward within the group, then their weighted sum over the rollout batch
            (arXiv 2601.05242).
        clip: Bound of the absolute advantage, > 0 and finite.
        credit: `"video"`: one advantage per video; `"spatial"`: one per video and place of the latents.
    """

    aggregation: Literal["weighted-sum", "gdpo"] = "weighted-sum"
    clip: float = 5.0
    credit: Literal["video", "spatial"] = "video"


@dataclass(frozen=True, slots=True)
class UpdateBatch:
    """A micro-batch: the same item of b videos.

    Tensors are on the training device. Do not change them in place: later visits read the same ones.

    Attributes:
        item: Number of the item, in [0, `Objective.num_items`).
        num_steps: Recorded steps of every video.
        select: Returns recorded step `i` of the b videos; use `step`.
        latents: `(b, ...)` float32 finished latents in the pipeline's layout; of shape `(0,)` for `"window"` plans.
        advantages: `(b,)` float32 in [-clip, clip] of `AdvantageOptions`, or `(b, h, w)` with `credit="spatial"`; 0 for
            plans without scores.
        valid: `(b,)` bool: videos that count. The trainer leaves out the loss of the others.
        clips: The b videos with prompts and commanded paths, as the policy of the plan sampled them; their frames are
            on the CPU. Empty for plans with scores.
        data: What `Objective.prepare` returned for this micro-batch.
        generator: Random numbers of this micro-batch, on the CPU. Every visit of the micro-batch, in `prepare`,
            `begin_update` and `loss`, starts from the same state. `None` only in batches that are not the trainer's.
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
        """Return recorded step `index` of the b videos.

        Args:
            index: Number among the recorded steps, in [0, `num_steps`). Its number in the full schedule is
                `step.point.index`.
        """
        return self.select(index)

    def steps(self) -> list[PolicyStep]:
        """Return every recorded step of the b videos, in the order of the schedule."""
        return [self.select(index) for index in range(self.num_steps)]


@dataclass(frozen=True, slots=True)
class Denoised:
    """A run of the deterministic sampler with gradients.

    Attributes:
        latents: `(b, ...)` float32 after the last step, in the pipeline's layout, with their gradient.
        samples: `(b, ...)` float32 before each step that has a gradient, detached.
        outputs: `(b, ...)` float32 output of the model at each of `samples`, with its gradient.
        first: Index in `steps` of the first step that has a gradient.
    """

    latents: Tensor
    samples: list[Tensor]
    outputs: list[Tensor]
    first: int


class Policy(Protocol):
    """The model in training, as an objective sees it."""

    @property
    def scheduler(self) -> PolicyScheduler:
        """Densities (`transition`) and deterministic steps (`ode_step`) of the schedule."""

    @property
    def updates_per_rollout(self) -> int:
        """Number of optimiser steps per rollout batch, >= 1."""

    def predict(self, step: PolicyStep, sample: Tensor | None = None) -> Tensor:
        """Call the model as at a recorded step, with the weights as they are; see `Backbone.predict`.

        Args:
            step: Recorded step of b videos; gives the noise level and the conditioning.
            sample: `(b, ...)` float32 in the pipeline's layout, in place of the recorded `step.sample`; at the same
                noise level.

        Returns:
            `(b, ...)` float32 output of the model with guidance applied, with its gradient. Flow models predict the
            velocity, noise minus data.
        """

    def denoise(self, steps: Sequence[PolicyStep], *, last: int | None = None, stop: int | None = None) -> Denoised:
        """Repeat a recorded run from its initial noise with the weights as they are.

        Args:
            steps: All recorded steps of the videos.
            last: Number of final steps that have a gradient; all of them if `None`.
            stop: Run the steps before this one; all of them if `None`.
        """

    def unpack(self, latents: Tensor) -> Tensor:
        """Reshape latents `(b, ...)` in the pipeline's layout to `(b, C, T, H, W)`, padding included."""

    def decode(self, latents: Tensor) -> Tensor:
        """Decode latents `(b, ...)` in the pipeline's layout, with their gradient.

        Returns:
            `(b, T, 3, H, W)` RGB frames in [0, 1].
        """

    def score_frames(self, frames: Tensor, clips: Sequence[Clip]) -> dict[str, Tensor]:
        """Compute the rewards of the stage with their gradients; only for plans without scores.

        Args:
            frames: `(b, T, 3, H, W)` RGB in [0, 1], such as the result of `decode`.
            clips: The clips of the micro-batch, with prompts and commanded paths; their own frames are not read.

        Returns:
            Reward name -> `(b,)`, NaN where a reward failed or does not apply. Multiply by `weights` for the total.
        """

    def measure(self, frames: Tensor, clips: Sequence[Clip]) -> dict[str, Tensor]:
        """Compute the rewards that `Objective.statistics` names; arguments and result as for `score_frames`."""

    @property
    def weights(self) -> Mapping[str, float]:
        """Reward name -> its factor in the total, of the rewards that train in the stage."""

    def reference(self) -> AbstractContextManager[None]:
        """Return a context manager within which the model is the one before training; needs `needs_reference`."""

    def with_parameters(self, values: Mapping[str, Tensor]) -> AbstractContextManager[None]:
        """Return a context manager within which the trained parameters have other values.

        Args:
            values: Name of a trained parameter, as in `parameters` -> its value, of the same shape.
        """

    def parameters(self) -> dict[str, Tensor]:
        """Return the trained parameters by name, detached; of sharded ones, the part of this process.

        The values change with the optimiser: clone those that you keep.
        """

    def gather(self, values: Tensor) -> Tensor:
        """Concatenate values `(n,)` of every process to `(num_processes * n,)`; every process must call it."""

    def note(self, name: str, values: Tensor, valid: Tensor) -> None:
        """Log the mean over the items that count; the maximum for names that contain `max_`.

        All names share one namespace, with those of the trainer. In a stage with several objectives, a name is logged
        as `<objective name>/<name>`, unless it begins with `reward`.

        Args:
            name: Name in the log, such as `"kl"`.
            values: `(b,)`; the gradient is ignored.
            valid: `(b,)` bool: items that count, such as `UpdateBatch.valid`.
        """

    def show(self, frames: Tensor, clips: Sequence[Clip]) -> None:
        """Offer videos for the samples that a run writes, for plans without scores.

        Args:
            frames: `(b, T, 3, H, W)` RGB in [0, 1]; values outside are clamped.
            clips: The clips of the micro-batch.
        """


class Objective(Component, abc.ABC):
    """A loss on videos of the policy.

    Subclasses set `plan` and implement `loss`. The other methods have defaults that fit a loss of one item per video
    and without a state.

    The order of the calls: `start` (and `load_state_dict` in a resumed run); then for every rollout batch `behaviour`,
    `prepare`, and for every optimiser step `begin_update`, `loss` for each of its micro-batches, `end_update`.

    Attributes:
        plan: What is sampled.
    """

    plan: ClassVar[RolloutPlan] = RolloutPlan()

    @property
    def needs_reference(self) -> bool:
        """Whether the objective calls `Policy.reference`. A run that trains all weights then keeps a second copy."""
        return self.plan.policy == "reference"

    @property
    def compares_videos(self) -> bool:
        """Whether `loss` or `prepare` compares videos of one prompt.

        If true, micro-batches of at least one group hold whole groups, and smaller ones are parts of one group. The
        videos of a group are consecutive. The trainer then refuses a group size or micro-batch size below 2, and sizes
        of which neither is a multiple of the other.
        """
        return False

    @property
    def statistics(self) -> Sequence[str]:
        """Names of rewards or metrics with gradients that `Policy.measure` computes, beside those that train."""
        return ()

    @property
    def advantage_options(self) -> AdvantageOptions:
        """Options of how the scores of a group become advantages, for plans with scores."""
        return AdvantageOptions()

    def num_items(self, num_steps: int) -> int:
        """Return the number of items of every video, >= 1. It must depend on `num_steps` and the options alone.

        Args:
            num_steps: Recorded steps of every video: the sampler's `window` for `"window"` plans, else its
                `num_inference_steps`.

        Raises:
            UserError: The options ask for more steps than there are.
        """
        return 1

    def start(self, policy: Policy) -> None:
        """Begin a run.

        The parameters are prepared, and loaded if the run is resumed; `load_state_dict` follows then.

        Args:
            policy: The model in training.
        """

    def behaviour(self) -> Mapping[str, Tensor] | None:
        """Return the parameters that sample, by name, for plans with `policy="behaviour"`.

        `None` stands for those that are trained. See `Policy.with_parameters` for the form.
        """
        return None

    def prepare(self, batches: Sequence[UpdateBatch], policy: Policy) -> list[dict[str, Tensor]]:
        """Compute, without gradients, what the updates of a rollout batch need beside the recorded steps.

        Args:
            batches: Micro-batches of this process, in the order of the updates.
            policy: The policy before the first update.

        Returns:
            For every micro-batch, its `UpdateBatch.data`: name -> tensor without a gradient. Checkpoints that lie
            within a rollout batch hold them.
        """
        return [{} for _ in batches]

    def begin_update(self, batches: Sequence[UpdateBatch], policy: Policy) -> None:
        """Called before the first `loss` of an optimiser step, without gradients, on every process.

        What depends on all videos of the step can be measured here, so that it is the same however they are divided
        into micro-batches and over processes.

        Args:
            batches: Micro-batches of the step on this process, in order. Every process has equally many.
            policy: The policy before the step.
        """

    @abc.abstractmethod
    def loss(self, batch: UpdateBatch, policy: Policy) -> Tensor:
        """Compute the loss of every item of a micro-batch.

        The loss of an item must not depend on the other items, except on those of its group with `compares_videos`.

        Args:
            batch: The micro-batch.
            policy: The model in training.

        Returns:
            `(b,)` finite values with their gradients; averaged over everything but the batch.
        """

    def end_update(self, policy: Policy) -> None:
        """Called after every optimiser step, on every process.

        Args:
            policy: The policy after the step.
        """

    def state_dict(self) -> dict[str, Any]:
        """Return what changes from update to update: tensors, numbers, strings, lists and dictionaries of these."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the state of a checkpoint.

        Args:
            state: What `state_dict` returned.

        Raises:
            UserError: The state does not fit to the model or the options.
        """
