"""Reconstructions in viser and rerun: what reaches the viewer, and what is said without it."""

from __future__ import annotations

import json
import sys
from types import SimpleNamespace
from typing import Any

import click
import numpy as np
import pytest
from click.testing import CliRunner

from rewards.report_samples import failed, reconstruction_of, scored, smooth_frames
from worldr1_core.cli import cli
from worldr1_core.errors import MissingExtraError, UserError
from worldr1_core.video import Video
from worldr1_core.video_io import write_video
from worldr1_rewards import viewer
from worldr1_rewards.viewer import Viewer, show_in_viser, viewed_clip


class Scene:
    """Records what is added to a scene of viser."""

    def __init__(self) -> None:
        self.added: dict[str, dict[str, Any]] = {}

    def set_up_direction(self, direction: str) -> None:
        assert direction == "-y"

    def add_frame(self, name: str, **options: Any) -> None:
        self.added[name] = options

    def add_point_cloud(self, name: str, points: Any, colors: Any, **options: Any) -> None:
        self.added[name] = {"points": points, "colors": colors, **options}

    def add_camera_frustum(self, name: str, **options: Any) -> None:
        self.added[name] = options


def test_points_and_cameras_of_a_clip_reach_viser() -> None:
    frames = smooth_frames(5, 24, 40)
    clip = viewed_clip(scored("videos/a room.mp4", frames=frames))
    server = SimpleNamespace(scene=Scene())
    show_in_viser(server, [clip, viewed_clip(scored(frames=frames), 1)])
    added = server.scene.added
    assert [added[name]["visible"] for name in ("/000-a_room.mp4", "/001-room.mp4")] == [True, False]
    cloud = added["/000-a_room.mp4/points"]
    assert cloud["points"].shape == cloud["colors"].shape
    assert cloud["colors"].dtype == np.uint8
    first = added["/000-a_room.mp4/estimated/0000"]
    np.testing.assert_allclose(first["wxyz"], [1, 0, 0, 0], atol=1e-9)
    np.testing.assert_allclose(first["position"], 0, atol=1e-9)
    assert first["image"].shape == (24, 40, 3)
    assert first["aspect"] == pytest.approx(40 / 24)
    assert added["/000-a_room.mp4/commanded/0004"]["position"][2] > 0.5


def test_clips_are_shown_up_to_a_number_and_without_points_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(viewer, "MAX_CLIPS", 2)
    shown = []
    monkeypatch.setitem(viewer._VIEWERS, "viser", shown.extend)  # type: ignore[arg-type]
    monkeypatch.setitem(sys.modules, "viser", SimpleNamespace())
    viewing = Viewer("viser")
    frames = smooth_frames(5, 24, 40)
    pan = scored(frames=frames, reconstruction=reconstruction_of(frames, has_parallax=False))
    for result in (failed(), pan, scored()):
        viewing.add(result)
    viewing.open()
    assert [clip.scene.points is None for clip in shown] == [True, True]
    assert [[path.name for path in clip.scene.paths] for clip in shown] == [["commanded"], ["commanded", "estimated"]]


def test_a_viewer_that_is_not_installed_is_named_before_any_work(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "viser", None)
    write_video(Video(smooth_frames(3, 16, 16)), tmp_path / "clip.mp4")
    done = CliRunner().invoke(cli, ["score", str(tmp_path / "clip.mp4"), "--viewer", "viser"])
    assert done.exit_code == 2
    assert "pip install 'worldr1-rewards[viewer]'" in done.stderr
    assert done.stdout == ""


def test_unknown_viewer_is_named() -> None:
    with pytest.raises(UserError, match=r"Unknown viewer 'visor'.*Did you mean 'viser'"):
        Viewer("visor")


def test_command_opens_the_viewer_after_the_last_clip(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = []

    def noisy(clips) -> None:
        click.echo("viewers print an address")
        opened.extend(clips)

    monkeypatch.setitem(viewer._VIEWERS, "rerun", noisy)  # type: ignore[arg-type]
    monkeypatch.setitem(sys.modules, "rerun", SimpleNamespace())
    write_video(Video(smooth_frames(3, 16, 16)), tmp_path / "clip.mp4")
    done = CliRunner().invoke(cli, ["score", str(tmp_path / "clip.mp4"), "--rewards", "contrast", "--viewer", "rerun"])
    assert done.exit_code == 0, done.stderr
    assert [clip.name for clip in opened] == ["000-clip.mp4"]
    assert json.loads(done.stdout)["scores"]


def test_real_viewers_take_what_they_are_given(tmp_path) -> None:
    rerun = pytest.importorskip("rerun", reason="the extra `viewer` is not installed")
    recording = rerun.RecordingStream("test")
    recording.save(tmp_path / "clip.rrd")
    viewer.show_in_rerun(recording, [viewed_clip(scored())])
    recording.flush()
    assert (tmp_path / "clip.rrd").stat().st_size > 10_000


def test_missing_module_is_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rerun", None)
    with pytest.raises(MissingExtraError, match="worldr1-rewards\\[viewer\\]"):
        Viewer("rerun")
