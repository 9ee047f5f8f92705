"""Two processes (torchrun, gloo) do what one does, and resume exactly too."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from train.sites import MANIFEST, add_fake_world, write_prompts
from train.test_resume import deterministic_part, result_of, start, wait_for
from worldr1_train.checkpoints import find_last_checkpoint


def start_two(folder: Path, output_dir: Path, *arguments: str) -> subprocess.Popen:
    environment = {**os.environ, "PYTHONPATH": str(folder / "site"), "OMP_NUM_THREADS": "1", "NO_COLOR": "1"}
    program = [sys.executable, "-c", "from worldr1_core.cli import main; main()", "train", str(folder / "run.yaml")]
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--no-python", *program]
    return subprocess.Popen(
        [*command, "--output-dir", str(output_dir), *arguments],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


@pytest.mark.slow
def test_two_processes_equal_one_and_resume_exactly(tmp_path):
    add_fake_world(tmp_path / "site")
    write_prompts(tmp_path)
    (tmp_path / "run.yaml").write_text(MANIFEST)
    one = result_of(start(tmp_path, tmp_path / "one"))
    two = result_of(start_two(tmp_path, tmp_path / "two"))
    process = start_two(tmp_path, tmp_path / "cut")
    wait_for(lambda: (tmp_path / "cut" / "checkpoint-5").exists(), process)  # within a rollout batch
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    resumed = result_of(start_two(tmp_path, tmp_path / "cut", "--resume"))

    assert two["before"] == one["before"]
    lines = {name: deterministic_part(tmp_path / name) for name in ("one", "two", "cut")}
    rewards = {
        name: [(line["reward"], line["reward_std"]) for line in lines[name][0] if "reward" in line] for name in lines
    }
    assert rewards["one"][0] == rewards["two"][0], "before any update: the same videos, rewards and spread"
    torch.testing.assert_close(torch.tensor(rewards["two"]), torch.tensor(rewards["one"]), rtol=1e-4, atol=1e-5)
    losses = [torch.tensor([line["loss"] for line in lines[name][0]]) for name in ("one", "two")]
    torch.testing.assert_close(losses[1], losses[0], rtol=1e-3, atol=1e-4)
    weights = [load_file(find_last_checkpoint(tmp_path / n) / "trainable.safetensors") for n in ("one", "two")]
    for name, value in weights[0].items():
        torch.testing.assert_close(weights[1][name], value, rtol=1e-3, atol=1e-4)

    assert {k: resumed[k] for k in ("before", "after", "steps")} == {k: two[k] for k in ("before", "after", "steps")}
    assert lines["cut"][0] == lines["two"][0]
    for file, tensors in lines["two"][1].items():
        assert all(torch.equal(value, lines["cut"][1][file][key]) for key, value in tensors.items())
    assert json.dumps(resumed["change"]) == json.dumps(two["change"])


@pytest.mark.slow
def test_policy_sharded_by_fsdp2_samples_and_learns_as_the_whole_one():
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    done = subprocess.run(
        [*command, str(Path(__file__).parent / "sharded.py")],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "rank 0 agrees" in done.stdout
    assert "rank 1 agrees" in done.stdout
