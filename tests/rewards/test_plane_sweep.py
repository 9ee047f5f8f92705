"""Plane sweep under known paths, on rendered clips with exact truth."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from torch.nn import functional

from worldr1_core.camera import trajectory_from_prompt
from worldr1_core.camera.trajectory import CameraTrajectory
from worldr1_core.errors import TrajectoryError, VideoError
from worldr1_rewards.probes.world import render_world
from worldr1_rewards.rewards.plane_sweep import (
    line_mean,
    match_paths,
    normalise_local_contrast,
    sweep_error,
    sweep_error_maps,
    to_psnr,
)
from worldr1_rewards.rewards.sweep_grids import horizontal_shares

CLIP = render_world("rich", "move right", seed=3, size=(48, 64), num_frames=9)
TRUE = CameraTrajectory(CLIP.c2w, CLIP.intrinsics, (48, 64), CLIP.scene_depth)


def path_like(**changes) -> CameraTrajectory:
    return dataclasses.replace(TRUE, **changes)


def reversed_path() -> CameraTrajectory:
    return path_like(c2w=torch.linalg.inv(TRUE.c2w))


def test_true_path_explains_the_clip_and_others_do_not():
    still = path_like(c2w=torch.eye(4).repeat(9, 1, 1))
    psnr = match_paths(CLIP.frames[None], [TRUE, reversed_path(), still])[0]
    assert psnr[0] > psnr[1:].max() + 3


def test_unit_of_the_path_does_not_matter():
    first, second = match_paths(CLIP.frames[None], [TRUE, TRUE.scaled(1000.0)])[0]
    assert float(first) == pytest.approx(float(second), abs=1e-3)


def test_a_clip_does_not_depend_on_its_batch():
    frames = torch.stack([CLIP.frames, CLIP.frames.flip(0)])
    both = match_paths(frames, [TRUE])
    alone = torch.cat([match_paths(clip[None], [TRUE]) for clip in frames])
    torch.testing.assert_close(both, alone)


def test_still_clip_under_a_still_path_has_no_error():
    frames = CLIP.frames[:1].repeat(9, 1, 1, 1)[None]
    still = path_like(c2w=torch.eye(4).repeat(9, 1, 1))
    # Resampling at pixel centres is exact up to the rounding of the grid.
    assert float(sweep_error(frames, still)) < 1e-8


def test_pan_is_a_pure_homography():
    """No plane matters when the camera only turns: the error of every frame is that of bilinear resampling."""
    pan = render_world("soft", "pan left", seed=1, size=(64, 64), num_frames=9)
    path = CameraTrajectory(pan.c2w, pan.intrinsics, (64, 64), pan.scene_depth)
    assert float(to_psnr(sweep_error(pan.frames[None], path))) > 30


def test_path_that_shows_nothing_twice_is_nan():
    away = TRUE.c2w.clone()
    away[:, 0, 3] = 1e6
    away[4, 0, 3] = 0
    assert math.isnan(float(sweep_error(CLIP.frames[None], path_like(c2w=away))))


def test_local_normalisation_ignores_brightness_and_contrast():
    frames = CLIP.frames[None]
    plain = normalise_local_contrast(frames)
    changed = normalise_local_contrast(frames * 0.6 + 0.2)
    assert plain.shape == (1, 9, 1, 48, 64)
    textured = plain.abs() > 0.5
    assert float((plain - changed)[textured].abs().mean()) < 0.1
    assert float(plain.square().mean()) < 1.0


def test_a_share_of_one_removes_what_is_uniform_along_rows():
    stripes = torch.rand(1, 9, 1, 48, 1, generator=torch.Generator().manual_seed(0)).expand(-1, -1, 3, -1, 64)
    ones, zeros = torch.ones(1, 48, 64), torch.zeros(1, 48, 64)
    assert normalise_local_contrast(stripes, horizontal_share=ones).abs().max() < 1e-4
    assert normalise_local_contrast(stripes, horizontal_share=zeros).square().mean() > 0.5
    upright = stripes.transpose(-1, -2)
    assert normalise_local_contrast(upright, horizontal_share=zeros.mT).abs().max() < 1e-4


def test_line_means_are_means_over_windows_of_one_line():
    images = torch.rand(2, 1, 12, 15, generator=torch.Generator().manual_seed(0))
    for dim, kernel, pad in ((-1, (1, 9), (4, 4, 0, 0)), (-2, (9, 1), (0, 0, 4, 4))):
        expected = functional.avg_pool2d(functional.pad(images, pad, mode="reflect"), kernel, 1)
        torch.testing.assert_close(line_mean(images, 9, dim), expected)


@pytest.mark.parametrize(
    ("move", "middle", "beside", "above"),
    [
        ("push in", 0.5, 1.0, 0.0),
        ("move left", 1.0, 1.0, 1.0),
        ("pan right", 1.0, 1.0, 1.0),
        ("orbit left", 1.0, 1.0, 1.0),
        ("fixed", 0.5, 0.5, 0.5),
    ],
)
def test_horizontal_shares_follow_the_displacement(move, middle, beside, above):
    """In the middle of a 65 x 65 picture, left of it and above it."""
    shares = horizontal_shares(trajectory_from_prompt(f"Camera {move}.", 9), (65, 65))
    assert shares.shape == (65, 65)
    assert [float(shares[32, 32]), float(shares[32, 8]), float(shares[8, 32])] == pytest.approx(
        [middle, beside, above], abs=0.06
    )


@pytest.mark.parametrize("shape", [(9, 3, 48, 64), (1, 2, 3, 48, 64)])
def test_frames_of_another_form_are_refused(shape):
    with pytest.raises(VideoError, match="received shape"):
        sweep_error(torch.zeros(shape), TRUE)


@pytest.mark.parametrize("shape", [(9, 3, 48, 64), (1, 9, 1, 48, 64), (1, 9, 3, 8, 64)])
def test_frames_that_cannot_be_normalised_are_refused(shape):
    with pytest.raises(VideoError, match="received shape"):
        normalise_local_contrast(torch.zeros(shape))


def test_path_that_does_not_fit_is_refused():
    with pytest.raises(TrajectoryError, match="has 5 poses, the clips 9 frames"):
        match_paths(CLIP.frames[None], [TRUE.resample(5)])
    with pytest.raises(TrajectoryError, match="scene_depth"):
        match_paths(CLIP.frames[None], [path_like(scene_depth=None)])


def test_maps_say_where_the_error_is_and_add_up_to_it():
    broken = CLIP.frames.clone()
    broken[:, :, :16, :16] = torch.rand(9, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    total, count = sweep_error_maps(broken[None], TRUE)
    assert total.shape == count.shape == (1, 48, 64)
    assert int(count.max()) == 8, "every frame but the middle one"
    torch.testing.assert_close(total.sum() / count.sum(), sweep_error(broken[None], TRUE)[0])
    mean = (total / count.clamp(min=1))[0]
    assert mean[4:12, 4:12].mean() > 5 * mean[24:, 24:].mean()
