"""`Generator`, the Python front door: the frames of the command line, from names, paths, mappings and objects."""

from __future__ import annotations

import json

import pytest
import torch
from click.testing import CliRunner

from backbones.tiny_checkpoints import make_wan
from worldr1_backbones import CameraWarpNoise, Generator
from worldr1_backbones.samplers.flow_sde import FlowSDESampler
from worldr1_backbones.tiny import CHECKPOINT
from worldr1_backbones.wan import TinyWanBackbone, WanBackbone
from worldr1_core.backbone import AdapterSpec
from worldr1_core.camera.formats import save_trajectory
from worldr1_core.camera.vocabulary import trajectory_from_moves
from worldr1_core.cli import cli
from worldr1_core.errors import TrajectoryError, UnknownNameError, UserError, WeightsError
from worldr1_core.gaussian_noise import GaussianNoise
from worldr1_core.video import Video
from worldr1_core.video_io import read_video

PUSH = "Camera push in. A red box in a green room with checker walls."
PLAIN = "A blue ball in a red room with plain walls."
SMALL = {"height": 32, "width": 32, "num_frames": 9, "max_sequence_length": 16}


@pytest.fixture(scope="module")
def generator() -> Generator:
    return Generator.from_pretrained("tiny-wan", num_inference_steps=2)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wan")
    make_wan().save_pretrained(folder)
    return folder


def command_line(folder, *arguments) -> list[torch.Tensor]:
    """Frames that `worldr1 generate` writes, video by video."""
    call = ["generate", *map(str, arguments), "--format", "safetensors", "--out", str(folder)]
    done = CliRunner().invoke(cli, call, catch_exceptions=False)
    assert done.exit_code == 0, done.stderr
    return [read_video(json.loads(line)["video"]).frames for line in done.stdout.splitlines()]


def write_adapter(folder) -> None:
    """An adapter for the tiny model, with an effect."""
    backbone = TinyWanBackbone()
    backbone.add_adapter(AdapterSpec(rank=2))
    with torch.no_grad():
        for _, parameter in backbone.trainable_parameters():
            parameter.add_(0.02)
    backbone.save_adapter(folder)


def test_frames_are_those_of_the_command_line(generator, tmp_path):
    (expected,) = command_line(tmp_path, "--prompt", PUSH, "--seed", 7, "--num-inference-steps", 2)
    video = generator(PUSH, seed=7)
    assert isinstance(video, Video)
    assert torch.equal(video.frames, expected)


def test_default_steps_are_those_of_the_command_line():
    assert Generator.from_pretrained("tiny-wan").num_inference_steps == 20
    assert Generator.from_manifest().num_inference_steps == 20


def test_every_option_of_the_command_line_has_its_argument(tmp_path):
    path = save_trajectory(trajectory_from_moves(["orbit left"], 9), tmp_path / "orbit.json")
    write_adapter(tmp_path / "adapter")
    options = ["--adapter", tmp_path / "adapter", "--noise", "gaussian", "--trajectory", path, "--num-videos", 2]
    expected = command_line(tmp_path / "out", "--prompt", PUSH, "--num-inference-steps", 2, "--batch-size", 2, *options)
    adapted = Generator.from_pretrained(adapter=tmp_path / "adapter", noise="gaussian", num_inference_steps=2)
    videos = adapted(PUSH, trajectory=path, num_videos=2, batch_size=2, fps=5.0)
    assert [torch.equal(video.frames, frames) for video, frames in zip(videos, expected, strict=True)] == [True, True]
    assert videos[0].fps == 5.0


def test_a_list_of_prompts_gives_a_list_prompt_by_prompt(generator):
    videos = generator([PUSH, PLAIN], num_videos=2, seed=3)
    assert len(videos) == 4
    assert torch.equal(videos[3].frames, generator(PLAIN, seed=4).frames)
    (alone,) = generator([PLAIN], seed=4)
    assert torch.equal(videos[3].frames, alone.frames)


def test_noise_and_sampler_in_every_form_give_the_same_frames():
    options = {"injection": "blend", "strength": 0.5}
    noises = [{"name": "camera-warp", **options}, CameraWarpNoise(**options)]
    samplers = [{"name": "flow-sde", "num_inference_steps": 2}, FlowSDESampler(num_inference_steps=2)]
    first, second = (
        Generator.from_pretrained("tiny-wan", noise=noise, sampler=sampler)(PUSH, seed=1).frames
        for noise, sampler in zip(noises, samplers, strict=True)
    )
    assert torch.equal(first, second)
    plain = Generator.from_pretrained("tiny-wan", noise=GaussianNoise, sampler=samplers[0])(PUSH, seed=1).frames
    assert torch.equal(Generator(TinyWanBackbone(), sampler=samplers[1])(PUSH, seed=1).frames, plain)
    assert not torch.equal(first, plain)


def test_checkpoint_is_run_by_the_backbone_of_its_pipeline(checkpoint, tmp_path):
    found = Generator.from_pretrained(str(checkpoint), num_inference_steps=2, **SMALL)
    assert type(found.backbone) is WanBackbone
    named = Generator.from_pretrained("wan", path=str(checkpoint), num_inference_steps=2, **SMALL)
    assert torch.equal(found(PUSH).frames, named(PUSH).frames)


def test_checkpoint_of_a_backbone_takes_that_backbone_with_its_sizes():
    backbone = Generator.from_pretrained(str(CHECKPOINT)).backbone
    assert type(backbone) is TinyWanBackbone
    assert backbone.geometry.video_height == 64


def test_command_line_takes_a_checkpoint_for_a_backbone(tmp_path):
    steps = ["--num-inference-steps", 1]
    (named,) = command_line(tmp_path / "a", "--prompt", PUSH, *steps)
    (path,) = command_line(tmp_path / "b", "--prompt", PUSH, "--backbone", CHECKPOINT, *steps)
    assert torch.equal(named, path)


def test_checkpoint_of_a_pipeline_that_no_backbone_runs(tmp_path):
    (tmp_path / "model_index.json").write_text('{"_class_name": "MochiPipeline"}')
    with pytest.raises(UserError, match=r"'MochiPipeline', which no registered backbone runs.*'WanPipeline'"):
        Generator.from_pretrained(str(tmp_path))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"backbone": "tiny-wam"}, UnknownNameError, "Did you mean 'tiny-wan'.*hub id"),
        ({"backbone": "/nowhere/model"}, WeightsError, "model_index.json"),
        ({"noise": "camera-wrap"}, UnknownNameError, "Did you mean 'camera-warp'"),
        ({"noise": {"degradation": 0.1}}, UserError, "needs a name"),
        ({"noise": FlowSDESampler()}, UserError, "noise conditioner must be a registered name"),
        ({"noise": {"name": "camera-warp", "degradation": 2.0}}, UserError, "degradation"),
        ({"num_frame": 9}, UserError, "num_frame"),
        ({"num_inference_steps": 0}, UserError, "num_inference_steps must be .* received 0"),
        ({"adapter": "/nowhere/adapter"}, WeightsError, "adapter"),
    ],
)
def test_a_wrong_argument_is_an_error_that_names_it(arguments, error, message):
    with pytest.raises(error, match=message):
        Generator.from_pretrained(**arguments)


@pytest.mark.parametrize(
    ("prompts", "options", "message"),
    [
        ("  ", {}, "must not be empty"),
        ([], {}, "received \\[\\]"),
        ([PUSH, None], {}, "list of at least one text"),
        (PUSH, {"seed": -1}, "seed must be .* received -1"),
        (PUSH, {"seed": 1.5}, "seed must be .* received 1.5"),
        (PUSH, {"num_videos": 0}, "num_videos must be .* received 0"),
        (PUSH, {"batch_size": 0}, "batch_size"),
        (PUSH, {"trajectory": trajectory_from_moves(["orbit left"], 7)}, "7 poses, the video 9 frames"),
    ],
)
def test_a_wrong_request_is_refused(generator, prompts, options, message):
    with pytest.raises(UserError, match=message):
        generator(prompts, **options)


def test_every_prompt_is_checked_before_the_first_video(generator, monkeypatch):
    monkeypatch.setattr(type(generator.backbone), "sample", lambda *_, **__: pytest.fail("sampled"))
    crowded = "Camera push in, pull out, push in, pull out, push in, pull out, push in, pull out, fixed."
    with pytest.raises(TrajectoryError, match="9"):
        generator([PUSH, crowded])


def test_names_are_refused_where_objects_are_needed():
    with pytest.raises(UserError, match=r"Backbone object here, received 'tiny-wan'.*from_pretrained"):
        Generator("tiny-wan")
