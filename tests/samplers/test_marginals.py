"""On a Gaussian target with a closed-form denoiser, stochastic and deterministic sampling give the same distribution.

The chain is affine, so that its mean and variance also follow from a recursion in float64 that knows neither the
schedulers nor torch. Samples must agree with that recursion within sampling error, and the recursion tells how far
200 steps are from the target.
"""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from diffusers import CogVideoXDDIMScheduler, FlowMatchEulerDiscreteScheduler
from hypothesis import given, settings
from hypothesis import strategies as st

from samplers.drive import Gaussian, drive, generators
from worldr1_backbones.samplers.cps import CPSSampler
from worldr1_backbones.samplers.ddim_sde import DDIMSDESampler
from worldr1_backbones.samplers.flow_sde import FlowSDESampler
from worldr1_core.policy import PolicyRun

STEPS, COUNT = 200, 10_000
TARGET = Gaussian(1.5, 0.5)
MEAN_ERROR = 5 * TARGET.std / math.sqrt(COUNT)
STD_ERROR = 5 * TARGET.std / math.sqrt(2 * COUNT)
"""Five standard errors of a sample's mean and std."""
BASES = {"trailing": (True, "trailing"), "leading": (False, "leading")}
ZERO_SNR = {"prediction_type": "v_prediction", "beta_schedule": "scaled_linear", "snr_shift_scale": 1.0}

etas = st.floats(0.1, 0.7)
windows = st.one_of(
    st.just((0, STEPS - 1)), st.tuples(st.integers(2, STEPS - 4), st.integers(1, 3)).map(lambda w: (w[0], sum(w)))
)
examples = settings(max_examples=20, deadline=None, derandomize=True)


def flow_base(shift):
    return FlowMatchEulerDiscreteScheduler(shift=shift)


def sampled(scheduler, denoiser, window, signal=0.0):
    """Mean and std of samples that begin at the marginal of that signal level, the square root of alpha."""
    noise = torch.randn(1, COUNT, generator=torch.Generator().manual_seed(11))
    latents = signal * TARGET.mean + math.sqrt((signal * TARGET.std) ** 2 + 1 - signal**2) * noise
    run = PolicyRun(window=window, generators=generators(12))
    final = drive(scheduler, latents, denoiser, num_steps=STEPS, run=run)
    return float(final.mean()), float(final.std())


def chain(moves, mean=0.0, variance=1.0):
    """Mean and std after affine steps x -> slope x + offset + N(0, std^2)."""
    for slope, offset, std in moves:
        mean, variance = slope * mean + offset, slope**2 * variance + std**2
    return mean, math.sqrt(variance)


def affine(step):
    """Slope and offset of a step mean that is affine in x."""
    offset = step(0.0)
    return step(1.0) - offset, offset


def flow_levels(shift):
    base = flow_base(shift)
    base.set_timesteps(STEPS)
    return base.sigmas.double().tolist()


def flow_moves(shift, window, kind, strength):
    sigmas = flow_levels(shift)
    for index, (s, s_next) in enumerate(itertools.pairwise(sigmas)):
        dt, std, drift = s_next - s, 0.0, 0.0
        fresh = strength * math.pi / 2 if kind == "cps" and window[0] <= index < window[1] else 0.0
        if kind != "cps" and window[0] <= index < window[1]:
            divided_by = 1 - (sigmas[1] if index == 0 else s)
            sigma = strength * math.sqrt(s / divided_by) if kind == "flow-grpo" else strength * s
            drift, std = sigma**2 / (2 * s), sigma * math.sqrt(-dt)

        def mean(x, s=s, s_next=s_next, dt=dt, drift=drift, fresh=fresh):
            v = TARGET.velocity(x, s)
            if fresh:
                return (1 - s_next) * (x - s * v) + s_next * math.cos(fresh) * (x + (1 - s) * v)
            return x * (1 + drift * dt) + v * (1 + drift * (1 - s)) * dt

        yield *affine(mean), std if not fresh else s_next * math.sin(fresh)


@examples
@given(shift=st.floats(1.0, 5.0), eta=etas, window=windows)
def test_sde_window_and_ode_agree(shift, eta, window):
    sampler = FlowSDESampler(eta=eta)
    ode = sampled(sampler.make_scheduler(flow_base(shift)), TARGET.flow, (0, 0))
    sde = sampled(sampler.make_scheduler(flow_base(shift)), TARGET.flow, window)
    for mean, std in (ode, sde):
        assert abs(mean - TARGET.mean) < MEAN_ERROR
        assert abs(std - TARGET.std) < STD_ERROR
    assert abs(sde[1] - ode[1]) < STD_ERROR


@examples
@given(shift=st.floats(1.0, 5.0), strength=st.floats(0.1, 1.5), window=windows)
def test_any_noise_strength_has_the_same_marginals(shift, strength, window):
    """The rule of World-R1's release, and others."""
    sampler = FlowSDESampler(sigma_rule="world-r1", sigma_min=0.0, sigma_max=strength)
    mean, std = sampled(sampler.make_scheduler(flow_base(shift)), TARGET.flow, window)
    assert abs(mean - TARGET.mean) < MEAN_ERROR
    assert abs(std - TARGET.std) < STD_ERROR


@examples
@given(
    shift=st.floats(1.0, 12.0),
    strength=st.floats(0.1, 1.0),
    begin=st.integers(0, STEPS - 2),
    length=st.integers(1, STEPS),
    kind=st.sampled_from(["flow-grpo", "world-r1", "cps"]),
)
def test_samples_follow_the_chains_own_mean_and_std(shift, strength, begin, length, kind):
    """Every window, the first steps included, where the discretisation itself is off (see the next test)."""
    window = (begin, min(begin + length, STEPS - 1))
    sampler = {
        "flow-grpo": lambda: FlowSDESampler(eta=strength),
        "world-r1": lambda: FlowSDESampler(sigma_rule="world-r1", sigma_max=strength),
        "cps": lambda: CPSSampler(eta=strength),
    }[kind]()
    mean, std = sampled(sampler.make_scheduler(flow_base(shift)), TARGET.flow, window)
    expected_mean, expected_std = chain(flow_moves(shift, window, kind, strength))
    assert abs(mean - expected_mean) < 5 * expected_std / math.sqrt(COUNT)
    assert abs(std - expected_std) < 5 * expected_std / math.sqrt(2 * COUNT)


@pytest.mark.parametrize(("window", "excess"), [((0, 1), 0.031), ((0, 2), 0.049), ((1, 2), 0.031), ((2, 4), 0.011)])
def test_euler_maruyama_adds_noise_in_the_first_steps(window, excess):
    """There a step is as long as its distance from pure noise, however many steps there are: the std is too large."""
    _, ode = chain(flow_moves(1.0, (0, 0), "flow-grpo", 0.7))
    _, drawn = chain(flow_moves(1.0, window, "flow-grpo", 0.7))
    assert drawn / ode - 1 == pytest.approx(excess, abs=0.001)


def test_cps_loses_variance_late_in_the_schedule():
    """It keeps the coefficients, not the marginals: every step of 200 costs 16 % of the std, two late ones 6 %."""
    mean, std = sampled(CPSSampler(eta=0.7).make_scheduler(flow_base(3.0)), TARGET.flow, (0, STEPS - 1))
    assert abs(mean - TARGET.mean) < MEAN_ERROR
    _, ode = chain(flow_moves(3.0, (0, 0), "cps", 0.7))
    assert std / ode == pytest.approx(0.84, abs=0.03)
    for window, ratio in {(10, 12): 1.0, (50, 52): 0.999, (100, 102): 0.995, (180, 182): 0.941}.items():
        _, drawn = chain(flow_moves(3.0, window, "cps", 0.7))
        assert drawn / ode == pytest.approx(ratio, abs=0.001)


def ddim_base(kind):
    zero_snr, spacing = BASES[kind]
    return CogVideoXDDIMScheduler(**ZERO_SNR, rescale_betas_zero_snr=zero_snr, timestep_spacing=spacing)


def ddim_moves(base, window, eta):
    """Formulas 12 and 16 of DDIM, from the conditional expectations."""
    for index, timestep in enumerate(base.timesteps.tolist()):
        earlier = timestep - base.config.num_train_timesteps // STEPS
        before = float(base.alphas_cumprod[timestep])
        after = float(base.alphas_cumprod[earlier]) if earlier >= 0 else 1.0
        drawn = eta if window[0] <= index < window[1] else 0.0
        std = drawn * math.sqrt((1 - after) / (1 - before) * (1 - before / after))

        def mean(x, before=before, after=after, std=std):
            data, noise = TARGET.expectations(x, math.sqrt(before), math.sqrt(1 - before))
            return math.sqrt(after) * data + math.sqrt(max(0.0, 1 - after - std**2)) * noise

        yield *affine(mean), std


ddim_cases = {
    "kind": st.sampled_from(sorted(BASES)),
    "begin": st.integers(0, STEPS - 3),
    "length": st.integers(1, STEPS),
}


def ddim_run(kind, eta, window):
    base = ddim_base(kind)
    base.set_timesteps(STEPS)
    alpha = float(base.alphas_cumprod[base.timesteps[0]])
    scheduler = DDIMSDESampler(eta=eta).make_scheduler(base)
    expected = chain(ddim_moves(base, window, eta), math.sqrt(alpha) * TARGET.mean, alpha * TARGET.std**2 + 1 - alpha)
    return sampled(scheduler, TARGET.diffusion, window, math.sqrt(alpha)), expected


@examples
@given(eta=etas, **ddim_cases)
def test_ddim_sde_window_and_ode_agree(kind, eta, begin, length):
    window = (begin, min(begin + length, STEPS - 1))
    ode, _ = ddim_run(kind, eta, (0, 0))
    sde, _ = ddim_run(kind, eta, window)
    for mean, std in (ode, sde):
        assert abs(mean - TARGET.mean) < MEAN_ERROR
        assert abs(std - TARGET.std) < STD_ERROR
    assert abs(sde[1] - ode[1]) < STD_ERROR


@examples
@given(eta=st.floats(0.1, 1.0), **ddim_cases)
def test_ddim_samples_follow_the_chains_own_mean_and_std(kind, eta, begin, length):
    window = (begin, min(begin + length, STEPS - 1))
    (mean, std), (expected_mean, expected_std) = ddim_run(kind, eta, window)
    assert abs(mean - expected_mean) < MEAN_ERROR
    assert abs(std - expected_std) < STD_ERROR
