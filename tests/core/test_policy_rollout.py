"""Rollouts of groups from one shared prefix, on a backbone without a model."""

from __future__ import annotations

import pytest
import torch

from samplers.drive import drive, generators, wavy
from samplers.toy import ToyPolicy
from worldr1_core.backbone import Conditioning, Rollout
from worldr1_core.errors import UserError
from worldr1_core.noise import InitialNoise
from worldr1_core.policy import PolicyRun
from worldr1_core.rollout import rollout_groups, stack_injections

SHAPE = (2, 3, 4, 5)


class NoModel:
    """Samples with a formula that depends on the prompt's tensor; counts what it computes."""

    def __init__(self):
        self.samples = 0

    def sample(self, conditioning, latents, *, num_inference_steps, scheduler, run):
        shift = conditioning.tensors["embeds"].reshape(-1, 1, 1, 1, 1)

        def denoiser(sample, timestep, policy):
            self.samples += len(sample)
            return wavy(sample, timestep, policy) + shift

        final = drive(scheduler, latents, denoiser, num_steps=num_inference_steps, run=run)
        return Rollout(final, run.steps)


def prompts():
    return Conditioning(("a", "b"), {"embeds": torch.tensor([0.0, 0.5])})


def noises(delta=False, weights=(0.5, 0.2)):
    made = []
    for seed in (1, 2):
        source = torch.Generator().manual_seed(seed)
        latents, change = torch.randn(SHAPE, generator=source), torch.randn(SHAPE, generator=source)
        made.append(InitialNoise(latents, None, change if delta else None, weights if delta else ()))
    return made


def groups(backbone=None, window=(3, 5), **changed):
    arguments = {
        "noises": noises(),
        "num_inference_steps": 10,
        "window": window,
        "group_size": 3,
        "generators": generators(*range(6)),
        **changed,
    }
    return rollout_groups(backbone or NoModel(), ToyPolicy(), prompts(), **arguments)


@pytest.mark.parametrize("window", [(0, 2), (3, 5), (8, 9)])
@pytest.mark.parametrize("delta", [False, True])
def test_a_group_equals_separate_rollouts(window, delta):
    rolled = groups(window=window, noises=noises(delta))
    for row in range(6):
        prompt, noise = prompts().select([row // 3]), noises(delta)[row // 3]
        run = PolicyRun(
            window=window,
            record=True,
            generators=generators(row),
            step_delta=None if noise.step_delta is None else noise.step_delta[None],
            step_weights=noise.step_weights,
        )
        alone = NoModel().sample(prompt, noise.latents[None], num_inference_steps=10, scheduler=ToyPolicy(), run=run)
        assert torch.equal(alone.latents[0], rolled.latents[row])
        for single, many in zip(alone.steps, rolled.steps, strict=True):
            assert torch.equal(single.log_prob[0], many.log_prob[row])


def test_the_prefix_is_run_once_a_prompt():
    backbone = NoModel()
    groups(backbone, window=(6, 8))
    assert backbone.samples == 2 * 6 + 6 * 4


def test_members_of_a_group_differ():
    latents = groups().latents
    assert latents.shape == (6, *SHAPE)
    assert all(float((latents[i] - latents[j]).abs().max()) > 0.01 for i in range(6) for j in range(i))


def test_a_window_that_cannot_be_drawn_stops_before_the_prefix():
    backbone = NoModel()
    with pytest.raises(UserError, match=r"holds step 9 of 10.*std 0.0"):
        groups(backbone, window=(8, 10))
    assert backbone.samples == 0


@pytest.mark.parametrize("window", [(0, 0), (4, 3), (-1, 1), (9, 11)])
def test_a_window_outside_the_schedule_is_refused(window):
    with pytest.raises(UserError, match="The window must lie within the 10 steps"):
        groups(window=window)


@pytest.mark.parametrize("changed", [{"noises": noises()[:1]}, {"generators": generators(0, 1)}, {"group_size": 2}])
def test_counts_that_do_not_fit_are_refused(changed):
    with pytest.raises(UserError, match="2 prompts in groups of"):
        groups(**changed)


def test_injections_of_one_batch_share_their_weights():
    with pytest.raises(UserError, match="different step_weights"):
        stack_injections([noises(True)[0], noises(True, (0.1,))[1]])


def test_noise_without_injection_stands_in_a_batch_with_it():
    mixed = [noises(True)[0], noises()[1]]
    delta, weights = stack_injections(mixed)
    assert weights == (0.5, 0.2)
    assert torch.equal(delta[0], mixed[0].step_delta)
    assert float(delta[1].abs().max()) == 0.0
