"""`worldr1 eval` for sets of videos, and for models through worldr1-train."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from evaluation.sites import write_set
from worldr1_core.cli import cli
from worldr1_core.plugins import Installed, installed
from worldr1_core.registry import Registry

ONE = ("--workers", "1")
PROMPTS = ["Camera push in. A cat", "Camera pan left. A dog"]


@pytest.fixture
def site(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_set(tmp_path / "a", PROMPTS, contrast=0.2)
    write_set(tmp_path / "b", PROMPTS, contrast=0.8)
    (tmp_path / "prompts.txt").write_text("\n".join(PROMPTS), encoding="utf-8")
    return tmp_path


def run(*arguments):
    return CliRunner().invoke(cli, ["eval", *map(str, arguments)])


def test_sets_of_videos(site):
    done = run(
        "--videos", "A=a", "--videos", "b", "--prompts", "prompts.txt", "--metrics", "contrast", "--out", "out", *ONE
    )
    assert done.exit_code == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["num_videos"] == {"A": 2, "b": 2}
    assert result["means"]["A"]["contrast"] < result["means"]["b"]["contrast"]
    assert "## Other metrics" in done.stderr
    assert {path.name for path in (site / "out").iterdir()} == {
        "pictures",
        "report.html",
        "results.json",
        "table.csv",
        "table.md",
        "table.tex",
        "videos.jsonl",
    }


def test_unreadable_video_gives_exit_code_2_and_the_others_are_measured(site):
    next((site / "a").iterdir()).write_bytes(b"no video")
    done = run("--videos", "A=a", "--prompts", "prompts.txt", "--metrics", "contrast", "--workers", 1)
    assert done.exit_code == 2
    assert json.loads(done.stdout)["num_failed"] == 1
    assert "Error: A: Camera" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "Give --videos NAME=DIR, or a MANIFEST"),
        (["--videos", "A=a", "--videos", "A=b"], "Two sets of videos are called 'A'"),
        (["--videos", "=a"], "--videos must be NAME=DIR, received '=a'"),
        (["--videos", "A=a", "--adapter", "x"], "--adapter is for models"),
        (["--videos", "A=a", "--prompts", "none.txt"], "'none.txt' cannot be read"),
    ],
)
def test_mistakes_are_explained(site, arguments, message):
    done = run(*arguments)
    assert done.exit_code == 2
    assert message in done.stderr


def test_model_of_a_manifest_needs_worldr1_train(site, monkeypatch):
    registry = Registry()
    for entry in installed().registry.entries():
        if entry.owner.distribution != "worldr1-train":
            registry.add(entry)
    monkeypatch.setattr("worldr1_core.plugins.installed", lambda: Installed(registry))
    monkeypatch.setattr("worldr1_core.cli.installed", lambda: Installed(registry))
    (site / "m.yaml").write_text("version: 1\nrewards: [{name: contrast}]\n")
    done = run("m.yaml")
    assert done.exit_code == 2
    assert "pip install worldr1-train" in done.stderr


def test_manifest_gives_the_metrics_of_sets(site):
    (site / "m.yaml").write_text("version: 1\nrewards: [{name: contrast}]\n")
    done = run("m.yaml", "--videos", "A=a", "--prompts", "prompts.txt", "--workers", 1)
    assert list(json.loads(done.stdout)["means"]["A"]) == ["contrast"]


def test_manifest_with_one_unnamed_folder_is_the_evaluation_of_worldr1_train(site):
    (site / "m.yaml").write_text("version: 1\nreconstructor: {name: direct}\nrewards: [{name: contrast}]\n")
    done = run("m.yaml", "--videos", "a", "--out", "result.json", "--set", "seed=1")
    assert done.exit_code == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["num_videos"] == 2
    assert json.loads((site / "result.json").read_text())["means"] == result["means"]
