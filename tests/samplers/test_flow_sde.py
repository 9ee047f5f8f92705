"""`flow-sde`: the density against the paper's formula, and the base scheduler's own schedule and Euler step."""

from __future__ import annotations

import math

import pytest
import torch
from diffusers import (
    CogVideoXDDIMScheduler,
    DPMSolverMultistepScheduler,
    FlowMatchEulerDiscreteScheduler,
    FlowMatchHeunDiscreteScheduler,
    UniPCMultistepScheduler,
)
from diffusers.pipelines.mochi.pipeline_mochi import retrieve_timesteps

from samplers.drive import drive, generators, wavy
from worldr1_backbones.samplers.cps import CPSSampler
from worldr1_backbones.samplers.flow_sde import FlowSDESampler
from worldr1_core.errors import UserError
from worldr1_core.policy import PolicyRun


def euler(**options):
    return FlowMatchEulerDiscreteScheduler(**options)


def wan(**options):
    return UniPCMultistepScheduler(
        **{"prediction_type": "flow_prediction", "use_flow_sigmas": True, "flow_shift": 3.0, **options}
    )


BASES = {
    "euler": (euler(), {}),
    "shift 5": (euler(shift=5.0), {}),
    "dynamic": (euler(use_dynamic_shifting=True), {"mu": 1.1}),
    "ltx": (euler(use_dynamic_shifting=True, shift_terminal=0.1, base_shift=0.95, max_shift=2.05), {"mu": 1.5}),
    "karras": (euler(use_karras_sigmas=True, shift=3.0), {}),
    "wan unipc": (wan(), {}),
    "wan unipc 720p": (wan(flow_shift=5.0), {}),
    "dpm++": (
        DPMSolverMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=7.0),
        {},
    ),
}
ALL = pytest.mark.parametrize("name", BASES)


def scheduler_of(base, **options):
    return FlowSDESampler(**options).make_scheduler(base)


def record(base, schedule, window, **options):
    scheduler = scheduler_of(base, **options)
    run = PolicyRun(window=window, record=True, generators=generators(0, 1))
    latents = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(5))
    outputs = []

    def denoiser(sample, timestep, policy):
        outputs.append(wavy(sample, timestep, policy))
        return outputs[-1]

    drive(scheduler, latents, denoiser, num_steps=12, run=run, **schedule)
    return run.steps, outputs[window[0] : window[1]]


def sigmas_of(base, num_steps, schedule):
    base.set_timesteps(num_steps, **schedule)
    return base.sigmas.double().tolist()


def sde(x, v, s, s_next, sigma):
    """Paper, section 3: mean and std of the SDE step, in float64."""
    dt = s_next - s
    mean = x * (1 + sigma**2 / (2 * s) * dt) + v * (1 + sigma**2 * (1 - s) / (2 * s)) * dt
    return mean, sigma * math.sqrt(-dt)


def assert_density(step, mean, std):
    assert step.std == pytest.approx(std, rel=1e-6)
    torch.testing.assert_close(step.mean.double(), mean, atol=2e-6, rtol=2e-6)


@ALL
@pytest.mark.parametrize("window", [(0, 4), (5, 8), (10, 12)])
def test_flow_grpo_rule_is_the_papers(name, window):
    base, schedule = BASES[name]
    steps, outputs = record(base, schedule, window, eta=0.9)
    sigmas = sigmas_of(base, 12, schedule)
    assert [step.point.index for step in steps] == list(range(*window))
    for step, v in zip(steps, outputs, strict=True):
        s, s_next = sigmas[step.point.index : step.point.index + 2]
        divided_by = 1 - sigmas[1] if s > 0.9999 else 1 - s
        sigma = 0.9 * math.sqrt(s / divided_by)
        assert_density(step, *sde(step.sample.double(), v.double(), s, s_next, sigma))


@ALL
def test_world_r1_rule_is_linear_in_the_level(name):
    base, schedule = BASES[name]
    steps, outputs = record(base, schedule, (0, 12), sigma_rule="world-r1", sigma_min=0.1, sigma_max=0.8)
    sigmas = sigmas_of(base, 12, schedule)
    for step, v in zip(steps, outputs, strict=True):
        s, s_next = sigmas[step.point.index : step.point.index + 2]
        assert_density(step, *sde(step.sample.double(), v.double(), s, s_next, 0.1 + 0.7 * s))


def test_world_r1_defaults_take_the_ends_of_the_schedule():
    steps, _ = record(wan(), {}, (3, 4), sigma_rule="world-r1")
    (step,) = steps
    expected = step.point.noise_level * math.sqrt(step.point.noise_level - step.point.next_level)
    assert step.std == pytest.approx(expected, rel=1e-9)


def test_the_first_step_of_a_single_step_schedule_is_finite():
    scheduler = scheduler_of(euler())
    run = PolicyRun(window=(0, 1), record=True, generators=generators(0))
    final = drive(scheduler, torch.ones(1, 4), wavy, num_steps=1, run=run)
    assert bool(torch.isfinite(final).all())
    assert run.steps[0].std == pytest.approx(0.7)


@ALL
@pytest.mark.parametrize("num_steps", [2, 7, 50])
@pytest.mark.parametrize("sampler", [FlowSDESampler, CPSSampler])
def test_the_schedule_is_that_of_the_base(name, num_steps, sampler):
    base, schedule = BASES[name]
    scheduler = sampler().make_scheduler(base)
    scheduler.set_timesteps(num_steps, **schedule)
    expected = sigmas_of(base, num_steps, schedule)
    assert torch.equal(scheduler.timesteps, base.timesteps)
    assert scheduler.timesteps.dtype == base.timesteps.dtype
    assert scheduler.noise_levels() == expected
    assert scheduler.num_steps == num_steps


def test_a_shift_that_was_set_later_is_kept():
    base = euler()
    base.set_shift(7.0)
    scheduler = scheduler_of(base)
    scheduler.set_timesteps(9)
    assert scheduler.noise_levels() == sigmas_of(base, 9, {})


@pytest.mark.parametrize("options", [{}, {"shift": 3.0}, {"invert_sigmas": True}])
def test_without_a_window_it_is_diffusers_euler(options):
    latents = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(1))
    base = euler(**options)
    base.set_timesteps(20)
    sample = latents
    for timestep in base.timesteps:
        sample = base.step(wavy(sample, timestep, None), timestep, sample, return_dict=False)[0]
    final = drive(scheduler_of(euler(**options)), latents, wavy, num_steps=20)
    torch.testing.assert_close(final, sample, atol=2e-6, rtol=0)


def test_inverted_sigmas_are_the_same_policy_as_upright_ones():
    """Mochi counts from noise (0) to data (1), and predicts x0 - x1."""
    latents = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(1))
    runs = [PolicyRun(window=(0, 10), record=True, generators=generators(3, 4)) for _ in range(2)]
    upright = drive(scheduler_of(euler()), latents, lambda x, t, _: torch.sin(x), run=runs[0])
    inverted = drive(scheduler_of(euler(invert_sigmas=True)), latents, lambda x, t, _: -torch.sin(x), run=runs[1])
    torch.testing.assert_close(inverted, upright, atol=1e-5, rtol=0)
    for first, second in zip(*(run.steps for run in runs), strict=True):
        assert first.std == pytest.approx(second.std, rel=1e-4)
        assert second.point.noise_level == pytest.approx(first.point.noise_level, abs=1e-6)


def test_a_pipelines_own_sigmas_reach_the_schedule():
    """Mochi, LTX and HunyuanVideo pass them to a scheduler whose signature takes them, and fail otherwise."""
    scheduler = scheduler_of(euler())
    timesteps, num_steps = retrieve_timesteps(scheduler, sigmas=[1.0, 0.6, 0.3])
    assert (num_steps, timesteps.tolist()) == (3, pytest.approx([1000.0, 600.0, 300.0]))
    assert scheduler.noise_levels() == pytest.approx([1.0, 0.6, 0.3, 0.0])


def test_a_segment_shows_its_own_sigmas():
    scheduler = scheduler_of(euler(shift=3.0))
    scheduler.run = PolicyRun(segment=(2, 5))
    scheduler.set_timesteps(8)
    torch.testing.assert_close(scheduler.sigmas[:-1] * 1000, scheduler.timesteps)
    assert len(scheduler.sigmas) == len(scheduler.timesteps) + 1 == 4


def test_the_base_is_left_alone():
    base = wan()
    base.set_timesteps(5)
    before = base.timesteps.clone(), dict(base.config)
    drive(scheduler_of(base), torch.ones(1, 4), wavy)
    assert torch.equal(base.timesteps, before[0])
    assert dict(base.config) == before[1]


@pytest.mark.parametrize("sampler", [FlowSDESampler, CPSSampler])
@pytest.mark.parametrize(
    "base",
    [
        UniPCMultistepScheduler(prediction_type="epsilon"),
        UniPCMultistepScheduler(prediction_type="v_prediction", use_flow_sigmas=True),
        DPMSolverMultistepScheduler(prediction_type="v_prediction"),
        CogVideoXDDIMScheduler(prediction_type="v_prediction"),
        FlowMatchHeunDiscreteScheduler(),
        object(),
        None,
    ],
    ids=lambda base: f"{type(base).__name__}-{getattr(base, 'config', {}).get('prediction_type', '')}",
)
def test_other_families_are_refused(sampler, base):
    with pytest.raises(UserError, match=f"needs the scheduler of a flow model.*Received {type(base).__name__}"):
        sampler().make_scheduler(base)


def test_stochastic_sampling_of_the_base_is_refused():
    with pytest.raises(UserError, match="stochastic_sampling"):
        scheduler_of(euler(stochastic_sampling=True))


def test_a_step_without_length_cannot_be_drawn():
    scheduler = scheduler_of(wan(final_sigmas_type="sigma_min"))
    scheduler.run = PolicyRun(window=(10, 12))
    with pytest.raises(UserError, match=r"step 11 of 12.*std 0.0"):
        scheduler.set_timesteps(12)


@pytest.mark.filterwarnings("ignore:invalid value")
def test_a_schedule_that_is_not_finite_is_refused():
    """diffusers stretches one step to a terminal sigma by 0 / 0."""
    base, schedule = BASES["ltx"]
    with pytest.raises(UserError, match="schedule of 1 steps is not finite"):
        scheduler_of(base).set_timesteps(1, **schedule)


def test_sigma_min_above_sigma_max_is_refused():
    with pytest.raises(UserError, match=r"sigma_min must not exceed sigma_max, received 0.9 > 0.5"):
        FlowSDESampler(sigma_rule="world-r1", sigma_min=0.9, sigma_max=0.5)


@pytest.mark.parametrize("options", [{"eta": 0.0}, {"eta": 2.5}, {"eta": float("nan")}, {"sigma_rule": "ddpm"}])
def test_options_out_of_range_are_refused(options):
    with pytest.raises(UserError, match="Options of FlowSDESampler"):
        FlowSDESampler(**options)
