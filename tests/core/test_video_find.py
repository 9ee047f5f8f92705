"""Which clips a path stands for."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worldr1_core.errors import VideoError
from worldr1_core.natural_order import natural_key
from worldr1_core.video_io import find_videos


def make(root, *names):
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")
    return root


def found(root):
    return [str(path.relative_to(root)) for path in find_videos(root)]


def test_a_file_is_itself(tmp_path):
    make(tmp_path, "clip.mp4")
    assert find_videos(str(tmp_path / "clip.mp4")) == [tmp_path / "clip.mp4"]


def test_a_folder_of_videos_is_many_in_natural_order(tmp_path):
    make(tmp_path, "clip10.mp4", "clip9.webm", "Clip1.GIF", "clip2.safetensors", "notes.txt", ".hidden.mp4")
    assert found(tmp_path) == ["Clip1.GIF", "clip2.safetensors", "clip9.webm", "clip10.mp4"]


def test_a_folder_of_images_is_one_clip(tmp_path):
    make(tmp_path, "0.png", "1.png", "poses.npy", "trajectory.json")
    assert find_videos(tmp_path) == [tmp_path]


def test_sub_folders_are_searched(tmp_path):
    make(tmp_path, "b/0.png", "b/1.png", "a/x.mp4", "a/deep/y.mov", "empty/readme.md", "c.mkv")
    assert found(tmp_path) == ["a/deep/y.mov", "a/x.mp4", "b", "c.mkv"]


def test_images_beside_videos_are_ambiguous(tmp_path):
    make(tmp_path, "0.jpg", "1.jpg", "clip.mp4")
    with pytest.raises(VideoError, match=r"holds images \('0.jpg', ...\) and video files \('clip.mp4', ...\)"):
        find_videos(tmp_path)


def test_a_single_image_beside_videos_is_no_clip(tmp_path):
    make(tmp_path, "poster.jpg", "clip.mp4", "other.mp4")
    assert found(tmp_path) == ["clip.mp4", "other.mp4"]


def test_images_named_after_videos_are_no_clip(tmp_path):
    make(tmp_path, "a.jpg", "a.mp4", "b.mp4", "b.mp4.png")
    assert found(tmp_path) == ["a.mp4", "b.mp4"]


def test_frames_extracted_from_a_video_beside_it_are_ambiguous(tmp_path):
    make(tmp_path, "clip_0001.png", "clip_0002.png", "clip.mp4")
    with pytest.raises(VideoError, match="holds images"):
        find_videos(tmp_path)


RECORD = '{"video": "%s", "prompt": "Camera push in.", "seed": 1}'


@pytest.mark.parametrize("suffix", [".mp4", ".webm", ".gif", ".safetensors"])
def test_pictures_that_generate_wrote_are_no_clips(tmp_path, suffix):
    for stem in ("000-a-seed1", "001-b-seed1"):
        make(tmp_path, f"{stem}{suffix}", f"{stem}.path.png")
        (tmp_path / f"{stem}.json").write_text(RECORD % f"{stem}{suffix}")
    make(tmp_path, "contact-sheet.png")
    assert found(tmp_path) == [f"000-a-seed1{suffix}", f"001-b-seed1{suffix}"]


def test_frame_folders_that_generate_wrote_are_clips(tmp_path):
    make(tmp_path, "000-a/frame_00000.png", "000-a/frame_00001.png", "000-a.path.png", "contact-sheet.png")
    (tmp_path / "000-a.json").write_text(RECORD % "000-a")
    assert found(tmp_path) == ["000-a"]


def test_pictures_of_these_names_without_a_record_are_frames(tmp_path):
    make(tmp_path, "contact-sheet.png", "a.path.png", "a.json")
    assert find_videos(tmp_path) == [tmp_path]


def test_files_that_score_wrote_are_no_clips(tmp_path):
    make(tmp_path, "room.mp4", "room/rerender.mp4", "room/depth.mp4", "room/depth.npz", "room/comparison.png")
    (tmp_path / "room" / "scores.json").write_text('{"video": "room.mp4", "scores": {}, "total": 1.0}')
    assert found(tmp_path) == ["room.mp4"]
    make(tmp_path, "room/own.mp4")
    assert found(tmp_path) == ["room/own.mp4", "room.mp4"]


def test_files_of_such_names_without_scores_are_clips(tmp_path):
    make(tmp_path, "room/rerender.mp4", "room/depth.mp4")
    assert found(tmp_path) == ["room/depth.mp4", "room/rerender.mp4"]


def test_pipes_are_passed_over_in_a_folder_and_refused_by_name(tmp_path):
    make(tmp_path, "clip.mp4")
    for name in ("pipe.mp4", "pipe.png"):
        os.mkfifo(tmp_path / name)
    assert found(tmp_path) == ["clip.mp4"]
    with pytest.raises(VideoError, match="is a device or a pipe"):
        find_videos(tmp_path / "pipe.mp4")


def test_a_path_that_the_system_refuses_is_an_error(tmp_path):
    for path in (tmp_path / ("x" * 400), "a\0b"):
        with pytest.raises(VideoError, match=r"cannot be opened|no such file"):
            find_videos(path)


def test_nothing_found_is_an_error(tmp_path):
    make(tmp_path, "readme.md", "sub/notes.txt")
    with pytest.raises(VideoError, match="holds no clips"):
        find_videos(tmp_path)
    with pytest.raises(VideoError, match="no such file or folder"):
        find_videos(tmp_path / "none")


def test_links_that_lead_back_are_not_followed(tmp_path):
    make(tmp_path, "a/x.mp4")
    (tmp_path / "a" / "up").symlink_to(tmp_path)
    assert found(tmp_path) == ["a/x.mp4"]


def test_a_folder_that_cannot_be_read(tmp_path, monkeypatch):
    def denied(self):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("pathlib.Path.iterdir", denied)
    with pytest.raises(VideoError, match="the folder cannot be read: Permission denied"):
        find_videos(tmp_path)


def test_numbers_count_as_numbers():
    names = ["a2b10", "a2b9", "a10", "a1", "A3", "2", "10", "x"]
    assert sorted(names, key=natural_key) == ["2", "10", "a1", "a2b9", "a2b10", "A3", "a10", "x"]


@given(st.lists(st.text(max_size=12), max_size=12))
def test_any_names_can_be_ordered(names):
    assert sorted(sorted(names, key=natural_key, reverse=True), key=natural_key) == sorted(names, key=natural_key)


@given(st.lists(st.integers(0, 10**20), min_size=2, max_size=9))
def test_numbered_names_are_ordered_by_number(numbers):
    names = [f"frame_{number}.png" for number in numbers]
    assert sorted(names, key=natural_key) == [f"frame_{number}.png" for number in sorted(numbers)]
