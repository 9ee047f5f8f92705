"""`worldr1 score`, `eval`, `probe` and `train` with rewards at an endpoint: what they print is that of this process."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner
from safetensors.torch import load_file

from judges.tiny_vlm import build_vlm
from worldr1_core.cli import cli
from worldr1_core.testing import make_clip
from worldr1_core.video_io import write_video
from worldr1_rewards.probes import plan as plans
from worldr1_rewards.probes.plan import Case, ProbePlan

PROMPT = "Camera push in. A room with boxes."
SCORING = {
    "version": 1,
    "device": "cpu",
    "reconstructor": {"name": "direct"},
    "rewards": [
        {"name": "reconstruction"},
        {"name": "trajectory", "weight": 0.5},
        {"name": "contrast"},
        {"name": "motion", "weight": 0.0},
    ],
}
TRAINING = {
    "version": 1,
    "seed": 3,
    "device": "cpu",
    "backbone": {"name": "tiny-wan", "guidance_scale": 1.0},
    "noise": {"name": "camera-warp"},
    "sampler": {"name": "flow-sde", "num_inference_steps": 3, "window": 1, "window_stop": 2},
    "rewards": [{"name": "mean-gradient"}, {"name": "tiny-text-alignment", "weight": 0.5}],
    "prompts": {"main": "prompts.txt", "test": "prompts.txt"},
    "train": {
        "group_size": 4,
        "prompts_per_rollout_batch": 1,
        "micro_batch_size": 2,
        "stages": [{"steps": 2, "prompts": "main"}],
        "max_steps": 2,
        "ema": {"decay": 0.5, "every": 1},
        "adapter": {"rank": 4, "alpha": 4},
        "optimiser": {"learning_rate": 1.0e-3},
        "evaluation": {
            "num_prompts": 1,
            "batch_size": 1,
            "metrics": ["tiny-text-alignment", "contrast"],
            "diversity": None,
        },
    },
}
PROMPTS = "Camera push in. A red box and a blue ball in a green room with checker walls.\n"
OF_THE_CLOCK = ("timings", "seconds", "time", "speed", "per_second", "runtime", "fingerprint", "cost")


def placed(manifest: dict, place: dict, *, here: tuple[str, ...] = ()) -> dict:
    """A manifest whose rewards run at a place; those that read a reconstruction follow the reconstructor."""
    document = json.loads(json.dumps(manifest))
    if "reconstructor" in document:
        document["reconstructor"]["placement"] = place
    for reward in document["rewards"]:
        if reward["name"] not in (*here, "reconstruction", "trajectory"):
            reward["placement"] = place
    return document


def write(path: Path, manifest: dict) -> Path:
    path.write_text(yaml.safe_dump(manifest))
    return path


def without_clock(value):
    """Plain data without what depends on the clock."""
    if isinstance(value, dict):
        return {k: without_clock(v) for k, v in value.items() if not any(word in k for word in OF_THE_CLOCK)}
    return [without_clock(item) for item in value] if isinstance(value, list) else value


def run(*arguments: object) -> dict:
    done = CliRunner().invoke(cli, [str(argument) for argument in arguments], catch_exceptions=False)
    assert done.exit_code == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def all_rewards() -> list[dict]:
    return list({reward["name"]: reward for manifest in (SCORING, TRAINING) for reward in manifest["rewards"]}.values())


@pytest.fixture
def place(start_server, tmp_path):
    """An endpoint that serves all rewards of the tests."""
    served = write(tmp_path / "served.yaml", {**SCORING, "rewards": all_rewards()})
    return {"name": "endpoint", "url": start_server(path=served).url}


@pytest.fixture
def folder(tmp_path):
    videos = tmp_path / "videos"
    write_video(make_clip("push in", size=(40, 48), num_frames=4).video, videos / "push_in.safetensors")
    (videos / "push_in.txt").write_text(PROMPT)
    return videos


@pytest.fixture(params=["environment", "http"])
def other_place(request, tmp_path) -> Iterator[dict]:
    """A worker in an environment of its own that uv makes, or the server that `worldr1 serve` starts."""
    if request.param == "environment":
        yield {"name": "worker", "environment": {}}
        return
    with serve(write(tmp_path / "served.yaml", {**SCORING, "rewards": all_rewards()})) as place:
        yield place


@contextlib.contextmanager
def serve(manifest: Path, *options: str) -> Iterator[dict]:
    """Run `worldr1 serve`, and give the placement by which it is asked."""
    program = [sys.executable, "-c", "from worldr1_core.cli import main; main()"]
    command = [*program, "serve", str(manifest), "--port", "0", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            yield {"name": "endpoint", "url": server.stdout.readline().strip()}
        finally:
            server.terminate()


def both(tmp_path: Path, manifest: dict, place: dict, **options) -> tuple[Path, Path]:
    here, there = tmp_path / "here.yaml", tmp_path / "there.yaml"
    return write(here, manifest), write(there, placed(manifest, place, **options))


def test_score(tmp_path, place, folder):
    own, remote = (
        run("score", folder / "push_in.safetensors", "--prompt", PROMPT, "--manifest", path)
        for path in both(tmp_path, SCORING, place, here=("motion",))
    )
    assert remote["total"] > 0
    assert without_clock(own) == without_clock(remote)


def test_eval_of_videos(tmp_path, place, folder):
    (tmp_path / "prompts.txt").write_text(PROMPT + "\n")
    videos = []
    for path in both(tmp_path, SCORING, place):
        out = tmp_path / path.stem
        run(
            "eval", path, "--videos", f"A={folder}", "--prompts", tmp_path / "prompts.txt", "--workers", 1, "--out", out
        )
        videos.append(json.loads((out / "results.json").read_text()))
    assert videos[0]["videos"][0]["values"]["trajectory"] > 0.5
    assert without_clock(videos[0]) == without_clock(videos[1])


def test_eval_of_a_folder_with_the_metrics_of_the_model(tmp_path, place, folder):
    section = {"stages": [{"steps": 9, "prompts": "main"}], "evaluation": {"metrics": ["reconstruction", "motion"]}}
    manifest = {**SCORING, "prompts": {"main": "prompts.txt", "test": "prompts.txt"}, "train": section}
    own, remote = (run("eval", path, "--videos", folder) for path in both(tmp_path, manifest, place))
    assert own["means"]["reconstruction"] > 0
    assert without_clock(own) == without_clock(remote)


@pytest.mark.slow
def test_probe(tmp_path, place, monkeypatch):
    def tiny(size, num_frames, seed, *, moving):
        return ProbePlan((Case("rich", ("push in",), seed),), (1.0,), size, num_frames, seeds=(seed + 1,))

    monkeypatch.setattr(plans, "quick_plan", tiny)
    manifest = {**SCORING, "rewards": [{"name": "motion"}, {"name": "contrast", "weight": 0.2}]}
    reports = []
    for path in both(tmp_path, manifest, place):
        out = tmp_path / path.stem
        reports.append(run("probe", path, "--quick", "--size", 24, "--frames", 3, "--json", "--out", out))
        reports[-1].pop("reward")  # the file's name
    assert reports[0]["auc"]["morph"] is not None
    assert without_clock(reports[0]) == without_clock(reports[1])


@pytest.mark.slow
def test_scores_of_other_processes_are_those_of_this_one_to_the_last_bit(tmp_path, other_place, folder):
    arguments = ("score", folder / "push_in.safetensors", "--prompt", PROMPT, "--manifest")
    own, remote = (run(*arguments, path) for path in both(tmp_path, SCORING, other_place))
    assert remote["total"] > 0
    assert without_clock(own) == without_clock(remote)


@pytest.fixture
def judged(tmp_path) -> dict:
    """A manifest whose reward shows the reconstruction to a small judge."""
    judge = {"name": "transformers", "model": str(build_vlm("qwen3-vl", tmp_path / "vlm")), "min_mass": 0.0}
    return {**SCORING, "judge": judge, "rewards": [{"name": "meta-view"}, {"name": "trajectory"}]}


@pytest.mark.slow
@pytest.mark.parametrize("away", ["worker", "http"])
@pytest.mark.parametrize("rewards", ["here", "in a worker"])
def test_a_judge_of_another_process_gives_the_same_scores_to_the_last_bit(tmp_path, folder, judged, away, rewards):
    served = write(tmp_path / "judged.yaml", judged)
    with contextlib.ExitStack() as stack:
        place = {"name": "worker"} if away == "worker" else stack.enter_context(serve(served, "--judge"))
        manifest = json.loads(json.dumps(judged))
        manifest["judge"]["placement"] = place
        if rewards == "in a worker":
            manifest["reconstructor"]["placement"] = {"name": "worker"}
        remote_manifest = write(tmp_path / "remote.yaml", manifest)
        arguments = ("score", folder / "push_in.safetensors", "--prompt", PROMPT, "--manifest")
        own, remote = (run(*arguments, path) for path in (served, remote_manifest))
    assert own["scores"]["meta-view"] > 0
    assert without_clock(own) == without_clock(remote)


@pytest.mark.slow
def test_train(tmp_path, place):
    check_training(tmp_path, place)


@pytest.mark.slow
def test_training_with_rewards_of_other_processes(tmp_path, other_place):
    check_training(tmp_path, other_place)


def check_training(tmp_path, place):
    """The same figures and the same adapter from runs whose rewards are here and elsewhere."""
    (tmp_path / "prompts.txt").write_text(PROMPTS)
    logs, weights, results = [], [], []
    for path in both(tmp_path, TRAINING, place, here=("mean-gradient",)):
        out = tmp_path / path.stem
        results.append(run("train", path, "--output-dir", out))
        logs.append([json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()])
        weights.append(load_file(next((out / "adapter").glob("*.safetensors"))))
    for key in ("before", "after", "change", "steps"):
        assert results[0][key] == results[1][key]
    logged = [
        [(k, v) for line in log for k, v in line.items() if k.startswith(("reward", "eval/", "loss"))] for log in logs
    ]
    assert len(logged[0]) > 10
    assert logged[0] == logged[1]
    assert weights[0].keys() == weights[1].keys()
    assert all(bool((weights[0][name] == weights[1][name]).all()) for name in weights[0])
