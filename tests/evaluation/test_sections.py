"""The page of an evaluation: pictures of some videos, links to them, and no second measurement for them."""

from __future__ import annotations

import pytest

from evaluation.sites import write_set
from rewards.report_samples import parse
from worldr1_core.errors import UserError
from worldr1_rewards import evaluate
from worldr1_rewards.evaluation import measure
from worldr1_rewards.evaluation.jobs import VideoJob
from worldr1_rewards.evaluation.sections import choose_shown

PROMPTS = [f"Camera push in. Room {letter}" for letter in "abcde"]


@pytest.fixture
def site(tmp_path):
    for name, contrast in (("a", 0.2), ("b", 0.8)):
        write_set(tmp_path / name, PROMPTS, contrast=contrast)
    return tmp_path


def measured(site, monkeypatch, **options):
    """The page as a tree, and the names of the videos that were scored."""
    scored = []
    original = measure.VideoMeasurer.measure

    def watched(self, job, fingerprint):
        scored.append(job.name)
        return original(self, job, fingerprint)

    monkeypatch.setattr(measure.VideoMeasurer, "measure", watched)
    sets = {"A": site / "a", "B": site / "b"}
    evaluate(sets, PROMPTS, metrics="contrast", out=site / "out", **options)
    monkeypatch.undo()
    return parse((site / "out" / "report.html").read_text(encoding="utf-8")), scored


def test_first_videos_of_evenly_spaced_prompts_are_shown_and_linked(site, monkeypatch):
    tree, _ = measured(site, monkeypatch, num_shown=2)
    shown = [section.find("h2")[0].text for section in tree.find("article")]
    assert [name[:2] for name in shown] == ["A:", "A:", "B:", "B:"]
    assert ["Room a" in shown[0], "Room e" in shown[1]] == [True, True]
    table = tree.find("table", id="scores")[0]
    links = [link.attributes["href"] for link in table.find("a")]
    assert links == [f"#{section.attributes['id']}" for section in tree.find("article")]
    assert len(table.find("tbody")[0].find("tr")) == 10
    assert not [card for card in tree.find("li", class_="card") if card.find("h3")[0].text == "total"]


def test_more_pictures_measure_only_the_videos_that_have_none(site, monkeypatch):
    _, first = measured(site, monkeypatch, num_shown=1)
    _, same = measured(site, monkeypatch, num_shown=1)
    tree, more = measured(site, monkeypatch, num_shown=2)
    assert (len(first), len(same), len(more)) == (10, 0, 2)
    assert len(tree.find("article")) == 4
    tree, fewer = measured(site, monkeypatch, num_shown=0)
    assert fewer == []
    assert not tree.find("article")
    assert list((site / "out" / "pictures").iterdir()) == []


@pytest.mark.slow
def test_several_processes_draw_the_same_videos(site, monkeypatch):
    tree, _ = measured(site, monkeypatch, num_shown=1)
    for path in (site / "out" / "pictures").iterdir():
        path.unlink()
    again, _ = measured(site, monkeypatch, num_shown=1, num_workers=2)
    names = [[section.attributes["id"] for section in page.find("article")] for page in (tree, again)]
    assert names[0] == names[1]
    assert len(names[0]) == 2


def test_first_seed_of_a_prompt_is_chosen():
    jobs = [VideoJob("A", f"{prompt}-{seed}", prompt, seed) for seed in (2, 1) for prompt in range(3)]
    marks = [job.name for job in jobs]
    assert choose_shown(jobs, marks, 2) == {"0-1", "2-1"}
    assert choose_shown(jobs, marks, 0) == frozenset()


def test_number_of_prompts_must_not_be_negative(site):
    with pytest.raises(UserError, match="num_shown must be at least 0, received -1"):
        evaluate({"A": site / "a"}, PROMPTS, metrics="contrast", num_shown=-1)


def test_hostile_prompts_and_reasons_are_text(tmp_path):
    hostile = "<script>alert(1)</script>"
    write_set(tmp_path / "a", ["0000"], contrast=0.5)
    evaluate({hostile: tmp_path / "a"}, [hostile], metrics=["contrast", "trajectory"], out=tmp_path / "out")
    tree = parse((tmp_path / "out" / "report.html").read_text(encoding="utf-8"))
    assert len(tree.find("script")) == 1
    assert tree.find("article")[0].find("p", class_="prompt")[0].text == hostile
    assert hostile in tree.find("article")[0].find("h2")[0].text
