"""The videos of an evaluation: the same prompts and seeds whatever the model, made without any reward."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace

import torch

from worldr1_core.clip import Clip
from worldr1_core.noise import NoiseConditioner
from worldr1_core.policy import PolicyRun, PolicyScheduler
from worldr1_core.rollout import stack_injections
from worldr1_core.sampler import Sampler
from worldr1_core.seeding import derive_seed
from worldr1_train.policy_model import PolicyModel
from worldr1_train.rollouts import draw_noises, make_clip
from worldr1_train.section import EvaluationSection


@dataclass(frozen=True, slots=True)
class EvaluationVideos:
    """Generates the videos of an evaluation with the deterministic sampler of the policy.

    Attributes:
        model: Policy.
        scheduler: Policy scheduler, which is deterministic outside a window.
        num_inference_steps: Steps of the schedule.
        conditioner: Draws the initial noise.
        prompts: What to generate, one video each; a prompt may come several times.
        seed: Seed of the run; video k has a seed of its own.
        autocast: Makes the context in which denoisers run.
    """

    model: PolicyModel
    scheduler: PolicyScheduler
    num_inference_steps: int
    conditioner: NoiseConditioner
    prompts: Sequence[str]
    seed: int
    autocast: Callable[[], AbstractContextManager[None]]

    @classmethod
    def of_section(
        cls,
        section: EvaluationSection,
        model: PolicyModel,
        sampler: Sampler,
        conditioner: NoiseConditioner,
        *,
        prompts: Sequence[str],
        seed: int,
        autocast: Callable[[], AbstractContextManager[None]],
    ) -> EvaluationVideos:
        """The videos that a manifest's `train.evaluation` asks for; steps that it leaves out are the sampler's."""
        return cls(
            model=model,
            scheduler=sampler.make_scheduler(model.backbone.base_scheduler),
            num_inference_steps=section.num_inference_steps or sampler.config.num_inference_steps,
            conditioner=conditioner,
            prompts=prompts,
            seed=seed,
            autocast=autocast,
        )

    def __len__(self) -> int:
        return len(self.prompts)

    def with_noise(self, conditioner: NoiseConditioner) -> EvaluationVideos:
        """The same videos from another initial noise."""
        return replace(self, conditioner=conditioner)

    @torch.no_grad()
    def generate(self, indices: Sequence[int]) -> list[Clip]:
        """Videos by their numbers, made together by the policy as it is."""
        backbone = self.model.backbone
        prompts = [self.prompts[index] for index in indices]
        seeds = [derive_seed(self.seed, "evaluation", index) for index in indices]
        noises = draw_noises(backbone, self.conditioner, prompts, seeds)
        delta, weights = stack_injections(noises)
        conditioning = backbone.encode(prompts)
        with self.autocast():
            rollout = self.model.call_unsharded(
                backbone.sample,
                conditioning,
                torch.stack([noise.latents for noise in noises]),
                num_inference_steps=self.num_inference_steps,
                scheduler=self.scheduler,
                run=PolicyRun(step_delta=delta, step_weights=weights),
            )
        videos = backbone.decode(rollout.latents)
        return [
            make_clip(backbone, videos[i], prompts[i], noises[i], f"test video {index}")
            for i, index in enumerate(indices)
        ]
