"""Where a clip's intrinsics come from: `--intrinsics`, else the trajectory file, else nowhere."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from worldr1_core.errors import TrajectoryError
from worldr1_core.video import Video
from worldr1_core.video_io import write_video
from worldr1_rewards.inputs import ScoreRequest, load_clip

OWN = [[80.0, 0.0, 48.0], [0.0, 80.0, 32.0], [0.0, 0.0, 1.0]]


@pytest.fixture
def clip_file(tmp_path: Path) -> Path:
    """Five frames of 32 x 48 pixels."""
    frames = torch.rand(5, 3, 32, 48, generator=torch.Generator().manual_seed(0))
    write_video(Video(frames), tmp_path / "clip.mp4")
    return tmp_path / "clip.mp4"


def _path(folder: Path, **fields: object) -> Path:
    path = folder / "path.json"
    path.write_text(json.dumps({"c2w": np.tile(np.eye(4), (5, 1, 1)).tolist(), **fields}))
    return path


def test_the_intrinsics_of_the_trajectory_file_are_scaled_to_the_clip(clip_file: Path, tmp_path: Path) -> None:
    path = _path(tmp_path, intrinsics=OWN, image_size=[64, 96])
    clip = load_clip(ScoreRequest(clip_file, trajectory=path))
    assert clip.intrinsics is not None
    assert clip.intrinsics.tolist() == [[40, 0, 24], [0, 40, 16], [0, 0, 1]]


def test_known_intrinsics_win_over_those_of_the_trajectory_file(clip_file: Path, tmp_path: Path) -> None:
    (tmp_path / "camera.json").write_text(json.dumps([[50, 0, 24], [0, 50, 16], [0, 0, 1]]))
    path = _path(tmp_path, intrinsics=OWN, image_size=[64, 96])
    clip = load_clip(ScoreRequest(clip_file, trajectory=path, intrinsics=tmp_path / "camera.json"))
    assert clip.intrinsics is not None
    assert float(clip.intrinsics[0, 0]) == 50


def test_known_intrinsics_make_a_distorted_camera_of_the_file_irrelevant(clip_file: Path, tmp_path: Path) -> None:
    (tmp_path / "camera.json").write_text(json.dumps([[50, 0, 24], [0, 50, 16], [0, 0, 1]]))
    path = _path(tmp_path, intrinsics=OWN, image_size=[64, 96], k1=0.3)
    with pytest.raises(TrajectoryError, match="lens distortion"):
        load_clip(ScoreRequest(clip_file, trajectory=path))
    assert load_clip(ScoreRequest(clip_file, trajectory=path, intrinsics=tmp_path / "camera.json")).target is not None


def test_a_trajectory_file_without_intrinsics_leaves_them_unknown(clip_file: Path, tmp_path: Path) -> None:
    assert load_clip(ScoreRequest(clip_file, trajectory=_path(tmp_path))).intrinsics is None


def test_the_camera_words_leave_the_intrinsics_unknown(clip_file: Path) -> None:
    assert load_clip(ScoreRequest(clip_file, "Camera push in.")).intrinsics is None
