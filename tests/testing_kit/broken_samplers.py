"""For every check of the sampler kit, one that breaks it. Module level, so that they pickle."""

from __future__ import annotations

import copy
from dataclasses import replace

import torch
from pydantic import BaseModel, ConfigDict

from samplers.toy import ToyPolicy, ToySampler, ToyScheduler
from testing_kit import broken_components
from worldr1_core.policy import PolicyStep, Transition
from worldr1_core.seeding import draw_normal


class Good(ToySampler):
    """Noise on top of Euler's step."""


def with_policy(policy):
    """A sampler of a broken policy, at module level so that it pickles."""
    name = f"{policy.__name__}Sampler"
    made = type(name, (Good,), {"policy": policy, "__doc__": policy.__doc__, "__module__": __name__})
    globals()[name] = made
    return made


class _LooseConfig(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)
    num_inference_steps: int = 50
    window: int = 2
    window_position: str = "fixed"
    window_start: int = 0
    window_stop: int | None = None
    strength: float = 0.5


class PlainConfig(Good):
    """Noise on top of Euler's step."""

    Config = _LooseConfig


class Undescribed(Good):
    """Noise on top of Euler's step."""

    class Config(broken_components.UndescribedConfig, Good.Config):
        pass


class Unbounded(Good):
    """Noise on top of Euler's step."""

    class Config(broken_components.UnboundedConfig, Good.Config):
        pass


class NoRoundTrip(Good):
    """Noise on top of Euler's step."""

    class Config(broken_components.GrowingConfig, Good.Config):
        pass


class CannotStart(broken_components.CannotStart, Good):
    """Noise on top of Euler's step."""


class SwallowsOptions(broken_components.SwallowsOptions, Good):
    """Noise on top of Euler's step."""


class Undocumented(Good):
    pass


class Unpicklable(broken_components.Unpicklable, Good):
    """Noise on top of Euler's step."""


class _OverBase(ToyPolicy):
    def set_timesteps(self, num_inference_steps, device=None, sigmas=None):
        self.owner.set_timesteps(num_inference_steps, device, sigmas)
        super().set_timesteps(num_inference_steps, device, sigmas)


class UsesBase(Good):
    """Sets the pipeline's own scheduler."""

    policy = _OverBase

    def make_scheduler(self, base):
        made = super().make_scheduler(base)
        made.owner = base
        return made


class NoPolicy(Good):
    """Returns the base."""

    def make_scheduler(self, base):
        super().make_scheduler(base)
        return copy.deepcopy(base)


class ForgetsScale(Good):
    """Does not keep the base's configuration."""

    def make_scheduler(self, base):
        return super().make_scheduler(ToyScheduler(1.0) if isinstance(base, ToyScheduler) else base)


class HidesSignature(ToyPolicy):
    """Does not show what set_timesteps takes."""

    def set_timesteps(self, *args, **options):
        super().set_timesteps(*args, **options)


class AnyBase(Good):
    """Takes whatever comes."""

    def make_scheduler(self, base):
        return super().make_scheduler(base if isinstance(base, ToyScheduler) else ToyScheduler())


class BareAttributeError(Good):
    """Fails on a foreign base without words."""

    def make_scheduler(self, base):
        return super().make_scheduler(ToyScheduler(base.scale))


class WindowByChance(Good):
    """Draws the window from a global generator."""

    def window(self, seed, rollout_batch):
        begin = int(torch.randint(0, 20, ()))
        return begin, begin + self.config.window


class LastWindow(Good):
    """Chooses the last step, which is deterministic."""

    def window(self, seed, rollout_batch):
        return self.config.num_inference_steps - 2, self.config.num_inference_steps


class Unchecked(ToyPolicy):
    """Clips windows and segments instead of refusing them."""

    def _bounds(self):
        begin, end = self.run.segment if self.run and self.run.segment else (0, self.num_steps)
        return max(begin, 0), min(end, self.num_steps)

    def _check_window(self):
        return


class AcceptsNan(ToyPolicy):
    """Makes numbers of NaN."""

    def step(self, model_output, timestep, sample, return_dict=True):
        return super().step(model_output.nan_to_num(), timestep, sample.nan_to_num(), return_dict=return_dict)


class RepeatsGenerators(ToyPolicy):
    """Gives every sample the first generator."""

    def _draw(self, run, point, sample, output):
        filled = [*run.generators, *[run.generators[0]] * (len(sample) - len(run.generators))]
        inner = replace(run, generators=filled)
        return super()._draw(inner, point, sample, output)


class DividesAtNoise(ToyPolicy):
    """Is not finite at pure noise, where it lets itself be drawn."""

    def transition(self, point, sample, model_output):
        made = super().transition(point, sample, model_output)
        level = point.noise_level
        return Transition(made.mean / (1 - level) if level < 1 else made.mean * 1e30 * 1e30, made.std)


class HalfPrecision(ToyPolicy):
    """Keeps means in bfloat16."""

    def _draw(self, run, point, sample, output):
        drawn = super()._draw(run, point, sample, output)
        run.steps[-1:] = [replace(step, mean=step.mean.bfloat16()) for step in run.steps[-1:]]
        return drawn


class SummedLogProb(ToyPolicy):
    """Sums the log-density instead of averaging it."""

    def _draw(self, run, point, sample, output):
        drawn = super()._draw(run, point, sample, output)
        run.steps[-1:] = [replace(step, log_prob=step.log_prob * sample[0].numel()) for step in run.steps[-1:]]
        return drawn


class OtherDensity(ToyPolicy):
    """Records another std than it draws with: the release's defect."""

    def _draw(self, run, point, sample, output):
        made = self.transition(point, sample, output)
        drawn = made.mean + 0.9 * made.std * draw_normal(run.generators, sample)
        if run.record:
            log_prob = made.log_prob(drawn)
            run.steps.append(PolicyStep(point, sample, drawn, made.mean, made.std, log_prob))
        return drawn


class SharedNoise(ToyPolicy):
    """Gives all samples the same noise."""

    def _draw(self, run, point, sample, output):
        made = self.transition(point, sample, output)
        drawn = made.mean + made.std * draw_normal(run.generators, sample)[:1]
        if run.record:
            run.steps.append(PolicyStep(point, sample, drawn, made.mean, made.std, made.log_prob(drawn)))
        return drawn


class BatchMean(ToyPolicy):
    """Normalises over the batch."""

    def transition(self, point, sample, model_output):
        return super().transition(point, sample, model_output - 0.1 * model_output.mean(0, keepdim=True))


class GlobalNoise(ToyPolicy):
    """Draws from the global generator."""

    def _draw(self, run, point, sample, output):
        made = self.transition(point, sample, output)
        draw_normal(run.generators, sample)
        drawn = made.mean + made.std * torch.randn_like(sample)
        if run.record:
            run.steps.append(PolicyStep(point, sample, drawn, made.mean, made.std, made.log_prob(drawn)))
        return drawn


class FixedNoise(ToyPolicy):
    """Ignores the seeds."""

    def _draw(self, run, point, sample, output):
        draw_normal(run.generators, sample)
        own = [torch.Generator().manual_seed(point.index * 100 + row) for row in range(len(sample))]
        return super()._draw(replace(run, generators=own), point, sample, output)


class NoisyEverywhere(ToyPolicy):
    """Adds noise outside the window too."""

    def ode_step(self, point, sample, model_output):
        moved = super().ode_step(point, sample, model_output)
        run = self.run
        return moved + 0.1 * draw_normal(run.generators, sample) if run and run.generators else moved


class DrawsWithoutWindow(ToyPolicy):
    """Takes an empty window for the whole schedule."""

    def step(self, model_output, timestep, sample, return_dict=True):
        run, index = self.run, self.step_index
        if run and run.generators and run.window == (0, 0) and index == 0:
            run.generators[0].manual_seed(5)
            torch.rand(1, generator=run.generators[0])
        return super().step(model_output, timestep, sample, return_dict=return_dict)


class ReadsSchedule(ToyPolicy):
    """Reads the level from the schedule that is set."""

    def transition(self, point, sample, model_output):
        level = self.levels_now[point.index + 1]
        mean = sample + (level - point.noise_level) * model_output
        return Transition(mean, self.strength * point.next_level)

    def noise_levels(self):
        self.levels_now = super().noise_levels()
        return self.levels_now


class InPlace(ToyPolicy):
    """Changes the sample it is given."""

    def transition(self, point, sample, model_output):
        made = super().transition(point, sample.clone(), model_output)
        sample.mul_(1.5)
        return made


class Detached(ToyPolicy):
    """Cuts the gradient."""

    def transition(self, point, sample, model_output):
        return super().transition(point, sample, model_output.detach())


class Multistep(ToyPolicy):
    """Uses the output before, as multistep solvers do."""

    before = None

    def ode_step(self, point, sample, model_output):
        moved = super().ode_step(point, sample, model_output)
        if self.before is not None:
            moved = moved + 0.1 * (model_output - self.before)
        self.before = model_output
        return moved

    def set_timesteps(self, num_inference_steps, device=None, sigmas=None):
        self.before = None
        super().set_timesteps(num_inference_steps, device, sigmas)


class FromRounded(ToyPolicy):
    """Goes on from the pipeline's rounded copy."""

    def _exact(self, sample):
        return sample.float()


class IgnoresPipeline(ToyPolicy):
    """Goes on from its own latents whatever the pipeline did."""

    def _exact(self, sample):
        return sample.float() if self._carried is None else self._carried


class DropsInjection(ToyPolicy):
    """Leaves step_delta out."""

    def step(self, model_output, timestep, sample, return_dict=True):
        if self.run is not None:
            self.run.step_weights = ()
        return super().step(model_output, timestep, sample, return_dict=return_dict)


class Seeds(ToyPolicy):
    """Seeds the global generator."""

    def set_timesteps(self, num_inference_steps, device=None, sigmas=None):
        torch.manual_seed(0)
        super().set_timesteps(num_inference_steps, device, sigmas)


class Prints(ToyPolicy):
    """Prints."""

    def set_timesteps(self, num_inference_steps, device=None, sigmas=None):
        print("steps:", num_inference_steps)  # noqa: T201
        super().set_timesteps(num_inference_steps, device, sigmas)


class OtherDevice(Good):
    """Is stronger on another device."""

    def make_scheduler(self, base):
        made = super().make_scheduler(base)
        made.strength *= 1.0 if self.device == "cpu" else 2.0
        return made


MUTANTS = [
    ("constructs", CannotStart),
    ("config-class", PlainConfig),
    ("config-described", Undescribed),
    ("config-bounded", Unbounded),
    ("config-round-trip", NoRoundTrip),
    ("unknown-option", SwallowsOptions),
    ("documented", Undocumented),
    ("pickles", Unpicklable),
    ("keeps-base", UsesBase),
    ("keeps-base", NoPolicy),
    ("keeps-schedule", ForgetsScale),
    ("keeps-schedule", with_policy(HidesSignature)),
    ("foreign-base", AnyBase),
    ("foreign-base", BareAttributeError),
    ("window-fits", WindowByChance),
    ("window-fits", LastWindow),
    ("bad-runs", with_policy(Unchecked)),
    ("bad-runs", with_policy(AcceptsNan)),
    ("bad-runs", with_policy(RepeatsGenerators)),
    ("every-step", with_policy(DividesAtNoise)),
    ("finite-density", with_policy(HalfPrecision)),
    ("finite-density", with_policy(SummedLogProb)),
    ("noise-is-normal", with_policy(OtherDensity)),
    ("noise-is-normal", with_policy(SharedNoise)),
    ("batch-mates", with_policy(BatchMean)),
    ("seeds", with_policy(GlobalNoise)),
    ("seeds", with_policy(FixedNoise)),
    ("deterministic-outside", with_policy(NoisyEverywhere)),
    ("deterministic-outside", with_policy(DrawsWithoutWindow)),
    ("transition-pure", with_policy(ReadsSchedule)),
    ("transition-pure", with_policy(InPlace)),
    ("differentiable", with_policy(Detached)),
    ("segments-compose", with_policy(Multistep)),
    ("exact-latents", with_policy(FromRounded)),
    ("exact-latents", with_policy(IgnoresPipeline)),
    ("injection", with_policy(DropsInjection)),
    ("leaves-random-state", with_policy(Seeds)),
    ("prints-nothing", with_policy(Prints)),
    ("device", OtherDevice),
]
"""(check, the sampler that breaks it)."""

ALSO_FAIL: dict[str, set[str]] = {
    "PlainConfig": {"config-bounded", "config-described", "unknown-option"},
    "NoPolicy": {"*"},
    "UncheckedSampler": {"every-step"},
    "HalfPrecisionSampler": {"transition-pure"},
    "SharedNoiseSampler": {"batch-mates"},
    "BatchMeanSampler": {"differentiable"},
    "GlobalNoiseSampler": {"batch-mates", "segments-compose", "leaves-random-state", "device"},
    "FixedNoiseSampler": {"batch-mates", "deterministic-outside"},
    "InPlaceSampler": {"finite-density", "noise-is-normal"},
}
"""What else such a sampler cannot help breaking, by its name; `*` is anything. Everything else must hold."""
