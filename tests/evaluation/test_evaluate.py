"""`worldr1_rewards.evaluate`: sets of videos, resumption, failures, comparison and files."""

from __future__ import annotations

import csv
import json

import pytest
import torch

from evaluation.sites import CHEAP, FatalSpec, write_set
from worldr1_core.compose import ScoringComponents, WeightedReward
from worldr1_core.errors import UnknownNameError, UserError
from worldr1_core.placement import PlacedReward
from worldr1_core.scoring import ScoringEngine
from worldr1_rewards import EvalResult, evaluate
from worldr1_rewards.evaluation import runner
from worldr1_rewards.evaluation.columns import Column
from worldr1_rewards.evaluation.measure import VideoMeasurer
from worldr1_rewards.evaluation.records import VideoRecord
from worldr1_rewards.rewards.camera_errors import CameraAUCReward
from worldr1_rewards.scoring import Scorer

PROMPTS = [f"Camera {move}. A cat, {name}" for move in ("push in", "pan left") for name in ("red", "blue", "green")]


@pytest.fixture
def sets(tmp_path):
    return {
        "base": write_set(tmp_path / "base", PROMPTS, contrast=0.2),
        "ours": write_set(tmp_path / "ours", PROMPTS, contrast=0.8),
    }


@pytest.fixture
def measured(monkeypatch):
    """Names of the videos that are measured."""
    names: list[str] = []
    original = VideoMeasurer.measure

    def measure(self, job, fingerprint):
        names.append(f"{job.method}/{job.prompt_index}")
        return original(self, job, fingerprint)

    monkeypatch.setattr(VideoMeasurer, "measure", measure)
    return names


def test_values_are_those_of_the_scorer_and_sets_are_compared(sets, tmp_path):
    result = evaluate(sets, PROMPTS, metrics=CHEAP, out=tmp_path / "out")
    scorer = Scorer(list(CHEAP))
    for record in result.videos:
        scores = scorer(sets[record.method] / record.video, prompt=record.prompt)["scores"]
        assert record.values == {"contrast": scores["contrast"], "mean_gradient": scores["mean-gradient"]}
    assert result.baseline == "base"
    comparison = result.summary.comparisons["all", "all"]["ours"]["contrast"]
    assert comparison.is_clear
    assert comparison.win_rate.mean == 1.0
    assert set(result.summary.cells) == {("all", "all"), ("move", "push in"), ("move", "pan left")}
    assert "Only 6 prompts" in result.warnings[0]


def test_files_hold_the_cells_and_published_figures_are_marked(sets, tmp_path):
    result = evaluate(sets, PROMPTS, metrics=CHEAP, out=tmp_path / "out")
    document = json.loads((tmp_path / "out" / "results.json").read_text(encoding="utf-8"))
    assert document["published"]["published"] is True
    assert {cell["method"] for cell in document["cells"]} == {"base", "ours"}
    assert not any(cell["published"] for cell in document["cells"])
    with (tmp_path / "out" / "table.csv").open(encoding="utf-8") as stream:
        rows = [row for row in csv.DictReader(stream) if (row["split"], row["column"]) == ("all", "contrast")]
    assert [float(row["mean"]) for row in rows] == [result.means()[method]["contrast"] for method in ("base", "ours")]
    assert r"\toprule" in (tmp_path / "out" / "table.tex").read_text(encoding="utf-8")
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "base: Camera push in. A cat, red-0.safetensors" in page
    assert "<script>" not in page.split("</main>")[0]
    assert "## Camera move: push in" in (tmp_path / "out" / "table.md").read_text(encoding="utf-8")


@pytest.mark.slow
def test_results_do_not_depend_on_the_number_of_workers(sets):
    next(sets["ours"].glob("*red-0.safetensors")).write_bytes(b"no video")
    one = evaluate(sets, PROMPTS, metrics=CHEAP)
    two = evaluate(sets, PROMPTS, metrics=CHEAP, num_workers=2)
    assert [(r.values, r.error, r.video) for r in one.videos] == [(r.values, r.error, r.video) for r in two.videos]


def test_a_corrupt_video_fails_alone(sets):
    broken = next(sets["ours"].glob("*red-0.safetensors"))
    broken.write_bytes(b"no video")
    one = evaluate(sets, PROMPTS, metrics=CHEAP)
    assert [record.video for record in one.videos if record.error] == [broken.name]
    cell = one.summary.cells["all", "all"]["ours"]["contrast"]
    assert (cell.num_videos, cell.num_failed, cell.estimate.num_videos) == (6, 1, 5)
    assert any("1 of 6 videos of ours could not be measured" in warning for warning in one.warnings)


def test_interrupted_evaluation_goes_on_where_it_stopped(sets, tmp_path, measured):
    out = tmp_path / "out"
    whole = evaluate(sets, PROMPTS, metrics=CHEAP, out=out)
    lines = (out / "videos.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    (out / "videos.jsonl").write_text("".join(lines[:4]) + lines[4][:30], encoding="utf-8")
    measured.clear()
    again = evaluate(sets, PROMPTS, metrics=CHEAP, out=out)
    assert len(measured) == len(lines) - 4
    assert [record.values for record in again.videos] == [record.values for record in whole.videos]
    measured.clear()
    changed = next(sets["base"].glob("*push in*red-0.safetensors"))
    changed.write_bytes(next(sets["ours"].glob("*blue-0.safetensors")).read_bytes())
    evaluate(sets, PROMPTS, metrics=CHEAP, out=out)
    assert measured == ["base/0"]
    measured.clear()
    evaluate(sets, PROMPTS, metrics="contrast", out=out)
    assert len(measured) == 12


@pytest.mark.slow
def test_process_that_dies_fails_its_video_alone(tmp_path, monkeypatch):
    names = ["a", "b", "fatal", "c"]
    folder = write_set(tmp_path / "videos", names, contrast=0.5)
    monkeypatch.setattr("worldr1_rewards.evaluation.api.MeasurerSpec", FatalSpec)
    result = evaluate({"x": folder}, names, metrics="contrast", num_workers=2)
    assert {r.video: r.error for r in result.videos if r.error} == {"fatal-0.safetensors": runner.DIED}
    assert sum("contrast" in record.values for record in result.videos) == 3


def test_limit_and_seeds(tmp_path):
    folder = write_set(tmp_path / "videos", ["a", "b", "c"], contrast=0.5, seeds=2)
    result = evaluate(folder, ["a", "b", "c"], metrics="contrast", limit=2)
    assert [(record.prompt, record.seed) for record in result.videos] == [("a", 0), ("a", 1), ("b", 0), ("b", 1)]
    assert result.methods == ["videos"]
    assert result.baseline is None


def test_seeds_without_a_counterpart_are_left_out_of_pairs(tmp_path):
    two = write_set(tmp_path / "two", ["a", "b"], contrast=0.5, seeds=2)
    one = write_set(tmp_path / "one", ["a", "b"], contrast=0.5)
    result = evaluate({"two": two, "one": one}, ["a", "b"], metrics="contrast", baseline="one")
    assert result.summary.comparisons["all", "all"]["two"]["contrast"].difference.num_videos == 2
    assert any(warning.startswith("2 videos of two and one have no counterpart") for warning in result.warnings)


def test_scenes_and_videos_in_memory(tmp_path):
    prompts = [{"prompt": "a", "scene": "static"}, {"prompt": "b", "scene": "non-rigid"}]
    clips = list(torch.rand(2, 3, 3, 16, 16))
    result = evaluate({"x": clips}, prompts, metrics="contrast")
    assert set(result.summary.cells) == {("all", "all"), ("scene", "static"), ("scene", "non-rigid")}
    frame = result.to_pandas(videos=True)
    assert list(frame["contrast"]) == [record.values["contrast"] for record in result.videos]
    cells = result.to_pandas()
    assert len(cells) == 3
    assert cells["low"].isna().all()
    with pytest.raises(UserError, match="num_workers=1"):
        evaluate({"x": clips}, prompts, metrics="contrast", num_workers=2)


def test_without_prompts_sets_are_compared_by_name(sets, tmp_path):
    result = evaluate(sets, metrics="contrast")
    assert result.summary.comparisons["all", "all"]["ours"]["contrast"].difference.num_videos == 6
    next(sets["ours"].glob("*red-0.safetensors")).unlink()
    with pytest.raises(UserError, match="Set 'ours' has no counterpart of 1 videos"):
        evaluate(sets, metrics="contrast")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"baseline": "bse"}, "Unknown baseline 'bse'.*Did you mean 'base'"),
        ({"metrics": "psnrr"}, "Unknown metric 'psnrr'.*Did you mean 'psnr'"),
        ({"limit": 0}, "limit must be at least 1"),
        ({"num_workers": 0}, "num_workers must be at least 1"),
    ],
)
def test_mistakes(sets, options, message):
    with pytest.raises((UserError, UnknownNameError), match=message):
        evaluate(sets, PROMPTS, **{"metrics": CHEAP, **options})


def test_metric_of_torchmetrics_has_the_mean_of_the_evaluation(sets):
    pytest.importorskip("torchmetrics")
    from worldr1_rewards.evaluation.torchmetric import VideoMetric

    metric = VideoMetric("contrast")
    metric.update(str(sets["base"]))
    expected = evaluate(sets["base"], metrics="contrast").means()["base"]["contrast"]
    assert float(metric.compute()) == pytest.approx(expected, rel=1e-6)
    assert metric.higher_is_better
    with pytest.raises(UserError, match="no column 'contrst'"):
        VideoMetric("contrast", column="contrst")


def test_videos_that_stand_still_are_named_beside_their_perfect_psnr():
    records = [VideoRecord("still", f"{i}.mp4", "a", i, 0, "none", values={"psnr": 100.0}) for i in range(3)]
    records += [VideoRecord("moving", f"{i}.mp4", "a", i, 0, "none", values={"psnr": 30.0}) for i in range(3)]
    warnings = EvalResult(records, [Column("psnr")]).warnings
    assert next(w for w in warnings if "hardly move" in w).startswith("3 of 3 videos of still hardly move")
    assert not any("videos of moving hardly" in warning for warning in warnings)


def test_columns_of_a_reward_that_runs_elsewhere_are_those_of_its_class():
    placed = PlacedReward("camera-auc", reads_reference=False, scorer=None)
    measurer = VideoMeasurer(ScoringEngine(ScoringComponents([WeightedReward("camera-auc", 1.0, placed)], None, None)))
    assert measurer.columns == {"camera-auc": CameraAUCReward.columns}
