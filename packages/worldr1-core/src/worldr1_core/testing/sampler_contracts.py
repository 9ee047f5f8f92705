"""Every contract of `worldr1_core.sampler.Sampler` and of the policies it makes, as checks on a toy denoiser."""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from worldr1_core.errors import UserError, WorldR1Error, describe_exception
from worldr1_core.policy import PolicyRun, PolicyScheduler, PolicyStep
from worldr1_core.sampler import Sampler
from worldr1_core.testing import isolation
from worldr1_core.testing.failures import CheckFailed, checking
from worldr1_core.testing.report import Contract
from worldr1_core.testing.sampler_subject import (
    NUM_STEPS,
    WINDOW,
    SamplerSubject,
    kit_denoiser,
    kit_latents,
    kit_run,
)
from worldr1_core.testing.subject import COMPONENT_CONTRACTS, device_contract


def _difference(first: Tensor, second: Tensor) -> float:
    return float((first - second).abs().max())


def _keeps_base(subject: SamplerSubject) -> None:
    base = subject.base()
    base.set_timesteps(5, **subject.schedule)
    before = torch.as_tensor(base.timesteps).clone()
    scheduler = subject.component.make_scheduler(base)
    if not isinstance(scheduler, PolicyScheduler):
        raise CheckFailed(f"make_scheduler returned {scheduler!r}, which is no PolicyScheduler")
    subject.play(kit_run(range(1)), kit_latents(1), scheduler)
    if scheduler is base or not torch.equal(before, torch.as_tensor(base.timesteps)):
        raise CheckFailed("the pipeline's own scheduler has another schedule after the policy has run")


def _keeps_schedule(subject: SamplerSubject) -> None:
    for num_steps in (2, NUM_STEPS, 50):
        base, scheduler = subject.base(), subject.scheduler()
        base.set_timesteps(num_steps, **subject.schedule)
        subject.begin(scheduler, PolicyRun(), num_steps)
        expected, found = torch.as_tensor(base.timesteps), torch.as_tensor(scheduler.timesteps)
        if expected.shape != found.shape or not torch.equal(expected.double(), found.double()):
            raise CheckFailed(f"{num_steps} steps stand at {found.tolist()}, and at {expected.tolist()} in the base")
    missing = inspect.signature(base.set_timesteps).parameters.keys() - _parameters(scheduler.set_timesteps)
    if missing:
        raise CheckFailed(f"set_timesteps does not show the parameters {sorted(missing)} of the base")


def _parameters(function: Callable[..., Any]) -> set[str]:
    return set(inspect.signature(function).parameters)


class _NoScheduler:
    """A scheduler that no sampler supports."""


def _foreign_base(subject: SamplerSubject) -> None:
    try:
        subject.component.make_scheduler(_NoScheduler())
    except UserError:
        return
    except Exception as error:
        raise CheckFailed(f"a foreign scheduler raised {type(error).__name__}: {error}") from error
    raise CheckFailed("a foreign scheduler was accepted")


def _window_fits(subject: SamplerSubject) -> None:
    num_steps = subject.component.config.num_inference_steps
    scheduler = subject.scheduler()
    for rollout_batch in range(20):
        window = subject.component.window(7, rollout_batch)
        if window != subject.component.window(7, rollout_batch) or window != subject.fresh().window(7, rollout_batch):
            raise CheckFailed(f"rollout batch {rollout_batch} got different windows from the same seed")
        begin, end = window
        if not (0 <= begin <= end <= num_steps and end - begin == subject.component.config.window):
            raise CheckFailed(f"rollout batch {rollout_batch} of {num_steps} steps got the window {window!r}")
        subject.begin(scheduler, PolicyRun(window=window), num_steps)


def _bad_runs(subject: SamplerSubject) -> None:
    bad = {
        "a window beyond the schedule": PolicyRun(window=(NUM_STEPS - 1, NUM_STEPS + 1)),
        "a window before the schedule": PolicyRun(window=(-1, 1)),
        "an empty segment": PolicyRun(segment=(3, 3)),
        "a segment beyond the schedule": PolicyRun(segment=(3, NUM_STEPS + 1)),
    }
    for name, run in bad.items():
        _expect(UserError, name, functools.partial(subject.begin, subject.scheduler(), run))
    nan = kit_latents(2)
    nan[1, 0, 0, 0, 0] = math.nan
    _expect(WorldR1Error, "a NaN in the latents", functools.partial(subject.play, kit_run(range(2)), nan))
    few = functools.partial(subject.play, kit_run(range(1)), kit_latents(2))
    _expect((ValueError, WorldR1Error), "one generator for two samples", few)


def _expect(kind: Any, name: str, call: Callable[[], object]) -> None:
    try:
        call()
    except kind:
        return
    except Exception as error:
        raise CheckFailed(f"{name} raised {describe_exception(error)}, which is another type") from error
    raise CheckFailed(f"{name} was accepted")


def _every_step(subject: SamplerSubject) -> None:
    for index in range(NUM_STEPS):
        run = kit_run(range(2), window=(index, index + 1))
        try:
            subject.begin(subject.scheduler(), run)
        except UserError:
            continue
        with checking(f"a window at step {index}"):
            subject.play(run, kit_latents(2))
        for step in run.steps:
            _check_finite(step)


def _check_finite(step: PolicyStep) -> None:
    place = f"step {step.point.index}"
    if not (isinstance(step.std, float) and math.isfinite(step.std) and step.std > 0):
        raise CheckFailed(f"{place} has the std {step.std!r}; it must be a finite float above 0")
    for name in ("sample", "next_sample", "mean", "log_prob"):
        if not bool(torch.isfinite(getattr(step, name)).all()):
            raise CheckFailed(f"{name} of {place} is not finite")


def _finite_density(subject: SamplerSubject) -> None:
    for step in subject.steps:
        _check_finite(step)
        place, batch = f"step {step.point.index}", step.sample.shape[:1]
        for name in ("sample", "next_sample", "mean", "log_prob"):
            tensor, shape = getattr(step, name), batch if name == "log_prob" else step.sample.shape
            if tensor.dtype != torch.float32 or tensor.shape != shape:
                raise CheckFailed(
                    f"{name} of {place} is {tensor.dtype} {tuple(tensor.shape)}; it must be float32 {tuple(shape)}"
                )
        expected = torch.distributions.Normal(step.mean.double(), step.std).log_prob(step.next_sample.double())
        if _difference(expected.flatten(1).mean(1), step.log_prob.double()) > 1e-4:
            raise CheckFailed(f"log_prob of {place} is not the mean log-density of next_sample under mean and std")


def _noise_is_normal(subject: SamplerSubject) -> None:
    run = kit_run(range(8))
    subject.play(run, kit_latents(8, (2, 3, 16, 16)))
    noise = [(step.next_sample - step.mean) / step.std for step in run.steps]
    values = torch.stack(noise).double().flatten()
    distance = _kolmogorov_smirnov(values)
    if distance > 2.0:  # one in 1500 by chance; the seeds are fixed
        raise CheckFailed(
            f"(next_sample - mean) / std has mean {values.mean():.4f} and std {values.std():.4f}; its distance from "
            f"N(0, 1) is {distance:.2f} (Kolmogorov-Smirnov, times sqrt of {len(values)})"
        )
    _check_uncorrelated("the noise of two steps or samples", torch.cat([part.flatten(1) for part in noise]))
    for step, part in zip(run.steps, noise, strict=True):
        both = torch.cat([part.flatten(1), step.sample.flatten(1)])
        _check_uncorrelated("the noise and the latents it is added to", both, len(part))


def _check_uncorrelated(what: str, rows: Tensor, count: int | None = None) -> None:
    """None of the first `count` rows (all, if left out) may be correlated with any other row."""
    count = len(rows) if count is None else count
    related = torch.corrcoef(rows.double())[:count].fill_diagonal_(0).abs()
    limit = 5.5 / math.sqrt(rows.shape[1])
    if float(related.max()) > limit:
        raise CheckFailed(f"{what} have the correlation {float(related.max()):.3f}, by chance at most {limit:.3f}")


def _kolmogorov_smirnov(values: Tensor) -> float:
    """Largest distance between the empirical and the normal distribution function, times sqrt(N)."""
    ordered = values.sort().values
    normal = 0.5 * torch.erfc(-ordered / math.sqrt(2))
    count = len(ordered)
    steps = torch.arange(count + 1, dtype=torch.float64) / count
    return float(torch.maximum((steps[1:] - normal).max(), (normal - steps[:-1]).max())) * math.sqrt(count)


def _batch_mates(subject: SamplerSubject) -> None:
    for row in range(4):
        alone = subject.play(kit_run([row]), kit_latents(4)[row : row + 1])
        difference = _difference(alone.final, subject.trace.final[row : row + 1])
        if difference != 0:
            raise CheckFailed(f"sample {row} differs by {difference:.3g} alone and in a batch of 4")
        for single, batched in zip(alone.run.steps, subject.steps, strict=True):
            if not torch.equal(single.log_prob, batched.log_prob[row : row + 1]):
                raise CheckFailed(f"log_prob of sample {row} differs alone and in a batch of 4")


def _seeds(subject: SamplerSubject) -> None:
    again = subject.play(kit_run(range(4)), kit_latents(4))
    if not torch.equal(again.final, subject.trace.final):
        raise CheckFailed("the same generators gave other samples")
    other = subject.play(kit_run(range(10, 14)), kit_latents(4))
    if any(torch.equal(a, b) for a, b in zip(other.final, subject.trace.final, strict=True)):
        raise CheckFailed("other generators gave the same sample")


def _deterministic_outside(subject: SamplerSubject) -> None:
    runs = [subject.play(kit_run([seed]), kit_latents(1)) for seed in (0, 1)]
    first, second = (trace.latents for trace in runs)
    if not all(torch.equal(a, b) for a, b in zip(first[: WINDOW[0] + 1], second, strict=False)):
        raise CheckFailed("the steps before the window differ between seeds")
    if torch.equal(first[WINDOW[1]], second[WINDOW[1]]):
        raise CheckFailed("the steps of the window do not differ between seeds")
    generators = kit_run([0]).generators
    untouched = generators[0].get_state()
    run = PolicyRun(record=True, generators=generators)
    plain, again = (subject.play(r, kit_latents(1)) for r in (run, PolicyRun()))
    if run.steps or not torch.equal(untouched, generators[0].get_state()) or not torch.equal(plain.final, again.final):
        raise CheckFailed("a run without a window records steps, draws noise, or does not repeat")
    bare = subject.scheduler()
    bare.run = None
    bare.set_timesteps(NUM_STEPS, **subject.schedule)
    timestep = bare.timesteps[0]
    moved = bare.step(kit_denoiser(first[0], timestep), timestep, first[0], return_dict=False)[0]
    if not torch.equal(moved, first[1]):
        raise CheckFailed("without a run the scheduler is not its deterministic sampler")


def _pure(subject: SamplerSubject) -> None:
    steps = subject.steps
    outputs = subject.trace.outputs[WINDOW[0] : WINDOW[1]]
    scheduler = subject.scheduler()
    for num_steps in (NUM_STEPS, NUM_STEPS + 5):
        subject.begin(scheduler, PolicyRun(), num_steps)
        position = scheduler.step_index
        for _ in range(2):
            for step, output in zip(steps, outputs, strict=True):
                sample, given = step.sample.clone(), output.clone()
                again = scheduler.transition(step.point, sample, given)
                place = f"step {step.point.index}, after set_timesteps({num_steps})"
                if again.std != step.std or not torch.equal(again.mean, step.mean):
                    raise CheckFailed(f"{place}: the mean differs by {_difference(again.mean, step.mean):.3g}")
                if not torch.equal(sample, step.sample) or not torch.equal(given, output):
                    raise CheckFailed(f"{place}: transition changed its arguments in place")
        if scheduler.step_index != position:
            raise CheckFailed("transition moved the scheduler on")


def _differentiable(subject: SamplerSubject) -> None:
    scheduler = subject.scheduler()
    subject.begin(scheduler, PolicyRun())
    for step, output in zip(subject.steps, subject.trace.outputs[WINDOW[0] : WINDOW[1]], strict=True):
        output = output.clone().requires_grad_()
        log_prob = scheduler.transition(step.point, step.sample, output).log_prob(step.next_sample)
        if not log_prob.requires_grad:
            raise CheckFailed(f"log_prob of step {step.point.index} does not depend on model_output for autograd")
        with checking(f"the gradient at step {step.point.index}"):
            (gradient,) = torch.autograd.grad(log_prob[0], output)
        if not bool(torch.isfinite(gradient).all()) or float(gradient[0].abs().max()) == 0:
            raise CheckFailed(f"the gradient at step {step.point.index} is zero or not finite")
        if float(gradient[1:].abs().max()) != 0:
            raise CheckFailed(f"log_prob of one sample has a gradient in another at step {step.point.index}")


def _segments(subject: SamplerSubject) -> None:
    for cut in (1, WINDOW[0], WINDOW[0] + 1, NUM_STEPS - 1):
        run = kit_run(range(4))
        head = subject.play(PolicyRun(**{**_fields(run), "segment": (0, cut)}), kit_latents(4)).final
        tail = subject.play(PolicyRun(**{**_fields(run), "segment": (cut, NUM_STEPS)}), head).final
        if _difference(tail, subject.trace.final) != 0:
            raise CheckFailed(
                f"the segments (0, {cut}) and ({cut}, {NUM_STEPS}) differ from one run by "
                f"{_difference(tail, subject.trace.final):.3g}"
            )


def _fields(run: PolicyRun) -> dict[str, Any]:
    return {"window": run.window, "generators": run.generators, "record": run.record}


def _exact_latents(subject: SamplerSubject) -> None:
    run = kit_run(range(2))
    trace = subject.play(run, kit_latents(2).bfloat16())
    for before, after in zip(run.steps, run.steps[1:], strict=False):
        if not torch.equal(before.next_sample, after.sample):
            raise CheckFailed("a pipeline that keeps bfloat16 latents rounds what the next step starts from")
    if trace.latents[-1].dtype != torch.bfloat16:
        raise CheckFailed(f"a pipeline in bfloat16 got latents in {trace.latents[-1].dtype}")
    run = kit_run(range(2))
    changed = subject.play(run, kit_latents(2), change=lambda number, x: x * 0.5 if number == WINDOW[0] else x)
    if not torch.equal(run.steps[1].sample, changed.latents[WINDOW[0] + 1]):
        raise CheckFailed("what the pipeline did to its latents between two steps was ignored")


def _injection(subject: SamplerSubject) -> None:
    delta = kit_latents(8)[4:]
    plain = subject.trace.latents
    expected, run = (kit_run(range(4), step_delta=delta, step_weights=(0.5,)) for _ in range(2))
    moved = subject.play(run, kit_latents(4)).latents
    if not torch.allclose(moved[1], expected.inject(0, plain[1]), atol=1e-6):
        raise CheckFailed("step_delta is not added after the step as PolicyRun.inject does it")


def _play_once(subject: SamplerSubject) -> None:
    subject.play(kit_run(range(2)), kit_latents(2))


def _same_on_device(subject: SamplerSubject, sampler: Sampler) -> None:
    run = kit_run(range(4))
    moved = subject.play(run, kit_latents(4).to(subject.other_device), subject.scheduler(sampler)).final
    if moved.device != torch.device(subject.other_device) and moved.device.type != "cpu":
        raise CheckFailed(f"latents ended on {moved.device}")
    if _difference(moved.cpu(), subject.trace.final) > 1e-3:
        gap = _difference(moved.cpu(), subject.trace.final)
        raise CheckFailed(f"the samples differ by {gap:.3g} from those on the CPU")


SAMPLER_CONTRACTS: list[Contract[SamplerSubject]] = [
    *COMPONENT_CONTRACTS,
    Contract(
        "keeps-base",
        "the pipeline's scheduler goes on serving without the policy",
        "build the policy from base.config or a copy of base, and return a PolicyScheduler",
        _keeps_base,
    ),
    Contract(
        "keeps-schedule",
        "the denoiser must be asked at the timesteps it would be asked at otherwise, shift included; pipelines read "
        "from the signature what set_timesteps takes",
        "derive the policy from PolicyScheduler and the base's class, with the base's configuration",
        _keeps_schedule,
    ),
    Contract(
        "foreign-base",
        "a flow policy on a diffusion model would give noise, without a word",
        "raise UserError for a base of another family",
        _foreign_base,
    ),
    Contract(
        "window-fits",
        "a window that cannot be drawn would stop a run under way",
        "leave Sampler.window alone, or keep it pure and inside the schedule; set stochastic_last_step = False where "
        "the last step has std 0",
        _window_fits,
    ),
    Contract(
        "bad-runs",
        "a run that cannot be right must stop before the model is called, and NaN must not become a video",
        "leave PolicyScheduler.set_timesteps and step alone, or raise UserError as they do",
        _bad_runs,
    ),
    Contract(
        "every-step",
        "at the ends of the schedule formulas divide by zero or take log(0)",
        "use point.first_step_level at pure noise; return std 0 where a step cannot be drawn, so that it is refused",
        _every_step,
    ),
    Contract(
        "finite-density",
        "the likelihood ratio is made of mean, std and log_prob; half precision rounds it away",
        "return float32 means of the sample's shape and a float std",
        _finite_density,
    ),
    Contract(
        "noise-is-normal",
        "a density that the sample was not drawn from makes the likelihood ratio meaningless",
        "return from `transition` the density that is drawn from; draw with worldr1_core.seeding.draw_normal",
        _noise_is_normal,
    ),
    Contract(
        "batch-mates",
        "the batch size is a matter of memory and must not change samples",
        "use one generator per sample, and no statistics over the batch",
        _batch_mates,
    ),
    Contract("seeds", "a run must be repeatable from its seed", "draw from run.generators alone", _seeds),
    Contract(
        "deterministic-outside",
        "a group shares its prefix, and what is drawn outside the window is neither recorded nor trained",
        "draw nothing in `ode_step`, and keep no state between runs",
        _deterministic_outside,
    ),
    Contract(
        "transition-pure",
        "training evaluates recorded steps later, in another order, with another schedule set",
        "compute from the arguments and the configuration alone, not from self.timesteps or counters",
        _pure,
    ),
    Contract(
        "differentiable",
        "the policy gradient flows from log_prob to the denoiser's output",
        "stay with torch operations out of place; no detach, no no_grad",
        _differentiable,
    ),
    Contract(
        "segments-compose",
        "the prefix runs once a prompt and the group branches from it",
        "count steps in the full schedule; keep no history of outputs (multistep solvers)",
        _segments,
    ),
    Contract(
        "exact-latents",
        "pipelines keep latents in half precision; what was drawn must be where the next step starts",
        "leave PolicyScheduler.step alone",
        _exact_latents,
    ),
    Contract(
        "injection",
        "noise conditioners steer the first steps with step_delta",
        "leave PolicyScheduler.step alone, or call run.inject after every step",
        _injection,
    ),
    Contract(
        "leaves-random-state",
        "samplers run between the draws of a training loop; moving the global generator changes the samples",
        "draw from run.generators alone",
        lambda subject: isolation.check_leaves_random_state(lambda: _play_once(subject)),
    ),
    Contract(
        "prints-nothing",
        "stdout holds JSON lines that other programs read",
        "log with worldr1_core.log.get_logger",
        lambda subject: isolation.check_prints_nothing(lambda: _play_once(subject)),
    ),
    device_contract(_same_on_device),
]
"""All contracts of a sampler."""
