"""`worldr1 ablate` from the command line: every run in two processes gives what it gives in one."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tiny_runs import manifest_of

from train.tiny_settings import TWO_STEPS

VARIANTS = """
variants:
  full: {}
  no warped noise: {noise: null}
"""
SMALL = (
    *TWO_STEPS,
    "train.evaluation.num_inference_steps=2",
    "train.evaluation.batch_size=1",
    "train.evaluation.metrics=[path-rerender, camera-move-likelihood, contrast]",
    "train.evaluation.diversity=null",
    "train.evaluation.reference_clips=null",
    "train.evaluation.num_shown=0",
    "sampler.num_inference_steps=2",
)
METRICS = ("path_rerender", "camera_move_likelihood", "contrast")


def worldr1(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", "from worldr1_core.cli import main; main()", *arguments],
        env={**os.environ, "OMP_NUM_THREADS": "1", "NO_COLOR": "1", **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def ablate(manifest: Path, folder: Path, processes: int) -> dict[str, Any]:
    options = ["--output-dir", str(folder), "--processes", str(processes), *(f"--set={value}" for value in SMALL)]
    done = worldr1("ablate", str(manifest), *options)
    assert done.returncode == 0, done.stderr[-3000:]
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    example = manifest_of("tiny")
    shutil.copytree(example.parent / "tiny-prompts", tmp_path / "tiny-prompts")
    path = tmp_path / "tiny.yaml"
    path.write_text(example.read_text(encoding="utf-8") + VARIANTS, encoding="utf-8")
    return path


@pytest.mark.slow
def test_runs_in_two_processes_give_the_table_of_runs_in_one(manifest: Path, tmp_path: Path) -> None:
    one, two = (ablate(manifest, tmp_path / str(count), count) for count in (1, 2))
    assert list(one["variants"]) == list(two["variants"])
    assert {"full", "no warped noise"} < set(one["variants"])
    for variant, figures in one["variants"].items():
        for metric in METRICS:
            assert two["variants"][variant][metric]["after"] == pytest.approx(figures[metric]["after"], abs=1e-3)
    trained, untrained = one["variants"]["full"], one["variants"]["no warped noise"]
    assert trained["path_rerender"]["after"] != untrained["path_rerender"]["after"]
    log = (tmp_path / "2" / "full-0" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    assert sum("loss" in json.loads(line) for line in log) == 2
