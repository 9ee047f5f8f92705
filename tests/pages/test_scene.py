"""Scenes of clips: the points lie where the cameras saw them, and what the page holds of them."""

from __future__ import annotations

import base64
import json
import math

import numpy as np
import pytest
import torch

from rewards.report_samples import failed, parse, reconstruction_of, scored, smooth_frames
from worldr1_core.camera import CameraTrajectory
from worldr1_core.camera.geometry import matrix_from_quaternion
from worldr1_core.errors import ScoreUnavailable
from worldr1_core.pages.scene import PointCloud, Scene, ScenePath, scene_plots
from worldr1_core.reward import Score
from worldr1_rewards.report.clip_section import clip_section
from worldr1_rewards.report.off_path import off_path_view
from worldr1_rewards.report.pictures import clip_strips
from worldr1_rewards.report.scene_data import clip_scene
from worldr1_rewards.report.views import clip_views
from worldr1_rewards.rewards.moving_parts import MovingParts

UNIT = 4.0
INTRINSICS = [[30.0, 0, 20], [0, 30.0, 12], [0, 0, 1]]


def moving_right(num_frames: int) -> CameraTrajectory:
    """A camera that turns by 5 degrees and moves by half a unit to the right per frame."""
    poses = []
    for frame in range(num_frames):
        angle = math.radians(5 * frame)
        cosine, sine = math.cos(angle), math.sin(angle)
        poses.append([[cosine, 0, sine, 0.5 * frame], [0, 1, 0, 0], [-sine, 0, cosine, 0], [0, 0, 0, 1]])
    return CameraTrajectory(poses, INTRINSICS, (24, 40), UNIT)


def test_points_lie_on_the_wall_that_every_camera_saw() -> None:
    """The wall z = 8 in the world of the first camera; its distance along each pixel's ray gives the depth."""
    path = moving_right(4)
    columns, rows = np.meshgrid(np.arange(40) + 0.5, np.arange(24) + 0.5)
    rays = np.stack([(columns - 20) / 30, (rows - 12) / 30, np.ones_like(rows)], -1)
    depth = np.stack([8 / (rays @ pose[2, :3]) for pose in path.c2w.numpy()])
    frames = smooth_frames(4, 24, 40)
    reconstruction = reconstruction_of(frames, trajectory=path, depth=torch.from_numpy(depth).float())
    scene, reason = clip_scene(scored(frames=frames, reconstruction=reconstruction), num_points=800)
    assert reason is None
    assert scene.points is not None
    assert 600 <= len(scene.points.positions) <= 800
    torch.testing.assert_close(
        scene.points.positions[:, 2], torch.full((len(scene.points.positions),), 8 / UNIT).double(), atol=1e-5, rtol=0
    )
    first = scene.points.colours[0]
    assert float((frames[0].permute(1, 2, 0).reshape(-1, 3) - first).abs().sum(1).min()) < 1e-6


def test_unknown_and_far_depths_give_no_points() -> None:
    frames = smooth_frames(3, 24, 40)
    depth = torch.full((3, 24, 40), 2.0)
    depth[:, :12] = math.nan
    depth[:, 12, :4] = 1e6
    scene, _ = clip_scene(scored(frames=frames, reconstruction=reconstruction_of(frames, depth=depth)))
    assert scene.points is not None
    assert float(scene.points.positions.norm(dim=1).max()) < 10
    assert bool((scene.points.positions[:, 1] >= 0).all())


@pytest.mark.parametrize(
    ("changes", "reason"),
    [({"depth": None}, "estimates no depth"), ({"has_parallax": False}, "does not travel")],
)
def test_scene_without_points_says_why(changes: dict[str, object], reason: str) -> None:
    frames = smooth_frames(3, 24, 40)
    scene, words = clip_scene(scored(frames=frames, reconstruction=reconstruction_of(frames, **changes)))
    assert scene.points is None
    assert reason in str(words)
    assert [path.name for path in scene.paths] == ["commanded", "estimated"]
    assert clip_scene(failed())[1] == "there is no reconstruction of this clip"


def test_page_holds_points_and_poses_to_the_precision_of_a_screen() -> None:
    generator = torch.Generator().manual_seed(0)
    positions = 3 * torch.randn(50, 3, generator=generator).double()
    colours = torch.rand(50, 3, generator=generator)
    path = moving_right(5)
    scene = Scene([ScenePath("estimated", path.c2w, 0.5, 0.6)], PointCloud(positions, colours))
    tree = parse(scene_plots(scene, label="<room>"))
    data = json.loads(str(tree.find("div", class_="scene")[0].attributes["data-scene"]))
    points = data["points"]
    raw = base64.b64decode(points["data"])
    levels = np.frombuffer(raw[: 6 * 50], "<u2").reshape(50, 3)
    np.testing.assert_allclose(levels * points["step"] + points["low"], positions, atol=2e-4)
    np.testing.assert_allclose(np.frombuffer(raw[6 * 50 :], np.uint8).reshape(50, 3) / 255, colours, atol=0.003)
    (written,) = data["paths"]
    np.testing.assert_allclose(written["positions"], path.positions, atol=1e-4)
    turns = matrix_from_quaternion(torch.tensor(written["quaternions"], dtype=torch.float64))
    torch.testing.assert_close(turns, path.rotations, atol=3e-4, rtol=0)
    assert "50 points, 5 estimated cameras" in tree.text
    assert all("<room>" in str(canvas.attributes["aria-label"]) for canvas in tree.find("canvas"))


def test_motion_mask_is_shown_where_a_score_has_used_it(monkeypatch: pytest.MonkeyPatch) -> None:
    mask = torch.zeros(5, 24, 40, dtype=torch.bool)
    mask[:, :, 30:] = True
    monkeypatch.setattr("worldr1_rewards.report.views.find_moving_parts", lambda *_: MovingParts(mask, 0.25))
    result = scored(scores={"psnr": Score(0.5, details={"moving_share": 0.25})})
    section = parse(clip_section("clip", result, clip_views(result)))
    (caption,) = [part for part in section.find("figcaption") if "Motion mask" in part.text][:1]
    assert "25.0 % moves by itself" in caption.text
    tiles = clip_strips(clip_views(result)).rows[-1].tiles
    orange = (tiles[:, 0] - tiles[:, 2]) > 0.3
    assert bool((orange == mask).all())
    plain = scored()
    assert "Motion mask" not in parse(clip_section("clip", plain, clip_views(plain))).text


def test_view_off_the_path_is_the_one_that_the_judge_saw() -> None:
    pose = torch.eye(4).double()
    pose[0, 3] = 0.25
    details = {"c2w": pose.tolist(), "frame": 2, "direction": "left", "angle": 6.0, "distance": 0.3, "coverage": 0.9}
    view = off_path_view(scored(scores={"meta-view": Score(0.5, details=details)}))
    assert view.words == "6° to the left of frame 2, as the judge of meta-view saw it"
    torch.testing.assert_close(view.viewpoint.c2w, pose)
    own = off_path_view(scored())
    assert "judge" not in own.words
    assert own.viewpoint.angle <= 12


def test_without_parallax_there_is_no_view_off_the_path() -> None:
    frames = smooth_frames(3, 24, 40)
    with pytest.raises(ScoreUnavailable, match="does not travel"):
        off_path_view(scored(frames=frames, reconstruction=reconstruction_of(frames, has_parallax=False)))
