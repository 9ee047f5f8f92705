"""The objective under test, the rollouts that it is given, and a run of its updates."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from worldr1_core.clip import Clip
from worldr1_core.errors import UserError
from worldr1_core.objective import Objective, UpdateBatch
from worldr1_core.policy import DenoiserCall, PolicyRun, PolicyStep
from worldr1_core.seeding import generator
from worldr1_core.testing.failures import CallFailed
from worldr1_core.testing.objective_policy import SHAPE, KitPolicy
from worldr1_core.testing.subject import Subject
from worldr1_core.video import Video

GROUP_SIZE = 4
NUM_VIDEOS = 8
ROWS = ((0, 1, 2, 3), (4, 5, 6, 7))
"""Videos of the micro-batches of an item."""
OTHER_ROWS = ((0, 5, 6, 7), (4, 1, 2, 3))
"""The first video of each micro-batch with other company."""
NUM_GROUPS = 4
"""Groups of the rollouts of `GROUP_ROWS`."""
_GROUPS = [tuple(range(GROUP_SIZE * number, GROUP_SIZE * (number + 1))) for number in range(NUM_GROUPS)]
GROUP_ROWS = ((*_GROUPS[0], *_GROUPS[1]), (*_GROUPS[2], *_GROUPS[3]))
"""Videos of micro-batches of two groups."""
OTHER_GROUP_ROWS = {
    "beside another group": ((*_GROUPS[0], *_GROUPS[3]), (*_GROUPS[2], *_GROUPS[1])),
    "alone": (_GROUPS[0], (*_GROUPS[1], *_GROUPS[2], *_GROUPS[3])),
}
"""The first group with other company: as many micro-batches, which hold the same videos together."""
PROMPTS = ("a red box", "a blue ball", "a green cone", "a white ring")
"""Prompts of the groups."""
LOSS_FORM = (
    "items without a reward are left out one by one, and one NaN destroys the weights",
    "return one finite value per item, with its gradient, and average over everything but the batch",
)
NUM_ITEMS = (
    "the trainer divides a rollout batch into micro-batches before it samples",
    "return a whole number that depends on num_steps and the options alone; pass options that fit to the kit, or "
    "num_steps=…",
)
PREPARED = (
    "checkpoints within a rollout batch hold the prepared data",
    "return one mapping from names to tensors without gradients per micro-batch, in their order",
)
"""Reason and fix of the contracts that every run relies on."""


@dataclass(frozen=True, slots=True)
class KitRollouts:
    """Videos of the stand-in before training.

    Attributes:
        steps: Recorded steps of all videos.
        latents: `(V, C, T, h, w)` at the end.
        clips: The videos, each its own reference; those of a group have one prompt.
        advantages: `(V,)` mean of the pixels, standardised within the group.
    """

    steps: list[PolicyStep]
    latents: Tensor
    clips: list[Clip]
    advantages: Tensor


@torch.no_grad()
def sample_rollouts(policy: KitPolicy, steps: str, window: int, num_videos: int = NUM_VIDEOS) -> KitRollouts:
    """Sample as a trainer does for a plan.

    Args:
        policy: The stand-in.
        steps: `RolloutPlan.steps`.
        window: Stochastic steps of `"window"`, which begin at step 1.
        num_videos: Number of videos, a multiple of `GROUP_SIZE`.
    """
    grouped = steps == "window"
    names = [i // GROUP_SIZE if grouped else i for i in range(num_videos)]
    latents = torch.stack([torch.randn(SHAPE, generator=generator(name, "kit noise")) for name in names])
    prompts = torch.stack(
        [torch.randn(8, generator=generator(i // GROUP_SIZE, "kit prompt")) for i in range(num_videos)]
    )
    generators = [generator(i, "kit steps") for i in range(num_videos)]
    run = PolicyRun(
        window=(1, 1 + window) if grouped else (0, 0), generators=generators, record=grouped, record_ode=not grouped
    )
    scheduler = policy.scheduler
    scheduler.run = run
    scheduler.set_timesteps(scheduler.num_steps)
    for index, timestep in enumerate(scheduler.timesteps):
        call = {"hidden_states": latents, "timestep": timestep.expand(num_videos), "condition": prompts}
        if run.is_recorded(index):
            run.calls.append(DenoiserCall("model", (), call))
        latents = scheduler.step(policy.model(**call), timestep, latents, return_dict=False)[0]
    scheduler.run = None
    frames = policy.decode(latents)
    videos = [Video(own.contiguous(), fps=8.0) for own in frames]
    clips = [
        Clip(video, PROMPTS[i // GROUP_SIZE], None, name=f"clip {i}", reference=video) for i, video in enumerate(videos)
    ]
    scores = frames.flatten(1).mean(1).view(-1, GROUP_SIZE)
    advantages = (scores - scores.mean(1, keepdim=True)) / scores.std(1, keepdim=True)
    return KitRollouts(run.steps, latents, clips, advantages.flatten())


class ObjectiveSubject(Subject[Objective]):
    """An objective, and the sizes of what it is given.

    Args:
        given: `Objective` class, instance, or function that makes one.
        options: Fields of its `Config`, where a class is given.
        num_steps: Steps of the schedule.
        window: Stochastic steps, for plans of a window.
    """

    def __init__(self, given: Any, options: Mapping[str, Any] | None, num_steps: int, window: int) -> None:
        super().__init__(given, Objective, options, "cpu")
        self.num_steps, self.window = num_steps, window

    @property
    def is_instance(self) -> bool:
        """Whether `fresh` returns the same object every time."""
        return isinstance(self._given, Objective)

    @property
    def num_recorded(self) -> int:
        """Recorded steps of every video."""
        return self.window if self.component.plan.steps == "window" else self.num_steps

    def policy(self) -> KitPolicy:
        """A fresh stand-in."""
        return KitPolicy(self.num_steps, self.component.statistics)

    @functools.cached_property
    def rollouts(self) -> KitRollouts:
        """What every check is given."""
        return sample_rollouts(self.policy(), self.component.plan.steps, self.window)

    @functools.cached_property
    def group_rollouts(self) -> KitRollouts:
        """The videos of `GROUP_ROWS`."""
        return sample_rollouts(self.policy(), self.component.plan.steps, self.window, NUM_GROUPS * GROUP_SIZE)

    def run(self, rollouts: KitRollouts | None = None) -> ObjectiveRun:
        """A fresh objective that has begun a run, on `rollouts` where others are given."""
        return ObjectiveRun(self, self.rollouts if rollouts is None else rollouts)

    def num_items(self, objective: Objective, num_steps: int) -> int:
        """Items of every video.

        Raises:
            CallFailed: The objective refused the number of steps, or returned something other than a whole number.
        """
        why, fix = NUM_ITEMS
        try:
            found: object = objective.num_items(num_steps)
        except UserError as error:
            raise CallFailed(f"num_items({num_steps}) raised UserError: {error}", why=why, fix=fix) from error
        if not isinstance(found, int) or isinstance(found, bool) or found < 1:
            raise CallFailed(
                f"num_items({num_steps}) is {found!r}; it must be a whole number of at least 1", why=why, fix=fix
            )
        return found


class ObjectiveRun:
    """An objective in a run on the kit's rollouts.

    Args:
        subject: What is checked.
        rollouts: What the objective is given.
    """

    def __init__(self, subject: ObjectiveSubject, rollouts: KitRollouts) -> None:
        self.subject, self.rollouts = subject, rollouts
        self.objective, self.policy = subject.fresh(), subject.policy()
        self.objective.start(self.policy)
        self.batches: list[UpdateBatch] = []
        self._generators: list[torch.Generator] = []

    def prepare(
        self, rows: Sequence[Sequence[int]] = ROWS, *, advantage_scale: float = 1.0, seed: int = 0
    ) -> list[dict[str, Tensor]]:
        """Make the micro-batches of a rollout batch and let the objective prepare them.

        Args:
            rows: Videos of the micro-batches of an item.
            advantage_scale: Factor of the advantages.
            seed: Of the micro-batches' random numbers.

        Raises:
            CallFailed: The objective did not return the data of every micro-batch.
        """
        self._generators = []
        numbers = [(item, own) for item in range(self.num_items) for own in rows]
        self.batches = [
            self._batch(item, own, advantage_scale, derived) for derived, (item, own) in enumerate(numbers, 1000 * seed)
        ]
        data = self.prepare_again()
        if not isinstance(data, list) or len(data) != len(self.batches):
            found = f"a list of {len(data)}" if isinstance(data, list) else repr(data)
            why, fix = PREPARED
            raise CallFailed(f"prepare returned {found} for {len(self.batches)} micro-batches", why=why, fix=fix)
        self.use(data)
        return data

    @torch.no_grad()
    def prepare_again(self) -> list[dict[str, Tensor]]:
        """Let the objective prepare the present micro-batches, and return its answer as it is."""
        return self.objective.prepare([self._visit(batch) for batch in self.batches], self.policy)

    def use(self, data: Sequence[Mapping[str, Tensor]]) -> None:
        """Let the micro-batches have other prepared data."""
        self.batches = [replace(batch, data=own) for batch, own in zip(self.batches, data, strict=True)]

    @property
    def num_items(self) -> int:
        """Items of every video."""
        return self.subject.num_items(self.objective, self.subject.num_recorded)

    def losses(self) -> list[Tensor]:
        """Loss of every micro-batch of an optimiser step, as at its first visit.

        Raises:
            CallFailed: A loss has another shape than `(b,)`, or no gradient.
        """
        with torch.no_grad():
            self.objective.begin_update([self._visit(batch) for batch in self.batches], self.policy)
        losses = [self.objective.loss(self._visit(batch), self.policy) for batch in self.batches]
        for batch, loss in zip(self.batches, losses, strict=True):
            _check_loss(batch, loss)
        return losses

    def random_states(self) -> list[Tensor]:
        """States of the random numbers of every visit since `prepare`; equal states mean equally many draws."""
        return [random.get_state() for random in self._generators]

    def gradient(self) -> dict[str, Tensor]:
        """Gradient of the mean loss in the trained parameters; 0 where there is none."""
        parameters = dict(self.policy.model.named_parameters())
        total = torch.stack([loss.mean() for loss in self.losses()]).mean()
        found = torch.autograd.grad(total, list(parameters.values()), allow_unused=True)
        return {
            name: torch.zeros_like(own) if gradient is None else gradient
            for (name, own), gradient in zip(parameters.items(), found, strict=True)
        }

    def move(self, gradient: Mapping[str, Tensor], size: float) -> None:
        """Change the trained parameters against a gradient by a step of a given length."""
        scale = size / max(float(norm(gradient)), 1e-30)
        values = {name: value - scale * gradient[name] for name, value in self.policy.parameters().items()}
        self.policy.set_parameters(values)

    def update(self) -> None:
        """One optimiser step."""
        self.move(self.gradient(), 0.05)
        self.objective.end_update(self.policy)

    def _batch(self, item: int, rows: Sequence[int], advantage_scale: float, seed: int) -> UpdateBatch:
        rollouts, plan, own = self.rollouts, self.objective.plan, list(rows)
        steps = [step.select(own) for step in rollouts.steps]
        advantages = advantage_scale * rollouts.advantages[own] if plan.scored else torch.zeros(len(own))
        if plan.scored and self.objective.advantage_options.credit == "spatial":
            advantages = advantages[:, None, None].repeat(1, *SHAPE[-2:])
        return UpdateBatch(
            item=item,
            num_steps=len(steps),
            select=steps.__getitem__,
            latents=rollouts.latents[own] if plan.steps == "all" else torch.empty(0),
            advantages=advantages,
            valid=torch.ones(len(own), dtype=torch.bool),
            clips=[] if plan.scored else [rollouts.clips[row] for row in own],
            generator=torch.Generator().manual_seed(seed),
        )

    def _visit(self, batch: UpdateBatch) -> UpdateBatch:
        """The micro-batch with its random numbers from the begin."""
        assert batch.generator is not None
        random = torch.Generator().manual_seed(batch.generator.initial_seed())
        self._generators.append(random)
        return replace(batch, generator=random)


def _check_loss(batch: UpdateBatch, loss: object) -> None:
    why, fix = LOSS_FORM
    expected = batch.valid.shape
    if not isinstance(loss, Tensor) or loss.shape != expected:
        found = tuple(loss.shape) if isinstance(loss, Tensor) else repr(loss)
        raise CallFailed(
            f"the loss of item {batch.item} is {found}; it must be a tensor {tuple(expected)}", why=why, fix=fix
        )
    if not loss.requires_grad:
        raise CallFailed(
            f"the loss of item {batch.item} has no gradient: it was detached, or computed under torch.no_grad or from "
            "numpy values",
            why=why,
            fix="use torch operations alone between the policy's output and the loss: no detach(), item(), numpy() or "
            "torch.no_grad",
        )


def norm(gradient: Mapping[str, Tensor]) -> Tensor:
    """Euclidean norm over all parameters."""
    return torch.stack([value.square().sum() for value in gradient.values()]).sum().sqrt()
