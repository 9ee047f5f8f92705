"""The page of a training run: its contents, while the run lasts and after, and what cannot break it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import structlog
import torch
from click.testing import CliRunner

from pages.browser import find_browser, open_browser
from rewards.report_samples import Element, parse
from worldr1_core.clip import Clip
from worldr1_core.errors import UserError
from worldr1_core.video import Video
from worldr1_core.video_io import write_video
from worldr1_train.cli_report import report
from worldr1_train.contact_sheet import ShownVideos
from worldr1_train.evaluation import AFTER, BEFORE, Evaluation
from worldr1_train.run_cost import run_cost
from worldr1_train.run_files import read_run
from worldr1_train.run_report import finish_report, write_report
from worldr1_train.run_table import evaluation_table

PROMPTS = ["a cat", "a dog", "a bird", "a fish", "a horse"]
RECORD = {
    "version": 1,
    "seed": 3,
    "backbone": {"name": "tiny-wan"},
    "sampler": {"name": "flow-sde"},
    "rewards": [{"name": "bright-ness", "weight": 1.0}, {"name": "contrast", "weight": 0.0}],
    "train": {
        "group_size": 4,
        "prompts_per_rollout_batch": 2,
        "objective": {"kl": 0.1},
        "optimiser": {"learning_rate": 0.001},
        "adapter": {"rank": 8},
    },
    "prompts": {"main": ["x"] * 7, "test": PROMPTS},
}
RESULT = {"alarms": [], "seconds": 3725.0, "steps": 4, "trained": ["bright_ness"]}


def write_run(folder: Path, *, prompt: str = "a cat", steps: int = 4) -> Path:
    """A run of four steps with two rollout batches, which lasted 12 s each."""
    folder.mkdir()
    (folder / "run.json").write_text(json.dumps(RECORD), encoding="utf-8")
    lines = [
        {
            "step": step,
            "epoch": step / 4,
            "loss": 0.5,
            "reward": 0.1 * step,
            "rewards/bright-ness/mean": 0.2 * step,
            **({"rollout_batch": step // 2 - 1} if step % 2 == 0 else {}),
            **({"seconds/sampling": 6.0, "seconds/update": 3.0, "seconds/rollout_batch": 12.0} if step % 2 else {}),
            "memory/max_gib": 1.5 + step,
        }
        for step in range(1, steps + 1)
    ]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (folder / "metrics.jsonl").write_text(text + '{"step": 99, "rew', encoding="utf-8")
    values = {"bright_ness": [0.1, 0.2, 0.3, 0.4, 0.5], "contrast": [0.5] * 5}
    Evaluation(PROMPTS, values).save(folder / BEFORE)
    frames = torch.linspace(0, 1, 16)[None, None, None, :].expand(3, 3, 16, 16).clone()
    for way in ("before", "after"):
        ShownVideos(folder / "videos" / way, total=1, count=1)(0, Clip(Video(frames), prompt, target=None))
    write_video(Video(frames), folder / "samples" / "step000002-a.mp4")
    record = json.dumps({"prompt": prompt, "total": 0.25})
    (folder / "samples" / "step000002-a.json").write_text(record, encoding="utf-8")
    return folder


def finish(folder: Path) -> None:
    """Let the run end: brightness has risen by 0.2, and contrast is what it was."""
    values = {"bright_ness": [0.3, 0.4, 0.5, 0.6, 0.7], "contrast": [0.5] * 5}
    Evaluation(PROMPTS, values).save(folder / AFTER)
    finish_report(folder, RESULT)


def page_of(folder: Path) -> Element:
    return parse(write_report(folder).read_text(encoding="utf-8"))


def facts(element: Element) -> dict[str, str]:
    return {row.find("dt")[0].text: row.find("dd")[0].text for row in element.find("div") if row.find("dt")}


def test_page_of_a_finished_run_holds_every_part(tmp_path: Path) -> None:
    finish(write_run(tmp_path / "run"))
    tree = parse((tmp_path / "run" / "report.html").read_text(encoding="utf-8"))
    assert [part.attributes["id"] for part in tree.find("article")] == [
        "curves", "video-1", "samples", "cost", "settings",
    ]  # fmt: skip
    curves = [str(panel.attributes["aria-label"]) for panel in tree.find("svg")]
    assert curves[0].startswith("reward over 4 logged steps")
    assert "to 0.250 at step 4" in curves[0]
    assert [screen.text for screen in tree.find("article")[1].find("b")] == ["before", "after"]
    known = facts(tree)
    assert known["time of the whole run, evaluations included"] == "1 h 2 min"
    assert known["rewards"] == "1 × bright-ness, 0 × contrast"
    assert known["prompts"] == "7 main, 5 test"
    assert known["objective"] == "flow-grpo"
    assert known["processes"] == "1"
    assert "torch" in facts(tree.find("footer")[0])
    assert "group_size: 4" in tree.find("code")[-1].text
    assert "not ended" not in tree.text


def test_evaluations_are_compared_in_pairs_and_trained_metrics_come_first(tmp_path: Path) -> None:
    finish(write_run(tmp_path / "run"))
    (table, *_) = page_of(tmp_path / "run").find("table")
    rows = [[cell.text for cell in [*row.find("th"), *row.find("td")]] for row in table.find("tbody")[0].find("tr")]
    assert rows == [
        ["bright_ness trained on", "0.3", "0.5", "+0.2", "+0.2 to +0.2", "rose"],
        ["contrast", "0.5", "0.5", "+0", "+0 to +0", "unclear"],
    ]


def test_change_by_training_starts_from_the_noise_alone() -> None:
    evaluations = {
        name: Evaluation(PROMPTS, {"a": [level] * 5})
        for name, level in (("before", 1.0), ("noise_only", 3.0), ("after", 2.0))
    }
    table = evaluation_table(evaluations, ["a"], ["a"])
    assert table is not None
    assert (table.headings, table.baseline) == (["before", "noise only", "after"], "noise only")
    assert (table.rows[0].change, table.rows[0].verdict, table.rows[0].is_alarm) == ("-1", "fell", True)


def test_cost_counts_rollout_batches_and_their_videos(tmp_path: Path) -> None:
    cost = run_cost(read_run(write_run(tmp_path / "run")))
    assert (cost.num_rollout_videos, cost.num_evaluation_videos) == (16, 5)
    assert cost.seconds == pytest.approx(24)
    assert cost.peak_gib == 5.5
    assert [(phase.name, phase.seconds, phase.share) for phase in cost.phases] == [
        ("sampling of videos", 12.0, 0.5),
        ("updates of the weights", 6.0, 0.25),
    ]
    assert cost.phases[0].per_video == pytest.approx(12 / 16)


def test_a_run_under_way_is_drawn_as_far_as_it_has_come(tmp_path: Path) -> None:
    tree = page_of(write_run(tmp_path / "run", steps=3))
    assert "This run has not ended: the page shows it up to step 3 of 4." in tree.text
    assert "noise only" not in tree.text
    assert [head.text for head in tree.find("table")[0].find("th", scope="col")] == ["metric", "before"]
    assert "machine that drew this page" in tree.text


def test_a_run_that_has_only_begun_is_drawn(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text(json.dumps(RECORD), encoding="utf-8")
    tree = page_of(tmp_path)
    assert "up to step 0." in tree.text
    assert [part.attributes["id"] for part in tree.find("article")] == ["cost", "settings"]


def test_the_result_of_a_run_that_was_resumed_with_more_steps_is_not_taken_for_its_end(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run")
    finish(folder)
    line = json.dumps({"step": 5, "epoch": 5 / 8, "loss": 0.5, "reward": 0.5})
    path = folder / "metrics.jsonl"
    path.write_text(path.read_text(encoding="utf-8").replace('{"step": 99, "rew', line + "\n"), encoding="utf-8")
    assert "up to step 5 of 8" in page_of(folder).text


def test_alarms_are_told_first(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run")
    finish(folder)
    alarm = {"metric": "contrast", "message": "contrast fell <b>"}
    (folder / "result.json").write_text(json.dumps({**RESULT, "alarms": [alarm]}), encoding="utf-8")
    tree = page_of(folder)
    assert tree.find("div", class_="notice")[0].text.split() == ["Alarms", "contrast", "fell", "<b>"]
    assert [chip.text for chip in tree.find("span", class_="warn")] == ["alarm: unclear"]


def test_hostile_prompts_are_text(tmp_path: Path) -> None:
    hostile = "</script><script>alert(1)</script><img src=x onerror=alert(1)>"
    tree = page_of(write_run(tmp_path / "run", prompt=hostile))
    assert len(tree.find("script")) == 1
    assert not tree.find("img")
    assert tree.find("p", class_="prompt")[0].text == hostile


def test_a_folder_without_a_run_is_explained(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"There is no run in .*: it has no run.json"):
        write_report(tmp_path)


def test_a_page_that_cannot_be_written_loses_nothing(tmp_path: Path) -> None:
    with structlog.testing.capture_logs() as logs:
        finish_report(tmp_path, RESULT)
    assert [entry["event"] for entry in logs] == ["report not written"]
    assert json.loads((tmp_path / "result.json").read_text(encoding="utf-8"))["steps"] == 4


def test_command_writes_the_page_to_any_place(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run")
    done = CliRunner().invoke(report, [str(folder), "--out", str(tmp_path / "page.html")], catch_exceptions=False)
    assert json.loads(done.stdout)["report"] == str(tmp_path / "page.html")
    assert "Training run run" in (tmp_path / "page.html").read_text(encoding="utf-8")


@pytest.mark.slow
@pytest.mark.skipif(find_browser() is None, reason="no Chromium is installed")
def test_page_loads_from_disk_without_any_request_or_complaint(tmp_path: Path) -> None:
    finish(write_run(tmp_path / "run"))
    path = tmp_path / "run" / "report.html"
    with open_browser(tmp_path / "profile") as page:
        page.open(path)
        page.wait("document.querySelector('.screens').checkVisibility()")
        assert page.requests == [path.as_uri()]
        assert page.problems == []
        page.open(path, width=360)
        assert page.run("document.documentElement.scrollWidth") <= 360
