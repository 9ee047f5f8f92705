"""The scheduler as policy: densities, recorded steps, injection, and what a run must not ask for."""

from __future__ import annotations

import copy
import inspect
import math
import pickle

import pytest
import torch

from samplers.drive import drive, generators, wavy
from samplers.toy import ToyPolicy
from worldr1_core.errors import UserError, WorldR1Error
from worldr1_core.policy import DenoiserCall, PolicyRun, PolicyStep, SchedulePoint, Transition


def noise(count=2, seed=0):
    return torch.randn(count, 3, 4, generator=torch.Generator().manual_seed(seed))


def recorded_step():
    call = DenoiserCall("transformer", (torch.arange(6).float(),), {"timestep": torch.full((3,), 800.0)})
    run = PolicyRun(window=(2, 3), record=True, generators=generators(0, 1, 2))
    policy = ToyPolicy()

    def denoiser(sample, timestep, scheduler):
        run.calls.append(call)
        return wavy(sample, timestep, scheduler)

    drive(policy, noise(3), denoiser, run=run)
    return run.steps[0]


def test_log_prob_is_the_mean_log_density_of_a_gaussian():
    mean, value = noise(seed=1), noise(seed=2)
    expected = torch.distributions.Normal(mean.double(), 0.3).log_prob(value.double()).mean((1, 2))
    torch.testing.assert_close(Transition(mean, 0.3).log_prob(value).double(), expected, atol=1e-5, rtol=0)


def test_kl_is_that_of_two_gaussians_of_one_std():
    first, second = noise(seed=1), noise(seed=2)
    normal = torch.distributions.Normal
    expected = torch.distributions.kl_divergence(normal(first, 0.4), normal(second, 0.4)).mean((1, 2))
    torch.testing.assert_close(Transition(first, 0.4).kl(Transition(second, 0.4)), expected)


def test_a_recorded_step_is_where_the_schedule_stood():
    step = recorded_step()
    assert step.point == SchedulePoint(2, 800.0, *(pytest.approx(x) for x in (0.8, 0.7, 0.9)))
    assert (step.batch_size, len(step.calls)) == (3, 1)


def test_only_the_calls_since_the_last_step_are_recorded():
    assert [call.module for call in recorded_step().calls] == ["transformer"]


@pytest.mark.parametrize("through", [copy.copy, copy.deepcopy, lambda step: pickle.loads(pickle.dumps(step))])
def test_a_recorded_step_can_be_copied_and_pickled(through):
    step = recorded_step()
    again = through(step)
    assert isinstance(again, PolicyStep)
    assert again.point == step.point
    assert again.std == step.std
    for name in ("sample", "next_sample", "mean", "log_prob"):
        assert torch.equal(getattr(again, name), getattr(step, name))
    assert torch.equal(again.calls[0].kwargs["timestep"], step.calls[0].kwargs["timestep"])


def test_selecting_rows_takes_them_from_everything():
    step = recorded_step()
    chosen = step.select([2, 0])
    for name in ("sample", "next_sample", "mean", "log_prob"):
        assert torch.equal(getattr(chosen, name), getattr(step, name)[[2, 0]])
    assert (chosen.batch_size, chosen.point, chosen.std) == (2, step.point, step.std)
    assert torch.equal(chosen.calls[0].args[0], torch.tensor([2.0, 0.0, 5.0, 3.0]))


def test_selected_rows_are_copies():
    step = recorded_step()
    step.select([0]).sample.zero_()
    assert float(step.sample[0].abs().max()) > 0


def test_a_call_keeps_blocks_of_guidance_shared_arguments_and_containers():
    rotary = (torch.ones(5, 2), torch.zeros(5, 2))
    kwargs = {
        "hidden_states": torch.arange(8).reshape(4, 2),
        "timestep": torch.tensor(7.0),
        "scale": torch.arange(3),
        "image_rotary_emb": rotary,
        "return_dict": False,
    }
    chosen = DenoiserCall("transformer", (), kwargs).select([1], 2, frozenset({"scale"})).kwargs
    assert chosen["hidden_states"].tolist() == [[2, 3], [6, 7]]
    assert torch.equal(chosen["scale"], torch.arange(3))
    assert float(chosen["timestep"]) == 7.0
    assert chosen["image_rotary_emb"] is rotary
    assert chosen["return_dict"] is False


def test_an_argument_that_fits_no_batch_is_named():
    call = DenoiserCall("transformer", (), {"freqs": torch.zeros(3, 2)})
    with pytest.raises(ValueError, match=r"'freqs' has shape \(3, 2\), no multiple of the batch of 2.*shared_"):
        call.select([0], 2, frozenset())


def test_injection_adds_the_weighted_delta_and_keeps_mean_and_std():
    sample, delta = noise() * 2 + 0.7, noise(seed=3)
    run = PolicyRun(step_delta=delta, step_weights=(0.0, 0.8))
    moved = run.inject(1, sample)
    torch.testing.assert_close(moved.mean((1, 2)), sample.mean((1, 2)))
    torch.testing.assert_close(moved.std((1, 2)), sample.std((1, 2)))
    for row in range(2):
        line = torch.corrcoef(torch.stack([moved[row].flatten(), (sample + 0.8 * delta)[row].flatten()]))
        assert float(line[0, 1]) == pytest.approx(1.0, abs=1e-5)
    assert run.inject(0, sample) is sample
    assert run.inject(2, sample) is sample


def test_injection_follows_the_step_and_is_no_part_of_its_density():
    run = PolicyRun(
        window=(0, 2), record=True, generators=generators(0, 1), step_delta=noise(seed=3), step_weights=(0.5, 0.3)
    )
    drive(ToyPolicy(), noise(), wavy, run=run)
    first, second = run.steps
    drawn = (first.next_sample - first.mean) / first.std
    expected = torch.stack([torch.randn(3, 4, generator=g) for g in generators(0, 1)])
    torch.testing.assert_close(drawn, expected, atol=1e-5, rtol=0)
    assert torch.equal(second.sample, run.inject(0, first.next_sample))


def test_injection_of_another_shape_is_refused():
    run = PolicyRun(step_delta=noise(1), step_weights=(0.5,))
    with pytest.raises(ValueError, match=r"step_delta must have the sample's shape \(2, 3, 4\), received \(1, 3, 4\)"):
        run.inject(0, noise(2))


@pytest.mark.parametrize("segment", [(-1, 3), (3, 3), (5, 3), (0, 11), (10, 12)])
def test_a_segment_outside_the_schedule_is_refused(segment):
    policy = ToyPolicy()
    policy.run = PolicyRun(segment=segment)
    with pytest.raises(UserError, match="segment must lie within the 10 steps"):
        policy.set_timesteps(10)


@pytest.mark.parametrize("window", [(-1, 3), (5, 3), (0, 11), (10, 12)])
def test_a_window_outside_the_schedule_is_refused(window):
    policy = ToyPolicy()
    policy.run = PolicyRun(window=window)
    with pytest.raises(UserError, match="window must lie within the 10 steps"):
        policy.set_timesteps(10)


@pytest.mark.parametrize("window", [(0, 0), (4, 4), (20, 20)])
def test_an_empty_window_is_deterministic(window):
    run = PolicyRun(window=window, record=True)
    drive(ToyPolicy(), noise(), wavy, run=run)
    assert run.steps == []


def test_a_window_of_std_zero_is_refused_before_the_model_is_called():
    called = []
    with pytest.raises(UserError, match=r"holds step 9 of 10, at which ToyPolicy draws with std 0.0"):
        drive(ToyPolicy(), noise(), lambda *_: called.append(1), run=PolicyRun(window=(8, 10)))
    assert called == []


@pytest.mark.parametrize("count", [0, 1, 3])
def test_a_wrong_number_of_generators_is_refused(count):
    run = PolicyRun(window=(2, 4), generators=generators(*range(count)))
    with pytest.raises(ValueError, match=f"one generator per sample, 2; received {count}"):
        drive(ToyPolicy(), noise(), wavy, run=run)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_latents_that_are_not_finite_are_refused(bad):
    latents = noise()
    latents[1, 0, 0] = bad
    with pytest.raises(UserError, match="latents before step 0 hold NaN"):
        drive(ToyPolicy(), latents, wavy)


def test_an_output_that_is_not_finite_is_the_models_failure():
    def broken(sample, timestep, scheduler):
        return sample * (math.nan if scheduler.step_index == 4 else 1.0)

    with pytest.raises(WorldR1Error, match="model's output at step 4") as raised:
        drive(ToyPolicy(), noise(), broken)
    assert raised.value.exit_code == 1


def test_latents_that_overflow_are_reported():
    with pytest.raises(WorldR1Error, match="latents after step 0 are not finite"):
        drive(ToyPolicy(), torch.full((1, 4), 3e38), lambda sample, *_: torch.full_like(sample, -3e38), num_steps=1)


def test_a_step_needs_a_schedule():
    with pytest.raises(ValueError, match="Call set_timesteps before step"):
        ToyPolicy().step(noise(), 1.0, noise())


def test_pipelines_see_what_the_schedule_takes():
    """diffusers' `retrieve_timesteps` passes `sigmas` only to a scheduler that names them."""
    assert list(inspect.signature(ToyPolicy().set_timesteps).parameters) == ["num_inference_steps", "device", "sigmas"]
    policy = ToyPolicy()
    policy.set_timesteps(2, sigmas=[0.9, 0.4])
    assert policy.point(1) == SchedulePoint(1, 400.0, *(pytest.approx(x) for x in (0.4, 0.0, 0.4)))


def test_a_step_answers_as_diffusers_does():
    policy = ToyPolicy()
    policy.set_timesteps(4)
    (tupled,) = policy.step(noise(), 1000.0, noise().double(), return_dict=False)
    policy.set_timesteps(4)
    named = policy.step(noise(), 1000.0, noise().double(), None, generator=None).prev_sample
    assert torch.equal(tupled, named)
    assert named.dtype == torch.float64


def test_set_begin_index_counts_from_the_segment():
    policy = ToyPolicy()
    policy.run = PolicyRun(segment=(3, 8))
    policy.set_timesteps(10)
    policy.set_begin_index(0)
    assert policy.step_index == 3
    policy.set_begin_index(2)
    assert policy.step_index == 5
    assert len(policy.timesteps) == 5
    assert policy.num_steps == 10


def test_exact_initial_latents_stand_behind_the_pipelines_rounded_ones():
    exact = noise()
    given = [drive(ToyPolicy(), exact.bfloat16(), wavy, run=PolicyRun(initial=exact))]
    other = drive(ToyPolicy(), exact.bfloat16(), wavy, run=PolicyRun(initial=exact + 1))
    rounded = drive(ToyPolicy(), exact.bfloat16(), wavy, run=PolicyRun())
    assert not torch.equal(given[0], rounded)
    assert torch.equal(other, rounded)
