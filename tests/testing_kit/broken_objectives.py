"""For every check of the objective kit, one that breaks it. Module level, so that they pickle."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from pydantic import BaseModel, ConfigDict, Field

from testing_kit import broken_components
from worldr1_core.component import ComponentConfig
from worldr1_core.objective import AdvantageOptions, Objective, RolloutPlan


class Good(Objective):
    """Advantage times matching error, against a copy of the weights that follows; prepares the copy's output."""

    class Config(ComponentConfig):
        scale: float = Field(1.0, ge=0, le=10, description="Factor of the loss.")

    plan = RolloutPlan(policy="behaviour")

    def __init__(self, config=None, *, device="cpu", **options):
        super().__init__(config, device=device, **options)
        self.old, self.updates = {}, 0

    def start(self, policy):
        self.old = {name: value.clone() for name, value in policy.parameters().items()}
        self.updates = 0

    def behaviour(self):
        return self.old

    def noised(self, batch):
        random = torch.Generator().manual_seed(batch.generator.initial_seed())
        step = batch.step(int(torch.randint(batch.num_steps, (1,), generator=random)))
        noise, level = torch.randn(batch.latents.shape, generator=random), step.point.noise_level
        return step, (1 - level) * batch.latents + level * noise, noise - batch.latents

    def prepare(self, batches, policy):
        with policy.with_parameters(self.old):
            return [{"old": policy.predict(*self.noised(batch)[:2])} for batch in batches]

    def loss(self, batch, policy):
        step, sample, target = self.noised(batch)
        output = policy.predict(step, sample)
        error = (output - target).square().flatten(1).mean(1)
        return self.config.scale * batch.advantages * error + (output - batch.data["old"]).square().flatten(1).mean(1)

    def end_update(self, policy):
        self.updates += 1
        if self.updates % policy.updates_per_rollout == 0:
            for name, value in policy.parameters().items():
                self.old[name].lerp_(value, 1 / self.updates)

    def state_dict(self):
        return {"old": {name: value.clone() for name, value in self.old.items()}, "updates": self.updates}

    def load_state_dict(self, state):
        self.old, self.updates = dict(state["old"]), state["updates"]


class GoodGradient(Objective):
    """Minus the rewards, differentiated through the sampler."""

    plan = RolloutPlan(policy="current", scored=False)

    def loss(self, batch, policy):
        frames = policy.decode(policy.denoise(batch.steps()).latents)
        return -policy.score_frames(frames, batch.clips)["brightness"]


class GoodWindow(Objective):
    """A policy gradient on the stochastic steps, one item each."""

    plan = RolloutPlan(steps="window")

    def num_items(self, num_steps):
        return num_steps

    def loss(self, batch, policy):
        step = batch.step(batch.item)
        transition = policy.scheduler.transition(step.point, step.sample, policy.predict(step))
        return -batch.advantages * torch.exp(transition.log_prob(step.next_sample) - step.log_prob)


class _LooseConfig(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)
    scale: float = 1.0


class PlainConfig(Good):
    """Advantage times matching error."""

    Config = _LooseConfig


class Undescribed(Good):
    """Advantage times matching error."""

    class Config(broken_components.UndescribedConfig, Good.Config):
        pass


class Unbounded(Good):
    """Advantage times matching error."""

    class Config(broken_components.UnboundedConfig, Good.Config):
        pass


class NoRoundTrip(Good):
    """Advantage times matching error."""

    class Config(broken_components.GrowingConfig, Good.Config):
        pass


class CannotStart(broken_components.CannotStart, Good):
    """Advantage times matching error."""


class SwallowsOptions(broken_components.SwallowsOptions, Good):
    """Advantage times matching error."""


class Undocumented(Good):
    pass


class Unpicklable(broken_components.Unpicklable, Good):
    """Advantage times matching error."""


class UnknownSteps(GoodGradient):
    """Asks for steps that no trainer knows."""

    plan = RolloutPlan(steps="last", scored=False)


class PlanInWords(GoodGradient):
    """Has no plan."""

    @dataclass(frozen=True)
    class _Plan:
        steps: str = "all"
        policy: str = "current"
        scored: bool = False

    plan = _Plan()


class NoBound(Good):
    """Has no bound of the advantages."""

    @property
    def advantage_options(self):
        return AdvantageOptions(clip=float("inf"))


class UnmentionedReference(GoodGradient):
    """Samples with the reference and does not say so."""

    plan = RolloutPlan(policy="reference", scored=False)
    needs_reference = False


class HalfAnItem(GoodWindow):
    """Counts in halves."""

    def num_items(self, num_steps):
        return num_steps / 1


class MeanLoss(Good):
    """Averages over the micro-batch."""

    def loss(self, batch, policy):
        return super().loss(batch, policy).mean()


class NotFinite(GoodGradient):
    """Divides by zero for one video."""

    def loss(self, batch, policy):
        found = super().loss(batch, policy)
        return found / torch.arange(len(found))


class NoGradient(GoodGradient):
    """Loses the gradient on its way."""

    def loss(self, batch, policy):
        return super().loss(batch, policy).detach()


class Constant(GoodGradient):
    """Has a gradient of zero."""

    def loss(self, batch, policy):
        return 0 * super().loss(batch, policy)


class CentresBatch(GoodGradient):
    """Compares each video with the others of its micro-batch."""

    def loss(self, batch, policy):
        found = super().loss(batch, policy)
        return found / found.mean().abs()


class GoodComparison(GoodGradient):
    """Weighs the reward of a video by how it compares with its group; reports what it compares."""

    compares_videos = True

    def loss(self, batch, policy):
        found, prompts = super().loss(batch, policy), [clip.prompt for clip in batch.clips]
        means = [found[[other == own for other in prompts]].mean() for own in prompts]
        return found * (1 + found.detach() - torch.stack(means).detach())


class GoodNoisyComparison(GoodComparison):
    """Draws a number for every video, twice, so that the second ones depend on the size of the micro-batch."""

    def loss(self, batch, policy):
        found = super().loss(batch, policy)
        torch.rand(len(found), generator=batch.generator)
        return found * (1 + torch.rand(len(found), generator=batch.generator))


class ComparesMicroBatch(CentresBatch):
    """Compares each video with the others of its micro-batch, whatever their prompts."""

    compares_videos = True


class CountsMicroBatch(GoodComparison):
    """Compares each video with those of its prompt, and divides by the size of the micro-batch."""

    def loss(self, batch, policy):
        return super().loss(batch, policy) / len(batch.clips)


class ComparesUnreported(GoodComparison):
    """Compares the videos of a prompt and does not say so."""

    compares_videos = False


class ComparesAsMethod(GoodGradient):
    """Says with a method whether it compares videos."""

    def compares_videos(self):
        return False


class GlobalNoise(Good):
    """Draws from the global generator."""

    def loss(self, batch, policy):
        return super().loss(batch, policy) * (1 + torch.rand(()))


class CountsVisits(GoodGradient):
    """Has another loss at every visit."""

    visits = 0

    def loss(self, batch, policy):
        self.visits += 1
        return super().loss(batch, policy) * self.visits


class ScalesAdvantages(Good):
    """Writes into the advantages."""

    def loss(self, batch, policy):
        batch.advantages.mul_(2)
        return super().loss(batch, policy)


class LeavesOldWeights(Good):
    """Prepares with other weights, and leaves them there."""

    def prepare(self, batches, policy):
        found = super().prepare(batches, policy)
        policy.parameters()["offset"].add_(0.1)
        return found


class OneAnswer(Good):
    """Prepares the first micro-batch alone."""

    def prepare(self, batches, policy):
        return super().prepare(batches, policy)[:1]


class PreparesNumbers(Good):
    """Prepares numbers beside tensors."""

    def prepare(self, batches, policy):
        return [{**data, "count": 3} for data in super().prepare(batches, policy)]


class PreparesGradients(GoodGradient):
    """Prepares tensors that hold on to a graph."""

    def prepare(self, batches, policy):
        with torch.enable_grad():
            return [{"output": policy.predict(batch.step(0))} for batch in batches]


class AlwaysMatches(Good):
    """Matches every video a little, whatever its advantage."""

    def loss(self, batch, policy):
        return super().loss(replace(batch, advantages=batch.advantages + 0.1), policy)


class WrongSign(Good):
    """Makes bad videos likelier."""

    def loss(self, batch, policy):
        return super().loss(replace(batch, advantages=-batch.advantages), policy)


class WrongSignOfWindow(GoodWindow):
    """Makes bad videos likelier."""

    def loss(self, batch, policy):
        return -super().loss(batch, policy)


class LowersReward(GoodGradient):
    """Minimises the reward."""

    def loss(self, batch, policy):
        return -super().loss(batch, policy)


class LiveBehaviour(Good):
    """Samples with the trained parameters under another name."""

    def start(self, policy):
        self.old, self.updates = policy.parameters(), 0

    def end_update(self, policy):
        self.updates += 1


class UnaskedBehaviour(Good):
    """Keeps weights that the plan does not sample with."""

    plan = RolloutPlan(policy="current")


class OtherParameters(Good):
    """Keeps parameters that the model does not have."""

    def behaviour(self):
        return {f"module.{name}": value for name, value in self.old.items()}


class ForgetsCopy(Good):
    """Saves nothing."""

    def state_dict(self):
        return {}


class ForgetsCount(Good):
    """Saves the copy without the number of updates."""

    def load_state_dict(self, state):
        super().load_state_dict({**state, "updates": 0})


class SavesObjects(Good):
    """Saves something that a checkpoint cannot be read with."""

    def state_dict(self):
        return {**super().state_dict(), "config": self.config}


class MovesGlobalState(GoodGradient):
    """Draws from the global generator without using it."""

    def loss(self, batch, policy):
        torch.rand(())
        return super().loss(batch, policy)


class Prints(GoodGradient):
    """Prints."""

    def loss(self, batch, policy):
        print("loss")  # noqa: T201
        return super().loss(batch, policy)


MUTANTS = [
    ("constructs", CannotStart),
    ("config-class", PlainConfig),
    ("config-described", Undescribed),
    ("config-bounded", Unbounded),
    ("config-round-trip", NoRoundTrip),
    ("unknown-option", SwallowsOptions),
    ("documented", Undocumented),
    ("pickles", Unpicklable),
    ("plan", UnknownSteps),
    ("plan", PlanInWords),
    ("plan", NoBound),
    ("plan", UnmentionedReference),
    ("num-items", HalfAnItem),
    ("loss-form", MeanLoss),
    ("loss-form", NotFinite),
    ("loss-form", NoGradient),
    ("loss-form", Constant),
    ("plan", ComparesAsMethod),
    ("batch-mates", CentresBatch),
    ("batch-mates", ComparesUnreported),
    ("batch-mates", ComparesMicroBatch),
    ("batch-mates", CountsMicroBatch),
    ("repeatable", GlobalNoise),
    ("repeatable", CountsVisits),
    ("keeps-inputs", ScalesAdvantages),
    ("keeps-inputs", LeavesOldWeights),
    ("prepared-data", OneAnswer),
    ("prepared-data", PreparesNumbers),
    ("prepared-data", PreparesGradients),
    ("zero-advantage", AlwaysMatches),
    ("follows-advantages", WrongSign),
    ("follows-advantages", WrongSignOfWindow),
    ("raises-reward", LowersReward),
    ("behaviour", LiveBehaviour),
    ("behaviour", UnaskedBehaviour),
    ("behaviour", OtherParameters),
    ("state", ForgetsCopy),
    ("state", ForgetsCount),
    ("state", SavesObjects),
    ("leaves-random-state", MovesGlobalState),
    ("prints-nothing", Prints),
]

EVERY_RUN = {
    "loss-form",
    "batch-mates",
    "repeatable",
    "keeps-inputs",
    "prepared-data",
    "zero-advantage",
    "follows-advantages",
    "raises-reward",
    "behaviour",
    "state",
    "leaves-random-state",
    "prints-nothing",
}
"""Checks that make updates, and cannot where there is no loss of the right form."""

ALSO_FAIL = {
    PlainConfig: {"config-described", "config-bounded", "unknown-option"},
    UnknownSteps: EVERY_RUN,
    HalfAnItem: EVERY_RUN,
    MeanLoss: EVERY_RUN,
    NotFinite: {"state", "raises-reward", "batch-mates", "repeatable"},
    NoGradient: EVERY_RUN,
    Constant: {"raises-reward"},
    GlobalNoise: {"batch-mates", "state", "leaves-random-state"},
    CountsVisits: {"batch-mates", "state"},
    ScalesAdvantages: {"batch-mates", "state", "zero-advantage", "repeatable"},
    LeavesOldWeights: {"zero-advantage", "follows-advantages", "repeatable"},
    OneAnswer: EVERY_RUN,
    AlwaysMatches: {"follows-advantages"},
    LiveBehaviour: {"state"},
}
"""Further checks that a broken objective may fail."""
