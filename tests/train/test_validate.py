"""`worldr1 validate` and the plan of a run find what objectives cannot train with, before anything is created."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner
from tiny_runs import manifest_of

from worldr1_core.cli import cli
from worldr1_core.errors import UserError
from worldr1_core.plugins import installed
from worldr1_train.plan import plan_run

TINY = manifest_of("tiny").read_text(encoding="utf-8")


def write(folder: Path, *replacements: tuple[str, str]) -> Path:
    text = TINY
    for old, new in replacements:
        assert old in text, old
        text = text.replace(old, new)
    path = folder / "m.yaml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("replacement", "message"),
    [
        (
            ("micro_batch_size: 4", "micro_batch_size: 1"),
            "train.objective: Objective 'reward-gradient' compares the videos of a prompt in a micro-batch, received "
            "group_size 2 (num_generations in Python) and micro_batch_size 1",
        ),
        (
            ("prompts: dynamic,", "prompts: dynamic, objective: {name: flow-grpo},"),
            "train.stages.1.objective: Objective 'flow-grpo' needs a window of stochastic steps, received window 0",
        ),
        (
            ("  - {name: path-rerender,", "  - {name: trajectory}\n  - {name: path-rerender,"),
            "train.objective: Objective 'reward-gradient' needs the gradients of rewards, and ['trajectory'] have none",
        ),
        (
            ("gradient-x: 1.015", "gradent-x: 1.015"),
            "train.objective: Objective 'reward-gradient' (statistics ['gradent-x', ",
        ),
        (("gradient-x: 1.015", "camera-accuracy: 1.015"), "Remove them from the options of the objective."),
        (("backbone: {name: tiny-wan-flawed, guidance_scale: 1.0}", "backbone: null"), "training needs a backbone"),
        (("metrics: [psnr,", "metrics: [pnsr,"), "Unknown reward 'pnsr'"),
        (("rewards: [tiny-text-alignment]", "rewards: [text]"), "'text' is not a reward of this manifest"),
    ],
)
def test_what_does_not_fit_together_is_refused_alike_by_validate_and_train(tmp_path, replacement, message):
    path = write(tmp_path, replacement)
    validated = CliRunner().invoke(cli, ["validate", str(path)], catch_exceptions=False)
    assert validated.exit_code == 2
    assert message in validated.output
    with pytest.raises(UserError) as planned:
        plan_run(path, installed().registry, output_dir=tmp_path / "out")
    assert validated.output.strip() == f"Error: {planned.value}"
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["tiny", "tiny-flow-grpo"])
def test_manifests_of_the_examples_are_valid(name):
    done = CliRunner().invoke(cli, ["validate", str(manifest_of(name))], catch_exceptions=False)
    assert done.exit_code == 0
    assert '"valid": true' in done.output
