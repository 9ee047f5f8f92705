"""The benchmark of a GPU, on machines without one: CPU against CPU, and what it says where there is no CUDA."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import gpu
import pytest
import torch
from devices import training
from devices.measures import at_most
from tiny_runs import manifest_of

from worldr1_core.plugins import installed
from worldr1_train.plan import read_manifest
from worldr1_train.section import TrainSection

SCRIPT = Path(gpu.__file__)


def run(*arguments: str) -> tuple[int, dict[str, Any], str]:
    done = subprocess.run([sys.executable, str(SCRIPT), *arguments], capture_output=True, text=True, check=False)
    return done.returncode, json.loads(done.stdout.splitlines()[-1]), done.stderr


def test_a_bar_is_met_up_to_its_limit_and_missed_by_nan() -> None:
    assert at_most(0.5, 0.5) == {"value": 0.5, "bar": "<= 0.5", "passed": True}
    assert not at_most(0.51, 0.5)["passed"]
    assert not at_most(math.nan, 0.5)["passed"]


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has CUDA")
def test_without_cuda_it_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert gpu.main(["--quick"]) == 0
    shown = capsys.readouterr()
    assert "sees no CUDA device" in json.loads(shown.out.splitlines()[-1])["skipped"]
    assert shown.err.startswith("skipped: ")


def test_a_section_that_fails_leaves_the_others(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = {
        "score": {"error": "RuntimeError: out of memory", "section_seconds": 1.0},
        "sample": {"speedup": 2.0, "section_seconds": 1.0, "bars": {"latents": at_most(0.0, 1e-2)}},
    }
    monkeypatch.setattr(gpu, "run_apart", lambda name, args, seconds: found[name])
    assert gpu.main(["--device", "cpu", "--sections", "score", "sample"]) == 1
    summary = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert not summary["ok"]
    assert summary["sections"] == found
    assert gpu.main(["--device", "cpu", "--sections", "sample"]) == 0
    found["sample"]["bars"] = {"latents": at_most(0.1, 1e-2)}
    assert gpu.main(["--device", "cpu", "--sections", "sample"]) == 1


def test_an_error_of_a_section_is_its_type_and_message(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(gpu.SECTIONS, "score", "devices.measures:at_least")
    assert gpu.run_here("score", "cpu", True)["error"].startswith("AttributeError: module 'devices.measures'")


def test_a_process_without_a_result_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    args = gpu._parse(["--device", "cpu"])
    assert gpu.run_apart("score", args, 60)["error"] == "RuntimeError: the process ended with status 1 and no result"


@pytest.mark.parametrize("quick", [True, False])
@pytest.mark.parametrize("recipe", ["tiny", "tiny-flow-grpo"])
def test_what_it_changes_in_a_recipe_gives_a_manifest(recipe: str, quick: bool) -> None:
    changes = training.overrides(recipe, "cuda", "bfloat16", True, quick)
    section = read_manifest(manifest_of(recipe), installed().registry, changes).sections["train"]
    assert isinstance(section, TrainSection)
    assert section.evaluation is None
    assert section.precision == "bfloat16"
    assert section.total_steps == (2 if quick else 4)


@pytest.mark.slow
def test_the_cpu_agrees_with_itself() -> None:
    status, summary, shown = run("--device", "cpu", "--quick")
    assert status == 0, shown
    assert summary["ok"]
    assert list(summary["sections"]) == list(gpu.SECTIONS)
    for name, section in summary["sections"].items():
        assert "error" not in section
        assert ("bars" in section) == (name != "tests")
    assert summary["sections"]["reconstruct"]["poses_apart_degrees"] < 1e-6
