"""What `worldr1 score` accepts as input, and what it says about the rest."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from worldr1_core.errors import TrajectoryError, UserError, VideoError
from worldr1_core.video import Video
from worldr1_core.video_io import write_video
from worldr1_rewards.inputs import ScoreRequest, collect_requests, load_clip, output_names


@pytest.fixture
def clip_file(tmp_path: Path) -> Path:
    return _write(tmp_path / "clip.mp4")


def _write(path: Path, num_frames: int = 5) -> Path:
    frames = torch.rand(num_frames, 3, 32, 48, generator=torch.Generator().manual_seed(num_frames))
    write_video(Video(frames), path)
    return path


def test_one_prompt_serves_every_video(tmp_path: Path) -> None:
    files = [_write(tmp_path / "a.mp4"), _write(tmp_path / "b.mp4")]
    assert [r.prompt for r in collect_requests(files, prompt="Camera fixed.")] == ["Camera fixed."] * 2


def test_a_folder_of_videos_is_expanded_in_natural_order(tmp_path: Path) -> None:
    for name in ("v10.mp4", "v2.mp4"):
        _write(tmp_path / name)
    assert [r.video.name for r in collect_requests([tmp_path])] == ["v2.mp4", "v10.mp4"]


def test_a_prompt_file_gives_one_prompt_a_video(tmp_path: Path) -> None:
    files = [_write(tmp_path / "a.mp4"), _write(tmp_path / "b.mp4")]
    (tmp_path / "prompts.txt").write_text("Camera push in.\n\n\n")
    with pytest.raises(UserError, match="holds 1 prompts for 2 videos"):
        collect_requests(files, prompts_file=tmp_path / "prompts.txt")
    (tmp_path / "prompts.txt").write_text("Camera push in.\nCamera fixed.\n")
    requests = collect_requests(files, prompts_file=tmp_path / "prompts.txt")
    assert [r.prompt for r in requests] == ["Camera push in.", "Camera fixed."]


def test_prompt_and_prompt_file_exclude_each_other(clip_file: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="not both"):
        collect_requests([clip_file], prompt="a", prompts_file=tmp_path / "prompts.txt")


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_a_list_names_videos_relative_to_itself(suffix: str, tmp_path: Path) -> None:
    _write(tmp_path / "clip.mp4")
    path = tmp_path / f"list{suffix}"
    rows = [{"video": "clip.mp4", "prompt": "Camera pan left, “quoted”.", "trajectory": "", "intrinsics": "k.json"}]
    if suffix == ".csv":
        path.write_text('video,prompt,intrinsics\nclip.mp4,"Camera pan left, “quoted”.",k.json\n', encoding="utf-8")
    else:
        path.write_text("".join(json.dumps(row) + "\n\n" for row in rows), encoding="utf-8")
    (request,) = collect_requests([path], trajectory=tmp_path / "all.json")
    assert request.video == tmp_path / "clip.mp4"
    assert request.prompt == "Camera pan left, “quoted”."
    assert (request.trajectory, request.intrinsics) == (tmp_path / "all.json", tmp_path / "k.json")


def test_a_row_without_a_prompt_takes_the_common_one(tmp_path: Path) -> None:
    _write(tmp_path / "clip.mp4")
    (tmp_path / "list.jsonl").write_text('{"video": "clip.mp4"}\n')
    assert collect_requests([tmp_path / "list.jsonl"], prompt="Camera fixed.")[0].prompt == "Camera fixed."


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.csv", "", "is empty"),
        ("a.csv", "video,prompt\n", "is empty"),
        ("a.csv", "video,prompt\nclip.mp4,x,y\n", "another number of fields"),
        ("a.csv", "video,prompt\nclip.mp4\n", "another number of fields"),
        ("a.csv", "vidoe,prompt\nclip.mp4,x\n", "Did you mean 'video'"),
        ("a.csv", "prompt\nx\n", "'video' is missing"),
        ("a.csv", "video\nnone.mp4\n", "does not exist"),
        ("a.jsonl", "{'video': 1}\n", "a.jsonl:1: not a JSON object"),
        ("a.jsonl", '\n["clip.mp4"]\n', "a.jsonl:2: received"),
        ("a.jsonl", '{"video": 3}\n', "'video' must be text, received 3"),
        ("a.jsonl", '{"video": "clip.mp4", "prompt": ["a"]}\n', "'prompt' must be text"),
    ],
)
def test_malformed_lists_are_explained(name: str, text: str, message: str, clip_file: Path) -> None:
    path = clip_file.parent / name
    path.write_text(text)
    with pytest.raises(UserError, match=message):
        collect_requests([path])


def test_a_list_that_is_not_text_is_explained(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"\xff\xfe\x00\x81")
    with pytest.raises(UserError, match="cannot be read as text"):
        collect_requests([tmp_path / "a.csv"])


def test_a_missing_prompt_file_is_explained(clip_file: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be read as text"):
        collect_requests([clip_file], prompts_file=tmp_path / "none.txt")


def test_camera_words_command_the_path(clip_file: Path) -> None:
    clip = load_clip(ScoreRequest(clip_file, "Camera move left. A room."))
    assert clip.target is not None
    assert clip.target.c2w[-1, 0, 3].item() == pytest.approx(-220.0)
    assert clip.name == str(clip_file)


def test_without_camera_words_nothing_is_commanded(clip_file: Path) -> None:
    assert load_clip(ScoreRequest(clip_file, "A room.")).target is None


def test_a_trajectory_file_overrides_the_prompt(clip_file: Path, tmp_path: Path) -> None:
    poses = np.tile(np.eye(4), (5, 1, 1))
    poses[:, 1, 3] = np.arange(5)
    np.save(tmp_path / "path.npy", poses)
    clip = load_clip(ScoreRequest(clip_file, "Camera move left.", trajectory=tmp_path / "path.npy"))
    assert clip.target is not None
    assert clip.target.c2w[-1, :3, 3].tolist() == [0.0, 4.0, 0.0]


def test_a_trajectory_of_another_length_is_refused(clip_file: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "path.npy", np.tile(np.eye(4), (4, 1, 1)))
    with pytest.raises(TrajectoryError, match="4"):
        load_clip(ScoreRequest(clip_file, trajectory=tmp_path / "path.npy"))


def test_known_intrinsics_are_read(clip_file: Path, tmp_path: Path) -> None:
    matrix = [[50.0, 0.0, 24.0], [0.0, 50.0, 16.0], [0.0, 0.0, 1.0]]
    (tmp_path / "k.json").write_text(json.dumps({"intrinsics": matrix}))
    clip = load_clip(ScoreRequest(clip_file, intrinsics=tmp_path / "k.json"))
    assert clip.intrinsics is not None
    assert clip.intrinsics.tolist() == matrix


def test_one_frame_is_refused(tmp_path: Path) -> None:
    with pytest.raises(VideoError, match="received 1 frame; 3D consistency needs at least 2"):
        load_clip(ScoreRequest(_write(tmp_path / "still.mp4", num_frames=1)))


def test_equal_stems_get_folders_of_their_own(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    (tmp_path / "y").mkdir()
    requests = [ScoreRequest(_write(tmp_path / folder / "clip.mp4")) for folder in ("x", "y")]
    assert output_names([*requests, ScoreRequest(tmp_path / "x")]) == ["clip", "clip-2", "x"]
