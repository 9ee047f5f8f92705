"""A reward that keeps every promise, and for every check one that breaks it. Module level, so that they pickle."""

from __future__ import annotations

import random

import torch
from pydantic import BaseModel, ConfigDict, Field

from testing_kit import broken_components
from worldr1_core.component import ComponentConfig
from worldr1_core.errors import ScoreNotApplicable, ScoreUnavailable, UserError
from worldr1_core.judge import JudgeRequest
from worldr1_core.reward import Requirement, Reward, Score, score_each

KEPT = []


class Good(Reward):
    """How bright a clip is, in [0, 1]."""

    class Config(ComponentConfig):
        gamma: float = Field(1.0, gt=0, le=10, description="Exponent.")
        mode: int | None = Field(None, ge=0, le=3, description="Unused.")

    config: Config

    def score(self, clip, inputs):
        return float(clip.video.frames.mean()) ** self.config.gamma


class GoodReader(Reward):
    """How far the camera goes, times what a judge says, in [0, inf)."""

    requires = frozenset({Requirement.RECONSTRUCTION, Requirement.JUDGE})

    def score(self, clip, inputs):
        scene = inputs.reconstruction
        (result,) = inputs.judge.grade([JudgeRequest(clip.video.frames[:1], "Is it good?")])
        if isinstance(result, Exception):
            raise result
        if not scene.has_parallax:
            raise ScoreNotApplicable("the camera stays in place")
        if scene.depth is None:
            raise ScoreUnavailable("the reconstruction has no depth")
        return Score(scene.trajectory.extent * result.score, details={"extent": scene.trajectory.extent})


class _LooseConfig(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class PlainConfig(Good):
    """Brightness, in [0, 1]."""

    Config = _LooseConfig

    def score(self, clip, inputs):
        return float(clip.video.frames.mean())


class LooseKeys(Good):
    """Brightness, in [0, 1]."""

    class Config(Good.Config):
        model_config = ConfigDict(extra="ignore")


class Mutable(Good):
    """Brightness, in [0, 1]."""

    class Config(Good.Config):
        model_config = ConfigDict(frozen=False)


class Undescribed(Good):
    """Brightness, in [0, 1]."""

    class Config(broken_components.UndescribedConfig, Good.Config):
        pass


class Unbounded(Good):
    """Brightness, in [0, 1]."""

    class Config(broken_components.UnboundedConfig, Good.Config):
        pass


class HalfBounded(Good):
    """Brightness, in [0, 1]."""

    class Config(Good.Config):
        count: int = Field(1, ge=0, description="Has no upper bound.")


class NoRoundTrip(Good):
    """Brightness, in [0, 1]."""

    class Config(broken_components.GrowingConfig, Good.Config):
        pass


class CannotStart(broken_components.CannotStart, Good):
    """Brightness, in [0, 1]."""


class SwallowsOptions(broken_components.SwallowsOptions, Good):
    """Brightness, in [0, 1]."""


class BareTypeError(Good):
    """Brightness, in [0, 1]."""

    def __init__(self, config=None, *, device="cpu", gamma=1.0, mode=None):
        super().__init__(config, device=device)


class Undocumented(Good):
    pass


class NoRange(Good):
    """How bright a clip is."""


class Unpicklable(broken_components.Unpicklable, Good):
    """Brightness, in [0, 1]."""


class ForgetsDevice(Good):
    """Brightness, in [0, 1]."""

    def __reduce__(self):
        return type(self), (type(self.config)(gamma=2.0),)


class ReadsList(Good):
    """Brightness, in [0, 1]."""

    requires = ("everything",)


class GivesNan(Good):
    """Brightness, in [0, 1]."""

    def score(self, clip, inputs):
        return float("nan")


class GivesTensor(Good):
    """Brightness, in [0, 1]."""

    def score(self, clip, inputs):
        return clip.video.frames.mean()


class RaisesUserError(Good):
    """Brightness, in [0, 1]."""

    def score(self, clip, inputs):
        raise UserError("this clip is odd")


class NoReason(Good):
    """Brightness, in [0, 1]."""

    def score(self, clip, inputs):
        raise ScoreUnavailable("")


class NeverScores(Good):
    """Brightness, in [0, 1]."""

    def score(self, clip, inputs):
        raise ScoreUnavailable("never")


class Noisy(Good):
    """Brightness, in [0, 1]."""

    def score(self, clip, inputs):
        return float(torch.rand(()))


class BatchRelative(Good):
    """Brightness over the batch's mean, in [0, inf)."""

    def score_batch(self, clips, inputs):
        values = [self.score(c, e) for c, e in zip(clips, inputs, strict=True)]
        mean = sum(values) / max(len(values), 1)
        return [value - mean for value in values]


class OneScoreTooFew(Good):
    """Brightness, in [0, 1]."""

    def score_batch(self, clips, inputs):
        return [self.score(c, e) for c, e in zip(clips, inputs, strict=True)][:-1]


class AnswersEmptyBatch(Good):
    """Brightness, in [0, 1]."""

    def score_batch(self, clips, inputs):
        return super().score_batch(clips, inputs) or [0.0]


class Writes(Good):
    """Brightness, in [0, 1]."""

    def score(self, clip, inputs):
        return float(clip.video.frames.clone().mean() + 0 * clip.video.frames.mul_(0.5).sum())


class WritesDepth(Good):
    """Nearness, in [0, inf)."""

    requires = frozenset({Requirement.RECONSTRUCTION})

    def score(self, clip, inputs):
        depth = inputs.reconstruction.depth
        if depth is None:
            raise ScoreUnavailable("no depth")
        value = float((depth / depth.median()).mean())
        depth /= depth.median() * 2
        return value


class KeepsView(Good):
    """Brightness, in [0, 1]."""

    def score(self, clip, inputs):
        KEPT.append(clip.video.frames[0, 0])
        return super().score(clip, inputs)


class ReadsName(Good):
    """Brightness, in [0, 1]."""

    def score(self, clip, inputs):
        return 1.0 if "9" in clip.name else super().score(clip, inputs)


class ReadsSource(Good):
    """Brightness, in [0, 1]."""

    def score(self, clip, inputs):
        return 1.0 if clip.video.source else super().score(clip, inputs)


class NeedsTwoFrames(Good):
    """Stillness, in [0, 1]."""

    def score(self, clip, inputs):
        return float(1 - (clip.video.frames[1] - clip.video.frames[0]).abs().mean())


class NeedsWords(Good):
    """Wordiness, in [0, 1]."""

    def score(self, clip, inputs):
        return 1 / len(clip.prompt.split())


class NeedsTarget(Good):
    """Length of the commanded path, in [0, inf)."""

    def score(self, clip, inputs):
        return clip.target.extent


class Undeclared(Good):
    """Extent, in [0, inf)."""

    def score(self, clip, inputs):
        return super().score(clip, inputs) if inputs.reconstruction is None else 1.0


class DeclaresTooMuch(Good):
    """Brightness, in [0, 1]."""

    requires = frozenset({Requirement.JUDGE})


class NeedsDepth(Good):
    """Mean depth, in [0, inf)."""

    requires = frozenset({Requirement.RECONSTRUCTION})

    def score(self, clip, inputs):
        return float(inputs.reconstruction.depth.mean())


class HidesJudgeFailure(Good):
    """A judge's grade, in [0, 1]."""

    requires = frozenset({Requirement.JUDGE})

    def score(self, clip, inputs):
        (result,) = inputs.judge.grade([JudgeRequest(clip.video.frames[:1], "Is it good?")])
        return 0.0 if isinstance(result, Exception) else result.score


class Seeds(Good):
    """Brightness, in [0, 1]."""

    def score(self, clip, inputs):
        torch.manual_seed(0)
        return super().score(clip, inputs)


class DrawsFromRandom(Good):
    """Brightness, in [0, 1]."""

    def score(self, clip, inputs):
        random.random()
        return super().score(clip, inputs)


class Prints(Good):
    """Brightness, in [0, 1]."""

    def score(self, clip, inputs):
        print("scoring", clip.name)  # noqa: T201
        return super().score(clip, inputs)


class OtherDevice(Good):
    """Brightness, in [0, 1]."""

    def score(self, clip, inputs):
        return super().score(clip, inputs) + (0.5 if self.device != "cpu" else 0.0)


class Lower(Good):
    """Darkness, in [-1, 0]."""

    def score(self, clip, inputs):
        return -super().score(clip, inputs)


class GoodGradient(Good):
    """Brightness plus half the contrast, in [0, 1], of clips with words."""

    def score(self, clip, inputs):
        if not clip.prompt.strip():
            raise ScoreNotApplicable("no words")
        return float(self.value(clip.video.frames))

    def score_frames(self, frames, clips, inputs):
        return score_each(self._frames_value, frames, clips, inputs)

    def value(self, frames):
        return frames.mean() ** self.config.gamma + frames.std(correction=0) / 2

    def _frames_value(self, frames, clip, inputs):
        if not clip.prompt.strip():
            raise ScoreNotApplicable("no words")
        return self.value(frames)


class OtherValue(GoodGradient):
    """Brightness and contrast, in [0, 1]."""

    def score_frames(self, frames, clips, inputs):
        return 0.999 * super().score_frames(frames, clips, inputs)


class NeverNan(GoodGradient):
    """Brightness and contrast, in [0, 1]."""

    def score_frames(self, frames, clips, inputs):
        return super().score_frames(frames, clips, inputs).nan_to_num(nan=0.0)


class OneValueTooFew(GoodGradient):
    """Brightness and contrast, in [0, 1]."""

    def score_frames(self, frames, clips, inputs):
        return super().score_frames(frames, clips, inputs)[:-1]


class NanGradient(GoodGradient):
    """Brightness and contrast, in [0, 1]."""

    def score_frames(self, frames, clips, inputs):
        still = (frames - frames.detach()).abs().sqrt().sum((1, 2, 3, 4))
        return super().score_frames(frames, clips, inputs) + 0 * still


class GradientOfOthers(GoodGradient):
    """Brightness and contrast, in [0, 1]."""

    def score_frames(self, frames, clips, inputs):
        other = frames.mean((1, 2, 3, 4)).roll(1)
        return super().score_frames(frames, clips, inputs) + 1e-4 * (other - other.detach())


class GradientOfFailed(GoodGradient):
    """Brightness and contrast, in [0, 1]."""

    def score_frames(self, frames, clips, inputs):
        values = super().score_frames(frames, clips, inputs)
        return torch.where(values.isnan(), frames.sum((1, 2, 3, 4)) * torch.nan, values)


class Detached(GoodGradient):
    """Brightness and contrast, in [0, 1]."""

    def score_frames(self, frames, clips, inputs):
        return super().score_frames(frames, clips, inputs).detach()


class DetachedFrames(GoodGradient):
    """Brightness and contrast, in [0, 1]."""

    def score_frames(self, frames, clips, inputs):
        weight = torch.ones((), requires_grad=True)
        return weight * super().score_frames(frames.detach(), clips, inputs)


class TwiceTheGradient(GoodGradient):
    """Brightness and contrast, in [0, 1]."""

    def score_frames(self, frames, clips, inputs):
        values = super().score_frames(frames, clips, inputs)
        return 2 * values - values.detach()


class MissesATerm(GoodGradient):
    """Brightness and contrast, in [0, 1]."""

    def value(self, frames):
        return frames.mean() ** self.config.gamma + frames.detach().std(correction=0) / 2


class MissesAFrame(GoodGradient):
    """Brightness and contrast, in [0, 1]."""

    def value(self, frames):
        return super().value(torch.cat([frames[:1].detach(), frames[1:]]))


class Jumps(GoodGradient):
    """Brightness and contrast, in [0, 1]."""

    def value(self, frames):
        return super().value(frames) + (frames.detach().double().mean() * 1e7).sin().float() / 10


MUTANTS = [
    ("constructs", CannotStart),
    ("config-class", PlainConfig),
    ("config-class", LooseKeys),
    ("config-class", Mutable),
    ("config-described", Undescribed),
    ("config-bounded", Unbounded),
    ("config-bounded", HalfBounded),
    ("config-round-trip", NoRoundTrip),
    ("unknown-option", SwallowsOptions),
    ("unknown-option", BareTypeError),
    ("documented", Undocumented),
    ("pickles", Unpicklable),
    ("pickles", ForgetsDevice),
    ("range-documented", NoRange),
    ("requires-declared", ReadsList),
    ("number-or-reason", GivesNan),
    ("number-or-reason", GivesTensor),
    ("number-or-reason", RaisesUserError),
    ("number-or-reason", NoReason),
    ("gives-scores", NeverScores),
    ("deterministic", Noisy),
    ("batch-and-order", BatchRelative),
    ("batch-and-order", OneScoreTooFew),
    ("batch-and-order", AnswersEmptyBatch),
    ("input-unchanged", Writes),
    ("input-unchanged", WritesDepth),
    ("frees-clips", KeepsView),
    ("ignores-name", ReadsName),
    ("ignores-name", ReadsSource),
    ("any-size", NeedsTwoFrames),
    ("any-context", NeedsWords),
    ("any-context", NeedsTarget),
    ("reads-only-declared", Undeclared),
    ("reads-what-it-declares", DeclaresTooMuch),
    ("reconstruction-variants", NeedsDepth),
    ("judge-failure", HidesJudgeFailure),
    ("leaves-random-state", Seeds),
    ("leaves-random-state", DrawsFromRandom),
    ("prints-nothing", Prints),
    ("device", OtherDevice),
    ("direction", Lower),
    ("gradient-value", OtherValue),
    ("gradient-value", NeverNan),
    ("gradient-value", OneValueTooFew),
    ("gradient-finite", NanGradient),
    ("gradient-finite", GradientOfOthers),
    ("gradient-finite", GradientOfFailed),
    ("gradient-finite", Detached),
    ("gradient-finite", DetachedFrames),
    ("gradient-differences", TwiceTheGradient),
    ("gradient-differences", MissesATerm),
    ("gradient-differences", MissesAFrame),
    ("gradient-differences", Jumps),
]
"""(check, the reward that breaks it)."""

ALSO_FAIL = {
    PlainConfig: {"unknown-option"},
    LooseKeys: {"unknown-option"},
    BareTypeError: {"config-round-trip"},
    Undocumented: {"range-documented"},
    GivesNan: {"*"},
    GivesTensor: {"*"},
    RaisesUserError: {"*"},
    NoReason: {"*"},
    NeverScores: {"direction"},
    DeclaresTooMuch: {"judge-failure"},
    Noisy: {"batch-and-order", "ignores-name", "leaves-random-state", "direction", "device"},
    Writes: {"deterministic", "batch-and-order", "ignores-name", "direction", "device"},
    NeedsTarget: {"direction"},
    HidesJudgeFailure: {"direction"},
    NeedsTwoFrames: {"direction"},
    NeedsWords: {"direction"},
    NeedsDepth: {"direction"},
    WritesDepth: {"direction"},
    OneValueTooFew: {"gradient-finite", "gradient-differences"},
    NanGradient: {"gradient-differences"},
    GradientOfOthers: {"gradient-differences"},
    DetachedFrames: {"gradient-differences"},
}
"""What else such a reward cannot help breaking; `*` is anything. Everything else must hold."""
