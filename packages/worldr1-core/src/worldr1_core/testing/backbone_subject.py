"""The backbone under test, and a policy that any diffusers scheduler can be given."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from worldr1_core.backbone import AdapterSpec, Backbone, Conditioning, Rollout
from worldr1_core.errors import UserError
from worldr1_core.policy import PolicyRun, PolicyScheduler, SchedulePoint, Transition
from worldr1_core.sampler import Sampler
from worldr1_core.seeding import generator
from worldr1_core.testing.clips import make_clip
from worldr1_core.testing.failures import CheckFailed, CheckSkipped
from worldr1_core.testing.subject import Subject

PROMPTS = ("Camera push in. A red ball on the floor.", "Camera pan left. A bright room.")
STD = 0.2


class _KitPolicy(PolicyScheduler):
    """Euler's step from level 1 to 0 with constant noise, sufficient to test what a backbone records."""

    def noise_levels(self) -> list[float]:
        """Evenly spaced."""
        count = len(self.timesteps)
        return [1 - i / count for i in range(count + 1)]

    def transition(self, point: SchedulePoint, sample: Tensor, model_output: Tensor) -> Transition:
        """A Gaussian around the deterministic step."""
        return Transition(self.ode_step(point, sample, model_output), STD)

    def ode_step(self, point: SchedulePoint, sample: Tensor, model_output: Tensor) -> Tensor:
        """Along the model output, whatever it predicts."""
        return sample + (point.next_level - point.noise_level) * model_output


def kit_policy(base: Any) -> PolicyScheduler:
    """A policy on the schedule of a diffusers scheduler.

    Raises:
        UserError: `base` is none.
    """
    if not hasattr(base, "from_config") or not hasattr(base, "set_timesteps"):
        raise UserError(f"The kit can make a policy of a diffusers scheduler, received {base!r}. Pass `sampler`.")
    made: PolicyScheduler = type("KitPolicy", (_KitPolicy, type(base)), {}).from_config(base.config)  # type: ignore[attr-defined]
    return made


class BackboneSubject(Subject[Backbone]):
    """A backbone with its sampler, and the rollouts that most checks share."""

    def __init__(
        self,
        given: Any,
        options: Mapping[str, Any] | None,
        sampler: Sampler | None,
        prompts: Sequence[str],
        num_inference_steps: int,
        adapter: AdapterSpec,
        tolerance: float,
        device: str,
        round_trip: float | None = None,
    ) -> None:
        super().__init__(given, Backbone, options, device)
        if len(set(prompts)) < 2:
            raise UserError(f"The kit needs two different prompts, received {list(prompts)!r}.")
        if num_inference_steps < 3:
            raise UserError(f"The kit needs at least 3 steps, received {num_inference_steps!r}.")
        self.sampler, self.prompts, self.num_steps = sampler, list(prompts[:2]), num_inference_steps
        self.adapter, self.tolerance, self.round_trip = adapter, tolerance, round_trip

    @property
    def window(self) -> tuple[int, int]:
        """Every step but the last, at which some samplers cannot draw."""
        return 0, self.num_steps - 1

    def policy(self, backbone: Backbone) -> PolicyScheduler:
        """A policy for the backbone."""
        base = backbone.base_scheduler
        return kit_policy(base) if self.sampler is None else self.sampler.make_scheduler(base)

    def noise(self, seed: int = 0, backbone: Backbone | None = None) -> Tensor:
        """One initial latent `(1, C, T, H, W)`."""
        shape = (self.component if backbone is None else backbone).geometry.shape
        return torch.randn(1, *shape, generator=generator(seed, "conformance kit"))

    @functools.cached_property
    def noises(self) -> Tensor:
        """The latents of the standard batch of two."""
        return torch.cat([self.noise(0), self.noise(1)])

    @functools.cached_property
    def videos(self) -> Tensor:
        """Two different videos `(2, T, 3, H, W)` of the backbone's size."""
        geometry = self.component.geometry
        size = (geometry.video_height, geometry.video_width)
        clips = [make_clip(num_frames=geometry.video_frames, size=size, seed=seed) for seed in (0, 1)]
        return torch.stack([clip.video.frames for clip in clips])

    @functools.cached_property
    def conditioning(self) -> Conditioning:
        """The standard prompts, encoded."""
        return self.component.encode(self.prompts)

    def sample(
        self,
        backbone: Backbone | None = None,
        conditioning: Conditioning | None = None,
        latents: Tensor | None = None,
        *,
        seed: int = 0,
        **run: Any,
    ) -> Rollout:
        """Run the policy; stochastic and recorded in the window, unless `run` says otherwise."""
        backbone = self.component if backbone is None else backbone
        conditioning = self.conditioning if conditioning is None else conditioning
        latents = self.noises if latents is None else latents
        generators = [generator(seed, "conformance kit", row) for row in range(len(latents))]
        options = {"window": self.window, "generators": generators, "record": True, **run}
        return backbone.sample(
            conditioning,
            latents,
            num_inference_steps=self.num_steps,
            scheduler=self.policy(backbone),
            run=PolicyRun(**options),
        )

    def steer(self, backbone: Backbone | None = None, **arguments: Any) -> Tensor:
        """The deterministic sampler's latents."""
        return self.sample(backbone, window=(0, 0), record=False, **arguments).latents

    @functools.cached_property
    def rollout(self) -> Rollout:
        """The standard batch."""
        return self.sample()

    def unshared(self) -> Backbone:
        """A separate backbone for a check that changes it.

        Raises:
            CheckSkipped: One instance was given, which must not be changed.
        """
        made = self.fresh()
        if made is self.component:
            raise CheckSkipped("an instance was given; give the class or a function, since this check adds an adapter")
        return made

    @functools.cached_property
    def adapted(self) -> Backbone:
        """A backbone with an adapter that has an effect, as after some updates."""
        backbone = self.unshared()
        backbone.add_adapter(self.adapter)
        noise = generator(0, "conformance kit", "adapter")
        with torch.no_grad():
            for _, parameter in backbone.trainable_parameters():
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=noise).to(parameter))
        return backbone

    def close(self, first: Tensor, second: Tensor) -> bool:
        """Return True if two tensors agree within the tolerance, relative to their scale."""
        scale = max(1.0, float(second.float().abs().max()))
        return first.shape == second.shape and distance(first, second) <= self.tolerance * scale


def distance(first: Tensor, second: Tensor) -> float:
    """Largest difference of two tensors of one shape.

    Raises:
        CheckFailed: Their shapes differ.
    """
    if first.shape != second.shape:
        raise CheckFailed(f"shapes {tuple(first.shape)} and {tuple(second.shape)} should agree")
    return float((first.float() - second.float()).abs().max()) if first.numel() else 0.0
