"""`worldr1 train` as a user runs it."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys

import pytest

from train.sites import MANIFEST, add_fake_world, write_prompts
from worldr1_train.checkpoints import find_last_checkpoint


@pytest.fixture
def train(tmp_path):
    """Run the program in its own process: `train(*arguments, manifest=..., limit=bytes a file)`."""
    add_fake_world(tmp_path / "site")
    write_prompts(tmp_path)

    def run(*arguments, manifest=MANIFEST, limit=None, **environment):
        (tmp_path / "run.yaml").write_text(manifest, encoding="utf-8")
        env = {**os.environ, "PYTHONPATH": str(tmp_path / "site"), "OMP_NUM_THREADS": "1", "NO_COLOR": "1"}
        command = [sys.executable, "-c", "from worldr1_core.cli import main; main()", "train", "run.yaml", *arguments]

        def limit_files():
            if limit is not None:
                resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

        return subprocess.run(
            command,
            cwd=tmp_path,
            env={**env, **environment},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
            preexec_fn=limit_files,
        )

    return run


def test_mistake_is_told_without_loading_the_trainer(train):
    """Which mistakes there are is in test_plan; this is how the program tells them."""
    done = train(manifest=MANIFEST.replace("group_size: 4", "groupsize: 4"))
    assert done.returncode == 2
    assert "run.yaml:10: train: unknown key 'groupsize'" in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_help_is_light():
    code = "import sys, worldr1_train.cli, worldr1_train.section; print(*{m.partition('.')[0] for m in sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not set(done.stdout.split()) & {"torch", "transformers", "trl", "accelerate", "numpy"}


@pytest.mark.slow
def test_run_from_manifest_to_adapter(train, tmp_path):
    done = train("--output-dir", "out", "--set", "train.max_steps=24", "--set", "train.evaluation.every=8")
    assert done.returncode == 0, done.stderr[-3000:]
    assert len(done.stdout.splitlines()) == 1
    result = json.loads(done.stdout)
    assert {"before", "after", "change", "seconds", "output_dir"} <= result.keys()
    assert result["steps"] == 24
    assert set(result["before"]) == {"brightness", "redness", "shine_accuracy", "diversity"}
    assert result["after"]["brightness"] > result["before"]["brightness"]
    assert result["change"]["brightness"]["low"] > 0
    out = tmp_path / "out"
    assert (out / "adapter" / "adapter.pt").exists()
    assert list((out / "samples").glob("*.mp4"))
    assert find_last_checkpoint(out).name == "checkpoint-24"
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "eval/brightness" in line] == [8, 16]
    steps = [line for line in lines if "loss" in line]
    assert [line["step"] for line in steps] == list(range(1, 25))
    assert all("kl" in line for line in steps), "an evaluation takes nothing out of the step's own line"

    again = train("--output-dir", "out")
    assert again.returncode == 2
    assert "--resume" in again.stderr
    resumed = train(
        "--output-dir", "out", "--resume", "--set", "train.max_steps=24", "--set", "train.evaluation.every=8"
    )
    assert json.loads(resumed.stdout)["after"] == result["after"], "a finished run resumes to its result"


@pytest.mark.slow
def test_full_disk_while_saving_is_told(train, tmp_path):
    """A limit on the size of files stands for a full disk: writing fails in the midst of the checkpoint."""
    done = train("--output-dir", "out", limit=4096)
    assert done.returncode == 2
    assert "Cannot write checkpoint" in done.stderr
    assert "Traceback" not in done.stderr
    assert find_last_checkpoint(tmp_path / "out") is None
    assert not list((tmp_path / "out").glob(".unfinished*"))


@pytest.mark.slow
def test_reward_that_is_gone_stops_the_run_and_it_goes_on_when_it_is_back(train, tmp_path):
    manifest = MANIFEST.replace("{name: brightness}", "{name: fragile}").replace("[brightness]", "[fragile]")
    manifest = manifest.replace("[brightness, redness, shine-accuracy]", "[redness]")
    stopped = train("--output-dir", "out", manifest=manifest, FRAGILE_FAILS="1")
    assert stopped.returncode == 1
    assert "the reward server is gone" in stopped.stderr
    assert "--resume" in stopped.stderr
    assert find_last_checkpoint(tmp_path / "out").name == "checkpoint-0"
    done = train("--output-dir", "out", "--resume", manifest=manifest)
    assert done.returncode == 0, done.stderr[-3000:]
    assert json.loads(done.stdout)["steps"] == 16
