"""`worldr1 eval`: a model or a folder of videos, without training."""

from __future__ import annotations

import json

import pytest
import torch
from click.testing import CliRunner

from train.sites import MANIFEST, write_prompts
from train.test_plan import COMPONENTS
from worldr1_core.errors import UserError
from worldr1_core.plugins import Installed
from worldr1_core.video import Video
from worldr1_core.video_io import write_video
from worldr1_train.cli import train
from worldr1_train.cli_eval import evaluate


@pytest.fixture
def run(tmp_path, make_registry, monkeypatch):
    """Run the command on the fake world: `run(*arguments)`; its result."""
    write_prompts(tmp_path)
    (tmp_path / "run.yaml").write_text(MANIFEST, encoding="utf-8")
    registry = make_registry(COMPONENTS)
    monkeypatch.setattr("worldr1_core.plugins.installed", lambda: Installed(registry))

    def invoke(*arguments):
        done = CliRunner().invoke(
            evaluate, [str(tmp_path / "run.yaml"), *map(str, arguments)], catch_exceptions=False, standalone_mode=False
        )
        return json.loads(done.stdout.splitlines()[-1])

    return invoke


def test_model_is_measured_on_the_test_prompts(run, tmp_path):
    result = run("--out", tmp_path / "base.json")
    assert result["num_videos"] == 4
    assert set(result["means"]) == {"brightness", "redness", "shine_accuracy", "diversity"}
    again = run("--against", tmp_path / "base.json")
    assert again["means"] == result["means"]
    assert again["change"]["brightness"] == {"mean": 0.0, "low": 0.0, "high": 0.0, "num_pairs": 4}


def test_evaluated_videos_may_take_other_steps_than_those_of_training(run, tmp_path):
    usual = run()["means"]
    own = run("--set", "train.evaluation.num_inference_steps=5")["means"]
    assert own != usual
    assert own == run("--set", "sampler.num_inference_steps=5")["means"]
    arguments = [str(tmp_path / "run.yaml"), "--output-dir", str(tmp_path / "trained"), "--set", "train.max_steps=2"]
    arguments += ["--set", "train.evaluation.num_inference_steps=5"]
    done = CliRunner().invoke(train, arguments, catch_exceptions=False, standalone_mode=False)
    assert json.loads(done.stdout.splitlines()[-1])["before"] == pytest.approx(own)


def test_training_and_standalone_evaluation_give_the_same_figures(run, tmp_path):
    """Diversity included; and a resumed run, or `eval` of another day, compares with what the run has saved."""
    means = run()["means"]
    arguments = [str(tmp_path / "run.yaml"), "--output-dir", str(tmp_path / "trained"), "--set", "train.max_steps=2"]
    done = CliRunner().invoke(train, arguments, catch_exceptions=False, standalone_mode=False)
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["before"] == pytest.approx(means)
    assert result["trained"] == ["brightness", "redness"]
    before, adapter = tmp_path / "trained" / "evaluation-before.json", tmp_path / "trained" / "adapter"
    again = run("--adapter", adapter, "--against", before)
    assert again["means"] == pytest.approx(result["after"])
    assert again["change"]["diversity"] == pytest.approx(result["change"]["diversity"])
    assert again["change"]["diversity"]["num_pairs"] == 4
    assert again["alarms"] == result["alarms"] == []


def test_diversity_can_be_switched_off(run):
    assert "diversity" not in run("--set", "train.evaluation.diversity=null")["means"]


def test_bounds_of_a_metric_that_is_not_measured(run):
    with pytest.raises(UserError, match=r"bounds names 'redniss'.*Did you mean 'redness'"):
        run("--set", "train.evaluation.alarms.bounds={redniss: {min_ratio: 0.9}}")


def test_videos_of_a_folder_are_measured_with_their_prompts(run, tmp_path):
    folder = tmp_path / "videos"
    for index, level in enumerate((0.25, 0.75)):
        write_video(Video(torch.full((3, 3, 16, 16), level)), folder / f"{index}.safetensors")
    (folder / "0.json").write_text(json.dumps({"prompt": "a cat"}))
    (folder / "1.txt").write_text("a dog\n")
    result = run("--videos", folder, "--out", tmp_path / "videos.json")
    assert result["means"]["brightness"] == pytest.approx(0.5)
    assert json.loads((tmp_path / "videos.json").read_text())["prompts"] == ["a cat", "a dog"]


def test_file_that_is_no_evaluation(run, tmp_path):
    (tmp_path / "wrong.json").write_text("[]")
    with pytest.raises(UserError, match="cannot be read as an evaluation"):
        run("--against", tmp_path / "wrong.json")
