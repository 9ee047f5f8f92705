"""SIGTERM ends a run with a checkpoint, from which it continues as if nothing had happened."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time

import pytest
import torch

from train.fake_world import Brightness
from train.runs import logged, make_stage, make_trainer
from train.sites import MANIFEST, add_fake_world, write_prompts
from worldr1_core.compose import WeightedReward
from worldr1_core.placement import PlacedReward, RemoteScorer
from worldr1_train.checkpoints import find_last_checkpoint
from worldr1_train.errors import TrainingStopped
from worldr1_train.termination import StopOnSigterm


class Terminates(Brightness):
    """Sends SIGTERM to its own process when it scores for the `at`-th time."""

    def __init__(self, at=None):
        super().__init__()
        self.left = at

    def score(self, clip, inputs):
        if self.left is not None:
            self.left -= 1
            if self.left == 0:
                os.kill(os.getpid(), signal.SIGTERM)
        return super().score(clip, inputs)


def run(folder, reward, *, resume=False):
    stage = make_stage(rewards=[WeightedReward("brightness", 1.0, reward)])
    options = {"prompts_per_rollout_batch": 4, "per_device_train_batch_size": 4, "updates_per_rollout_batch": 2}
    trainer = make_trainer(folder, stages=[stage], max_steps=6, **options)
    termination = StopOnSigterm(trainer)
    trainer.add_callback(termination)
    with termination.listening():
        trainer.train(resume_from_checkpoint=str(find_last_checkpoint(folder)) if resume else None)
    return trainer


@pytest.mark.parametrize(("at", "step"), [(4 * 4 + 2, 2), (4 * 4 + 16, 3)], ids=["sampling", "update"])
def test_a_run_that_is_terminated_continues_bit_for_bit(tmp_path, at, step):
    whole = run(tmp_path / "whole", Terminates())
    handler = signal.getsignal(signal.SIGTERM)
    with pytest.raises(TrainingStopped, match=r"SIGTERM was received.*--resume"):
        run(tmp_path / "cut", Terminates(at))
    assert signal.getsignal(signal.SIGTERM) is handler
    assert find_last_checkpoint(tmp_path / "cut").name == f"checkpoint-{step}"
    resumed = run(tmp_path / "cut", Terminates(), resume=True)
    assert logged(resumed, "loss") == logged(whole, "loss")
    weights = dict(whole.model.named_parameters())
    assert all(torch.equal(weights[name], value) for name, value in resumed.model.named_parameters())


def test_a_run_that_waits_for_scores_is_terminated(tmp_path):
    class Hangs(RemoteScorer):
        def score(self, clips, rewards, *, with_reference):
            os.kill(os.getpid(), signal.SIGTERM)
            threading.Event().wait()

    hangs = PlacedReward("brightness", reads_reference=False, scorer=Hangs())
    with pytest.raises(TrainingStopped, match="SIGTERM"):
        run(tmp_path, hangs)


@pytest.mark.slow
def test_worldr1_train_stops_with_a_checkpoint_and_resumes(tmp_path):
    add_fake_world(tmp_path / "site")
    write_prompts(tmp_path)
    text = MANIFEST.replace("max_steps: 16", "max_steps: 400").replace("evaluation: {metrics:", "evaluation: null  # {")
    (tmp_path / "run.yaml").write_text(text, encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "site"), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", "from worldr1_core.cli import main; main()", "train", "run.yaml"]
    log = tmp_path / "log.txt"
    with log.open("w") as file:
        process = subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=file, text=True)
    metrics = tmp_path / "runs" / "run" / "metrics.jsonl"
    while not metrics.exists() or len(metrics.read_text().splitlines()) < 5:
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    assert process.wait(120) == 1
    stderr = log.read_text()
    assert "SIGTERM was received" in stderr
    assert "Traceback" not in stderr
    last = find_last_checkpoint(metrics.parent)
    steps = int(last.name.removeprefix("checkpoint-"))
    lines = [json.loads(line) for line in metrics.read_text().splitlines()]
    assert max(line["step"] for line in lines) == steps, "the log ends with the step of the checkpoint"
    resumed = [*command, "--resume", "--set", f"train.max_steps={steps + 2 - steps % 2}"]
    done = subprocess.run(
        resumed, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
