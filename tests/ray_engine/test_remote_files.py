"""Videos in buckets: found, matched with their prompts, copied and removed again; records that are kept there."""

from __future__ import annotations

import pytest
import torch

from worldr1_core.errors import UserError, VideoError
from worldr1_core.video import Video
from worldr1_core.video_io import find_videos, write_video
from worldr1_core.written_files import read_video_record
from worldr1_rewards.addresses import is_remote
from worldr1_rewards.evaluation.jobs import VideoJob, video_request
from worldr1_rewards.ray_engine.records import RecordStore
from worldr1_rewards.ray_engine.remote_files import fetched, mirror

fsspec = pytest.importorskip("fsspec")


@pytest.fixture
def bucket():
    """A bucket in memory with two videos, an image folder, a record and a file of another kind."""
    system = fsspec.filesystem("memory")
    for name, text in {
        "videos/a-0.mp4": "first",
        "videos/a-0.json": '{"video": "a-0.mp4", "prompt": "Camera push in.", "seed": 1}',
        "videos/deep/b-0.mp4": "second",
        "videos/frames/0.png": "x",
        "videos/frames/1.png": "y",
        "videos/notes.md": "?",
    }.items():
        system.pipe_file(f"/bucket/{name}", text.encode())
    yield system
    system.store.clear()
    system.pseudo_dirs[:] = [""]


@pytest.mark.parametrize(
    ("path", "expected"),
    [("s3://bucket/a", True), ("memory://a", True), ("file:///a", True), ("a/b.mp4", False), ("C:\\a", False)],
)
def test_addresses_are_told_from_paths(path, expected):
    assert is_remote(path) is expected


def test_a_remote_folder_stands_for_the_same_clips_as_a_local_one(bucket, tmp_path):
    found = mirror("memory://bucket/videos", tmp_path)
    names = [path.relative_to(found.path).as_posix() for path in find_videos(found.path)]
    assert names == ["a-0.mp4", "deep/b-0.mp4", "frames"]


def test_records_beside_remote_videos_are_read(bucket, tmp_path):
    found = mirror("memory://bucket/videos", tmp_path)
    assert read_video_record(found.path / "a-0.mp4")["prompt"] == "Camera push in."


def test_a_single_remote_video_brings_its_record(bucket, tmp_path):
    found = mirror("memory://bucket/videos/a-0.mp4", tmp_path)
    assert find_videos(found.path) == [found.path]
    assert read_video_record(found.path) is not None


def test_paths_of_a_mirror_have_addresses(bucket, tmp_path):
    found = mirror("memory://bucket/videos/", tmp_path)
    assert found.url_of(found.path / "deep" / "b-0.mp4") == "memory://bucket/videos/deep/b-0.mp4"
    assert found.url_of(tmp_path.parent / "other.mp4") is None


def test_no_video_is_copied_before_it_is_scored(bucket, tmp_path):
    bucket.pipe_file("/bucket/videos/a-0.mp4", bytes(10**6))
    found = mirror("memory://bucket/videos", tmp_path)
    assert (found.path / "a-0.mp4").stat().st_size < 1000


def test_a_replaced_video_has_another_fingerprint(bucket, tmp_path):
    marks = []
    for index, content in enumerate((b"first", b"first", b"longer than before")):
        if index:
            bucket.pipe_file("/bucket/videos/a-0.mp4", content)
        (folder := tmp_path / str(index)).mkdir()
        path = mirror("memory://bucket/videos", folder).path / "a-0.mp4"
        marks.append(VideoJob("", "a", 0, 0, video_request(path, "", None, None)).fingerprint("settings"))
    assert marks[2] not in marks[:2]


def test_a_name_that_leaves_the_folder_is_refused(bucket, tmp_path):
    bucket.store["/bucket/videos/../../escaped.mp4"] = bucket.store["/bucket/videos/a-0.mp4"]
    (tmp_path / "own").mkdir()
    with pytest.raises(VideoError, match="is not inside"):
        mirror("memory://bucket/videos", tmp_path / "own")
    assert not list(tmp_path.rglob("escaped.mp4"))


def test_a_missing_address_is_an_error_that_names_it(bucket, tmp_path):
    with pytest.raises(VideoError, match="memory://bucket/nothing: no such file or folder"):
        mirror("memory://bucket/nothing", tmp_path)


def test_an_unknown_file_system_is_an_error(tmp_path):
    with pytest.raises(UserError, match="nowhere://bucket"):
        mirror("nowhere://bucket/videos", tmp_path)


def test_a_fetched_video_is_removed_after_use(bucket):
    with fetched("memory://bucket/videos/a-0.mp4") as path:
        assert path.read_text() == "first"
    assert not path.parent.exists()


def test_a_fetched_folder_holds_its_images(bucket):
    with fetched("memory://bucket/videos/frames") as path:
        assert sorted(entry.name for entry in path.iterdir()) == ["0.png", "1.png"]


def test_a_video_that_vanished_is_an_error(bucket):
    with (
        pytest.raises(VideoError, match=r"memory://bucket/videos/gone\.mp4: no such file"),
        fetched("memory://bucket/videos/gone.mp4"),
    ):
        pass


@pytest.mark.parametrize("remote", [True, False])
def test_records_are_found_by_a_later_run(bucket, tmp_path, remote):
    url = "memory://bucket/records" if remote else str(tmp_path / "records")
    RecordStore(url).keep("0a", '{"total": 1.5}')
    later = RecordStore(url)
    assert later.read({"0a", "0b"}) == {"0a": '{"total": 1.5}'}


def test_fetched_bytes_are_those_of_the_video(tmp_path):
    frames = torch.rand(3, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    write_video(Video(frames), tmp_path / "clip.safetensors")
    with fetched(f"file://{tmp_path}/clip.safetensors") as path:
        assert path.read_bytes() == (tmp_path / "clip.safetensors").read_bytes()
