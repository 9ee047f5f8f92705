"""What the direct reconstructor promises besides accuracy: refusals, repeatability, renders."""

from __future__ import annotations

import pytest
import torch

from worldr1_core.clip import Clip
from worldr1_core.errors import ScoreUnavailable, TrajectoryError, UserError
from worldr1_core.reward import RewardInputs
from worldr1_core.video import Video
from worldr1_rewards.probes.world import render_world
from worldr1_rewards.reconstructors.cameras import Cameras
from worldr1_rewards.reconstructors.direct import DirectReconstruction, DirectReconstructor, check_agreement
from worldr1_rewards.reconstructors.motion import MotionEvidence
from worldr1_rewards.reconstructors.points import Points
from worldr1_rewards.rewards.reconstruction import ReconstructionReward

SIZE, FRAMES = (64, 64), 9


def clip_of(frames, **options) -> Clip:
    return Clip(Video(frames), name="a clip", **options)


def world(family="rich", move="move left", seed=1, **options):
    return render_world(family, move, seed=seed, size=SIZE, num_frames=FRAMES, **options)


@pytest.fixture(scope="module")
def clean():
    return world()


@pytest.fixture(scope="module")
def result(clean) -> DirectReconstruction:
    return DirectReconstructor().reconstruct(clip_of(clean.frames, intrinsics=clean.intrinsics))


def psnr(frames, truth, coverage) -> float:
    error = ((frames - truth).square().mean(1) * coverage).sum() / coverage.sum()
    return float(-10 * error.log10())


@pytest.mark.parametrize("count", [1, 2])
def test_too_few_frames_are_refused(clean, count):
    with pytest.raises(ScoreUnavailable, match=f"received {count} frame"):
        DirectReconstructor().reconstruct(clip_of(clean.frames[:count]))


def test_tiny_frames_are_refused():
    with pytest.raises(ScoreUnavailable, match="too small"):
        DirectReconstructor().reconstruct(clip_of(torch.rand(5, 3, 16, 64)))


def test_flat_frames_are_refused():
    with pytest.raises(ScoreUnavailable, match="no texture"):
        DirectReconstructor().reconstruct(clip_of(torch.full((9, 3, 64, 64), 0.4)))


def test_pure_noise_is_refused():
    noise = torch.rand(9, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with pytest.raises(ScoreUnavailable, match="do not show the same scene"):
        DirectReconstructor().reconstruct(clip_of(noise))


def test_a_scene_a_frame_is_refused():
    with pytest.raises(ScoreUnavailable, match="do not show the same scene"):
        DirectReconstructor().reconstruct(clip_of(world(corruption="unrelated").frames))


@pytest.mark.parametrize("seed", [1, 2])
def test_a_cut_between_two_scenes_is_refused_or_not_explained(seed):
    """Each half agrees with itself, so whether the frames count as one scene hangs on the scenes."""
    cut, whole = world(corruption="scene_cut", seed=seed).frames, world(seed=seed).frames
    bare = ReconstructionReward(gate="none")
    clean = bare.score(clip_of(whole), RewardInputs(DirectReconstructor().reconstruct(clip_of(whole)))).value
    found = DirectReconstructor(min_agreement=0.0).reconstruct(clip_of(cut))
    assert bare.score(clip_of(cut), RewardInputs(found)).value < 0.5 * clean


@pytest.mark.parametrize(
    ("agreement", "is_refused"),
    [
        ([0.46] + 8 * [0.9], False),  # an object melts for one frame
        ([0.56, 0.55] + 7 * [0.9], False),
        ([0.56, 0.55, 0.57] + 6 * [0.9], True),  # after a cut
        ([0.38] + 8 * [0.9], True),  # one frame is noise
        ([0.38] + 15 * [0.9], False),  # of many
    ],
)
def test_frames_that_agree_too_little(agreement, is_refused):
    evidence = MotionEvidence("moving", 1.0, 1.0, 1.0, 1.0, torch.tensor(agreement))
    nothing = torch.zeros(0)
    cameras = Cameras(nothing, evidence, Points([0], nothing, nothing), nothing, nothing)
    if is_refused:
        with pytest.raises(ScoreUnavailable, match=f"best correlation {min(agreement)}, at least 0.6 is needed"):
            check_agreement("a clip", cameras, 0.6)
    else:
        check_agreement("a clip", cameras, 0.6)
    check_agreement("a clip", cameras, 0.0)


def test_no_clip_is_refused_where_no_agreement_is_asked_for():
    noise = torch.rand(FRAMES, 3, *SIZE, generator=torch.Generator().manual_seed(0))
    with pytest.raises(ScoreUnavailable, match="do not show the same scene"):
        DirectReconstructor().reconstruct(clip_of(noise))
    assert DirectReconstructor(min_agreement=0.0).reconstruct(clip_of(noise)).rerender().frames.shape == noise.shape


def test_intrinsics_must_be_a_camera(clean):
    with pytest.raises(TrajectoryError, match="positive focal"):
        DirectReconstructor().reconstruct(clip_of(clean.frames, intrinsics=torch.zeros(3, 3)))


def test_options_are_bounded():
    with pytest.raises(UserError, match="max_side"):
        DirectReconstructor(max_side=4)


def test_the_same_clip_gives_the_same_bits(clean, result):
    again = DirectReconstructor().reconstruct(clip_of(clean.frames, intrinsics=clean.intrinsics))
    assert torch.equal(again.trajectory.c2w, result.trajectory.c2w)
    assert torch.equal(again.depth, result.depth)


def test_the_target_is_never_looked_at(clean, result):
    class Forbidden:
        def __getattr__(self, name):
            raise AssertionError(f"target.{name} was read")

    clip = clip_of(clean.frames, intrinsics=clean.intrinsics, target=Forbidden())
    assert torch.equal(DirectReconstructor().reconstruct(clip).trajectory.c2w, result.trajectory.c2w)


def test_large_videos_are_shrunk_but_described_at_their_size(clean):
    result = DirectReconstructor(max_side=48).reconstruct(clip_of(clean.frames, intrinsics=clean.intrinsics))
    assert result.trajectory.image_size == SIZE
    assert result.depth.shape == (FRAMES, *SIZE)
    assert torch.equal(result.trajectory.intrinsics, clean.intrinsics)


def test_depth_agrees_with_the_truth(clean, result):
    truth = clean.depth / clean.depth[0].median()
    relative = (result.depth - truth).abs() / truth
    assert float(relative.median()) < 0.1


def test_a_clean_clip_is_predicted_from_its_other_frames(clean, result):
    render = result.rerender()
    assert render.frames.shape == clean.frames.shape
    assert float(render.coverage.mean()) > 0.9
    assert psnr(render.frames, clean.frames, render.coverage) > 26


def test_a_morphing_clip_is_predicted_worse(clean, result):
    broken = world(corruption="morph")
    render = DirectReconstructor().reconstruct(clip_of(broken.frames, intrinsics=broken.intrinsics)).rerender()
    honest = result.rerender()
    worse = psnr(render.frames, broken.frames, render.coverage)
    assert worse < psnr(honest.frames, clean.frames, honest.coverage) - 2


def test_a_slide_has_no_relief(result):
    slide = world(corruption="slide2d")
    flat = DirectReconstructor().reconstruct(clip_of(slide.frames, intrinsics=slide.intrinsics))
    assert flat.diagnostics["relief"] < 0.2 < result.diagnostics["relief"]


def test_a_view_from_the_path_shows_the_frame(clean, result):
    view = result.render(result.trajectory.c2w[:1], clean.intrinsics, SIZE)
    assert float(view.coverage.mean()) > 0.98
    assert psnr(view.frames, clean.frames[:1], view.coverage) > 28


def test_what_no_frame_saw_stays_uncovered(clean, result):
    aside = torch.eye(4, dtype=torch.float64)[None].clone()
    aside[0, 0, 3] = 3.0
    view = result.render(aside, clean.intrinsics, (48, 80))
    assert view.frames.shape == (1, 3, 48, 80)
    assert float(view.coverage.mean()) < 0.7
    assert bool(torch.isfinite(view.frames).all())


def test_the_back_of_the_scene_is_empty(clean, result):
    behind = torch.eye(4, dtype=torch.float64)[None].clone()
    behind[0, 0, 0] = behind[0, 2, 2] = -1.0
    view = result.render(behind, clean.intrinsics, SIZE)
    assert float(view.coverage.max()) == 0.0
