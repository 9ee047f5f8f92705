"""The reference of `worldr1 train`: its manifests are complete, and what it says of stages and weights holds."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from pydantic import ValidationError

from worldr1_core.plugins import installed
from worldr1_train.plan import plan_run
from worldr1_train.section import TrainSection

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "reference" / "training.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```yaml\n(.*?)^```$", TEXT, re.DOTALL | re.MULTILINE)
MANIFESTS = [text for text in BLOCKS if text.startswith("version:")]
OBJECTIVES = [text for text in BLOCKS if text.startswith("objective:")]


@pytest.fixture
def manifest(tmp_path) -> Path:
    """The manifest of the page, beside the repository's examples."""
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    (text,) = MANIFESTS
    (tmp_path / "manifest.yaml").write_text(text, encoding="utf-8")
    return tmp_path / "manifest.yaml"


def _section(objective: object) -> TrainSection:
    return TrainSection.model_validate({"stages": [{"steps": 8}], "objective": objective})


def test_every_block_is_a_manifest_or_an_objective():
    assert len(MANIFESTS) + len(OBJECTIVES) == len(BLOCKS)


def test_the_manifest_is_complete(manifest, tmp_path):
    plan = plan_run(manifest, installed().registry, output_dir=tmp_path / "out")
    assert plan.section.total_steps == 100
    assert plan.prompts["main"]


@pytest.mark.slow
def test_the_manifest_takes_a_step(manifest, tmp_path):
    changes = ("train.max_steps=1", "train.ema=null", "train.evaluation=null", "train.prompts_per_rollout_batch=2")
    options = [part for change in changes for part in ("--set", change)]
    command = [sys.executable, "-c", "from worldr1_core.cli import main; main()", "train", manifest.name, *options]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "NO_COLOR": "1"}
    run = subprocess.run(
        [*command, "--output-dir", "out"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    step = json.loads((tmp_path / "out" / "metrics.jsonl").read_text().splitlines()[0])
    assert {"reward_gain", "anchor/first_frame", "keep/motion/ratio", "keep/motion/multiplier"} <= step.keys()


def test_stages_are_required():
    with pytest.raises(ValidationError, match="stages"):
        TrainSection.model_validate({"group_size": 4})


@pytest.mark.parametrize("text", OBJECTIVES)
def test_objectives_of_the_page_have_the_weights_that_it_says(text):
    (first, second) = _section(yaml.safe_load(text)["objective"]).objective
    assert (first.weight, second.weight) == (1.0, 0.5)


def test_a_lone_objective_may_have_a_weight():
    assert _section({"name": "nft", "weight": 0.5}).objective.weight == 0.5
    assert _section({"name": "nft"}).objective.weight == 1.0
    assert _section({"name": "flow-grpo", "weight": 1e6}).objective.weight == 1e6


@pytest.mark.parametrize("weight", [0.0, -1.0, 1.1e6])
def test_weights_out_of_the_range_of_the_page_are_refused(weight):
    with pytest.raises(ValidationError, match="weight"):
        _section([{"name": "nft", "weight": weight}])
