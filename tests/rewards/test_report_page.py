from __future__ import annotations

import base64
import hashlib
import math
import re
from pathlib import Path
from typing import Any

import pytest
import torch

from rewards.report_samples import Element, failed, parse, reconstruction_of, scored, smooth_frames
from worldr1_core.camera import CameraTrajectory
from worldr1_core.errors import OutputError, ScoreUnavailable
from worldr1_core.provenance import versions
from worldr1_core.reward import Score
from worldr1_core.scoring import ClipScores
from worldr1_rewards.report import ReportWriter, writer

HOSTILE = [
    "<script>alert(1)</script>",
    "</style></title><img src=x onerror=alert(1)>",
    "\" onload='alert(1)' x=\"",
    "$title ${clips} %s {0} &amp; &lt;b&gt;",
    "\u202eright to left\u202c, emoji \U0001f600, 中文, ZWJ \u200d",
    "]]> --> <!-- <![CDATA[",
]


def page_of(tmp_path: Path, *results: ClipScores, **options: Any) -> tuple[str, Element]:
    report = ReportWriter(**options)
    for result in results:
        report.add(result)
    report.write(tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    return page, parse(page)


def not_applicable() -> ClipScores:
    reason = "no camera move is commanded"
    scores = {"reconstruction": Score(0.75), "trajectory": Score.unavailable(reason, applicable=False)}
    return scored("videos/still.mp4", "A quiet room.", scores=scores, target=None)


def test_page_is_balanced_and_every_image_has_an_alternative(tmp_path: Path) -> None:
    _, tree = page_of(tmp_path, scored(), failed(), not_applicable(), manifest="version: 1")
    images = tree.find("img")
    assert images
    assert all("alt" in image.attributes for image in images)
    strips = [image for strip in tree.find("div", class_="strip") for image in strip.find("img")]
    assert [image.attributes["alt"] for image in strips[:4]] == [
        f"{row} of frames 0, 1, 2, 3, 4, side by side" for row in ("Input", "Re-render", "Absolute error", "Depth")
    ]
    assert all(drawing.attributes.get("aria-label") for drawing in tree.find("svg"))


def test_page_refers_to_nothing_outside_itself(tmp_path: Path) -> None:
    page, tree = page_of(tmp_path, scored(), failed())
    ids = [element.attributes["id"] for element in tree.all() if "id" in element.attributes]
    assert len(ids) == len(set(ids))
    for element in tree.all():
        for name in ("src", "href", "xlink:href", "srcset", "poster", "action"):
            value = element.attributes.get(name)
            inside = value is None or value.startswith(("data:image/webp;base64,", "data:video/mp4;base64,"))
            assert inside or value[1:] in ids, (element.tag, value)
    style = tree.find("style")[0].text
    assert "url(" not in style
    assert "@import" not in style
    assert "http:" not in page
    assert "https:" not in page


def test_only_the_page_s_own_script_may_run(tmp_path: Path) -> None:
    _, tree = page_of(tmp_path, scored())
    (script,) = tree.find("script")
    policy = [meta for meta in tree.find("meta") if "http-equiv" in meta.attributes]
    digest = base64.b64encode(hashlib.sha256(script.text.encode()).digest()).decode()
    content = policy[0].attributes["content"]
    assert content is not None
    assert "default-src 'none'" in content
    assert f"script-src 'sha256-{digest}'" in content


@pytest.mark.parametrize("hostile", HOSTILE)
def test_whatever_a_prompt_a_name_or_a_reason_holds_is_text(tmp_path: Path, hostile: str) -> None:
    def results(words: str) -> list[ClipScores]:
        scores = {
            words: Score(0.5, details={words: words}),
            "other": Score.unavailable(words),
        }
        showing = reconstruction_of(smooth_frames(5, 24, 40), diagnostics={words: [words, {words: 1.0}]})
        failing = reconstruction_of(smooth_frames(5, 24, 40), shown=ScoreUnavailable(words))
        return [
            scored(words, words, scores=scores, reconstruction=showing, total=math.nan, reasons={"total": words}),
            scored(words, words, scores=scores, reconstruction=failing, total=math.nan, reasons={"total": words}),
        ]

    options = {"title": hostile, "manifest": hostile, "versions": {hostile: hostile}}
    _, tree = page_of(tmp_path, *results(hostile), **options)
    harmless = "a/b" if "/" in hostile else "ab"  # a path's last part is repeated in the heading
    _, plain = page_of(tmp_path, *results(harmless), title="ab", manifest="ab", versions={"ab": "1"})

    def shape(element: Element) -> list[object]:
        return [(child.tag, sorted(child.attributes), shape(child)) for child in element.inside if child.tag != "wbr"]

    assert shape(tree) == shape(plain)
    article = tree.find("article")[0]
    assert article.find("p", class_="prompt")[0].text == hostile
    assert article.find("p", class_="reason")[0].text == hostile
    assert tree.find("title")[0].text == hostile
    assert tree.find("code")[0].text == hostile


def test_control_characters_and_lone_surrogates_are_replaced(tmp_path: Path) -> None:
    page, tree = page_of(tmp_path, scored(prompt="a\x00b\x1bc\ud800d\ne"))
    assert tree.find("article")[0].find("p", class_="prompt")[0].text == "a\ufffdb\ufffdc\ufffdd\ne"
    assert "\x00" not in page


def test_table_has_headers_and_one_row_a_clip(tmp_path: Path) -> None:
    _, tree = page_of(tmp_path, scored(prompt=""), not_applicable())
    (table,) = tree.find("table")
    assert [head.text for head in table.find("th", scope="col")] == [
        "Clip", "Prompt", "reconstruction", "trajectory", "total",
    ]  # fmt: skip
    assert [head.text for head in table.find("th", scope="row")] == ["room.mp4", "still.mp4"]
    first = table.find("tbody")[0].find("tr")[0]
    assert [cell.attributes["data-key"] for cell in first.find("td")] == ["", "0.75", "0.5", "1.25"]
    assert [cell.text for cell in first.find("td")] == ["none", "0.750", "0.500", "1.250"]


def test_bars_start_at_zero_and_share_a_column_s_scale(tmp_path: Path) -> None:
    values = [
        {"a": Score(-2.0), "b": Score(-1.0), "c": Score(4.0)},
        {"a": Score(2.0), "b": Score(-4.0), "c": Score(8.0)},
    ]
    _, tree = page_of(tmp_path, *(scored(scores=scores) for scores in values))
    bars = [bar.find("i")[0].attributes["style"] for bar in tree.find("table")[0].find("span", class_="bar")]
    expected = ["left:0.0%;width:50.0%", "left:75.0%;width:25.0%", "left:0.0%;width:50.0%"]
    assert bars[:3] == expected
    assert bars[4:7] == ["left:50.0%;width:50.0%", "left:0.0%;width:100.0%", "left:0.0%;width:100.0%"]


def test_missing_scores_are_words_everywhere_and_never_zero(tmp_path: Path) -> None:
    _, tree = page_of(tmp_path, scored(), failed("too little texture"), not_applicable())
    cells = tree.find("tbody")[0].find("tr")[1].find("td", class_="number")
    assert [cell.attributes["data-key"] for cell in cells] == ["", "", ""]
    assert [cell.text for cell in cells[:2]] == ["no scoretoo little texture"] * 2
    assert cells[2].text == "no scoreno score of reconstruction, trajectory"
    notice = tree.find("div", class_="notice")[0]
    assert notice.text.startswith("1 clip of 3 without a total.")
    assert "failed reconstruction, 1 clip: too little texture" in notice.text
    assert "not applicable trajectory, 1 clip: no camera move is commanded" in notice.text
    cards = [card.find("span", class_="value")[0].text for card in tree.find("article")[1].find("li", class_="card")]
    assert cards == ["No score", "No score", "No score"]
    reasons = [words.text for words in tree.find("article")[1].find("p", class_="reason")]
    assert reasons == ["no score of reconstruction, trajectory", "too little texture", "too little texture"]
    third = tree.find("article")[2].find("li", class_="card")[2]
    assert third.find("span", class_="value")[0].text == "Not applicable"
    assert not third.find("span", class_="bar")


@pytest.mark.parametrize(("value", "shown"), [(3.9e-6, "0.000"), (-2e-5, "0.000"), (0.0007, "0.001"), (-1.5, "-1.500")])
def test_scores_are_read_to_three_decimals(tmp_path: Path, value: float, shown: str) -> None:
    _, tree = page_of(tmp_path, scored(scores={"reconstruction": Score(value)}))
    assert tree.find("tbody")[0].find("td", class_="number")[0].text.startswith(shown)


def test_a_reason_that_starts_with_the_clip_s_name_is_counted_with_the_others(tmp_path: Path) -> None:
    clips = [failed(f"{name}: no texture", name) for name in ("a.mp4", "b.mp4")]
    _, tree = page_of(tmp_path, *clips)
    assert "failed reconstruction, 2 clips: no texture" in tree.find("div", class_="notice")[0].text
    assert tree.find("article")[1].find("p", class_="reason")[1].text == "no texture"


def test_means_count_only_clips_that_have_the_score(tmp_path: Path) -> None:
    other = {"reconstruction": Score(0.25), "trajectory": Score(0.0)}
    _, tree = page_of(tmp_path, scored(), scored(scores=other), failed())
    tiles = {tile.find("span", class_="label")[0].text: tile for tile in tree.find("li", class_="tile")}
    assert tiles["clips"].find("span", class_="value")[0].text == "3"
    assert tiles["mean reconstruction"].find("span", class_="value")[0].text == "0.500"
    assert tiles["mean reconstruction"].find("span", class_="note")[0].text == "0.250 to 0.750, 2 of 3 clips"


def test_a_score_that_no_clip_has_and_one_that_only_some_were_asked(tmp_path: Path) -> None:
    extra = {"reconstruction": Score(0.25), "preference": Score.unavailable("no weights")}
    _, tree = page_of(tmp_path, scored(), scored(scores=extra, total=math.nan, reasons={"total": "no preference"}))
    tiles = {tile.find("span", class_="label")[0].text: tile.text for tile in tree.find("li", class_="tile")}
    assert tiles["mean preference"].endswith("—no clip has it")
    first, second = tree.find("tbody")[0].find("tr")
    assert [cell.text for cell in first.find("td")][3] == "not asked"
    assert [cell.text for cell in second.find("td")][2] == "not asked"


def test_without_a_total_lost_the_notice_is_no_alarm_and_many_reasons_are_cut(tmp_path: Path) -> None:
    absent = {f"r{index}": Score.unavailable(f"reason {index}", applicable=False) for index in range(15)}
    _, tree = page_of(tmp_path, scored(scores={"reconstruction": Score(0.5), **absent}))
    notice = tree.find("div", class_="notice")[0]
    assert "warn" not in str(notice.attributes["class"])
    assert notice.text.startswith("Some scores are missing.")
    assert notice.text.endswith("and 3 more reasons, each beside its clip")


def test_without_a_reconstruction_only_the_input_is_shown_and_the_page_says_why(tmp_path: Path) -> None:
    _, tree = page_of(tmp_path, failed())
    article = tree.find("article")[0]
    assert len(article.find("div", class_="strip")) == 1
    words = [absent.text for absent in article.find("p", class_="absent")]
    assert words == [
        "Re-render, Depth, View off the path, Point cloud: not shown, because there is no reconstruction of this clip."
    ]
    assert "Nothing was estimated" in article.text
    assert {key.text for key in article.find("span", class_="key")} == {"commanded"}


def test_without_any_path_nothing_is_drawn(tmp_path: Path) -> None:
    _, tree = page_of(tmp_path, scored(reconstruction=None, target=None))
    assert not tree.find("svg")
    assert "No camera path is commanded." in tree.find("article")[0].text


def test_a_pan_says_that_depth_and_travel_are_not_determined(tmp_path: Path) -> None:
    pan = reconstruction_of(smooth_frames(5, 24, 40), has_parallax=False)
    _, tree = page_of(tmp_path, scored(reconstruction=pan))
    article = tree.find("article")[0]
    assert len(article.find("div", class_="strip")) == 3
    assert "every depth explains these frames equally well" in article.text
    assert "No parallax" in article.text


def test_a_commanded_path_without_a_unit_is_drawn_at_the_size_of_the_estimate(tmp_path: Path) -> None:
    target = CameraTrajectory(scored().clip.target.c2w)
    _, tree = page_of(tmp_path, scored(target=target))
    assert "names no unit" in tree.find("article")[0].text


def test_section_tells_the_clip_s_form_camera_and_timings(tmp_path: Path) -> None:
    frames = smooth_frames(5, 24, 40)
    known = torch.tensor([[50.0, 0, 20], [0, 50, 12], [0, 0, 1]])
    _, tree = page_of(tmp_path, scored(), scored(intrinsics=known, frames=frames))
    guessed, given = tree.find("article")
    assert "videos/room.mp4 · 5 frames, 40 × 24, 8 fps" in guessed.text
    details = guessed.find("details")[-1]
    facts = {row.find("dt")[0].text: row.find("dd")[0].text for row in details.find("div")}
    assert facts["intrinsics"] == "unknown: estimated or guessed, see focal_source"
    assert facts["focal length"] == "48.0 × 48.0 px"
    assert facts["travel"] == "0.600 scene depths"
    assert facts["reconstructor"] == "500 ms"
    assert facts["total"] == "1.2 s"
    assert facts["residual"] == "0.013"
    assert "known" in given.find("details")[-1].text


def test_section_without_timings_and_intrinsics(tmp_path: Path) -> None:
    frames = smooth_frames(5, 24, 40)
    path = CameraTrajectory(torch.eye(4).expand(5, 4, 4))
    bare = scored(reconstruction=reconstruction_of(frames, trajectory=path, diagnostics={}))
    bare = ClipScores(bare.clip, bare.scores, bare.total, bare.reasons, {}, bare.reconstruction)
    _, tree = page_of(tmp_path, bare)
    assert [head.text for head in tree.find("details")[-1].find("h4")] == ["Camera"]
    assert "focal length" not in tree.find("details")[-1].text


def test_equal_results_give_equal_bytes(tmp_path: Path) -> None:
    results = [scored(), failed(), not_applicable()]
    first, _ = page_of(tmp_path, *results, manifest="version: 1")
    second, _ = page_of(tmp_path, *results, manifest="version: 1")
    assert first == second


def test_page_may_be_written_while_clips_are_still_added(tmp_path: Path) -> None:
    report = ReportWriter()
    path = tmp_path / "made" / "report.html"
    report.write(path)
    assert "No clip was scored." in path.read_text(encoding="utf-8")
    report.add(scored())
    report.write(path)
    assert len(report) == 1
    assert len(parse(path.read_text(encoding="utf-8")).find("article")) == 1


def test_versions_are_those_installed_unless_given(tmp_path: Path) -> None:
    _, tree = page_of(tmp_path)
    rows = {row.find("dt")[0].text: row.find("dd")[0].text for row in tree.find("footer")[0].find("div")}
    assert rows == {name.replace("_", " "): version for name, version in versions().items()}
    _, bare = page_of(tmp_path, versions={})
    assert bare.find("footer")[0].text.strip() == ""


def test_unwritable_place_is_an_output_error_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(OutputError, match="Cannot write"):
        ReportWriter().write(tmp_path / "file" / "report.html")
    with pytest.raises(OutputError, match="is a folder"):
        ReportWriter().write(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_ten_of_the_worst_clips_stay_below_five_megabytes(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    noise = torch.rand(9, 3, 300, 300, generator=generator)
    depth = torch.rand(9, 300, 300, generator=generator) + 0.1
    shown = reconstruction_of(torch.rand(9, 3, 300, 300, generator=generator)).shown
    worst = reconstruction_of(noise, shown=shown, depth=depth)
    empty, _ = page_of(tmp_path)
    page, tree = page_of(tmp_path, scored(frames=noise, reconstruction=worst))
    assert len(tree.find("div", class_="strip")) == 4
    assert not tree.find("p", class_="absent")
    assert len(empty) + 10 * (len(page.encode()) - len(empty)) < 5e6


def test_a_full_page_keeps_the_numbers_and_leaves_out_the_pictures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "PICTURE_BUDGET", 1000)
    _, tree = page_of(tmp_path, scored(), scored())
    first, second = tree.find("article")
    assert first.find("img")
    assert not second.find("img")
    assert "Pictures are left out from here on" in second.text
    assert re.search(r"reconstruction\s*0\.750", second.text)
