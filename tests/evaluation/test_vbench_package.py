"""The metric `vbench-package` with a small package of the same interface in place of vbench."""

from __future__ import annotations

import sys

import pytest
import torch

from worldr1_core.clip import Clip
from worldr1_core.errors import ScoreUnavailable, UserError
from worldr1_core.reward import RewardInputs
from worldr1_core.video import Video
from worldr1_rewards import evaluate
from worldr1_rewards.rewards.vbench_package import VBenchPackageReward

PACKAGE = '''
"""What World-R1 uses of vbench 0.1.5: the class, its methods' arguments, and the file of results."""
import json
import os

print("messages of vbench go to stdout")


class VBench:
    def __init__(self, device, full_info_dir, output_path):
        assert device == "cpu" and full_info_dir.endswith("VBench_full_info.json")
        self.output_path = output_path

    def evaluate(self, videos_path, name, prompt_list=[], dimension_list=None, local=False, read_frame=False, mode="x"):
        assert mode == "custom_input" and os.path.isfile(videos_path) and videos_path.endswith(".mp4")
        if prompt_list == ["broken"]:
            raise RuntimeError("no such weights")
        size = os.path.getsize(videos_path)
        results = {
            dimension: [0.1 * (place + 1), [{"video_path": videos_path, "video_results": size}]]
            for place, dimension in enumerate(dimension_list)
        }
        with open(os.path.join(self.output_path, name + "_eval_results.json"), "w") as stream:
            json.dump(results, stream)
'''
CLIP = Clip(Video(torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(0))), "a cat")


@pytest.fixture
def vbench(tmp_path, monkeypatch):
    package = tmp_path / "site" / "vbench"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(PACKAGE, encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "site"))


def test_figures_are_those_of_the_package(vbench):
    reward = VBenchPackageReward(dimensions=["motion_smoothness", "imaging_quality"])
    score = reward.score(CLIP, RewardInputs(None))
    assert score.details == {"vbench_motion_smoothness": 0.1, "vbench_imaging_quality": 0.2}
    assert score.value == pytest.approx(0.15)


def test_columns_of_an_evaluation(vbench):
    manifest = {"version": 1, "rewards": [{"name": "vbench-package", "dimensions": ["dynamic_degree"]}]}
    result = evaluate({"x": [CLIP]}, manifest=manifest)
    assert result.videos[0].values == {"vbench_dynamic_degree": 0.1}
    assert "VBench dynamic degree (%)" in result.to_markdown()
    assert "motion smoothness" not in result.to_markdown()


def test_failures_of_the_package_are_reasons(vbench):
    with pytest.raises(ScoreUnavailable, match=r"exit code 1: .*RuntimeError: no such weights"):
        VBenchPackageReward().score(Clip(CLIP.video, "broken"), RewardInputs(None))


def test_a_missing_package_and_python_are_explained(tmp_path):
    python = tmp_path / "python"
    with pytest.raises(UserError, match="cannot be run"):
        VBenchPackageReward(python=str(python)).score(CLIP, RewardInputs(None))
    python.write_text(f'#!/bin/sh\nexec {sys.executable} -S "$@"\n', encoding="utf-8")  # without any site-packages
    python.chmod(0o755)
    with pytest.raises(UserError, match=r"vbench cannot be imported by .*No module named 'vbench'.*uv venv"):
        VBenchPackageReward(python=str(python)).score(CLIP, RewardInputs(None))
