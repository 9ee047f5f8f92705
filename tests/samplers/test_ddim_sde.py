"""`ddim-sde`: DDIM's formulas, and diffusers' own step outside the window."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from diffusers import (
    CogVideoXDDIMScheduler,
    CogVideoXDPMScheduler,
    DDIMScheduler,
    FlowMatchEulerDiscreteScheduler,
    UniPCMultistepScheduler,
)

from samplers.drive import drive, generators, wavy
from worldr1_backbones.samplers.ddim_sde import DDIMSDESampler
from worldr1_core.errors import UserError
from worldr1_core.policy import PolicyRun

RELEASED = {
    "prediction_type": "v_prediction",
    "rescale_betas_zero_snr": True,
    "timestep_spacing": "trailing",
    "snr_shift_scale": 1.0,
    "beta_schedule": "scaled_linear",
    "set_alpha_to_one": True,
    "clip_sample": False,
}
"""The scheduler configuration of CogVideoX-1.5-5B."""


def policy(eta=0.7, cls=CogVideoXDDIMScheduler, **options):
    return DDIMSDESampler(eta=eta).make_scheduler(cls(**{**RELEASED, **options}))


def latents():
    return torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("num_steps", [1, 7, 30, 50])
@pytest.mark.parametrize("spacing", ["leading", "trailing", "linspace"])
@pytest.mark.parametrize("to_one", [True, False])
@pytest.mark.parametrize("zero_snr", [True, False])
def test_without_a_window_it_is_diffusers_ddim(num_steps, spacing, to_one, zero_snr):
    options = {"timestep_spacing": spacing, "set_alpha_to_one": to_one, "rescale_betas_zero_snr": zero_snr}
    base = CogVideoXDDIMScheduler(**{**RELEASED, **options})
    base.set_timesteps(num_steps)
    sample = latents()
    for timestep in base.timesteps:
        sample = base.step(wavy(sample, timestep, None), int(timestep), sample, return_dict=False)[0]
    final = drive(policy(**options), latents(), wavy, num_steps=num_steps)
    torch.testing.assert_close(final, sample.float(), atol=5e-6, rtol=5e-6)


@pytest.mark.parametrize("prediction", ["epsilon", "sample", "v_prediction"])
def test_every_prediction_type_steps_as_diffusers(prediction):
    options = {"prediction_type": prediction, "rescale_betas_zero_snr": False, "snr_shift_scale": 3.0}
    base, scheduler = CogVideoXDDIMScheduler(**{**RELEASED, **options}), policy(**options)
    base.set_timesteps(20)
    scheduler.set_timesteps(20)
    for index, timestep in enumerate(base.timesteps):
        output = wavy(latents(), timestep, None)
        expected = base.step(output, int(timestep), latents(), return_dict=False)[0].float()
        moved = scheduler.ode_step(scheduler.point(index), latents(), output)
        torch.testing.assert_close(moved, expected, atol=2e-5, rtol=2e-5)


def closed_form(prediction, x, output, before, after, eta):
    """DDIM, formulas 12 and 16, in numpy."""
    if prediction == "epsilon":
        noise = output
    elif prediction == "sample":
        noise = (x - np.sqrt(before) * output) / np.sqrt(1 - before)
    else:
        noise = np.sqrt(before) * output + np.sqrt(1 - before) * x
    if before > 0:
        data = (x - np.sqrt(1 - before) * noise) / np.sqrt(before)
    else:
        data = output if prediction == "sample" else -output
    std = eta * np.sqrt((1 - after) / (1 - before)) * np.sqrt(1 - before / after)
    return np.sqrt(after) * data + np.sqrt(1 - after - std**2) * noise, std


@pytest.mark.parametrize("cls", [CogVideoXDDIMScheduler, CogVideoXDPMScheduler])
@pytest.mark.parametrize("eta", [0.3, 1.0])
@pytest.mark.parametrize(("prediction", "zero_snr"), [("epsilon", False), ("sample", True), ("v_prediction", True)])
def test_density_is_formulas_12_and_16(cls, eta, prediction, zero_snr):
    options = {"prediction_type": prediction, "rescale_betas_zero_snr": zero_snr}
    run = PolicyRun(window=(0, 9), record=True, generators=generators(0, 1))
    outputs = []

    def denoiser(sample, timestep, _):
        outputs.append(wavy(sample, timestep, _))
        return outputs[-1]

    drive(policy(eta, cls, **options), latents(), denoiser, run=run)
    base = cls(**{**RELEASED, **options})
    for step, output in zip(run.steps, outputs, strict=False):
        timestep = int(step.point.timestep)
        before, after = (float(base.alphas_cumprod[t]) for t in (timestep, timestep - 100))
        mean, std = closed_form(prediction, step.sample.double().numpy(), output.double().numpy(), before, after, eta)
        assert step.std == pytest.approx(std, rel=1e-9)
        np.testing.assert_allclose(step.mean.numpy(), mean, atol=2e-5, rtol=2e-5)


def test_the_first_step_of_a_zero_snr_schedule_draws_from_the_predicted_data():
    """There x is noise alone and v = -x0: the step goes to sqrt(a') x0 with the noise of a'."""
    scheduler = policy(eta=1.0)
    scheduler.set_timesteps(50)
    point = scheduler.point(0)
    assert point.noise_level == 0.0
    made = scheduler.transition(point, latents(), torch.full_like(latents(), -2.0))
    assert made.std == pytest.approx(math.sqrt(1 - point.next_level))
    torch.testing.assert_close(made.mean, torch.full_like(latents(), 2 * math.sqrt(point.next_level)))


def test_noise_prediction_of_a_zero_snr_schedule_is_refused():
    with pytest.raises(UserError, match="the first step holds no data"):
        policy(prediction_type="epsilon")


@pytest.mark.parametrize("spacing", ["leading", "trailing"])
@pytest.mark.parametrize("to_one", [True, False])
def test_a_last_step_without_noise_cannot_be_drawn(spacing, to_one):
    scheduler = policy(timestep_spacing=spacing, set_alpha_to_one=to_one)
    scheduler.run = PolicyRun(window=(8, 10), generators=generators(0))
    if spacing == "trailing" and not to_one:  # it ends at alpha of step 0, which still has some noise
        scheduler.set_timesteps(10)
        assert scheduler.transition(scheduler.point(9), latents(), latents()).std > 0
        return
    with pytest.raises(UserError, match=r"holds step 9 of 10, at which DDIMSDEScheduler draws with std 0.0"):
        scheduler.set_timesteps(10)


def test_no_window_holds_the_last_step():
    sampler = DDIMSDESampler(num_inference_steps=4, window=1, window_stop=4)
    assert {sampler.window(0, rollout_batch) for rollout_batch in range(60)} == {(0, 1), (1, 2), (2, 3)}


@pytest.mark.parametrize(
    "base",
    [
        FlowMatchEulerDiscreteScheduler(),
        UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True),
        DDIMScheduler(prediction_type="v_prediction"),
        None,
    ],
    ids=lambda base: type(base).__name__,
)
def test_other_schedulers_are_refused(base):
    with pytest.raises(UserError, match=f"needs a CogVideoXDDIMScheduler.*received {type(base).__name__}"):
        DDIMSDESampler().make_scheduler(base)


def test_an_unknown_prediction_type_is_refused():
    with pytest.raises(UserError, match=r"prediction_type must be one of .* received 'flow'"):
        policy(prediction_type="flow")


def test_the_base_keeps_its_own_schedule():
    base = CogVideoXDDIMScheduler(**RELEASED)
    base.set_timesteps(5)
    drive(DDIMSDESampler().make_scheduler(base), latents(), wavy)
    assert len(base.timesteps) == 5
