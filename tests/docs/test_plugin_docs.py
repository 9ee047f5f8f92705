"""The page about plugins: its files are written, installed and run, and it lists every hook."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from worldr1_core import hookspecs
from worldr1_core.plugins import discover
from worldr1_core.registry import KINDS

TEXT = (Path(__file__).parents[2] / "docs" / "how-to" / "plugins.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True)
class Block:
    language: str
    text: str

    @property
    def file(self) -> str | None:
        """The file that the first line names, as in `# pyproject.toml`."""
        match = re.match(r"# ([\w/.-]+\.\w+)\n", self.text)
        return match[1] if match else None


BLOCKS = [Block(*match.groups()) for match in BLOCK.finditer(TEXT)]
HOOKS = sorted(name for name in vars(hookspecs) if name.startswith("worldr1_"))


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    """A folder with every file of the page, installed as its pyproject says; later blocks of a file are appended."""
    folder = tmp_path_factory.mktemp("docs")
    for block in BLOCKS:
        if block.file is not None:
            (folder / block.file).parent.mkdir(exist_ok=True)
            with (folder / block.file).open("a", encoding="utf-8") as file:
                file.write(block.text)
    project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
    info = folder / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
    points = "".join(f"{name} = {value}\n" for name, value in project["entry-points"]["worldr1"].items())
    (info / "entry_points.txt").write_text(f"[worldr1]\n{points}")
    frames = np.random.default_rng(0).random((3, 3, 16, 16), dtype=np.float32)
    np.save(folder / "clip.npy", frames)
    (folder / "prompts.txt").write_text("Camera push in. A red box in a green room with checker walls.\n")
    return folder


def _run(folder: Path, *command: str, timeout: int = 300) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1", "NO_COLOR": "1"}
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=timeout, check=False
    )


def _worldr1(folder: Path, *arguments: str, timeout: int = 300) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from worldr1_core.cli import main; main()", *arguments]
    return _run(folder, *command, timeout=timeout)


def test_every_block_is_of_a_kind_that_is_run():
    assert {block.language for block in BLOCKS} == {"python", "toml", "yaml", "console"}
    assert all(block.file for block in BLOCKS if block.language in ("toml", "yaml"))


def test_the_tests_of_the_page_pass(project):
    run = _run(project, sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests")
    assert run.returncode == 0, run.stdout + run.stderr


def test_blocks_that_are_no_file_run(project):
    code = "\n".join(block.text for block in BLOCKS if block.language == "python" and block.file is None)
    assert code
    run = _run(project, sys.executable, "-c", code)
    assert run.returncode == 0, run.stderr


def test_plain_reward_weighted_regression_fails_the_check_that_the_page_names(project):
    source = (project / "worldr1_reward_weighted.py").read_text()
    (project / "plain_regression.py").write_text(source.replace("torch.expm1(", "torch.exp("))
    code = """
from plain_regression import RewardWeightedObjective
from worldr1_core.testing import ConformanceError, check_objective

try:
    check_objective(RewardWeightedObjective)
except ConformanceError as error:
    assert list(error.report.failed) == ["zero-advantage"], error
else:
    raise AssertionError("every check passed")
check_objective(RewardWeightedObjective, skip={"zero-advantage": "also fits the model to its own average videos"})
"""
    run = _run(project, sys.executable, "-c", code)
    assert run.returncode == 0, run.stderr


COMMANDS = [line for b in BLOCKS if b.language == "console" for line in b.text.splitlines() if line.startswith("$ ")]


@pytest.mark.parametrize(
    "line",
    [pytest.param(line, marks=pytest.mark.slow) if line.startswith("$ worldr1 train ") else line for line in COMMANDS],
)
def test_commands_of_the_page_work(project, line):
    program, *arguments = line.removeprefix("$ ").split()
    assert program == "worldr1"
    run = _worldr1(project, *arguments, timeout=900)
    assert run.returncode == 0, run.stderr
    assert "brightness" in run.stdout


@pytest.mark.parametrize("manifest", [b.file for b in BLOCKS if b.language == "yaml"])
def test_manifests_of_the_page_validate(project, manifest):
    run = _worldr1(project, "validate", manifest)
    assert run.returncode == 0, run.stderr


@pytest.mark.slow
def test_the_sum_of_objectives_takes_a_step(project):
    changes = ("train.max_steps=1", "train.group_size=2", "train.ema=null", "train.evaluation=null")
    options = [part for change in changes for part in ("--set", change)]
    run = _worldr1(project, "train", "train-sum.yaml", "--output-dir", "runs/sum", *options, timeout=900)
    assert run.returncode == 0, run.stderr
    step = json.loads((project / "runs" / "sum" / "metrics.jsonl").read_text().splitlines()[0])
    assert any(name.endswith("matching_error") for name in step)
    assert any(name.endswith("clip_ratio/region_mean") for name in step)


def test_the_objective_of_the_page_weighs_videos_by_their_advantage(project):
    """Against a closed form: of a model that predicts 0, the loss is (exp(A / T) - 1) times the mean square target."""
    code = """
import math
from types import SimpleNamespace
import torch
from worldr1_core import SchedulePoint, UpdateBatch
from worldr1_reward_weighted import RewardWeightedObjective

step = SimpleNamespace(point=SchedulePoint(0, 500.0, 0.5, 0.25, 0.75))
latents, advantages = torch.ones(3, 4, 5, 64, 64), torch.tensor([-1.0, 0.0, 2.0])
batch = UpdateBatch(0, 1, lambda index: step, latents, advantages, torch.ones(3, dtype=torch.bool),
                    generator=torch.Generator().manual_seed(0))
policy = SimpleNamespace(predict=lambda step, sample: 0 * sample, note=lambda name, values, valid: None)
loss = RewardWeightedObjective(temperature=2.0).loss(batch, policy)
expected = torch.tensor([2 * (math.exp(a / 2) - 1) for a in advantages.tolist()])  # E (noise - 1)^2 = 2
torch.testing.assert_close(loss, expected, rtol=0.02, atol=1e-6)
"""
    run = _run(project, sys.executable, "-c", code)
    assert run.returncode == 0, run.stderr


def test_the_smallest_plugin_is_eight_lines_and_five():
    module, configuration = (
        next(b.text for b in BLOCKS if b.file == name) for name in ("worldr1_brightness.py", "pyproject.toml")
    )
    code = [line for line in module.splitlines()[1:] if line.strip() and not line.strip().startswith(('"""', "#"))]
    assert len(code) == 8
    assert len(configuration.splitlines()[1:]) == 5


@pytest.mark.parametrize("hook", HOOKS)
def test_every_hook_is_documented(hook):
    assert f"`{hook}`" in TEXT
    assert (getattr(hookspecs, hook).__doc__ or "").strip()


@pytest.mark.parametrize("hook", KINDS.values())
def test_every_hook_registers_what_a_plugin_returns(hook, site):
    site.add(
        "acme-things",
        f"""
        from worldr1_core import hookimpl
        @hookimpl
        def {hook}():
            return {{"thing": "acme_things:Thing"}}
        """,
    )
    (kind,) = [kind for kind, name in KINDS.items() if name == hook]
    entry = discover().registry.find(kind, "thing")
    assert (entry.target, entry.owner.distribution) == ("acme_things:Thing", "acme-things")


@pytest.mark.parametrize(
    "call", ["check_reward", "check_reconstructor", "check_judge", "check_objective", "check_plugin"]
)
def test_every_kit_is_documented(call):
    from worldr1_core import testing

    assert call in testing.__all__
    assert f"`{call}(" in TEXT
