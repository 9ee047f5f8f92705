"""The objective `reward-gradient`: maximises rewards by backpropagation through decoder and sampler.

The rewards must be differentiable with respect to the video (`Reward.score_frames`). DRaFT-K (Clark et al., "Directly
Fine-Tuning Diffusion Models on Differentiable Rewards", 2023, arXiv 2309.17400) backpropagates through the last K steps
of the sampler, ReFL (Xu et al., "ImageReward", 2023, arXiv 2304.05977) through one step at a random noise level. Direct
gradients exploit weaknesses of a reward much faster than a policy gradient. Two kinds of terms counteract this: anchors
to the model before training, and constraints on statistics of the videos.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from worldr1_core.component import ComponentConfig
from worldr1_core.errors import UserError
from worldr1_core.objective import Denoised, Objective, Policy, RolloutPlan, UpdateBatch
from worldr1_train.diversity import distances_within_groups
from worldr1_train.held_out_section import DIVERSITY
from worldr1_train.noising import draw_noised
from worldr1_train.objectives.constraints import RatioConstraints
from worldr1_train.objectives.matching import mean_square

Ratio = Annotated[float, Field(gt=0, le=100)]


class RewardGradientObjective(Objective):
    """Loss that is minus the weighted sum of the rewards of each video, plus anchors and constraints."""

    class Config(ComponentConfig):
        """Options of `reward-gradient`."""

        through: Literal["sampler", "last-steps", "one-step"] = Field(
            "sampler",
            description="Steps through which the gradient flows: every step of the sampler, its last `last_steps` "
            "steps (DRaFT-K), or one step at a random noise level that predicts the clean video (ReFL).",
        )
        last_steps: int = Field(1, ge=1, le=1000, description="Number of steps with a gradient for `last-steps`, K.")
        first_frame_anchor: float = Field(
            0.0,
            ge=0,
            le=1e6,
            description="Weight of the mean squared distance between the first latent frames of the model and of the "
            "model before training, from the same noise.",
        )
        kl: float = Field(
            0.0,
            ge=0,
            le=1e6,
            description="Weight of the mean squared distance between the outputs of the model and of the model before "
            "training, at one random step with a gradient.",
        )
        noised_kl: float = Field(
            0.0,
            ge=0,
            le=1e6,
            description="Weight of the same distance on videos of the model before training with fresh noise at a "
            "random level, as in pretraining. It preserves what the model has learnt without fixing its videos.",
        )
        keep: dict[str, Ratio] = Field(
            default_factory=dict,
            description="Reward or metric -> target of its ratio to the videos of the model before training.",
        )
        at_least: dict[str, Ratio] = Field(
            default_factory=dict,
            description="Reward or metric -> lower bound of its ratio to the videos of the model before training.",
        )
        keep_diversity: Ratio | None = Field(
            None,
            description="Lower bound of the ratio of diversity, the root-mean-square distance between videos of one "
            "prompt in a micro-batch, to that of the model before training. Needs groups of at least 2 videos.",
        )
        dual_rate: float = Field(
            0.5, ge=0, le=1e6, description="Change of a constraint's multiplier per update and unit of its residual."
        )
        penalty: float = Field(
            5.0, ge=0, le=1e6, description="Weight of the quadratic penalty on a constraint's residual."
        )
        exact_ratios: bool = Field(
            True,
            description="Whether the ratios of an update of several micro-batches are measured before its first "
            "gradient, which samples its videos once more. They then do not depend on micro-batches and processes. If "
            "false, the micro-batches still to come are taken at the moving average of earlier updates.",
        )

    plan: ClassVar[RolloutPlan] = RolloutPlan(steps="all", policy="reference", scored=False)
    config: Config

    def __init__(self, config: Any = None, *, device: str = "cpu", **options: Any) -> None:
        super().__init__(config, device=device, **options)
        twice = sorted(self.config.keep.keys() & self.config.at_least.keys())
        if twice:
            raise UserError(f"keep and at_least both constrain {twice}. Constrain each statistic in one of them only.")
        floors = dict(self.config.at_least)
        if self.config.keep_diversity is not None:
            if DIVERSITY in self.config.keep | floors:
                raise UserError(f"keep_diversity constrains {DIVERSITY!r}, which keep or at_least names too. Use one.")
            floors[DIVERSITY] = self.config.keep_diversity
        self._constrained = [*self.config.keep, *floors]
        self._constraints = RatioConstraints(
            self.config.keep, floors, rate=self.config.dual_rate, penalty=self.config.penalty
        )
        self._ratios_known = False

    @property
    def statistics(self) -> Sequence[str]:
        """See `Objective.statistics`: the constrained statistics of single videos."""
        return [*self.config.keep, *self.config.at_least]

    @property
    def compares_videos(self) -> bool:
        """See `Objective.compares_videos`: the diversity is that of the videos of a prompt."""
        return self.config.keep_diversity is not None

    def num_items(self, num_steps: int) -> int:
        """See `Objective.num_items`."""
        if self.config.through == "last-steps" and self.config.last_steps > num_steps:
            raise UserError(
                f"last_steps ({self.config.last_steps}) exceeds the {num_steps} steps of the sampler "
                "(num_inference_steps). Lower it, or set through to sampler."
            )
        return 1

    def prepare(self, batches: Sequence[UpdateBatch], policy: Policy) -> list[dict[str, Tensor]]:
        """Compute rewards and statistics of the reference videos, and means of the statistics over all processes."""
        data, measured = [], []
        for batch in batches:
            frames = torch.stack([_reference(batch, row) for row in range(len(batch.clips))]).to(batch.latents.device)
            measured.append(self._measure(frames, batch, policy))
            data.append({"reward/reference": _total(policy.score_frames(frames, batch.clips), policy.weights)})
        for name in self._constrained:
            mean = policy.gather(torch.cat([found[name] for found in measured])).nanmean()
            for own, found in zip(data, measured, strict=True):
                own |= {f"{name}/reference": found[name], f"{name}/mean": mean}
        return data

    def begin_update(self, batches: Sequence[UpdateBatch], policy: Policy) -> None:
        """Measure the constrained statistics of all videos of the update, with `exact_ratios`."""
        config = self.config
        # Without a penalty, the ratios matter only after the update.
        needed = bool(self._constrained) and config.penalty > 0 and len(batches) > 1
        self._ratios_known = needed and config.exact_ratios
        if not self._ratios_known:
            return
        for batch in batches:
            frames = policy.decode(self._denoise(batch, policy)[0].latents)
            self._record(self._measure(frames, batch, policy), batch, policy)

    def loss(self, batch: UpdateBatch, policy: Policy) -> Tensor:
        """Return the loss of every video, `(b,)`."""
        steps = batch.steps()
        made, step = self._denoise(batch, policy)
        frames = policy.decode(made.latents)
        loss = -self._reward(frames, batch, policy)
        if self._constrained:
            values = self._measure(frames, batch, policy)
            if not self._ratios_known:
                self._record(values, batch, policy)
            means = {name: batch.data[f"{name}/mean"] for name in self._constrained}
            loss = loss + self._constraints.loss(values, self._references(batch), means)
        if self.config.first_frame_anchor:
            drift = mean_square((policy.unpack(made.latents) - policy.unpack(batch.latents))[:, :, 0])
            loss = loss + self.config.first_frame_anchor * drift
            policy.note("anchor/first_frame", drift, batch.valid)
        if self.config.kl:
            with torch.no_grad(), policy.reference():
                before = policy.predict(steps[made.first + step], made.samples[step])
            distance = mean_square(made.outputs[step] - before)
            loss = loss + self.config.kl * distance
            policy.note("kl", distance, batch.valid)
        if self.config.noised_kl:
            distance = self._noised_distance(batch, policy)
            loss = loss + self.config.noised_kl * distance
            policy.note("noised_kl", distance, batch.valid)
        policy.show(frames, batch.clips)
        return loss

    def end_update(self, policy: Policy) -> None:
        """Update the multipliers of the constraints and log them."""
        self._ratios_known = False
        if not self._constrained:
            return
        one = torch.ones(1, dtype=torch.bool)
        for name, (ratio, multiplier) in self._constraints.update().items():
            policy.note(f"keep/{name}/ratio", torch.tensor([ratio]), one)
            policy.note(f"keep/{name}/multiplier", torch.tensor([multiplier]), one)

    def state_dict(self) -> dict[str, Any]:
        """See `Objective.state_dict`: the state of the constraints."""
        return self._constraints.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """See `Objective.load_state_dict`."""
        self._constraints.load_state_dict(state)

    def _measure(self, frames: Tensor, batch: UpdateBatch, policy: Policy) -> dict[str, Tensor]:
        """Return the constrained statistics, name -> `(b,)`."""
        found = policy.measure(frames, batch.clips)
        if self.config.keep_diversity is not None:
            found = found | {DIVERSITY: distances_within_groups(frames, [clip.prompt for clip in batch.clips])}
        return found

    def _record(self, values: Mapping[str, Tensor], batch: UpdateBatch, policy: Policy) -> None:
        self._constraints.record(values, self._references(batch), policy.gather)

    def _references(self, batch: UpdateBatch) -> dict[str, Tensor]:
        """Return the constrained statistics of the reference videos, name -> `(b,)`."""
        return {name: batch.data[f"{name}/reference"] for name in self._constrained}

    def _denoise(self, batch: UpdateBatch, policy: Policy) -> tuple[Denoised, int]:
        """Generate the videos with gradients; also return the index of a random step among those with a gradient."""
        steps, config = batch.steps(), self.config
        if config.through != "one-step":
            made = policy.denoise(steps, last=config.last_steps if config.through == "last-steps" else None)
            return made, int(torch.randint(len(made.outputs), (1,), generator=batch.generator))
        index = int(torch.randint(len(steps), (1,), generator=batch.generator))
        with torch.no_grad():
            sample = policy.denoise(steps, stop=index).latents if index else steps[0].sample
        output = policy.predict(steps[index], sample)
        to_data = replace(steps[index].point, next_level=steps[-1].point.next_level)
        return Denoised(policy.scheduler.ode_step(to_data, sample, output), [sample], [output], index), 0

    def _noised_distance(self, batch: UpdateBatch, policy: Policy) -> Tensor:
        """Return the mean squared distance to the outputs of the model before training on noised videos, `(b,)`."""
        noised = draw_noised(policy.scheduler, batch, (0, batch.num_steps), batch.generator)
        with torch.no_grad(), policy.reference():
            before = policy.predict(noised.step, noised.sample)
        return mean_square(policy.predict(noised.step, noised.sample) - before)

    def _reward(self, frames: Tensor, batch: UpdateBatch, policy: Policy) -> Tensor:
        """Return the weighted sum of the applicable rewards, `(b,)`; log it, and its gain over the reference videos."""
        scores = policy.score_frames(frames, batch.clips)
        for name, values in scores.items():
            policy.note(f"rewards/{name}/mean", values, batch.valid & values.isfinite())
        total = _total(scores, policy.weights)
        policy.note("reward", total, batch.valid)
        policy.note("reward_gain", total - batch.data["reward/reference"], batch.valid)
        return total


def _total(scores: Mapping[str, Tensor], weights: Mapping[str, float]) -> Tensor:
    """Return the weighted sum of the applicable scores, `(b,)`."""
    parts = [weights[name] * torch.where(v.isfinite(), v, torch.zeros_like(v)) for name, v in scores.items()]
    return torch.stack(parts).sum(0)


def _reference(batch: UpdateBatch, row: int) -> Tensor:
    reference = batch.clips[row].reference
    assert reference is not None, "with policy='reference', every clip has a reference"
    return reference.frames
