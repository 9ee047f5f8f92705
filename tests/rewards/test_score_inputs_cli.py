"""`worldr1 score` on inputs that are partly missing, too large, or what other commands wrote."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from PIL import Image

from worldr1_core.cli import cli
from worldr1_core.video import Video
from worldr1_core.video_io import read_video, write_video
from worldr1_rewards.probes.world.clips import render_world

PROMPT = "Camera move left. A room with boxes."


@pytest.fixture(scope="module")
def clip_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clips") / "room.mp4"
    write_video(Video(render_world("rich", "move left", num_frames=5, size=(48, 48), seed=3).frames), path)
    return path


@pytest.fixture
def folder(clip_file: Path, tmp_path: Path) -> Path:
    """Two videos, as `worldr1 generate --out` leaves them."""
    for index, prompt in enumerate((PROMPT, "A room with boxes.")):
        stem = f"{index:03d}-room-seed{index}"
        (tmp_path / f"{stem}.mp4").write_bytes(clip_file.read_bytes())
        record = {"video": f"{stem}.mp4", "prompt": prompt, "seed": index, "trajectory": None}
        (tmp_path / f"{stem}.json").write_text(json.dumps(record))
        Image.new("RGB", (60, 40)).save(tmp_path / f"{stem}.path.png")
    Image.new("RGB", (80, 30)).save(tmp_path / "contact-sheet.png")
    return tmp_path


def run(*args: object) -> Result:
    return CliRunner().invoke(cli, ["score", *map(str, args)])


def lines(result: Result) -> list[dict[str, Any]]:
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_a_missing_video_leaves_the_others(clip_file: Path, tmp_path: Path) -> None:
    result = run(tmp_path / "none.mp4", clip_file, tmp_path / "gone", "--prompt", PROMPT)
    assert result.exit_code == 2
    assert [line["video"] for line in lines(result)] == [str(clip_file)]
    for name in ("none.mp4", "gone"):
        assert f"Error: {tmp_path / name}: no such file or folder." in result.stderr


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_a_missing_video_in_a_list_leaves_the_other_row(suffix: str, clip_file: Path) -> None:
    path = clip_file.with_name(f"list{suffix}")
    if suffix == ".csv":
        path.write_text(f"video,prompt\nnone.mp4,{PROMPT}\nroom.mp4,{PROMPT}\n")
    else:
        path.write_text("".join(json.dumps({"video": v, "prompt": PROMPT}) + "\n" for v in ("none.mp4", "room.mp4")))
    result = run(path)
    assert result.exit_code == 2
    assert [(line["video"], line["prompt"]) for line in lines(result)] == [(str(clip_file), PROMPT)]
    assert f"list{suffix}:{2 if suffix == '.csv' else 1}: " in result.stderr
    assert "none.mp4: no such file or folder" in result.stderr


def test_a_malformed_list_scores_nothing(clip_file: Path) -> None:
    path = clip_file.with_name("unclosed.csv")
    path.write_text(f'video,prompt\nroom.mp4,"{PROMPT}\nroom.mp4,{PROMPT}\n')
    result = run(path)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "unclosed.csv:2: malformed CSV: a quotation mark that is opened in this row is never closed" in result.stderr


def test_the_folder_that_generate_wrote_is_scored_with_its_prompts(folder: Path) -> None:
    result = run(folder)
    assert result.exit_code == 0, result.stderr
    assert [line["prompt"] for line in lines(result)] == [PROMPT, "A room with boxes."]
    assert [line["scores"]["trajectory"] is None for line in lines(result)] == [False, True]


@pytest.mark.parametrize("out", [".", "scores"])
def test_outputs_within_the_scored_folder_are_no_inputs_the_second_time(folder: Path, out: str) -> None:
    runs = [run(folder, "--out", folder / out, "--report", folder / "report.html") for _ in range(2)]
    assert [result.exit_code for result in runs] == [0, 0], runs[-1].stderr
    first, second = ([(line["video"], line["scores"]) for line in lines(result)] for result in runs)
    assert len(first) == 2
    assert first == second
    assert (folder / out / "000-room-seed0" / "rerender.mp4").exists()


def test_outputs_do_not_fall_among_the_frames_of_a_clip(clip_file: Path, tmp_path: Path) -> None:
    frames = write_video(read_video(clip_file), tmp_path / "room")
    before = sorted(path.name for path in frames.iterdir())
    for _ in range(2):
        result = run(tmp_path, "--out", tmp_path, "--prompt", PROMPT)
        assert [line["video"] for line in lines(result)] == [str(frames)]
    assert sorted(path.name for path in frames.iterdir()) == before
    assert (tmp_path / "room-2" / "scores.json").exists()


def _exhausted(*_: object, **__: object) -> None:
    raise MemoryError


def test_a_clip_that_cannot_be_held_leaves_the_others(
    clip_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    large = tmp_path / "large.mp4"
    large.write_bytes(clip_file.read_bytes())
    monkeypatch.setattr(
        "worldr1_rewards.inputs.read_video",
        lambda path, *rest, **options: _exhausted() if path == large else read_video(path, *rest, **options),
    )
    result = run(large, clip_file, "--prompt", PROMPT)
    assert result.exit_code == 2
    assert [line["video"] for line in lines(result)] == [str(clip_file)]
    assert "large.mp4: the frames do not fit into memory" in result.stderr


def test_a_clip_that_cannot_be_scored_for_lack_of_memory_says_so(
    clip_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worldr1_rewards.reconstructors.auto.AutoReconstructor.reconstruct", _exhausted)
    (line,) = lines(run(clip_file, "--prompt", PROMPT))
    assert line["total"] is None
    assert "out of memory; take a smaller or shorter clip" in line["reasons"]["reconstruction"]


def test_pictures_that_do_not_fit_into_memory_leave_the_scores(
    clip_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worldr1_rewards.report.views.clip_views", _exhausted)
    result = run(clip_file, clip_file, "--prompt", PROMPT, "--out", tmp_path / "out")
    assert result.exit_code == 2
    assert len(lines(result)) == 2
    assert "its pictures do not fit into memory" in result.stderr


def test_a_line_says_when_a_long_clip_begins(clip_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("worldr1_rewards.cli.LONG_CLIP_FRAMES", 5)
    result = run(clip_file, "--prompt", PROMPT)
    (said,) = [line for line in result.stderr.splitlines() if "scoring a long clip" in line]
    assert "room.mp4" in said
    assert "frames=5" in said
    assert "size=48x48" in said


def test_a_prompt_with_a_line_separator_stays_one_line(clip_file: Path) -> None:
    prompt = "Camera move left.\u2028A room\u0085with boxes."
    (line,) = lines(run(clip_file, "--prompt", prompt))
    assert line["prompt"] == prompt


def test_a_report_does_not_replace_a_video(clip_file: Path) -> None:
    before = clip_file.read_bytes()
    result = run(clip_file, "--report", clip_file)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "is one of the videos" in result.stderr
    assert clip_file.read_bytes() == before


@pytest.mark.parametrize("arguments", [[""], ["room.mp4", "--out", ""], ["room.mp4", "--trajectory", ""]])
def test_an_empty_argument_is_not_the_current_folder(
    arguments: list[str], clip_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(clip_file.parent)
    result = run(*arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "must not be empty" in result.stderr


@pytest.mark.parametrize("name", ["x" * 300, "a\0b", "loop", "pipe.mp4"])
def test_a_path_that_cannot_be_opened_is_reported(name: str, tmp_path: Path) -> None:
    if name == "loop":
        (tmp_path / "loop").symlink_to("loop")
    if name == "pipe.mp4":
        os.mkfifo(tmp_path / name)
    (tmp_path / "list.jsonl").write_text(json.dumps({"video": name}) + "\n")
    result = run(tmp_path / "list.jsonl")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("Error: ")


def test_names_and_prompts_that_are_no_utf8_are_escaped(clip_file: Path, tmp_path: Path) -> None:
    video = tmp_path / "caf\udce9.mp4"
    video.write_bytes(clip_file.read_bytes())
    result = run(video, "--prompt", "A room \ud800", "--out", tmp_path / "out", "--report", tmp_path / "report.html")
    assert result.exit_code == 0, result.stderr
    (line,) = lines(result)
    assert (line["video"], line["prompt"]) == (str(video), "A room \ud800")
    assert (tmp_path / "report.html").stat().st_size > 0
