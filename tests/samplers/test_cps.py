"""`cps`: the authors' formula, and what it preserves."""

from __future__ import annotations

import math

import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from hypothesis import given, settings
from hypothesis import strategies as st

from samplers.drive import Gaussian, drive, generators, wavy
from worldr1_backbones.samplers.cps import CPSSampler
from worldr1_core.errors import UserError
from worldr1_core.policy import PolicyRun


def policy(eta=0.7, **base):
    return CPSSampler(eta=eta).make_scheduler(FlowMatchEulerDiscreteScheduler(**base))


def recorded(window, eta, invert_sigmas=False, num_steps=10):
    scheduler = policy(eta, shift=3.0, invert_sigmas=invert_sigmas)
    run = PolicyRun(window=window, record=True, generators=generators(0, 1))
    outputs = []

    def denoiser(sample, timestep, _):
        outputs.append(wavy(sample, timestep, _))
        return outputs[-1]

    drive(scheduler, torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(2)), denoiser, run=run)
    return zip(run.steps, outputs[window[0] : window[1]], strict=True)


@pytest.mark.parametrize("eta", [0.2, 0.7, 1.0])
@pytest.mark.parametrize("invert", [False, True])
def test_density_is_the_authors_formula(eta, invert):
    """FlowCPS writes it as std = s' sin(eta pi / 2), mean = x0 (1 - s') + x1 sqrt(s'^2 - std^2)."""
    base = FlowMatchEulerDiscreteScheduler(shift=3.0)
    base.set_timesteps(10)
    sigmas = base.sigmas.double()
    for step, output in recorded((0, 9), eta, invert):
        s, s_next = sigmas[step.point.index : step.point.index + 2]
        velocity = -output.double() if invert else output.double()
        std = s_next * math.sin(eta * math.pi / 2)
        data, noise = step.sample.double() - s * velocity, step.sample.double() + velocity * (1 - s)
        mean = data * (1 - s_next) + noise * (s_next**2 - std**2).clamp(min=0).sqrt()
        assert step.std == pytest.approx(float(std), rel=1e-5)
        torch.testing.assert_close(step.mean.double(), mean, atol=3e-6, rtol=0)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(eta=st.floats(0.05, 1.0), shift=st.floats(1.0, 8.0), num_steps=st.integers(2, 12))
def test_a_known_video_is_reached_with_exactly_the_noise_of_every_level(eta, shift, num_steps):
    """Where the data are one point, samples at every level are N((1 - s) point, s^2), however few the steps."""
    target = Gaussian(mean=1.5, std=0.0)
    run = PolicyRun(window=(0, num_steps - 1), record=True, generators=generators(7))
    latents = torch.randn(1, 20_000, generator=torch.Generator().manual_seed(6))
    final = drive(policy(eta, shift=shift), latents, target.flow, num_steps=num_steps, run=run)
    for step in run.steps:
        s = step.point.next_level
        noise = (step.next_sample - (1 - s) * 1.5) / s
        assert abs(float(noise.mean())) < 5 / math.sqrt(20_000)
        assert abs(float(noise.std()) - 1) < 5 / math.sqrt(40_000)
    torch.testing.assert_close(final, torch.full_like(final, 1.5), atol=1e-4, rtol=0)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(eta=st.floats(0.05, 1.0), index=st.integers(0, 198), std=st.floats(0.1, 1.0))
def test_one_step_loses_the_variance_that_averaging_loses(eta, index, std):
    """For data N(m, t^2) one step from the exact marginal keeps the mean; with c = cos(eta pi / 2) its variance is

    ((1 - s)(1 - s') t^2 + s s' c)^2 / ((1 - s)^2 t^2 + s^2) + s'^2 (1 - c^2), which does not tend to the marginal's
    as steps become small: cps is no discretised SDE.
    """
    target = Gaussian(std=std)
    scheduler = policy(eta)
    scheduler.set_timesteps(200)
    point = scheduler.point(index)
    s, s_next = point.noise_level, point.next_level
    x = torch.tensor([[0.0], [1.0]])
    means = scheduler.transition(point, x, target.velocity(x, s)).mean[:, 0].double()
    slope = float(means[1] - means[0])
    marginal = (1 - s) ** 2 * std**2 + s**2
    variance = slope**2 * marginal + scheduler.transition(point, x, x).std ** 2
    kept = (1 - s) * (1 - s_next) * std**2 + s * s_next * math.cos(eta * math.pi / 2)
    expected = kept**2 / marginal + s_next**2 * math.sin(eta * math.pi / 2) ** 2
    assert variance == pytest.approx(expected, rel=1e-3)
    at_mean = torch.tensor([[(1 - s) * target.mean]])
    mean = scheduler.transition(point, at_mean, target.velocity(at_mean, s)).mean
    assert float(mean) == pytest.approx((1 - s_next) * target.mean, abs=1e-5)


def test_small_eta_tends_to_the_ode():
    scheduler = policy(1e-4)
    scheduler.set_timesteps(10)
    x = torch.randn(2, 5, generator=torch.Generator().manual_seed(0))
    for index in range(9):
        point = scheduler.point(index)
        drawn, moved = scheduler.transition(point, x, x.sin()), scheduler.ode_step(point, x, x.sin())
        torch.testing.assert_close(drawn.mean, moved, atol=1e-6, rtol=0)
        assert drawn.std < 2e-4


def test_the_last_step_cannot_be_drawn():
    scheduler = policy()
    scheduler.run = PolicyRun(window=(8, 10), generators=generators(0))
    with pytest.raises(UserError, match=r"holds step 9 of 10, at which CPSScheduler draws with std 0.0"):
        scheduler.set_timesteps(10)


def test_no_window_holds_the_last_step():
    sampler = CPSSampler(num_inference_steps=5, window=2, window_stop=5)
    assert {sampler.window(0, rollout_batch) for rollout_batch in range(60)} == {(0, 2), (1, 3), (2, 4)}
    with pytest.raises(UserError, match="schedule of 5 steps, the last of which is deterministic"):
        CPSSampler(num_inference_steps=5, window=5).window(0, 0)
