"""Records of generated videos."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from worldr1_core.written_files import read_video_record


@pytest.mark.parametrize(("video", "record"), [("a.b.mp4", "a.b.json"), ("frames.v2", "frames.v2.json")])
def test_the_record_beside_a_video_is_found(tmp_path, video, record):
    (tmp_path / video).write_text("") if video.endswith(".mp4") else (tmp_path / video).mkdir()
    content = {"video": video, "prompt": "Camera push in.", "seed": 3}
    (tmp_path / record).write_text(json.dumps(content))
    assert read_video_record(tmp_path / video) == content


def test_the_current_folder_has_a_record_too(tmp_path, monkeypatch):
    (tmp_path / "frames").mkdir()
    (tmp_path / "frames.json").write_text('{"prompt": "A room."}')
    monkeypatch.chdir(tmp_path / "frames")
    assert read_video_record(Path()) == {"prompt": "A room."}


def test_a_record_needs_no_name_of_the_video(tmp_path):
    (tmp_path / "a.json").write_text('{"prompt": "A room."}')
    assert read_video_record(tmp_path / "a.mp4") == {"prompt": "A room."}


@pytest.mark.parametrize(
    "text", ["", "[1]", '{"seed": 1}', '{"prompt": 3}', '{"prompt": "x", "video": "b.mp4"}', '{"prompt": "x"', "\xff"]
)
def test_other_files_are_no_record(tmp_path, text):
    (tmp_path / "a.json").write_bytes(text.encode("latin-1"))
    assert read_video_record(tmp_path / "a.mp4") is None
