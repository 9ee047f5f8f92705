from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from rewards.report_samples import default_camera, failed, reconstruction_of, scored, smooth_frames
from worldr1_core.camera import CameraTrajectory, trajectory_from_moves
from worldr1_core.camera.formats import load_trajectory
from worldr1_core.camera.geometry import pose, rotation_y
from worldr1_core.errors import OutputError, ScoreUnavailable
from worldr1_core.reconstructor import Render
from worldr1_core.video_io import read_video
from worldr1_rewards.outputs import OUTPUT_NAMES, write_clip_outputs
from worldr1_rewards.report.views import clip_views
from worldr1_rewards.serialise import score_line


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_everything_there_is_gets_written(tmp_path: Path) -> None:
    written = write_clip_outputs(scored(), tmp_path / "deep" / "room")
    assert {path.name for path in written} == set(OUTPUT_NAMES) == names(tmp_path / "deep" / "room")


def test_scores_are_the_json_line(tmp_path: Path) -> None:
    result = failed()
    write_clip_outputs(result, tmp_path)
    assert names(tmp_path) == {"scores.json"}
    assert (tmp_path / "scores.json").read_text(encoding="utf-8") == score_line(result) + "\n"
    assert json.loads((tmp_path / "scores.json").read_text())["scores"] == {"reconstruction": None, "trajectory": None}


def test_trajectory_holds_the_estimate_from_frame_zero_with_intrinsics(tmp_path: Path) -> None:
    frames = smooth_frames(5, 24, 40)
    path = trajectory_from_moves(["orbit_left"], 5, (24, 40))
    start = pose(rotation_y(torch.tensor(30.0)), torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64))
    moved = CameraTrajectory(start @ path.c2w, path.intrinsics, path.image_size, 1000.0)
    write_clip_outputs(scored(frames=frames, reconstruction=reconstruction_of(frames, trajectory=moved)), tmp_path)
    document = json.loads((tmp_path / "trajectory.json").read_text())
    assert document["c2w"][0] == torch.eye(4).tolist()
    assert document["image_size"] == [24, 40]
    assert document["scene_depth"] == 1000.0
    assert document["intrinsics"] == default_camera(frames).tolist()
    torch.testing.assert_close(load_trajectory(tmp_path / "trajectory.json").c2w, path.c2w)


@pytest.mark.parametrize("known", [None, [[60.0, 0, 21], [0, 61.0, 13], [0, 0, 1]]])
def test_trajectory_of_a_bare_estimate_is_filled_in(tmp_path: Path, known: list[list[float]] | None) -> None:
    frames = smooth_frames(5, 24, 40)
    bare = reconstruction_of(frames, trajectory=CameraTrajectory(torch.eye(4).expand(5, 4, 4)))
    intrinsics = None if known is None else torch.tensor(known)
    write_clip_outputs(scored(frames=frames, reconstruction=bare, intrinsics=intrinsics), tmp_path)
    loaded = load_trajectory(tmp_path / "trajectory.json")
    expected = default_camera(frames) if intrinsics is None else intrinsics.double()
    assert loaded.intrinsics is not None
    torch.testing.assert_close(loaded.intrinsics, expected)
    assert (loaded.image_size, loaded.scene_depth) == ((24, 40), 1.0)


def test_rerender_shows_the_render_and_marks_what_it_does_not_cover(tmp_path: Path) -> None:
    frames = smooth_frames(5, 32, 48)
    coverage = torch.ones(5, 32, 48)
    coverage[:, :, 32:] = 0
    reconstruction = reconstruction_of(frames, shown=Render(frames, coverage))
    write_clip_outputs(scored(frames=frames, reconstruction=reconstruction), tmp_path)
    video = read_video(tmp_path / "rerender.mp4")
    assert video.fps == pytest.approx(8.0)
    assert float((video.frames - frames)[..., :28].abs().mean()) < 0.03
    holes = video.frames[..., 36:]
    assert float((holes - 0.68).abs().max()) < 0.15


def test_depth_is_kept_as_numbers_and_as_colours(tmp_path: Path) -> None:
    frames = smooth_frames(5, 32, 48)
    path = CameraTrajectory(torch.eye(4).expand(5, 4, 4), scene_depth=2.0)
    write_clip_outputs(scored(frames=frames, reconstruction=reconstruction_of(frames, trajectory=path)), tmp_path)
    depth = np.load(tmp_path / "depth.npz")["depth"]
    assert depth.dtype == np.float32
    np.testing.assert_allclose(depth[4, 0], np.linspace(0.5, 1.0, 48), rtol=1e-6)
    shown = read_video(tmp_path / "depth.mp4").frames
    assert shown.shape == frames.shape
    assert float(shown[:, :, :, 2].mean()) > float(shown[:, :, :, -2].mean())  # near is bright


def test_comparison_is_a_picture_of_four_rows(tmp_path: Path) -> None:
    write_clip_outputs(scored(), tmp_path)
    with Image.open(tmp_path / "comparison.png") as image:
        assert image.format == "PNG"
        assert image.height > 4 * 24
        assert image.width > 5 * 40


def test_only_what_exists_is_written(tmp_path: Path) -> None:
    frames = smooth_frames(5, 24, 40)
    blind = reconstruction_of(frames, depth=None, shown=ScoreUnavailable("the scene is empty"))
    write_clip_outputs(scored(frames=frames, reconstruction=blind), tmp_path / "blind")
    assert names(tmp_path / "blind") == {"scores.json", "trajectory.json", "trajectory.svg"}
    pan = reconstruction_of(frames, has_parallax=False)
    write_clip_outputs(scored(frames=frames, reconstruction=pan), tmp_path / "pan")
    assert set(OUTPUT_NAMES) - names(tmp_path / "pan") == {"depth.mp4", "depth.npz"}


def test_pictures_at_hand_are_not_rendered_again(tmp_path: Path) -> None:
    frames = smooth_frames(5, 24, 40)
    views = clip_views(scored(frames=frames))
    blind = reconstruction_of(frames, shown=RuntimeError("rendered twice"))
    write_clip_outputs(scored(frames=frames, reconstruction=blind), tmp_path, views)
    assert "rerender.mp4" in names(tmp_path)


def test_a_later_run_replaces_its_own_files_and_nothing_else(tmp_path: Path) -> None:
    write_clip_outputs(scored(), tmp_path)
    (tmp_path / "notes.txt").write_text("mine")
    write_clip_outputs(failed(), tmp_path)
    assert names(tmp_path) == {"scores.json", "notes.txt"}


def test_files_that_no_run_wrote_stay(tmp_path: Path) -> None:
    (tmp_path / "trajectory.json").write_text("mine")
    write_clip_outputs(failed(), tmp_path)
    assert (tmp_path / "trajectory.json").read_text() == "mine"


def test_equal_results_give_equal_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_clip_outputs(scored(), tmp_path / "a")
    # Archives stamp their members with the local time: let another day write the second copy.
    monkeypatch.setattr(time, "time", lambda: 1_000_000_000.0)
    write_clip_outputs(scored(), tmp_path / "b")
    for name in OUTPUT_NAMES:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes(), name


def test_unwritable_place_is_an_output_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(OutputError, match=r"Cannot write to .*file"):
        write_clip_outputs(scored(), tmp_path / "file" / "room")
    assert (tmp_path / "file").read_text() == "mine"


def test_a_write_that_fails_half_way_leaves_the_earlier_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_clip_outputs(failed(), tmp_path)
    before = (tmp_path / "scores.json").read_bytes()

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", full)
    with pytest.raises(OutputError, match="No space left"):
        write_clip_outputs(scored(), tmp_path)
    assert names(tmp_path) == {"scores.json"}
    assert (tmp_path / "scores.json").read_bytes() == before
