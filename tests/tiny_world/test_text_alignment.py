"""The tiny world's R_gen: a clip of its caption beats others, losses cost, and nothing but frames and prompt counts."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from itertools import pairwise

import pytest
import torch
from torch.nn import functional

from tools.tiny_world.object_losses import LOSSES, lessen, recoloured, reshaped
from worldr1_backbones.tiny.captions import parse_caption
from worldr1_backbones.tiny.data import clip_of as make_tiny_clip
from worldr1_backbones.tiny.data import make_clip
from worldr1_backbones.tiny.scene_reader import WEIGHTS, SceneReader, load_reader, save_reader, shipped_reader
from worldr1_backbones.tiny.text_alignment import TinyTextAlignmentReward, expected_objects
from worldr1_core.camera import trajectory_from_prompt
from worldr1_core.camera.vocabulary import Move
from worldr1_core.clip import Clip
from worldr1_core.errors import ScoreNotApplicable, ScoreUnavailable, WeightsError
from worldr1_core.plugins import installed
from worldr1_core.reward import RewardInputs, Score
from worldr1_core.testing import check_reward
from worldr1_core.video import Video
from worldr1_rewards.probes.rank_statistics import auc

PROMPT = "Camera move right. A red box and a blue ball in a green room with checker walls."
NUM_CLIPS = 60


@lru_cache(maxsize=32)
def rendered(prompt: str) -> torch.Tensor:
    return lessen(make_tiny_clip(parse_caption(prompt), seed=3), None, torch.Generator()).frames


def clip_of(frames: torch.Tensor, prompt: str) -> Clip:
    return Clip(Video(frames.clamp(0, 1)), prompt, trajectory_from_prompt(prompt, len(frames)))


def scores(clips) -> list[Score]:
    results = TinyTextAlignmentReward().score_batch(clips, [RewardInputs()] * len(clips))
    assert all(isinstance(result, Score) for result in results)
    return results


def values(clips) -> list[float]:
    return [score.value for score in scores(clips)]


@pytest.fixture(scope="module")
def held_out():
    return [make_clip(index, seed=4242, held_out=True) for index in range(NUM_CLIPS)]


@pytest.fixture(scope="module")
def intact(held_out):
    generator = torch.Generator().manual_seed(0)
    return values([clip_of(lessen(clip, None, generator).frames, clip.caption.text) for clip in held_out])


def test_every_contract_of_rewards_is_kept():
    reward = installed().registry.load("reward", "tiny-text-alignment")
    clips = [clip_of(rendered(PROMPT.replace("move right", move)), PROMPT) for move in ("move right", "push in")]
    pair = clips[0], clip_of(rendered(PROMPT.replace("red", "yellow")), PROMPT)
    report = check_reward(reward, clips=clips, prefers=[pair])
    assert {"deterministic", "batch-and-order", "direction"} <= set(report.passed)


@pytest.mark.parametrize(
    ("old", "new", "fact"),
    [
        ("red", "yellow", "colour: red"),
        ("blue", "white", "colour: blue"),
        ("box", "cone", "shape: red box"),
        ("ball", "pyramid", "shape: blue ball"),
        ("green", "purple", "room"),
        ("checker", "striped", "texture"),
    ],
)
def test_a_clip_of_its_caption_beats_one_that_differs_in_a_word(old, new, fact):
    own, other = scores([clip_of(rendered(PROMPT), PROMPT), clip_of(rendered(PROMPT.replace(old, new)), PROMPT)])
    assert own.value > other.value + 0.05
    assert own.details[fact] > 0.6 > other.details[fact] + 0.1


def test_objects_that_changed_places_are_out_of_order():
    swapped = PROMPT.replace("red box and a blue ball", "blue ball and a red box")
    own, other = scores([clip_of(rendered(PROMPT), PROMPT), clip_of(rendered(swapped), PROMPT)])
    assert own.details["order"] > 0.8
    assert other.details["order"] < 0.2


@pytest.mark.parametrize(
    "loss", [pytest.param(loss, marks=[] if loss == "removed" else pytest.mark.slow) for loss in LOSSES]
)
def test_a_loss_costs(held_out, intact, loss):
    generator = torch.Generator().manual_seed(1)
    lost = values([clip_of(lessen(clip, loss, generator).frames, clip.caption.text) for clip in held_out])
    assert auc(intact, lost) >= 0.95
    assert sum(a > b for a, b in zip(intact, lost, strict=True)) >= 0.95 * NUM_CLIPS


@pytest.mark.parametrize(("change", "least"), [(recoloured, 0.95), (reshaped, 0.9)])
def test_another_object_costs(held_out, intact, change, least):
    generator = torch.Generator().manual_seed(2)
    others = [lessen(change(clip, generator), None, generator).frames for clip in held_out]
    changed = values([clip_of(frames, clip.caption.text) for frames, clip in zip(others, held_out, strict=True)])
    assert auc(intact, changed) >= least


def test_what_is_left_of_an_object_is_graded():
    clip = make_tiny_clip(parse_caption(PROMPT), seed=3)
    whole = rendered(PROMPT)
    without = lessen(clip, "removed", torch.Generator(), solid=0).frames
    graded = values([clip_of(whole * share + without * (1 - share), PROMPT) for share in (0.0, 0.45, 0.7, 1.0)])
    assert graded == sorted(graded)
    assert min(b - a for a, b in pairwise(graded)) > 0.01


def test_places_lose_where_an_object_lacks_and_where_it_cannot_be():
    clip = make_tiny_clip(parse_caption(PROMPT.replace("move right", "fixed")), seed=3)
    frames = lessen(clip, None, torch.Generator()).frames
    bare = lessen(replace_solids(clip), None, torch.Generator()).frames
    risen = frames.roll(-28, dims=2)
    found = scores([clip_of(f, clip.caption.text) for f in (frames, bare, risen)])
    whole, lacking, high = (score.spatial_map for score in found)
    assert whole.shape == (8, 8)
    assert whole.min() > -0.1, "nothing is asked of an intact clip"
    assert (lacking - whole)[4:7, 1:4].min() < -0.3, "the box at the left is gone"
    torch.testing.assert_close(lacking[:3], whole[:3], atol=0.02, rtol=0)
    assert (high - whole)[:4, 1:4].min() < -0.3, "no box flies"


def replace_solids(clip):
    """The same room without its first object."""
    return replace(clip, scene=replace(clip.scene, solids=clip.scene.solids[1:]))


def test_an_object_that_the_path_leaves_behind_is_not_missed():
    inside = expected_objects((Move.PAN_LEFT,), 2, None, 9).inside
    assert inside[1, 0] == 1
    assert inside[1, -1] < 0.5
    prompt = PROMPT.replace("move right", "pan left, then move left")
    panned, fixed = scores([clip_of(rendered(p), p) for p in (prompt, PROMPT.replace("move right", "fixed"))])
    assert panned.value > fixed.value - 0.1


def test_batches_of_mixed_lengths_sizes_and_failures_score_as_alone():
    small, long = functional.avg_pool2d(rendered(PROMPT), 2), torch.cat([rendered(PROMPT)] * 2)[:13]
    large = rendered(PROMPT).repeat_interleave(2, -1).repeat_interleave(2, -2)
    clips = [clip_of(frames, PROMPT) for frames in (rendered(PROMPT), small, long, large)]
    clips.insert(1, replace(clips[0], prompt="A cat."))
    together = TinyTextAlignmentReward().score_batch(clips[::-1], [RewardInputs()] * 5)[::-1]
    assert isinstance(together[1], ScoreNotApplicable)
    for index in (0, 2, 3, 4):
        alone = TinyTextAlignmentReward().score(clips[index], RewardInputs())
        assert together[index].value == pytest.approx(alone.value, abs=1e-5)
    assert together[4].value == pytest.approx(together[0].value, abs=1e-4)


@pytest.mark.parametrize(
    ("frames", "prompt", "error", "message"),
    [
        (torch.rand(9, 3, 64, 64), "A cat on a mat.", ScoreNotApplicable, "not a caption of the tiny world"),
        (torch.rand(9, 3, 64, 64), PROMPT + " Cinematic.", ScoreNotApplicable, "holds words"),
        (torch.rand(9, 3, 16, 64), PROMPT, ScoreUnavailable, "needs 32 pixels on each side"),
        (torch.full((9, 3, 64, 64), 0.5), PROMPT, ScoreUnavailable, "shows nothing"),
    ],
)
def test_what_cannot_be_read_has_no_score(frames, prompt, error, message):
    with pytest.raises(error, match=message):
        TinyTextAlignmentReward().score(clip_of(frames, prompt), RewardInputs())


def test_the_picture_of_another_form_is_refused():
    with pytest.raises(ValueError, match="64, 64"):
        shipped_reader("cpu").read(torch.zeros(2, 3, 32, 32))


def test_weights_are_kept_in_a_file(tmp_path):
    torch.manual_seed(0)
    reader = SceneReader(width=16, num_blocks=1).eval()
    save_reader(reader, tmp_path)
    again = load_reader(tmp_path)
    frames = torch.rand(3, 3, 64, 64)
    torch.testing.assert_close(again.read(frames).cover, reader.read(frames).cover, atol=1e-2, rtol=0)
    (tmp_path / WEIGHTS).write_bytes(b"torn")
    with pytest.raises(WeightsError, match="fit_judge"):
        load_reader(tmp_path)
    with pytest.raises(WeightsError, match="fit_judge"):
        load_reader(tmp_path / "nowhere")


def test_score_frames_has_the_value_of_score_and_a_gradient_that_helps():
    frames = rendered(PROMPT)
    other = PROMPT.replace("ball", "cone")
    wide = functional.interpolate(frames, (64, 96))
    reward = TinyTextAlignmentReward()
    for group in (
        [clip_of(frames, PROMPT), clip_of(frames, other), clip_of(frames, "A room."), clip_of(0 * frames, PROMPT)],
        [clip_of(wide, PROMPT)],
    ):
        given = torch.stack([clip.video.frames for clip in group]).requires_grad_()
        found = reward.score_frames(given, group, [RewardInputs()] * len(group))
        expected = [
            score.value if isinstance(score, Score) else float("nan") for score in reward.score_batch(group, [])
        ]
        assert found.tolist() == pytest.approx(expected, abs=1e-6, nan_ok=True)
        [gradient] = torch.autograd.grad(found.nansum(), given)
        assert torch.isfinite(gradient).all()
        assert gradient[2:].abs().sum() == 0
        if len(group) > 1:
            better = clip_of(frames + 0.02 * gradient[1] / gradient[1].abs().max(), other)
            assert values([better])[0] > expected[1] + 1e-3
