"""A run that is cut short and resumed is bit for bit the run that was not."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import TrainerCallback

from train.runs import logged, make_stage, make_trainer, reward
from train.sites import MANIFEST, add_fake_world, write_prompts
from worldr1_core.errors import UserError
from worldr1_train.callbacks import MetricsFile
from worldr1_train.checkpoints import find_last_checkpoint, list_checkpoints

STAGES = [("main", 4, "brightness"), ("dynamic", 2, "redness")]


class Crash(Exception):
    """The power cut."""


class _CrashAfter(TrainerCallback):
    def __init__(self, micro_batches):
        self._left = micro_batches

    def on_substep_end(self, args, state, control, **kwargs):
        self._count()

    def on_step_end(self, args, state, control, **kwargs):
        self._count()

    def _count(self):
        self._left -= 1
        if self._left == 0:
            raise Crash


def run(folder, *, crash_after=None, resume=False, **options):
    stages = [
        make_stage(name, steps=steps, rewards=[reward(rewards)], prompts=[f"{name} {i}" for i in range(5)])
        for name, steps, rewards in STAGES
    ]
    callbacks = [] if crash_after is None else [_CrashAfter(crash_after)]
    settings = {
        "max_steps": 12,
        "updates_per_rollout_batch": 2,
        "num_iterations": 2,
        "save_strategy": "steps",
        "save_steps": 3,
        "ema_every": 2,
        "learning_rate": 0.02,
        "lr_scheduler_type": "linear",
        **options,
    }
    trainer = make_trainer(folder, stages=stages, callbacks=callbacks, **settings)
    checkpoint = find_last_checkpoint(folder) if resume else None
    trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
    return trainer


def fingerprint(trainer):
    numbers = ("loss", "grad_norm", "reward", "kl", "stage", "learning_rate", "ratio/max_deviation")
    return {name: logged(trainer, name) for name in numbers}


@pytest.mark.parametrize("micro_batches", [1, 30, 53, 95], ids=lambda n: f"crash-after-{n}-micro-batches")
def test_resumed_run_is_bit_identical(tmp_path, micro_batches):
    whole = run(tmp_path / "whole")
    with pytest.raises(Crash):
        run(tmp_path / "cut", crash_after=micro_batches)
    resumed = run(tmp_path / "cut", resume=True)
    assert fingerprint(resumed) == fingerprint(whole)
    for name, value in whole.model.trainable().items():
        assert torch.equal(value, resumed.model.trainable()[name])
        assert torch.equal(whole.ema.values[name], resumed.ema.values[name])


def test_rewards_that_draw_random_numbers_resume_too(tmp_path, monkeypatch):
    from train.fake_world import Brightness

    monkeypatch.setattr(Brightness, "score", lambda *_: float(torch.rand(())))
    whole = run(tmp_path / "whole")
    with pytest.raises(Crash):
        run(tmp_path / "cut", crash_after=60)
    assert fingerprint(run(tmp_path / "cut", resume=True)) == fingerprint(whole)


def test_torn_checkpoint_is_not_resumed_from(tmp_path):
    whole = run(tmp_path / "whole")
    with pytest.raises(Crash):
        run(tmp_path / "cut", crash_after=60)
    newest = list_checkpoints(tmp_path / "cut")[-1]
    (newest / "optimizer.pt").write_bytes(b"torn")
    assert find_last_checkpoint(tmp_path / "cut") != newest
    assert fingerprint(run(tmp_path / "cut", resume=True)) == fingerprint(whole)


def test_only_so_many_checkpoints_are_kept(tmp_path):
    run(tmp_path, save_steps=1, save_total_limit=2, max_steps=6)
    assert [path.name for path in list_checkpoints(tmp_path)] == ["checkpoint-5", "checkpoint-6"]


def test_rollouts_are_kept_only_within_a_rollout_batch(tmp_path):
    run(tmp_path, save_steps=1, max_steps=4)
    kept = [path.name for path in list_checkpoints(tmp_path) if list(path.glob("rollouts_*"))]
    assert kept == ["checkpoint-1", "checkpoint-3"]


def test_checkpoint_of_another_model_is_refused(tmp_path):
    run(tmp_path, max_steps=4)
    with pytest.raises(UserError, match="differ from the trained parameters"):
        run(tmp_path, resume=True, adapter=False)


def test_an_average_that_is_missing_or_of_another_model_is_an_error(tmp_path):
    run(tmp_path, max_steps=4)
    average = find_last_checkpoint(tmp_path) / "ema.safetensors"
    save_file({name: value[..., :1].contiguous() for name, value in load_file(average).items()}, average)
    trainer = run(tmp_path / "other", max_steps=4)
    with pytest.raises(UserError, match=r"differ from the trained parameters: the file has \d+ tensors"):
        trainer.ema.load(average)
    for damage in (lambda: average.write_bytes(b"{}"), average.unlink):
        damage()
        with pytest.raises(UserError, match=r"Cannot read the moving average .*ema\.safetensors"):
            trainer.ema.load(average)


def test_a_resumed_run_keeps_the_log_up_to_its_checkpoint(tmp_path):
    """The evaluation before training is logged at step 0; the last line of a killed run is cut short."""
    lines = ['{"step": 0, "eval/gain": 1}', '{"step": 2}', '{"step": 3}', '{"ste']
    log = MetricsFile(tmp_path)
    log.path.write_text("\n".join(lines), encoding="utf-8")
    log.on_train_begin(None, SimpleNamespace(is_world_process_zero=True, global_step=2), None)
    assert log.path.read_text(encoding="utf-8").splitlines() == lines[:2]


# The program itself, killed.


def start(folder: Path, output_dir: Path, *arguments: str) -> subprocess.Popen:
    environment = {**os.environ, "PYTHONPATH": str(folder / "site"), "OMP_NUM_THREADS": "1", "NO_COLOR": "1"}
    command = [sys.executable, "-c", "from worldr1_core.cli import main; main()", "train", str(folder / "run.yaml")]
    command += ["--output-dir", str(output_dir), *arguments]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def result_of(process: subprocess.Popen) -> dict:
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err[-3000:]
    return json.loads(out.splitlines()[-1])


def wait_for(condition, process, seconds=240):
    end = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.communicate()[1][-3000:]
        assert time.monotonic() < end, "the run did not come so far"
        time.sleep(0.005)


def deterministic_part(output_dir: Path):
    lines = [json.loads(line) for line in (output_dir / "metrics.jsonl").read_text().splitlines()]
    timed = ("seconds", "samples_per_second", "train_", "memory")
    metrics = [{k: v for k, v in line.items() if not k.startswith(timed)} for line in lines]
    last = find_last_checkpoint(output_dir)
    return [line for line in metrics if "loss" in line], {
        name: load_file(last / name) for name in ("trainable.safetensors", "ema.safetensors")
    }


@pytest.mark.slow
def test_program_killed_at_any_moment_resumes_exactly(tmp_path):
    add_fake_world(tmp_path / "site")
    write_prompts(tmp_path)
    (tmp_path / "run.yaml").write_text(MANIFEST)
    expected = result_of(start(tmp_path, tmp_path / "whole"))
    cut = tmp_path / "cut"
    moments = [
        lambda: (cut / "run.json").exists(),  # evaluating
        lambda: any(cut.glob(".unfinished-checkpoint-*")),  # writing a checkpoint
        lambda: (cut / "checkpoint-10").exists(),  # sampling or updating
        lambda: (cut / "checkpoint-16").exists(),  # evaluating at the end
    ]
    for moment in moments:
        process = start(tmp_path, cut, *(["--resume"] if (cut / "run.json").exists() else []))
        wait_for(moment, process)
        process.send_signal(signal.SIGKILL)
        process.wait()
    got = result_of(start(tmp_path, cut, "--resume"))
    for key in ("before", "after", "change", "steps"):
        assert got[key] == expected[key]
    (lines, weights), (expected_lines, expected_weights) = (
        deterministic_part(cut),
        deterministic_part(tmp_path / "whole"),
    )
    assert lines == expected_lines
    for name, tensors in expected_weights.items():
        assert all(torch.equal(value, weights[name][key]) for key, value in tensors.items())
