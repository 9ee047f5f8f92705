"""What `worldr1 score` accepts as input, and what it says about the rest."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from worldr1_core.camera.vocabulary import Move, trajectory_from_prompt
from worldr1_core.errors import TrajectoryError, UserError, VideoError
from worldr1_core.video import Video
from worldr1_core.video_io import write_video
from worldr1_rewards.inputs import ScoreRequest, collect_requests, load_clip, load_request, output_names


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
    (tmp_path / "prompts.txt").write_text("# of both\nCamera push in.\n\nCamera fixed.\n\n")
    requests = collect_requests(files, prompts_file=tmp_path / "prompts.txt")
    assert [r.prompt for r in requests] == ["Camera push in.", "Camera fixed."]


def test_a_prompt_file_of_another_length_says_what_was_counted(tmp_path: Path) -> None:
    files = [_write(tmp_path / "a.mp4"), tmp_path / "none.mp4"]
    (tmp_path / "prompts.txt").write_text("# a\n\nCamera push in.\n\n")
    expected = r"holds 1 prompt \(1 comment line and 1 blank line left out\) for 2 videos, 1 of which cannot be found"
    with pytest.raises(UserError, match=expected):
        collect_requests(files, prompts_file=tmp_path / "prompts.txt")


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
        ("a.csv", "video,prompt,video\nclip.mp4,x,clip.mp4\n", r"a.csv:1: the header names \['video'\] more than once"),
        ("a.csv", "video;prompt\nclip.mp4;x\n", "a.csv:1: .* Separate the columns by commas"),
        ("a.csv", "\n\nvideo,prompt\n\nclip.mp4,x,y\n", "a.csv:5: the row has another number of fields"),
        ("a.csv", 'video,prompt\nclip.mp4,x\nclip.mp4,"A room\nclip.mp4,A room\n', "a.csv:3: .* is never closed"),
        ("a.csv", 'video,prompt\nclip.mp4,"A room\nclip.mp4,"A room"\n', "a.csv:2: malformed CSV"),
        ("a.csv", 'video,prompt\nclip.mp4,"A room\nclip.mp4,A room"\n', "a.csv:2: .* goes on to the row of 'clip.mp4'"),
        ("a.csv", 'video,prompt\n"clip.mp4,A room\n', "a.csv:2: .* is never closed"),
        ("a.jsonl", '{"video": "clip.mp4", "video": "b.mp4"}\n', r"a.jsonl:1: .* \['video'\] more than once"),
        ("a.jsonl", "[" * 100_000, "a.jsonl:1: not a JSON object"),
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


@pytest.mark.parametrize("separator", ["\u2028", "\u2029", "\u0085", "\v", "\f"])
@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".txt"])
def test_only_line_ends_end_a_row_or_a_prompt(suffix: str, separator: str, tmp_path: Path) -> None:
    prompts = [f"Camera push in.{separator}A room", "Camera fixed."]
    videos = [_write(tmp_path / "a.mp4"), _write(tmp_path / "b.mp4")]
    path = tmp_path / f"list{suffix}"
    rows = list(zip(("a.mp4", "b.mp4"), prompts, strict=True))
    if suffix == ".csv":
        text = "video,prompt\r\n" + "".join(f"{video},{prompt}\r\n" for video, prompt in rows)
    elif suffix == ".jsonl":
        # Within JSON text control characters are escaped; the separators above U+001F may stand as they are.
        text = "".join(json.dumps({"video": v, "prompt": p}, ensure_ascii=False) + "\n" for v, p in rows)
    else:
        text = "".join(f"{prompt}\n" for prompt in prompts)
    path.write_bytes(text.encode())
    requests = collect_requests(videos, prompts_file=path) if suffix == ".txt" else collect_requests([path])
    assert [request.prompt for request in requests] == prompts


def test_a_quoted_prompt_of_several_lines_is_one_prompt(clip_file: Path) -> None:
    path = clip_file.parent / "list.csv"
    path.write_text('video,prompt\nclip.mp4,"Camera push in.\nA room, with a ""red"" box."\n')
    (request,) = collect_requests([path])
    assert request.prompt == 'Camera push in.\nA room, with a "red" box.'


def test_a_missing_file_leaves_the_others(clip_file: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    requests = collect_requests([tmp_path / "none.mp4", clip_file, empty])
    assert [request.problem is None for request in requests] == [False, True, False]
    with pytest.raises(VideoError, match=r"none.mp4: no such file or folder"):
        load_request(requests[0])
    with pytest.raises(VideoError, match=r"empty: the folder holds no clips"):
        load_request(requests[2])


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_a_missing_file_in_a_list_leaves_the_other_rows(suffix: str, clip_file: Path) -> None:
    path = clip_file.parent / f"list{suffix}"
    names = ("none.mp4", "clip.mp4")
    if suffix == ".csv":
        path.write_text("video\n" + "".join(f"{name}\n" for name in names))
    else:
        path.write_text("".join(json.dumps({"video": name}) + "\n" for name in names))
    missing, present = collect_requests([path])
    with pytest.raises(
        VideoError, match=rf"list{suffix}:\d: .*none.mp4: no such file .* relative to the list's folder"
    ):
        load_request(missing)
    assert load_request(present).name == str(clip_file)


def test_a_row_that_names_a_folder_of_clips_is_reported(tmp_path: Path) -> None:
    _write(tmp_path / "many" / "a.mp4")
    (tmp_path / "list.csv").write_text("video\nmany\n")
    with pytest.raises(VideoError, match=r"list.csv:2: .*many: is a folder with clips of its own \('a.mp4', ...\)"):
        load_request(collect_requests([tmp_path / "list.csv"])[0])


def test_a_missing_trajectory_of_a_row_names_the_line(clip_file: Path) -> None:
    path = clip_file.parent / "list.csv"
    path.write_text("video,trajectory\nclip.mp4,none.json\n")
    with pytest.raises(TrajectoryError, match=r"list.csv:2: .*none.json: no such file"):
        load_request(collect_requests([path])[0])


def test_a_clip_that_does_not_fit_into_memory_is_an_error_of_its_own(
    clip_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def exhausted(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr("worldr1_rewards.inputs.read_video", exhausted)
    with pytest.raises(VideoError, match=r"clip.mp4: the frames do not fit into memory"):
        load_request(ScoreRequest(clip_file))


def _generated(folder: Path, prompt: str, **record: object) -> Path:
    video = _write(folder / "000-a-seed1.mp4")
    (folder / "000-a-seed1.json").write_text(json.dumps({"video": video.name, "prompt": prompt, "seed": 1, **record}))
    return video


def test_a_generated_video_brings_its_prompt(tmp_path: Path) -> None:
    video = _generated(tmp_path, "Camera push in.", trajectory=None)
    assert collect_requests([video])[0].prompt == "Camera push in."
    assert collect_requests([tmp_path])[0].prompt == "Camera push in."
    for given in ("Camera fixed.", ""):
        assert collect_requests([video], prompt=given)[0].prompt == given


def _sideways(num_frames: int) -> list:
    poses = np.tile(np.eye(4), (num_frames, 1, 1))
    poses[:, 0, 3] = np.arange(num_frames)
    return poses.tolist()


def test_a_path_that_was_commanded_by_a_file_comes_before_the_camera_words(tmp_path: Path) -> None:
    matrix = [[90.0, 0.0, 24.0], [0.0, 90.0, 16.0], [0.0, 0.0, 1.0]]
    stored = {"c2w": _sideways(5), "intrinsics": matrix, "image_size": [32, 48], "scene_depth": 2.0}
    video = _generated(tmp_path, "Camera push in.", trajectory=stored)
    clip = load_request(collect_requests([video])[0])
    assert clip.target is not None
    assert clip.intrinsics is not None
    assert clip.target.c2w[:, 0, 3].tolist() == [0.0, 1.0, 2.0, 3.0, 4.0]
    assert (clip.target.scene_depth, clip.intrinsics.tolist()) == (2.0, matrix)
    words = load_request(collect_requests([video], prompt="Camera push in.")[0])
    assert words.target is not None
    assert words.target.c2w[-1, 2, 3] > 0
    assert (clip.moves, words.moves) == ((), (Move.PUSH_IN,))


def test_a_stored_path_of_the_camera_words_changes_nothing(tmp_path: Path) -> None:
    words = trajectory_from_prompt("Camera push in.", 5, (32, 48))
    assert words is not None
    video = _generated(tmp_path, "Camera push in.", trajectory={"c2w": words.c2w.tolist()})
    clip = load_request(collect_requests([video])[0])
    assert clip.target is not None
    assert clip.target.c2w.equal(words.c2w)
    assert clip.intrinsics is None
    assert clip.moves == ()


@pytest.mark.parametrize(
    ("poses", "message"), [(_sideways(4), "commands 4 poses, the video has 5 frames"), ("x", "no usable trajectory")]
)
def test_a_stored_path_that_does_not_fit_is_an_error(tmp_path: Path, poses: object, message: str) -> None:
    video = _generated(tmp_path, "Camera push in.", trajectory={"c2w": poses})
    with pytest.raises(UserError, match=message):
        load_request(collect_requests([video])[0])


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
    assert clip.moves == (Move.MOVE_LEFT,)


def test_without_camera_words_nothing_is_commanded(clip_file: Path) -> None:
    assert load_clip(ScoreRequest(clip_file, "A room.")).target is None


def test_a_trajectory_file_overrides_the_prompt(clip_file: Path, tmp_path: Path) -> None:
    poses = np.tile(np.eye(4), (5, 1, 1))
    poses[:, 1, 3] = np.arange(5)
    np.save(tmp_path / "path.npy", poses)
    clip = load_clip(ScoreRequest(clip_file, "Camera move left.", trajectory=tmp_path / "path.npy"))
    assert clip.target is not None
    assert clip.target.c2w[-1, :3, 3].tolist() == [0.0, 4.0, 0.0]
    assert clip.moves == ()


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


def test_outputs_do_not_go_into_an_image_folder_that_is_scored(tmp_path: Path) -> None:
    frames = tmp_path / "room"
    write_video(Video(torch.rand(3, 3, 16, 16)), frames)
    other = _write(tmp_path / "deep" / "clip.mp4")
    requests = [ScoreRequest(frames), ScoreRequest(other), ScoreRequest(_write(tmp_path / "deep.mp4"))]
    assert output_names(requests, tmp_path) == ["room-2", "clip", "deep-2"]
    assert output_names(requests, tmp_path / "out") == ["room", "clip", "deep"]


def test_equal_stems_get_folders_of_their_own(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    (tmp_path / "y").mkdir()
    requests = [ScoreRequest(_write(tmp_path / folder / "clip.mp4")) for folder in ("x", "y")]
    assert output_names([*requests, ScoreRequest(tmp_path / "x")]) == ["clip", "clip-2", "x"]
