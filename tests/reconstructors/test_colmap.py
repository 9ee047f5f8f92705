"""COLMAP really run on rendered clips: accuracy where it is an answer, a reason where it is not."""

from __future__ import annotations

import pytest
import torch

from reconstructors.camera_errors import path_error, rotation_errors
from worldr1_core.clip import Clip
from worldr1_core.errors import ScoreUnavailable
from worldr1_core.testing import reconstructor_checks
from worldr1_core.video import Video
from worldr1_rewards.probes.world import WorldClip, render_world
from worldr1_rewards.reconstructors.colmap import ColmapReconstructor

pytest.importorskip("pycolmap", reason="needs the extra `colmap`")


def world(family="rich", move="push in", size=(128, 128), frames=9, **options) -> WorldClip:
    return render_world(family, move, seed=1, size=size, num_frames=frames, **options)


def clip_of(rendered: WorldClip) -> Clip:
    return Clip(Video(rendered.frames), intrinsics=rendered.intrinsics)


@pytest.mark.parametrize(("family", "move"), [("rich", "push in"), ("tiles", "move right")])
def test_textured_clips_that_travel_are_found(family, move):
    rendered = world(family, move)
    found = ColmapReconstructor().reconstruct(clip_of(rendered))
    assert rotation_errors(found.trajectory.c2w, rendered.c2w).max() < 0.5
    assert path_error(found.trajectory.c2w, rendered.c2w) < 0.02
    torch.testing.assert_close(found.trajectory.intrinsics, rendered.intrinsics, rtol=0, atol=0)
    truth = rendered.depth / rendered.depth[0].median()
    assert float(((found.depth - truth).abs() / truth).median()) < 0.1
    assert float(found.rerender().coverage.mean()) > 0.9


def test_the_same_clip_gives_the_same_path():
    clip = clip_of(world())
    first, second = (ColmapReconstructor().reconstruct(clip).trajectory.c2w for _ in range(2))
    torch.testing.assert_close(first, second, atol=1e-9, rtol=0)


@pytest.mark.parametrize("corruption", ["frozen", "frozen_noise", "repeated", "unrelated", "pure_noise", "slide2d"])
def test_what_has_no_camera_path_is_refused_with_a_count(corruption):
    move = "move left" if corruption == "slide2d" else "push in"
    with pytest.raises(ScoreUnavailable, match=r"\d"):
        ColmapReconstructor().reconstruct(clip_of(world(move=move, corruption=corruption)))


@pytest.mark.parametrize("move", ["pan left", "pan right"])
def test_a_pan_is_refused(move):
    with pytest.raises(ScoreUnavailable, match=r"points|frames"):
        ColmapReconstructor().reconstruct(clip_of(world(move=move)))


def test_a_clip_that_is_too_short_is_refused():
    with pytest.raises(ScoreUnavailable, match="at least 3 frames"):
        ColmapReconstructor().reconstruct(Clip(Video(world().frames[:2])))


@pytest.mark.slow
@pytest.mark.parametrize("check", reconstructor_checks(ColmapReconstructor, size=(120, 160), min_psnr=20.0), ids=str)
def test_contract(check):
    check()
