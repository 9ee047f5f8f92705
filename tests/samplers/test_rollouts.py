"""What every sampler's rollouts promise: exact densities, independent noise, segments, exact latents, replay."""

from __future__ import annotations

import itertools

import pytest
import torch
from diffusers import (
    CogVideoXDDIMScheduler,
    CogVideoXDPMScheduler,
    FlowMatchEulerDiscreteScheduler,
    UniPCMultistepScheduler,
)
from scipy import stats

from samplers.drive import drive, generators, wavy
from worldr1_backbones.samplers.cps import CPSSampler
from worldr1_backbones.samplers.ddim_sde import DDIMSDESampler
from worldr1_backbones.samplers.flow_sde import FlowSDESampler
from worldr1_core.plugins import installed
from worldr1_core.policy import PolicyRun
from worldr1_core.sampler import Sampler
from worldr1_core.testing import check_sampler

COGVIDEOX = {
    "prediction_type": "v_prediction",
    "rescale_betas_zero_snr": True,
    "timestep_spacing": "trailing",
    "snr_shift_scale": 1.0,
}
WAN = UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0)
CASES = {
    "flow-sde": (FlowSDESampler(), WAN),
    "flow-sde world-r1": (FlowSDESampler(sigma_rule="world-r1"), FlowMatchEulerDiscreteScheduler(shift=5.0)),
    "flow-sde mochi": (FlowSDESampler(), FlowMatchEulerDiscreteScheduler(invert_sigmas=True)),
    "cps": (CPSSampler(), WAN),
    "ddim-sde": (DDIMSDESampler(), CogVideoXDDIMScheduler(**COGVIDEOX)),
    "ddim-sde 1.5": (DDIMSDESampler(), CogVideoXDPMScheduler(**COGVIDEOX)),
    "ddim-sde epsilon": (DDIMSDESampler(), CogVideoXDDIMScheduler(prediction_type="epsilon", snr_shift_scale=1.0)),
}
ALL = pytest.mark.parametrize("name", CASES)
WINDOW = (3, 6)


def policy(name):
    sampler, base = CASES[name]
    return sampler.make_scheduler(base)


def noise(*seeds, shape=(2, 3, 4, 5)):
    return torch.stack([torch.randn(shape, generator=torch.Generator().manual_seed(100 + seed)) for seed in seeds])


def rollout(name, *seeds, latents=None, **options):
    run = PolicyRun(**{"window": WINDOW, "record": True, "generators": generators(*seeds), **options})
    final = drive(policy(name), noise(*seeds) if latents is None else latents, wavy, run=run)
    return final, run.steps


@pytest.mark.parametrize("name", ["flow-sde", "cps", "ddim-sde"])
def test_the_sampler_is_installed_by_its_name(name):
    assert issubclass(installed().registry.load("sampler", name), Sampler)


@ALL
def test_every_contract_is_kept(name):
    sampler, base = CASES[name]
    report = check_sampler(type(sampler), base=base, options=sampler.config.model_dump(), device="cpu:0")
    assert report.skipped == {}


@ALL
def test_the_drawn_noise_is_standard_normal_by_the_recorded_density(name):
    """200 seeds, three steps: a Kolmogorov-Smirnov test over all, and over the seeds in one place."""
    _, steps = rollout(name, *range(200))
    drawn = torch.stack([(step.next_sample - step.mean) / step.std for step in steps]).double()
    assert stats.kstest(drawn.flatten().numpy(), "norm").pvalue > 1e-3
    for step in drawn:
        assert stats.kstest(step[:, 0, 0, 0, 0].numpy(), "norm").pvalue > 1e-3


@ALL
def test_a_batch_of_four_is_four_single_rollouts(name):
    together, steps = rollout(name, 0, 1, 2, 3)
    for row in range(4):
        alone, single = rollout(name, row)
        assert torch.equal(alone[0], together[row])
        for one, many in zip(single, steps, strict=True):
            assert torch.equal(one.log_prob[0], many.log_prob[row])
            assert torch.equal(one.mean[0], many.mean[row])


@ALL
@pytest.mark.parametrize("cut", [1, 3, 4, 9])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_two_segments_are_one_run(name, cut, dtype):
    """To 0.0, also where the pipeline keeps bfloat16 latents, if the second begins at the first's exact latents."""
    start = noise(0, 1)
    whole, steps = rollout(name, 0, 1, latents=start.to(dtype), initial=start)
    shared = generators(0, 1)
    first, early = rollout(name, 0, 1, latents=start.to(dtype), initial=start, segment=(0, cut), generators=shared)
    second, late = rollout(name, 0, 1, latents=first.to(dtype), initial=first, segment=(cut, 10), generators=shared)
    assert float((whole - second).abs().max()) == 0.0
    assert [step.point for step in early + late] == [step.point for step in steps]
    assert all(torch.equal(a.mean, b.mean) for a, b in zip(early + late, steps, strict=True))


@ALL
def test_a_group_branches_from_one_prefix(name):
    start = noise(0)
    prefix = PolicyRun(segment=(0, 3))
    branch = PolicyRun(segment=(3, 10), window=WINDOW, record=True, generators=generators(0, 1, 2, 3))
    scheduler = policy(name)
    shared = drive(scheduler, start, wavy, run=prefix).expand(4, -1, -1, -1, -1)
    group = drive(scheduler, shared, wavy, run=branch)
    single, _ = rollout(name, 0, latents=start)
    assert torch.equal(group[0], single[0])
    assert all(float((group[i] - group[j]).abs().max()) > 0.01 for i in range(4) for j in range(i))


@ALL
def test_a_pipeline_in_bfloat16_does_not_round_what_is_recorded(name):
    start = noise(0, 1)
    exact, steps = rollout(name, 0, 1, latents=start.bfloat16())
    for before, after in itertools.pairwise(steps):
        assert torch.equal(before.next_sample, after.sample)
        assert after.sample.dtype == torch.float32
        assert not torch.equal(after.sample, after.sample.bfloat16().float())
    assert exact.dtype == torch.float32


@ALL
def test_what_the_pipeline_does_between_steps_is_honoured(name):
    run = PolicyRun(window=(0, 8), record=True, generators=generators(0, 1))
    drive(policy(name), noise(0, 1).bfloat16(), wavy, run=run, between=lambda x: x * 0.5)
    for before, after in itertools.pairwise(run.steps):
        assert torch.equal(after.sample, before.next_sample.bfloat16().mul(0.5).float())


@ALL
def test_a_recorded_step_replays_to_the_recorded_mean(name):
    scheduler = policy(name)
    outputs = []

    def denoiser(sample, timestep, _):
        outputs.append(wavy(sample, timestep, _))
        return outputs[-1]

    run = PolicyRun(window=WINDOW, record=True, generators=generators(0, 1))
    drive(scheduler, noise(0, 1), denoiser, run=run)
    for num_steps in (10, 25, 4):
        scheduler.run = None
        scheduler.set_timesteps(num_steps)
        for step, output in zip(run.steps, outputs[WINDOW[0] : WINDOW[1]], strict=True):
            again = scheduler.transition(step.point, step.sample, output)
            assert float((again.mean - step.mean).abs().max()) == 0.0
            assert again.std == step.std
            assert torch.equal(again.log_prob(step.next_sample), step.log_prob)
            assert float(again.kl(again).abs().max()) == 0.0


@ALL
def test_recorded_and_unrecorded_rollouts_are_the_same(name):
    recorded, steps = rollout(name, 0, 1)
    silent, nothing = rollout(name, 0, 1, record=False)
    assert torch.equal(recorded, silent)
    assert (len(steps), len(nothing)) == (3, 0)


@ALL
def test_the_ratio_of_two_policies_averages_to_one(name):
    """E over samples of p'(x) / p(x) is 1: the recorded density is the one they were drawn from."""
    scheduler = policy(name)
    scheduler.set_timesteps(10)
    point = scheduler.point(4)
    sample, output = noise(0, shape=(8,)).expand(40_000, -1), 0.2 * noise(1, shape=(8,)).expand(40_000, -1)
    behaviour = scheduler.transition(point, sample, output)
    drawn = behaviour.mean + behaviour.std * torch.randn(40_000, 8, generator=torch.Generator().manual_seed(0))
    other = scheduler.transition(point, sample, output + 0.3 * behaviour.std)
    ratio = (8 * (other.log_prob(drawn) - behaviour.log_prob(drawn))).exp()
    assert abs(float(ratio.mean()) - 1) < 5 * float(ratio.std()) / 200
    assert float(ratio.std()) > 0.01
