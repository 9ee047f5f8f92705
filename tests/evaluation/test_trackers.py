"""Evaluations in wandb and trackio: stood in for, and the real packages offline where they are installed."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest
import torch

from worldr1_core.errors import MissingExtraError, UserError
from worldr1_core.video import Video
from worldr1_core.video_io import write_video
from worldr1_rewards import evaluate
from worldr1_rewards.evaluation.trackers import TABLE, log_evaluation


@pytest.fixture
def sets(tmp_path):
    frames = torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    write_video(Video(frames), tmp_path / "ours" / "a cat-0.mp4")
    (tmp_path / "ours" / "a dog-0.mp4").write_bytes(b"no video")
    return {"ours": tmp_path / "ours"}


@pytest.fixture
def result(sets):
    return evaluate(sets, ["a cat", "a dog"], metrics="contrast")


@pytest.mark.parametrize("name", ["wandb", "trackio"])
def test_a_run_has_the_means_and_a_table_of_the_videos(name, result, sets, monkeypatch):
    calls = []
    fake = SimpleNamespace(
        init=lambda **options: calls.append(("init", options["project"])),
        log=lambda content: calls.append(("log", content)),
        finish=lambda: calls.append(("finish",)),
        Table=lambda columns, data: [dict(zip(columns, row, strict=True)) for row in data],
        Video=lambda path, caption, format: (path, caption, format),
    )
    monkeypatch.setitem(sys.modules, name, fake)
    log_evaluation(result, name, sets, project="p")
    (_, logged) = calls[1]
    assert [call[0] for call in calls] == ["init", "log", "finish"]
    assert logged["ours/contrast"] == result.means()["ours"]["contrast"]
    cat, dog = logged[TABLE]
    assert cat["contrast"] == result.videos[0].values["contrast"]
    assert cat["video"] == (str(sets["ours"] / "a cat-0.mp4"), "a cat", "mp4")
    assert dog["contrast"] is None
    assert "a dog-0.mp4" in dog["failures"]


def test_mistakes_are_explained(result, monkeypatch):
    with pytest.raises(UserError, match=r"Unknown tracker 'wanb'.*Did you mean 'wandb'"):
        log_evaluation(result, "wanb")
    monkeypatch.setitem(sys.modules, "trackio", None)
    with pytest.raises(MissingExtraError, match="pip install trackio"):
        log_evaluation(result, "trackio")


@pytest.mark.slow
def test_real_wandb_offline(result, sets, tmp_path, monkeypatch):
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    monkeypatch.setenv("WANDB_DATA_DIR", str(tmp_path / "data"))
    log_evaluation(result, "wandb", sets)
    assert list((tmp_path / "wandb").glob("offline-run-*/files/media/table/videos*.json"))
    staged = [path.read_bytes() for path in (tmp_path / "data" / "artifacts" / "staging").iterdir()]
    assert (tmp_path / "ours" / "a cat-0.mp4").read_bytes() in staged, "the table's artifact holds the videos"
    assert any(b'"video-file"' in content for content in staged), "and its cells refer to them"


@pytest.mark.slow
def test_real_trackio_on_disk(result, sets, tmp_path, monkeypatch):
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    pytest.importorskip("trackio")
    log_evaluation(result, "trackio", sets, project="p")
    assert list((tmp_path / "trackio").rglob("*.mp4"))
