"""`flow-grpo`: normalised ratios and rectified gradients, written out."""

from __future__ import annotations

import pytest
import torch

from train.linear_policy import ADVANTAGES, LATENTS, NUM_STEPS, SEED, LinearPolicy
from worldr1_core.objective import UpdateBatch
from worldr1_core.policy import PolicyStep
from worldr1_train.objectives.flow_grpo import FlowGRPOObjective, rectification_weights

CLIP = 0.05


class _Sampled(LinearPolicy):
    """With stochastic steps that it has drawn."""

    def steps(self):
        drawn = []
        for index in range(NUM_STEPS):
            point = self.scheduler.point(index)
            sample = LATENTS + index
            noise = torch.randn(LATENTS.shape, generator=torch.Generator().manual_seed(SEED + index))
            transition = self.scheduler.transition(point, sample, 0.6 * sample + 0.1)
            value = transition.mean + transition.std * noise
            log_prob = transition.log_prob(value)
            drawn.append(PolicyStep(point, sample, value, transition.mean, transition.std, log_prob))
        return drawn

    def batch(self, item=0, advantages=ADVANTAGES, **options):
        steps = self.steps()
        valid = torch.ones(3, dtype=torch.bool)
        return UpdateBatch(item, NUM_STEPS, steps.__getitem__, LATENTS, advantages, valid, **options)


def loss_after_a_move(item, advantages=ADVANTAGES, **options):
    """Loss `(3,)` after the weights have moved, and what the move did to the step."""
    objective, policy = FlowGRPOObjective(clip=CLIP, kl=0.0, **options), _Sampled()
    [data] = objective.prepare([policy.batch(item, advantages)], policy)
    policy.values = {"weight": torch.tensor(0.75), "bias": torch.tensor(-0.2)}
    return objective.loss(policy.batch(item, advantages, data=data), policy), policy.steps()[item]


def moved_mean(step):
    """Of the step under the weights after the move."""
    return _Sampled().scheduler.transition(step.point, step.sample, 0.75 * step.sample - 0.2).mean


@pytest.mark.parametrize("item", [0, 2])
@pytest.mark.parametrize("credit", ["video", "spatial"])
def test_normalised_ratio_is_noise_times_the_shift_of_the_mean(item, credit):
    spatial = credit == "spatial"
    advantages = ADVANTAGES.view(3, 1, 1).expand(3, 4, 5) if spatial else ADVANTAGES
    options = {"credit": credit, "aggregation": "gdpo" if spatial else "weighted-sum"}
    got, step = loss_after_a_move(item, advantages, ratio_normalisation=True, **options)
    noise = (step.next_sample - step.mean) / step.std
    product = noise * (moved_mean(step) - step.mean)
    ratio = (product.mean(1) if spatial else product.mean((1, 2, 3))).exp()
    expected = -torch.minimum(ratio * advantages, ratio.clamp(1 - CLIP, 1 + CLIP) * advantages)
    torch.testing.assert_close(got, expected.mean((1, 2)) if spatial else expected, rtol=1e-4, atol=1e-5)


def test_plain_ratio_is_biased_and_the_normalised_one_is_not():
    """Over many draws the mean of the log-ratio is minus the KL divergence, and 0 without its bias."""
    policy = _Sampled()
    point, sample = policy.scheduler.point(2), torch.zeros(4000, 1, 1, 8)
    old = policy.scheduler.transition(point, sample, torch.zeros_like(sample))
    new = policy.scheduler.transition(point, sample, torch.full_like(sample, 0.3))
    drawn = old.mean + old.std * torch.randn(sample.shape, generator=torch.Generator().manual_seed(0))
    log_ratio = new.log_prob(drawn) - old.log_prob(drawn)
    bias = float(new.kl(old)[0])
    assert float(log_ratio.mean()) == pytest.approx(-bias, rel=0.1)
    assert abs(float((log_ratio + new.kl(old)).mean())) < 0.1 * bias


@pytest.mark.parametrize("normalised", [False, True])
def test_rectified_gradients_are_equally_large_at_every_step(normalised):
    """The gradient in the output is the noise alone, times one factor for the whole schedule."""
    objective = FlowGRPOObjective(kl=0.0, rectification=True, ratio_normalisation=normalised)
    policy, scales = _Sampled(), []
    for item in range(NUM_STEPS):
        [data] = objective.prepare([policy.batch(item)], policy)
        policy.values = {"weight": torch.tensor(0.6), "bias": torch.zeros(LATENTS.shape, requires_grad=True) + 0.1}
        bias = policy.values["bias"]
        bias.retain_grad()
        objective.loss(
            policy.batch(item, torch.ones(3), data={"step_weights": data["step_weights"]}), policy
        ).sum().backward()
        step = policy.steps()[item]
        noise = (step.next_sample - step.mean) / step.std
        scales.append(bias.grad / noise)
        policy.values = LinearPolicy().values
    for scale in scales:
        torch.testing.assert_close(scale, scales[0].mean().expand_as(scale), rtol=1e-3, atol=1e-6)


def test_weights_of_a_schedule_have_mean_1_and_leave_out_steps_that_are_not_drawn():
    class LastStepIsCertain(type(LinearPolicy().scheduler)):
        def transition(self, point, sample, model_output):
            found = super().transition(point, sample, model_output)
            return type(found)(found.mean, 0.0) if point.next_level == 0 else found

    scheduler = LastStepIsCertain()
    scheduler.set_timesteps(NUM_STEPS)
    weights = rectification_weights(scheduler, normalised=False)
    assert weights[-1] == 0
    assert sum(weights[:-1]) / (NUM_STEPS - 1) == pytest.approx(1)


def test_both_are_off_by_default():
    plain, _ = loss_after_a_move(1)
    named, _ = loss_after_a_move(1, ratio_normalisation=False, rectification=False)
    assert torch.equal(plain, named)
    assert not torch.allclose(plain, loss_after_a_move(1, ratio_normalisation=True)[0])
