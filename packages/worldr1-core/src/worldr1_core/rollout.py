"""Runs of a backbone over a batch of prompts: one video per prompt, or a group that branches from a shared start.

Groups: paper, section 3 of the method (Flow-GRPO-Fast). The deterministic steps before the window run once per prompt.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Generator

from worldr1_core.backbone import Backbone, Conditioning, Rollout
from worldr1_core.errors import UserError
from worldr1_core.noise import InitialNoise
from worldr1_core.policy import PolicyRun, PolicyScheduler


def rollout_videos(
    backbone: Backbone,
    scheduler: PolicyScheduler | None,
    conditioning: Conditioning,
    noises: Sequence[InitialNoise],
    *,
    num_inference_steps: int,
    record: bool = False,
) -> Rollout:
    """Sample one video per prompt without stochastic steps.

    Args:
        backbone: Model.
        scheduler: Policy, made by a sampler from the backbone's `base_scheduler`; that scheduler itself if `None`.
        conditioning: P encoded prompts.
        noises: Initial noise of each prompt.
        num_inference_steps: Steps of the full schedule.
        record: Whether to keep every step; needs a policy.

    Returns:
        P latents, and the recorded steps.

    Raises:
        UserError: Counts do not fit, or noise is to be injected between steps and there is no policy to do so.
    """
    if len(noises) != len(conditioning):
        raise UserError(f"{len(conditioning)} prompts need as many initial noises, received {len(noises)}.")
    check_injections(noises, scheduler)
    if record and scheduler is None:
        raise UserError("Steps are recorded by a policy scheduler, received None. Make one with a sampler.")
    delta, weights = stack_injections(noises)
    return backbone.sample(
        conditioning,
        torch.stack([noise.latents for noise in noises]),
        num_inference_steps=num_inference_steps,
        scheduler=scheduler,
        run=None if scheduler is None else PolicyRun(step_delta=delta, step_weights=weights, record_ode=record),
    )


def rollout_groups(
    backbone: Backbone,
    scheduler: PolicyScheduler,
    conditioning: Conditioning,
    noises: Sequence[InitialNoise],
    *,
    num_inference_steps: int,
    window: tuple[int, int],
    group_size: int,
    generators: Sequence[Generator],
) -> Rollout:
    """Sample `group_size` videos per prompt that share their initial noise and every step before the window.

    Args:
        backbone: Model.
        scheduler: Policy, made by a sampler from the backbone's `base_scheduler`.
        conditioning: P encoded prompts.
        noises: Initial noise of each prompt.
        num_inference_steps: Steps of the full schedule.
        window: Stochastic steps `[begin, end)`; recorded.
        group_size: G.
        generators: P x G generators, prompt by prompt, for the stochastic steps.

    Returns:
        P x G latents, prompt by prompt, and the recorded steps.

    Raises:
        UserError: Counts do not fit, or the window is empty or outside the schedule.
    """
    if len(noises) != len(conditioning) or len(generators) != len(conditioning) * group_size:
        raise UserError(
            f"{len(conditioning)} prompts in groups of {group_size} need as many initial noises and "
            f"{len(conditioning) * group_size} generators, received {len(noises)} and {len(generators)}."
        )
    if not 0 <= window[0] < window[1] <= num_inference_steps:
        raise UserError(f"The window must lie within the {num_inference_steps} steps, received {window!r}.")
    latents = torch.stack([noise.latents for noise in noises])
    delta, weights = stack_injections(noises)
    if window[0] > 0:
        # The prefix knows the window, so that a window that cannot be drawn is refused before anything is run.
        prefix = PolicyRun(segment=(0, window[0]), window=window, step_delta=delta, step_weights=weights)
        latents = backbone.sample(
            conditioning, latents, num_inference_steps=num_inference_steps, scheduler=scheduler, run=prefix
        ).latents
    branch = PolicyRun(
        segment=(window[0], num_inference_steps),
        window=window,
        generators=list(generators),
        step_delta=None if delta is None else delta.repeat_interleave(group_size, 0),
        step_weights=weights,
        record=True,
    )
    return backbone.sample(
        conditioning.repeat_interleave(group_size),
        latents.repeat_interleave(group_size, 0),
        num_inference_steps=num_inference_steps,
        scheduler=scheduler,
        run=branch,
    )


def check_injections(noises: Sequence[InitialNoise], scheduler: PolicyScheduler | None) -> None:
    """Check that noise to be injected between steps has a policy scheduler to do so.

    Raises:
        UserError: It has none.
    """
    if scheduler is None and any(noise.step_delta is not None for noise in noises):
        raise UserError(
            "The noise conditioner adds to the latents between steps, which only a registered sampler can do. "
            "Add `sampler: {name: …}` to the manifest (`sampler=` in Python), or choose another injection."
        )


def stack_injections(noises: Sequence[InitialNoise]) -> tuple[torch.Tensor | None, tuple[float, ...]]:
    """Stepwise injections of a batch: `(B, C, T, H, W)` or `None`, and the weights that all share.

    Raises:
        UserError: Some have other weights; one batch comes from one conditioner.
    """
    weights = next((noise.step_weights for noise in noises if noise.step_delta is not None), ())
    if not weights:
        return None, ()
    if any(noise.step_delta is not None and noise.step_weights != weights for noise in noises):
        raise UserError("The initial noises of one batch have different step_weights. Take them from one conditioner.")
    deltas = [torch.zeros_like(n.latents) if n.step_delta is None else n.step_delta for n in noises]
    return torch.stack(deltas), weights
