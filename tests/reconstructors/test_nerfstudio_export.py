"""The data set for nerfstudio, written without nerfstudio: images and cameras that core reads back."""

from __future__ import annotations

import json

import torch
from click.testing import CliRunner

from worldr1_core.camera.formats import load_trajectory
from worldr1_core.cli import cli
from worldr1_core.testing import make_clip
from worldr1_core.testing.clips import true_reconstruction
from worldr1_core.video_io import read_video, write_video
from worldr1_rewards.nerfstudio_export import export_nerfstudio

SIZE, FRAMES = (48, 64), 5


def test_images_and_cameras_come_back(tmp_path):
    clip, scene = make_clip("arc", size=SIZE, num_frames=FRAMES), true_reconstruction("arc", FRAMES, SIZE)
    (transforms,) = export_nerfstudio(clip, scene, tmp_path)
    path = load_trajectory(transforms, num_frames=FRAMES)
    torch.testing.assert_close(path.relative().c2w, scene.trajectory.c2w)
    torch.testing.assert_close(path.intrinsics, scene.trajectory.intrinsics)
    assert path.image_size == SIZE
    torch.testing.assert_close(read_video(tmp_path / "images").frames, clip.video.frames, atol=1 / 255, rtol=0)
    named = [frame["file_path"] for frame in json.loads(transforms.read_text())["frames"]]
    assert all((tmp_path / name).is_file() for name in named)


def test_the_world_has_z_up_and_turns_about_the_scene(tmp_path):
    scene = true_reconstruction("arc", FRAMES, SIZE)
    (transforms,) = export_nerfstudio(make_clip("arc", size=SIZE, num_frames=FRAMES), scene, tmp_path)
    first = load_trajectory(transforms).c2w[0]
    down, forward = first[:3, 1], first[:3, 2]
    torch.testing.assert_close(down, torch.tensor([0.0, 0.0, -1.0], dtype=torch.float64))
    torch.testing.assert_close(first[:3, 3] + forward, torch.zeros(3, dtype=torch.float64))


def test_the_command_writes_a_data_set(tmp_path):
    video = write_video(make_clip("arc", size=SIZE, num_frames=FRAMES).video, tmp_path / "clip.mp4")
    done = CliRunner().invoke(
        cli, ["export-nerfstudio", str(video), "--out", str(tmp_path / "set"), "--reconstructor", "direct"]
    )
    assert done.exit_code == 0, done.output
    assert load_trajectory(done.stdout.strip()).num_frames == FRAMES


def test_the_command_names_what_is_installed(tmp_path):
    video = write_video(make_clip("arc", size=SIZE, num_frames=FRAMES).video, tmp_path / "clip.mp4")
    done = CliRunner().invoke(
        cli, ["export-nerfstudio", str(video), "--out", str(tmp_path), "--reconstructor", "dirct"]
    )
    assert done.exit_code == 2
    assert "Did you mean 'direct'" in done.stderr
