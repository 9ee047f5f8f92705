"""The scorer: one reconstruction a clip, lazily, freed after use, and no failure that becomes a number."""

from __future__ import annotations

import gc
import math
import weakref
from fractions import Fraction

import numpy as np
import pytest
import torch
from structlog.testing import capture_logs

from worldr1_core.camera.trajectory import CameraTrajectory
from worldr1_core.compose import ScoringComponents, WeightedReward
from worldr1_core.errors import (
    PluginError,
    ScoreNotApplicable,
    ScoreUnavailable,
    UnknownNameError,
    UserError,
    VideoError,
    WeightsError,
)
from worldr1_core.judge import Judge
from worldr1_core.plugins import installed
from worldr1_core.reconstructor import Reconstruction, Reconstructor
from worldr1_core.reward import Requirement, Reward, RewardInputs, Score, as_number
from worldr1_core.scoring import ScoringEngine
from worldr1_rewards.scoring import Scorer, manifest_text


class Scene(Reconstruction):
    def render(self, c2w, intrinsics, size):
        raise NotImplementedError

    def rerender(self):
        raise NotImplementedError


def scene() -> Scene:
    return Scene(trajectory=None)


class Lifter(Reconstructor):
    """Counts its calls; `answer(clip)` makes the reconstruction, or raises."""

    def __init__(self, answer=lambda clip: scene()):
        super().__init__()
        self.answer = answer
        self.calls: list[str] = []

    def reconstruct(self, clip):
        self.calls.append(clip.name)
        return self.answer(clip)


class Told(Reward):
    """Answers what it is told: a value, or a function of clip and inputs."""

    def __init__(self, answer=0.5, requires=()):
        super().__init__()
        self.answer = answer
        self.requires = frozenset(requires)
        self.seen: list[tuple[str, RewardInputs]] = []

    def score(self, clip, inputs):
        self.seen.append((clip.name, inputs))
        return self.answer(clip, inputs) if callable(self.answer) else self.answer


class ToldBatch(Told):
    """A reward with its own `score_batch`."""

    def score_batch(self, clips, inputs):
        return self.answer(clips, inputs)


def scorer(*rewards, weights=None, reconstructor=None, judge=None) -> ScoringEngine:
    """A scorer of rewards named a, b, c, ..."""
    weights = weights or [1.0] * len(rewards)
    named = [WeightedReward(n, w, r) for n, w, r in zip("abcdef", weights, rewards, strict=False)]
    return ScoringEngine(ScoringComponents(named, reconstructor, judge))


def raising(error):
    def answer(*_):
        raise error

    return answer


@pytest.fixture
def clips(make_clip):
    return [make_clip(seed=number, name=f"clip-{number}") for number in range(5)]


def score_one(built, clip):
    return next(iter(built.score([clip])))


SCENE = (Requirement.RECONSTRUCTION,)


def test_one_reconstruction_a_clip_however_many_rewards_read_it(clips):
    lifter = Lifter()
    rewards = [Told(requires=SCENE) for _ in range(3)]
    results = list(scorer(*rewards, reconstructor=lifter).score(clips, batch_size=2))
    assert lifter.calls == [clip.name for clip in clips]
    for result in results:
        shared = {id(inputs.reconstruction) for r in rewards for name, inputs in r.seen if name == result.clip.name}
        assert shared == {id(result.reconstruction)}


def test_a_reward_sees_only_what_it_reads(clips):
    class Grader(Judge):
        def grade(self, requests):
            return []

    judge = Grader()
    nothing, both = Told(), Told(requires=(Requirement.RECONSTRUCTION, Requirement.JUDGE))
    score_one(scorer(nothing, both, reconstructor=Lifter(), judge=judge), clips[0])
    assert nothing.seen[0][1] == RewardInputs(None, None)
    assert isinstance(both.seen[0][1].reconstruction, Scene)
    assert both.seen[0][1].judge is judge


def test_result_holds_scores_total_and_timings(clips):
    result = score_one(scorer(Told(0.25), Told(1), weights=[2.0, 0.5], reconstructor=Lifter()), clips[0])
    assert result.clip is clips[0]
    assert {name: score.value for name, score in result.scores.items()} == {"a": 0.25, "b": 1.0}
    assert result.total == 2.0 * 0.25 + 0.5 * 1.0
    assert result.reasons == {}
    assert result.timings.keys() == {"reconstructor", "a", "b", "total"}
    assert result.timings["total"] == pytest.approx(sum(v for k, v in result.timings.items() if k != "total"))


@pytest.mark.parametrize("batch_size", [1, 2, 3, 5, 100])
def test_batch_size_changes_nothing(clips, batch_size):
    brightness = Told(lambda clip, _: float(clip.video.frames.mean()))
    found = scorer(brightness, reconstructor=Lifter()).score(clips, batch_size=batch_size)
    assert [(r.clip.name, r.total) for r in found] == [(c.name, float(c.video.frames.mean())) for c in clips]


def test_order_of_the_clips_changes_no_result(clips):
    brightness = Told(lambda clip, _: float(clip.video.frames.mean()))
    built = scorer(brightness)
    forward = {r.clip.name: r.total for r in built.score(clips, batch_size=2)}
    backward = {r.clip.name: r.total for r in built.score(clips[::-1], batch_size=3)}
    assert forward == backward


def test_one_bad_clip_spoils_no_other_of_its_batch(clips):
    def answer(batch, _):
        if any(clip.name == "clip-2" for clip in batch):
            raise RuntimeError("out of memory")
        return [0.5] * len(batch)

    results = list(scorer(ToldBatch(answer)).score(clips, batch_size=5))
    assert [r.total for r in results if r.clip.name != "clip-2"] == [0.5] * 4
    assert math.isnan(results[2].total)
    assert results[2].reasons["a"] == "RuntimeError: out of memory"


def test_generators_are_consumed_lazily(clips):
    taken: list[str] = []

    def source():
        for clip in clips:
            taken.append(clip.name)
            yield clip

    results = scorer(Told()).score(source(), batch_size=2)
    assert taken == []
    next(results)
    assert taken == ["clip-0", "clip-1"]
    next(results)
    assert taken == ["clip-0", "clip-1"]
    next(results)
    assert taken == ["clip-0", "clip-1", "clip-2", "clip-3"]


def test_no_clips_give_no_results():
    assert list(scorer(Told()).score([])) == []


def chained():
    try:
        raise KeyError("inner")
    except KeyError as error:
        raise ValueError("outer") from error


class Forgetful(Reward):
    """Keeps nothing of what it sees."""

    requires = frozenset(SCENE)

    def __init__(self, answer):
        super().__init__()
        self.answer = answer

    def score(self, clip, inputs):
        return self.answer()


@pytest.mark.parametrize(
    "answer",
    [lambda: 0.5, raising(RuntimeError("no")), raising(ScoreUnavailable("no")), chained],
    ids=["scored", "raised", "no score", "raised from another"],
)
def test_reconstruction_is_freed_without_the_garbage_collector(clips, answer):
    alive: list[weakref.ref] = []

    def lift(clip):
        made = scene()
        alive.append(weakref.ref(made))
        return made

    def source():
        for clip in clips:
            freed.append(all(reference() is None for reference in alive))
            yield clip

    freed: list[bool] = []
    gc.disable()
    try:
        results = scorer(Forgetful(answer), Forgetful(lambda: 1.0), reconstructor=Lifter(lift)).score(source())
        while next(results, None) is not None:
            pass
    finally:
        gc.enable()
    assert len(alive) == len(clips)
    assert freed == [True] * len(clips)


def test_failed_reconstruction_frees_the_clip(make_clip):
    gc.disable()
    try:
        results = scorer(Told(requires=SCENE), reconstructor=Lifter(raising(ScoreUnavailable("flat")))).score(
            iter([make_clip()])
        )
        frames = weakref.ref(next(results).clip.video.frames)
        next(results, None)
        assert frames() is None
    finally:
        gc.enable()


def test_failed_reconstruction_fails_its_readers_and_no_other(clips):
    requires, other = Told(requires=SCENE), Told(0.75)
    result = score_one(scorer(requires, other, reconstructor=Lifter(raising(ScoreUnavailable("no texture")))), clips[0])
    assert requires.seen == []
    assert result.reasons == {"a": "no texture", "total": "no score of a"}
    assert result.scores["b"].value == 0.75
    assert result.reconstruction is None
    assert math.isnan(result.total)


def test_reconstruction_that_does_not_apply_is_left_out_of_the_total(clips):
    lifter = Lifter(raising(ScoreNotApplicable("one frame")))
    result = score_one(scorer(Told(requires=SCENE), Told(0.75), reconstructor=lifter), clips[0])
    assert result.total == 0.75
    assert result.reasons == {"a": "one frame"}


def test_reconstructor_that_breaks_is_a_reason_and_is_logged(clips):
    with capture_logs() as logs:
        result = score_one(scorer(Told(requires=SCENE), reconstructor=Lifter(raising(KeyError("x")))), clips[0])
    assert result.reasons["a"] == "reconstruction failed: KeyError: 'x'"
    assert (logs[0]["event"], logs[0]["clip"]) == ("reconstruction failed", "clip-0")


def test_reconstructor_that_answers_something_else_is_a_reason(clips):
    result = score_one(scorer(Told(requires=SCENE), reconstructor=Lifter(lambda clip: None)), clips[0])
    assert result.reasons["a"] == "reconstruction failed: TypeError: Lifter returned None, not a Reconstruction"


GOOD = {
    "float": (0.25, 0.25),
    "zero": (0.0, 0.0),
    "negative": (-3.5, -3.5),
    "integer": (1, 1.0),
    "numpy float64": (np.float64(0.25), 0.25),
    "numpy float32": (np.float32(0.25), 0.25),
    "numpy integer": (np.int64(2), 2.0),
    "0-dim array": (np.array(0.25), 0.25),
    "0-dim tensor": (torch.tensor(0.25), 0.25),
    "0-dim tensor with gradient": (torch.tensor(0.25, requires_grad=True), 0.25),
    "0-dim bfloat16": (torch.tensor(0.25, dtype=torch.bfloat16), 0.25),
    "Score": (Score(0.25, details={"x": 1}), 0.25),
    "Score of a tensor": (Score(torch.tensor(0.25)), 0.25),
}


@pytest.mark.parametrize(("answer", "value"), GOOD.values(), ids=GOOD)
def test_number_is_a_score(clips, answer, value):
    result = score_one(scorer(Told(answer)), clips[0])
    assert result.scores["a"].value == value
    assert type(result.scores["a"].value) is float
    assert type(result.total) is float
    assert result.reasons == {}


BAD = {
    "nan": (math.nan, "reward 'a' returned nan without a reason"),
    "inf": (math.inf, "reward 'a' returned inf without a reason"),
    "-inf": (-math.inf, "reward 'a' returned -inf without a reason"),
    "nan tensor": (torch.tensor(math.nan), "reward 'a' returned nan without a reason"),
    "true": (True, "reward 'a' returned True; a score is a float or a Score"),
    "numpy truth value": (np.bool_(True), "a score is a float or a Score"),
    "truth tensor": (torch.tensor(True), "a score is a float or a Score"),
    "nothing": (None, "reward 'a' returned None; a score is a float or a Score"),
    "text": ("0.5", "reward 'a' returned '0.5'; a score is a float or a Score"),
    "list": ([0.5], "a score is a float or a Score"),
    "vector": (torch.tensor([0.5]), "a score is a float or a Score"),
    "complex": (np.complex128(1), "a score is a float or a Score"),
    "raises": (raising(RuntimeError("no luck")), "RuntimeError: no luck"),
    "raises without a message": (raising(RuntimeError()), "RuntimeError"),
    "no score": (raising(ScoreUnavailable("too dark")), "too dark"),
    "no score and no reason": (raising(ScoreUnavailable()), "reward 'a' gave no reason"),
    "Score of nan": (lambda *_: Score(math.nan), "ValueError: A score is either a number or NaN with a reason"),
    "Score of inf": (lambda *_: Score(math.inf), "ValueError: A score must be finite, received inf."),
    "Score of nothing": (lambda *_: Score(None), "ValueError: A score is a float, received None."),
    "Score with its reason": (Score.unavailable("too dark", frames=3), "too dark"),
}


@pytest.mark.parametrize(("answer", "reason"), BAD.values(), ids=BAD)
def test_no_failure_becomes_a_number(clips, answer, reason):
    result = score_one(scorer(Told(answer), Told(1.0)), clips[0])
    assert math.isnan(result.scores["a"].value)
    assert reason in result.reasons["a"]
    assert math.isnan(result.total)
    assert result.reasons["total"] == "no score of a"
    assert result.scores["b"].value == 1.0


def test_failing_reward_is_logged_with_its_name_and_clip(clips):
    with capture_logs() as logs:
        score_one(scorer(Told(raising(RuntimeError("no luck")))), clips[0])
    assert (logs[0]["event"], logs[0]["reward"], logs[0]["clip"]) == ("reward failed", "a", "clip-0")


def test_score_that_does_not_apply_is_left_out_of_the_total(clips):
    result = score_one(scorer(Told(raising(ScoreNotApplicable("no move"))), Told(0.25), weights=[1.0, 2.0]), clips[0])
    assert result.total == 0.5
    assert result.reasons == {"a": "no move"}
    assert math.isnan(result.scores["a"].value)
    assert not result.scores["a"].applicable


def test_nothing_applies(clips):
    result = score_one(scorer(Told(raising(ScoreNotApplicable("no move")))), clips[0])
    assert math.isnan(result.total)
    assert result.reasons["total"] == "no reward applies to this clip"


def test_failed_outweighs_not_applicable(clips):
    rewards = [Told(raising(ScoreNotApplicable("x"))), Told(raising(ScoreUnavailable("y"))), Told(raising(KeyError()))]
    result = score_one(scorer(*rewards), clips[0])
    assert math.isnan(result.total)
    assert result.reasons["total"] == "no score of b, c"


@pytest.mark.parametrize("answer", [0.5, raising(ScoreUnavailable("no"))], ids=["scored", "failed"])
def test_reward_of_weight_zero_is_reported_and_does_not_touch_the_total(clips, answer):
    result = score_one(scorer(Told(answer), Told(0.25), weights=[0.0, 1.0]), clips[0])
    assert result.total == 0.25
    assert "a" in result.scores


def test_only_weights_of_zero_give_no_total(clips):
    result = score_one(scorer(Told(0.5), weights=[0.0]), clips[0])
    assert math.isnan(result.total)
    assert result.reasons == {"total": "every reward has weight 0"}


def test_sum_beyond_a_float_is_no_total(clips):
    result = score_one(scorer(Told(1e308), weights=[1e10]), clips[0])
    assert math.isnan(result.total)
    assert result.reasons == {"total": "the weighted sum is too large for a float"}


@pytest.mark.parametrize("container", [list, tuple, iter, torch.tensor, np.array], ids=lambda c: c.__name__)
def test_batch_may_answer_with_any_sequence(clips, container):
    built = scorer(ToldBatch(lambda batch, _: container([0.25 * (1 + int(c.name[-1])) for c in batch])))
    assert [r.total for r in built.score(clips, batch_size=3)] == [0.25, 0.5, 0.75, 1.0, 1.25]


@pytest.mark.parametrize("count", [0, 1, 3])
def test_wrong_number_of_answers_breaks_the_contract(clips, count):
    built = scorer(ToldBatch(lambda *_: [0.5] * count))
    with pytest.raises(PluginError, match=rf"Reward 'a' returned {count} scores for 2 clips"):
        list(built.score(clips, batch_size=2))


def test_batch_that_answers_nothing_is_a_failure_of_its_clips(clips):
    results = list(scorer(ToldBatch(lambda *_: None)).score(clips[:2], batch_size=2))
    assert [math.isnan(r.total) for r in results] == [True, True]
    assert "TypeError" in results[0].reasons["a"]


def test_batch_may_mix_scores_and_failures(clips):
    answers = [0.5, ScoreUnavailable("dark"), ScoreNotApplicable("still"), Score(1.0), ValueError("bug")]
    results = list(scorer(ToldBatch(lambda *_: answers)).score(clips, batch_size=5))
    assert [r.total for r in results][0::3] == [0.5, 1.0]
    assert [r.reasons.get("a") for r in results] == [None, "dark", "still", None, "ValueError: bug"]


@pytest.mark.parametrize("error", [UserError("x"), WeightsError("no weights"), VideoError("x"), PluginError("x")])
@pytest.mark.parametrize("place", ["reward", "returned by a batch", "raised by a batch", "reconstructor"])
def test_mistake_of_the_user_stops(clips, error, place):
    built = {
        "reward": lambda: scorer(Told(raising(error))),
        "returned by a batch": lambda: scorer(ToldBatch(lambda batch, _: [error] * len(batch))),
        "raised by a batch": lambda: scorer(ToldBatch(raising(error))),
        "reconstructor": lambda: scorer(Told(requires=SCENE), reconstructor=Lifter(raising(error))),
    }[place]()
    with pytest.raises(type(error)) as caught:
        list(built.score(clips, batch_size=2))
    assert caught.value is error


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("place", ["reward", "batch", "reconstructor"])
def test_interruption_passes_through(clips, error, place):
    built = {
        "reward": lambda: scorer(Told(raising(error))),
        "batch": lambda: scorer(ToldBatch(raising(error))),
        "reconstructor": lambda: scorer(Told(requires=SCENE), reconstructor=Lifter(raising(error))),
    }[place]()
    with pytest.raises(error):
        list(built.score(clips))


@pytest.mark.parametrize("batch_size", [0, -1, 1.5, "2", True, None])
def test_batch_size_must_be_a_whole_number(clips, batch_size):
    with pytest.raises(UserError, match="batch_size must be a whole number of at least 1, received"):
        scorer(Told()).score(clips, batch_size=batch_size)


def test_one_clip_must_stand_in_a_list(clips):
    with pytest.raises(UserError, match=r"score takes clips, received one Clip\. Put it in a list"):
        scorer(Told()).score(clips[0])


@pytest.mark.parametrize(
    ("value", "reason", "applicable"),
    [(math.nan, None, True), (0.5, "why", True), (math.inf, None, True), (0.5, None, False), ("1", None, True)],
)
def test_contradictory_score_is_refused(value, reason, applicable):
    with pytest.raises(ValueError, match=r"[Ss]core"):
        Score(value, reason, applicable)


def test_unavailable_score_carries_reason_and_details():
    score = Score.unavailable("dark", applicable=False, frames=3)
    assert math.isnan(score.value)
    assert (score.reason, score.applicable, score.details) == ("dark", False, {"frames": 3})


@pytest.mark.parametrize("value", [Fraction(1, 2), object(), b"1", 1j, np.array([1.0]), torch.zeros(1, 1)])
def test_as_number_takes_nothing_else(value):
    assert as_number(value) is None


def test_batch_of_the_interface_needs_one_inputs_per_clip(clips):
    with pytest.raises(ValueError, match="zip"):
        Told().score_batch(clips, [RewardInputs()])


MODULE = __name__


class Bright(Reward):
    """Mean of the frames."""

    def score(self, clip, inputs):
        return clip.video.frames.mean()


class Steady(Reconstructor):
    """Always the same scene."""

    def reconstruct(self, clip):
        return Scene(trajectory=CameraTrajectory)


@pytest.fixture
def registry(make_registry):
    return make_registry(
        {
            "reward": {
                "bright": f"{MODULE}:Bright",
                "trajectory": f"{MODULE}:Bright",
                "reconstruction": f"{MODULE}:Bright",
            },
            "reconstructor": dict.fromkeys(("steady", "direct", "auto"), f"{MODULE}:Steady"),
        }
    )


def test_manifest_file_makes_a_scorer(registry, tmp_path, clips):
    path = tmp_path / "m.yaml"
    path.write_text("version: 1\ndevice: cpu\nrewards: [{name: bright, weight: 2}]\n")
    result = score_one(Scorer(manifest=path, registry=registry), clips[0])
    assert result.total == pytest.approx(2 * float(clips[0].video.frames.mean()))


def test_named_rewards_replace_those_of_the_manifest(registry, tmp_path):
    path = tmp_path / "m.yaml"
    path.write_text("version: 1\nrewards: [{name: bright, weight: 2}]\n")
    built = Scorer(["trajectory", "bright"], manifest=path, registry=registry)
    assert [(r.name, r.weight) for r in built.components.rewards] == [("trajectory", 1.0), ("bright", 2.0)]
    with pytest.raises(UnknownNameError, match="Did you mean 'bright'"):
        Scorer(["brigt"], manifest=path, registry=registry)


def test_shipped_manifest_is_valid_and_needs_no_weights(registry):
    names = [reward.name for reward in Scorer(registry=registry).components.rewards]
    assert "trajectory" in names
    assert "reconstruction" in names
    assert not {"preference", "meta-view"} & set(names)


def test_shipped_manifest_composes_with_what_is_installed():
    built = Scorer()
    assert {type(r.reward).__module__.partition(".")[0] for r in built.components.rewards} == {"worldr1_rewards"}
    assert installed().registry.names("reward")


def test_manifest_text_is_that_of_the_file_or_of_the_shipped_one(tmp_path):
    (tmp_path / "m.yaml").write_text("version: 1  # mine\n")
    assert manifest_text(tmp_path / "m.yaml") == "version: 1  # mine\n"
    assert "reconstruction" in manifest_text()
    with pytest.raises(UserError, match="cannot be read"):
        manifest_text(tmp_path / "absent.yaml")
