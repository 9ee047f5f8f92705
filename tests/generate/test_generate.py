"""`worldr1 generate` on a tiny random Wan: files, records, seeds, and every way to ask wrongly."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from backbones.tiny_checkpoints import make_wan
from worldr1_core.camera.formats import load_trajectory, save_trajectory
from worldr1_core.camera.vocabulary import trajectory_from_moves, trajectory_from_prompt
from worldr1_core.cli import cli
from worldr1_core.video_io import read_video
from worldr1_rewards.inputs import collect_requests, load_request

PUSH = "Camera push in. A red room."


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("wan")
    make_wan().save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def manifest(checkpoint) -> Path:
    path = checkpoint.parent / "manifest.yaml"
    path.write_text(
        "version: 1\nseed: 5\n"
        f"backbone: {{name: wan, path: {checkpoint}, height: 32, width: 32, num_frames: 9, max_sequence_length: 16}}\n"
        "noise: {name: camera-warp}\n"
        "sampler: {name: flow-sde, num_inference_steps: 3}\n"
    )
    return path


def run(*arguments: object):
    return CliRunner().invoke(cli, ["generate", *map(str, arguments)], catch_exceptions=False)


def lines(result) -> list[dict]:
    assert result.exit_code == 0, result.stderr
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_video_record_path_and_sheet_are_written(manifest, tmp_path):
    (line,) = lines(run(manifest, "--prompt", PUSH, "--out", tmp_path / "out"))
    video = Path(line["video"])
    assert read_video(video).frames.shape == (9, 3, 32, 32)
    assert {path.name for path in video.parent.iterdir()} == {
        video.name,
        f"{video.stem}.json",
        f"{video.stem}.path.png",
        "contact-sheet.png",
    }
    record = json.loads(video.with_suffix(".json").read_text())
    assert (record["prompt"], record["seed"], record["num_inference_steps"]) == (PUSH, 5, 3)
    assert {"python", "torch", "diffusers", "worldr1-backbones"} <= record["versions"].keys()
    np.testing.assert_allclose(record["trajectory"]["c2w"], trajectory_from_prompt(PUSH, 9).c2w.numpy())
    with Image.open(video.parent / "contact-sheet.png") as sheet:
        assert sheet.width == 8 * 160


def test_same_command_makes_the_same_bytes(manifest, tmp_path):
    for name in ("a", "b"):
        lines(run(manifest, "--prompt", PUSH, "--num-videos", 2, "--out", tmp_path / name))
    files = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert len(files) == 7
    for name in files:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes(), name


def test_second_video_of_a_prompt_is_the_first_of_the_next_seed(manifest, tmp_path):
    lines(
        run(manifest, "--prompt", PUSH, "--num-videos", 2, "--seed", 7, "--format", "frames", "--out", tmp_path / "a")
    )
    lines(run(manifest, "--prompt", PUSH, "--seed", 8, "--format", "frames", "--out", tmp_path / "b"))
    both = {path.name: read_video(path).frames for path in (tmp_path / "a").iterdir() if path.is_dir()}
    (alone,) = (path for path in (tmp_path / "b").iterdir() if path.is_dir())
    assert both[alone.name].equal(read_video(alone).frames)
    first, second = both.values()
    assert not first.equal(second)


def test_batched_videos_equal_single_ones_up_to_rounding(manifest, tmp_path):
    arguments = [manifest, "--prompt", PUSH, "--prompt", "A blue room.", "--format", "safetensors"]
    single = lines(run(*arguments, "--out", tmp_path / "a"))
    batched = lines(run(*arguments, "--batch-size", 2, "--out", tmp_path / "b"))
    for one, other in zip(single, batched, strict=True):
        difference = read_video(one["video"]).frames - read_video(other["video"]).frames
        assert difference.abs().max() < 1e-4


def test_trajectory_file_takes_the_place_of_the_camera_words(manifest, tmp_path):
    path = save_trajectory(trajectory_from_moves(["orbit left"], 9), tmp_path / "orbit.json")
    (line,) = lines(run(manifest, "--prompt", PUSH, "--trajectory", path, "--out", tmp_path / "out"))
    record = json.loads(Path(line["video"]).with_suffix(".json").read_text())
    np.testing.assert_allclose(record["trajectory"]["c2w"], load_trajectory(path).c2w.numpy())


def test_camera_words_change_the_video_and_plain_prompts_have_no_path(manifest, tmp_path):
    (moving,) = lines(run(manifest, "--prompt", PUSH, "--out", tmp_path / "a", "--format", "safetensors"))
    (plain,) = lines(run(manifest, "--prompt", "A red room.", "--out", tmp_path / "b", "--format", "safetensors"))
    assert json.loads(Path(plain["video"]).with_suffix(".json").read_text())["trajectory"] is None
    assert not list((tmp_path / "b").glob("*.path.png"))
    (gaussian,) = lines(
        run(manifest, "--prompt", PUSH, "--noise", "gaussian", "--out", tmp_path / "c", "--format", "safetensors")
    )
    assert not read_video(moving["video"]).frames.equal(read_video(gaussian["video"]).frames)


@pytest.mark.parametrize("file_format", ["mp4", "frames", "safetensors"])
def test_the_folder_can_be_scored_as_it_is(manifest, tmp_path, file_format):
    path = save_trajectory(trajectory_from_moves(["orbit left"], 9), tmp_path / "orbit.json")
    prompts = ["--prompt", PUSH, "--prompt", "A red room."]
    made = lines(run(manifest, *prompts, "--trajectory", path, "--format", file_format, "--out", tmp_path / "out"))
    requests = collect_requests([tmp_path / "out"])
    assert [(str(r.video), r.prompt) for r in requests] == [(line["video"], line["prompt"]) for line in made]
    for request in requests:
        np.testing.assert_allclose(load_request(request).target.c2w, load_trajectory(path).c2w)


def test_prompt_file_and_gif(manifest, tmp_path):
    (tmp_path / "prompts.txt").write_text("# two prompts\nCamera pan left. A room.\n\nA red ball.\n")
    arguments = ["--prompts", tmp_path / "prompts.txt", "--format", "gif", "--num-inference-steps", 2]
    made = lines(run(manifest, *arguments, "--out", tmp_path / "out"))
    assert [line["prompt"] for line in made] == ["Camera pan left. A room.", "A red ball."]
    assert all(read_video(line["video"]).num_frames == 9 for line in made)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "Give prompts"),
        (["--prompt", "  "], "must not be empty"),
        (["--prompt", "a", "--prompts", "p.txt"], "Give prompts"),
        (["--prompts", "absent.txt"], "cannot be read"),
        (["--prompt", "a", "--backbone", "wam"], "Did you mean 'wan'"),
        (["--prompt", "a", "--noise", "camera-wrap"], "Did you mean 'camera-warp'"),
        (["--prompt", "a", "--trajectory", "absent.json"], "absent.json"),
        (["--prompt", "a", "--adapter", "absent"], "absent"),
        (["--prompt", "a", "--format", "gif", "--lossless"], "lossless"),
        (
            ["--prompt", "Camera push in, pull out, push in, pull out, push in, pull out, push in, pull out, fixed."],
            "9",
        ),
    ],
)
def test_what_cannot_be_done_is_said_and_nothing_is_written(manifest, tmp_path, arguments, message):
    result = run(manifest, *arguments, "--out", tmp_path / "out")
    assert result.exit_code == 2
    assert message in result.stderr
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())


def test_trajectory_of_another_length_is_refused(manifest, tmp_path):
    path = save_trajectory(trajectory_from_moves(["orbit left"], 7), tmp_path / "orbit.json")
    result = run(manifest, "--prompt", PUSH, "--trajectory", path, "--out", tmp_path / "out")
    assert result.exit_code == 2
    assert "7 poses, the clip has 9 frames" in result.stderr


def test_manifest_without_a_backbone_is_refused(tmp_path):
    (tmp_path / "m.yaml").write_text("version: 1\n")
    result = run(tmp_path / "m.yaml", "--prompt", "a", "--out", tmp_path / "out")
    assert result.exit_code == 2
    assert "names none" in result.stderr
    assert "tiny-wan" in result.stderr


def test_unwritable_output_is_refused(manifest, tmp_path):
    (tmp_path / "file").write_text("")
    result = run(manifest, "--prompt", "a", "--out", tmp_path / "file" / "out")
    assert result.exit_code == 2
    assert "Cannot write" in result.stderr
