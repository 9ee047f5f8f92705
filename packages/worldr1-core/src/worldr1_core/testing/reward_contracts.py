"""Every contract of `worldr1_core.reward.Reward`, as checks on clips with known truth."""

from __future__ import annotations

import contextlib
import copy
import functools
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from worldr1_core.clip import Clip
from worldr1_core.errors import ScoreNotApplicable, ScoreUnavailable, UserError, describe_exception
from worldr1_core.reconstructor import Reconstruction
from worldr1_core.reward import Requirement, Reward, RewardInputs, Score
from worldr1_core.testing import isolation
from worldr1_core.testing.clips import make_clip, true_reconstruction
from worldr1_core.testing.failures import UNAVAILABLE, CallFailed, CheckFailed, CheckSkipped, checking
from worldr1_core.testing.report import Contract
from worldr1_core.testing.stand_ins import FailingJudge, StubJudge, WatchedInputs
from worldr1_core.testing.subject import COMPONENT_CONTRACTS, Subject, device_contract
from worldr1_core.video import Video

MOVES = ("arc", "push in", "fixed")
SHAPES = ((1, 24, 32), (2, 17, 31), (3, 64, 33), (6, 20, 20), (2, 8, 8))
"""(T, H, W) that a video may have: one frame, odd sides, upright, square, tiny."""
PROMPTS = (
    "",
    "  \n",
    "Камера вперёд 🎥 摄像机推进",
    "Camera pan left, then camera push in. {x} %s \\N",
    "a red chair in a hall, " * 400,
)
SCORE_WHY = "an invented number trains a model on noise; a UserError stops the run"
SCORE_FIX = "return a finite float or a Score; raise ScoreUnavailable('why') where there is none"
_RANGE = re.compile(r"[\[(]\s*-?(\d|inf|∞)[^\])]*,[^\])]*[\])]|unbounded", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Sample:
    """A clip, and what a scorer would compute for it."""

    clip: Clip
    reconstruction: Reconstruction | None
    judge: StubJudge

    def inputs(self, requires: Iterable[Requirement]) -> RewardInputs:
        """Only the parts that are declared, as the scorer does it."""
        return RewardInputs(
            self.reconstruction if Requirement.RECONSTRUCTION in requires else None,
            self.judge if Requirement.JUDGE in requires else None,
            self.clip.reference if Requirement.REFERENCE in requires else None,
        )


def _kit_sample(move: str, shape: tuple[int, int, int], seed: int = 0) -> Sample:
    frames, size = shape[0], shape[1:]
    clip = make_clip(move, num_frames=frames, size=size, seed=seed)
    clip = replace(clip, reference=make_clip(move, num_frames=frames, size=size, seed=seed + 1).video)
    return Sample(clip, true_reconstruction(move, frames, size, seed), StubJudge(0.5))


class RewardSubject(Subject[Reward]):
    """A reward, the clips it is checked on, and pairs of which it should prefer the first."""

    def __init__(
        self,
        given: Any,
        options: Mapping[str, Any] | None,
        samples: Sequence[Sample] | None,
        prefers: Sequence[tuple[Sample, Sample]],
        tolerance: float,
        device: str,
    ) -> None:
        super().__init__(given, Reward, options, device)
        self._given_samples = samples
        self.prefers = prefers
        self.tolerance = tolerance

    @functools.cached_property
    def samples(self) -> list[Sample]:
        """Clips on which the reward should give scores."""
        return self.untouched_samples()

    def untouched_samples(self) -> list[Sample]:
        """The same, from before any reward could write into them."""
        if self._given_samples is not None:
            return copy.deepcopy(list(self._given_samples))
        return [_kit_sample(move, (5, 40, 56), seed) for seed, move in enumerate(MOVES)]

    @property
    def requires(self) -> frozenset[Requirement]:
        """What the reward declares; unknown entries are left to the check that reports them."""
        return frozenset(part for part in Requirement if part in self.component.requires)

    def score(self, sample: Sample, reward: Reward | None = None) -> Score:
        """Score one sample as the scorer does, and hold the answer to the contract."""
        reward = self.component if reward is None else reward
        try:
            return as_score(reward.score(sample.clip, sample.inputs(self.requires)))
        except Exception as error:  # noqa: BLE001 - judged: only ScoreUnavailable is allowed
            return as_score(error)

    def same(self, first: Score, second: Score) -> bool:
        """Whether two scores agree: both without a number, or close."""
        if math.isnan(first.value) or math.isnan(second.value):
            return math.isnan(first.value) and math.isnan(second.value)
        return math.isclose(first.value, second.value, rel_tol=self.tolerance, abs_tol=self.tolerance)


def as_score(answer: object) -> Score:
    """A reward's answer as a score.

    Raises:
        CallFailed: It is neither a finite float, a `Score`, nor a `ScoreUnavailable` with a message.
    """
    if isinstance(answer, UNAVAILABLE):
        raise answer
    if isinstance(answer, Exception) and not isinstance(answer, UserError | ScoreUnavailable):
        raise CallFailed(f"a clip raised {describe_exception(answer)}") from answer
    if isinstance(answer, Score):
        return answer
    if isinstance(answer, ScoreUnavailable):
        if not str(answer).strip():
            raise _no_score(f"{type(answer).__name__} was raised without a reason") from answer
        return Score.unavailable(str(answer), applicable=not isinstance(answer, ScoreNotApplicable))
    if isinstance(answer, UserError):
        raise _no_score(f"one clip raised {type(answer).__name__}, which stops the whole run: {answer}") from answer
    if isinstance(answer, bool) or not isinstance(answer, int | float):
        raise _no_score(f"a clip got {answer!r} ({type(answer).__name__}), which is no float")
    if not math.isfinite(answer):
        raise _no_score(f"a clip got {answer!r} without a reason")
    return Score(float(answer))


def _no_score(message: str) -> CallFailed:
    return CallFailed(message, why=SCORE_WHY, fix=SCORE_FIX)


def _range_documented(subject: RewardSubject) -> None:
    if not _RANGE.search(type(subject.component).__doc__ or ""):
        raise CheckFailed("the class docstring names no range such as '[0, 1]', '(-inf, 0]' or 'unbounded'")


def _requires_declared(subject: RewardSubject) -> None:
    requires: object = subject.component.requires
    if not isinstance(requires, frozenset) or not all(isinstance(part, Requirement) for part in requires):
        raise CheckFailed(f"requires is {requires!r}; it must be a frozenset of {[str(r) for r in Requirement]}")


def _number_or_reason(subject: RewardSubject) -> None:
    for sample in subject.samples:
        subject.score(sample)


def _gives_scores(subject: RewardSubject) -> None:
    scores = [subject.score(sample) for sample in subject.samples]
    if all(score.reason is not None for score in scores):
        raise CheckFailed(f"no clip got a number: {sorted({str(score.reason) for score in scores})}")


def _deterministic(subject: RewardSubject) -> None:
    for sample in subject.samples:
        answers = []
        for seed, reward in enumerate((subject.component, subject.component, subject.fresh())):
            with isolation.seeded(seed):
                answers.append(subject.score(sample, reward))
        if not all(subject.same(answers[0], other) for other in answers[1:]):
            raise CheckFailed(f"{sample.clip.name!r} got {[a.value for a in answers]} in three runs")


def _batch_and_order(subject: RewardSubject) -> None:
    single = [subject.score(sample) for sample in subject.samples]
    for order in (list(range(len(single))), list(reversed(range(len(single)))), [0]):
        batch = [subject.samples[i] for i in order]
        answers = subject.component.score_batch([s.clip for s in batch], [s.inputs(subject.requires) for s in batch])
        if not isinstance(answers, list) or len(answers) != len(batch):
            raise CheckFailed(f"score_batch returned {answers!r} for {len(batch)} clips")
        for index, answer in zip(order, map(as_score, answers), strict=True):
            if not subject.same(single[index], answer):
                name = subject.samples[index].clip.name
                raise CheckFailed(f"{name!r} got {single[index].value} alone and {answer.value} in batch {order}")
    if list(subject.component.score_batch([], [])):
        raise CheckFailed("score_batch answered an empty batch with scores")


def _input_unchanged(subject: RewardSubject) -> None:
    for sample in subject.untouched_samples():
        tensors = isolation.clip_tensors(sample.clip)
        scene = sample.reconstruction
        if scene is not None:
            tensors["reconstruction.trajectory.c2w"] = scene.trajectory.c2w
            if scene.depth is not None:
                tensors["reconstruction.depth"] = scene.depth
        isolation.check_unchanged(tensors, functools.partial(subject.score, sample))


def _frees_clips(subject: RewardSubject) -> None:
    sample = subject.samples[0]
    isolation.check_frees(
        sample.clip.video.frames,
        lambda frames: subject.score(replace(sample, clip=isolation.with_frames(sample.clip, frames))),
    )


def _ignores_name(subject: RewardSubject) -> None:
    for sample in subject.samples:
        video = Video(sample.clip.video.frames, sample.clip.video.fps, source="elsewhere/9.mp4")
        renamed = replace(sample, clip=replace(sample.clip, name="good clip 9", video=video))
        first, second = subject.score(sample), subject.score(renamed)
        if not subject.same(first, second):
            raise CheckFailed(f"the score went from {first.value} to {second.value} with another name and source")


def _any_size(subject: RewardSubject) -> None:
    for shape in SHAPES:
        with checking(f"video of {shape[0]} frames, {shape[1]}x{shape[2]}"):
            subject.score(_kit_sample("arc", shape))


def _any_context(subject: RewardSubject) -> None:
    sample = subject.samples[0]
    intrinsics = sample.reconstruction.trajectory.intrinsics if sample.reconstruction else None
    variants = [replace(sample.clip, prompt=prompt) for prompt in PROMPTS]
    variants += [replace(sample.clip, target=None), replace(sample.clip, intrinsics=intrinsics)]
    for clip in variants:
        case = (
            f"prompt {clip.prompt[:40]!r}, {'a' if clip.target else 'no'} commanded path, "
            f"{'known' if clip.intrinsics is not None else 'unknown'} intrinsics"
        )
        with checking(case):
            subject.score(replace(sample, clip=clip))


def _parts_read(subject: RewardSubject) -> set[str]:
    touched: set[str] = set()
    for sample in subject.samples:
        with contextlib.suppress(Exception):  # what was read until then counts; other checks judge the error
            subject.component.score(sample.clip, WatchedInputs(sample.inputs(subject.requires), touched))
    return touched


def _reads_only_declared(subject: RewardSubject) -> None:
    if undeclared := _parts_read(subject) - {str(part) for part in subject.requires}:
        raise CheckFailed(f"an input is read that `requires` does not declare: {sorted(undeclared)}")


def _reads_what_it_declares(subject: RewardSubject) -> None:
    if unused := {str(part) for part in subject.requires} - _parts_read(subject):
        _score_all(subject)  # an exception may come before the part is read
        raise CheckFailed(f"`requires` declares what is never read: {sorted(unused)}")


def _reconstruction_variants(subject: RewardSubject) -> None:
    if Requirement.RECONSTRUCTION not in subject.requires:
        raise CheckSkipped("the reward does not read a reconstruction")
    for sample in subject.samples:
        if sample.reconstruction is None:
            continue
        scene = sample.reconstruction
        for variant in (replace(scene, depth=None), replace(scene, has_parallax=False)):
            with checking(f"a reconstruction without {'depth' if variant.depth is None else 'parallax'}"):
                subject.score(replace(sample, reconstruction=variant))


def _judge_failure(subject: RewardSubject) -> None:
    if Requirement.JUDGE not in subject.requires:
        raise CheckSkipped("the reward does not read a judge")
    for sample in subject.samples:
        inputs = replace(sample.inputs(subject.requires), judge=FailingJudge())
        with checking("a judge that does not answer"):
            try:
                score = as_score(subject.component.score(sample.clip, inputs))
            except ScoreUnavailable:
                continue
        if score.reason is None:
            raise CheckFailed(f"the judge answered nothing, and the clip got {score.value}")


def _direction(subject: RewardSubject) -> None:
    if not subject.prefers:
        raise CheckSkipped(
            "no pairs were given; pass prefers=[(better_clip, worse_clip)] to have the direction checked"
        )
    for better, worse in subject.prefers:
        high, low = subject.score(better), subject.score(worse)
        if not high.value > low.value:
            raise CheckFailed(
                f"{better.clip.name!r} got {high.value} ({high.reason}) and should beat {worse.clip.name!r}, "
                f"which got {low.value} ({low.reason})"
            )


def _score_all(subject: RewardSubject) -> None:
    for sample in subject.samples:
        subject.score(sample)


def _same_on_device(subject: RewardSubject, reward: Reward) -> None:
    for sample in subject.samples:
        here, there = subject.score(sample), subject.score(sample, reward)
        agree = math.isclose(here.value, there.value, rel_tol=1e-2, abs_tol=1e-2)
        if not agree and not (math.isnan(here.value) and math.isnan(there.value)):
            raise CheckFailed(f"a clip got {there.value}, and {here.value} on the CPU")


REWARD_CONTRACTS: list[Contract[RewardSubject]] = [
    *COMPONENT_CONTRACTS,
    Contract(
        "range-documented",
        "weights in a manifest are chosen by the range of each reward",
        "say in the class docstring in which interval scores lie",
        _range_documented,
    ),
    Contract(
        "requires-declared",
        "the scorer computes what `requires` names, and nothing else",
        "write requires = frozenset({Requirement.RECONSTRUCTION}), say",
        _requires_declared,
    ),
    Contract(
        "number-or-reason",
        SCORE_WHY,
        SCORE_FIX,
        _number_or_reason,
    ),
    Contract(
        "gives-scores",
        "a reward that never scores would pass every other check",
        "pass clips=[…] on which it gives numbers",
        _gives_scores,
    ),
    Contract(
        "deterministic",
        "a score that changes by itself cannot be reproduced, and is noise in training",
        "draw random numbers from a generator of your own with a fixed seed; keep no state between clips",
        _deterministic,
    ),
    Contract(
        "batch-and-order",
        "the batch size is a matter of memory and must not change results",
        "let no clip influence another; return one entry per clip, in order; put networks into eval mode",
        _batch_and_order,
    ),
    Contract(
        "input-unchanged",
        "every reward sees the same clip",
        "work on copies; avoid in-place operations",
        _input_unchanged,
    ),
    Contract(
        "frees-clips",
        "a run scores thousands of clips; what is kept of each fills the memory",
        "keep no frames or views of them on self, in caches or in globals",
        _frees_clips,
    ),
    Contract("ignores-name", "names are for messages; a score belongs to the content", "read no name", _ignores_name),
    Contract(
        "any-size",
        "videos come in every size and length",
        "raise ScoreUnavailable for what is too short or too small",
        _any_size,
    ),
    Contract(
        "any-context",
        "prompts are whatever people write; a path or intrinsics may be absent",
        "raise ScoreNotApplicable where the question makes no sense for the clip",
        _any_context,
    ),
    Contract(
        "reads-only-declared",
        "an undeclared input is None in a run",
        "add the part to `requires`",
        _reads_only_declared,
    ),
    Contract(
        "reads-what-it-declares",
        "a reconstruction costs seconds per clip",
        "remove the part from `requires`",
        _reads_what_it_declares,
    ),
    Contract(
        "reconstruction-variants",
        "some reconstructors give no depth, and a still camera has no parallax",
        "test for `depth is None` and `has_parallax`; raise ScoreUnavailable where they are needed",
        _reconstruction_variants,
    ),
    Contract(
        "judge-failure",
        "an endpoint that is down must not become a grade",
        "raise every exception that judge.grade returns",
        _judge_failure,
    ),
    Contract(
        "leaves-random-state",
        "rewards run between the draws of a training loop; moving the global generator changes the samples",
        "use a torch.Generator of your own",
        lambda subject: isolation.check_leaves_random_state(lambda: _score_all(subject)),
    ),
    Contract(
        "prints-nothing",
        "stdout holds JSON lines that other programs read",
        "log with worldr1_core.log.get_logger, or raise ScoreUnavailable",
        lambda subject: isolation.check_prints_nothing(lambda: _score_all(subject)),
    ),
    Contract("direction", "rewards are higher-is-better", "return the negative or 1 − x", _direction),
    device_contract(_same_on_device),
]
"""Everything that is promised of a reward."""
