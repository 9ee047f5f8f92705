"""`worldr1 score` as a user meets it: files in, JSON lines out, and what happens when something is wrong."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result

from worldr1_core.cli import cli
from worldr1_core.video import Video
from worldr1_core.video_io import write_video
from worldr1_rewards.probes.world.clips import WorldClip, render_world

PROMPT = "Camera move left. A room with boxes."


@pytest.fixture(scope="module")
def world() -> WorldClip:
    return render_world("rich", "move left", num_frames=9, size=(64, 64), seed=3)


@pytest.fixture(scope="module")
def clip_file(world: WorldClip, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clips") / "room.mp4"
    write_video(Video(world.frames), path)
    return path


def run(*args: object) -> Result:
    return CliRunner().invoke(cli, ["score", *map(str, args)])


def lines(result: Result) -> list[dict[str, Any]]:
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_a_video_file_gives_one_json_line(clip_file: Path) -> None:
    result = run(clip_file, "--prompt", PROMPT)
    assert result.exit_code == 0, result.stderr
    (line,) = lines(result)
    assert {"video", "prompt", "scores", "total", "reasons", "timings", "versions"} <= set(line)
    assert line["video"] == str(clip_file)
    assert line["prompt"] == PROMPT
    assert set(line["scores"]) == {"reconstruction", "trajectory"}
    assert line["total"] == pytest.approx(sum(line["scores"].values()))
    assert line["reasons"] == {}
    assert {"python", "torch", "worldr1-core", "worldr1-rewards"} <= set(line["versions"])
    assert line["timings"]["total"] > 0


def test_without_a_camera_word_the_trajectory_does_not_apply(clip_file: Path) -> None:
    (line,) = lines(run(clip_file, "--prompt", "A room with boxes."))
    assert line["scores"]["trajectory"] is None
    assert "no camera move" in line["reasons"]["trajectory"]
    assert line["total"] == pytest.approx(line["scores"]["reconstruction"])


def test_rewards_can_be_chosen(clip_file: Path) -> None:
    (line,) = lines(run(clip_file, "--prompt", PROMPT, "--rewards", "trajectory"))
    assert list(line["scores"]) == ["trajectory"]


def test_the_estimated_path_is_written_in_the_documented_form(
    clip_file: Path, world: WorldClip, tmp_path: Path
) -> None:
    known = tmp_path / "known.json"
    known.write_text(json.dumps({"intrinsics": world.intrinsics.tolist()}))
    out = tmp_path / "out"
    result = run(clip_file, "--prompt", PROMPT, "--intrinsics", known, "--out", out)
    assert result.exit_code == 0, result.stderr
    written = json.loads((out / "room" / "trajectory.json").read_text())
    c2w = np.array(written["c2w"])
    assert c2w.shape == (9, 4, 4)
    np.testing.assert_allclose(c2w[0], np.eye(4), atol=1e-9)
    np.testing.assert_allclose(written["intrinsics"], world.intrinsics.numpy(), rtol=1e-6)
    estimated, truth = c2w[-1, :3, 3], world.c2w[-1, :3, 3].numpy()
    cosine = estimated @ truth / np.linalg.norm(estimated) / np.linalg.norm(truth)
    assert math.degrees(math.acos(min(1.0, cosine))) < 5
    assert (out / "room" / "rerender.mp4").stat().st_size > 0
    assert json.loads((out / "room" / "scores.json").read_text())["total"] == lines(result)[0]["total"]


def test_the_estimated_path_can_be_commanded_back(clip_file: Path, tmp_path: Path) -> None:
    run(clip_file, "--out", tmp_path / "out")
    (line,) = lines(run(clip_file, "--trajectory", tmp_path / "out" / "room" / "trajectory.json"))
    assert line["scores"]["trajectory"] > 0.9


def test_a_report_is_written(clip_file: Path, tmp_path: Path) -> None:
    report = tmp_path / "deep" / "report.html"
    assert run(clip_file, "--prompt", PROMPT, "--report", report).exit_code == 0
    text = report.read_text()
    assert "<!doctype html>" in text.lower()
    assert "room.mp4" in text


def test_several_clips_do_not_influence_each_other(clip_file: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.mp4"
    write_video(Video(render_world("soft", "push in", num_frames=9, size=(64, 64), seed=4).frames), other)
    alone = lines(run(clip_file, "--prompt", PROMPT))
    both = lines(run(other, clip_file, "--prompt", PROMPT, "--batch-size", "2"))
    assert both[1]["scores"] == alone[0]["scores"]


def _truncated(folder: Path, source: Path) -> Path:
    path = folder / "truncated.mp4"
    path.write_bytes(source.read_bytes()[: source.stat().st_size // 2])
    return path


def _bad_videos(folder: Path, source: Path) -> dict[str, Path]:
    (folder / "empty.mp4").write_bytes(b"")
    (folder / "text.mp4").write_text("this is not a video")
    write_video(Video(torch.rand(1, 3, 32, 32)), folder / "still.mp4")
    np.save(folder / "nan.npy", np.full((5, 3, 32, 32), np.nan, dtype=np.float32))
    sizes = folder / "sizes"
    sizes.mkdir()
    from PIL import Image

    for index, size in enumerate([(32, 32), (32, 48)]):
        Image.new("RGB", size).save(sizes / f"{index}.png")
    return {
        "empty": folder / "empty.mp4",
        "truncated": _truncated(folder, source),
        "one frame": folder / "still.mp4",
        "different sizes": sizes,
        "not a video": folder / "text.mp4",
        "NaN": folder / "nan.npy",
        "absent": folder / "absent.mp4",
    }


@pytest.mark.parametrize("kind", ["empty", "truncated", "one frame", "different sizes", "not a video", "NaN", "absent"])
def test_a_bad_video_exits_with_2_and_writes_nothing(kind: str, clip_file: Path, tmp_path: Path) -> None:
    bad = _bad_videos(tmp_path, clip_file)[kind]
    out, report = tmp_path / "out", tmp_path / "new" / "report.html"
    result = run(bad, "--prompt", PROMPT, "--out", out, "--report", report)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert bad.name in result.stderr
    assert "Traceback" not in result.stderr
    assert not out.exists()
    assert not report.parent.exists()


def test_good_clips_are_scored_beside_a_bad_one(clip_file: Path, tmp_path: Path) -> None:
    result = run(_truncated(tmp_path, clip_file), clip_file, "--prompt", PROMPT, "--out", tmp_path / "out")
    assert result.exit_code == 2
    assert [line["video"] for line in lines(result)] == [str(clip_file)]
    assert "truncated.mp4" in result.stderr
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["room"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--rewards", "reconstuction"], "Did you mean 'reconstruction'"),
        (["--rewards", ","], "No reward to score with"),
        (["--rewards", "meta-view"], "requires a judge"),
        (["--manifest", "none.yaml"], "cannot be read"),
        (["--trajectory", "none.json"], "none.json"),
        (["--intrinsics", "none.json"], "none.json"),
        (["--prompts", "none.txt"], "none.txt"),
        (["--prompt", "a", "--prompts", "none.txt"], "not both"),
        (["--out", "/dev/null/out"], "Cannot write"),
        (["--report", "/dev/null/report.html"], "Cannot write"),
        (["--batch-size", "0"], "batch-size"),
    ],
)
def test_bad_options_exit_with_2(options: list[str], message: str, clip_file: Path) -> None:
    result = run(clip_file, *options)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert message in " ".join(result.stderr.split())
    assert "Traceback" not in result.stderr


def test_lpips_without_weights_names_the_weights_free_choice(
    clip_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "empty"))
    manifest = tmp_path / "m.yaml"
    manifest.write_text("version: 1\nreconstructor: {name: direct}\nrewards: [{name: reconstruction, metric: lpips}]\n")
    result = run(clip_file, "--prompt", PROMPT, "--manifest", manifest)
    assert result.exit_code == 2
    assert "metric" in result.stderr
    assert result.stdout == ""
