"""The page of an evaluation with many columns, in a headless Chromium: readable on a phone, and by keyboard."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from pages.browser import Page, find_browser, open_browser
from pages.test_in_browser import CONTRASTS, REDRAWN
from worldr1_core.component import load_component
from worldr1_core.plugins import installed
from worldr1_rewards.evaluation.measure import metric_columns
from worldr1_rewards.evaluation.metric_sets import SETS
from worldr1_rewards.evaluation.records import VideoRecord
from worldr1_rewards.evaluation.result import PAGE, EvalResult

pytestmark = pytest.mark.skipif(find_browser() is None, reason="no Chromium is installed")

PROMPTS = [f"Camera {move}. A kitchen with a window." for move in ("push in", "pull out", "pan left") * 2]
WIDEST = "document.querySelector('[aria-label=Camera]')"
"""The table with most columns, in the region that scrolls."""


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two sets of six videos, with a value in every column of the set `default`."""
    registry = installed().registry
    rewards = {name: load_component(registry, "reward", name) for name in SETS["default"]}
    columns = [column for own in metric_columns(rewards).values() for column in own]
    records = [
        VideoRecord(
            method=method,
            video=f"{prompt}-0.mp4",
            prompt=prompt,
            prompt_index=index,
            seed=0,
            move=prompt[7:15],
            values={column.name: 0.1 * index + shift for column in columns},
            num_frames=9,
            fingerprint=f"{method}{index}",
        )
        for method, shift in (("base", 0.2), ("ours", 0.3))
        for index, prompt in enumerate(PROMPTS)
    ]
    folder = tmp_path_factory.mktemp("evaluation")
    EvalResult(records, columns, "base", SETS["default"]).save(folder)
    return folder / PAGE


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with open_browser(tmp_path_factory.mktemp("profile")) as page:
        yield page


def left_of(page: Page, selector: str) -> float:
    return float(page.run(f"{WIDEST}.querySelector('{selector}').getBoundingClientRect().left"))


@pytest.mark.parametrize("width", [1280, 360])
def test_wide_tables_scroll_by_keyboard_and_keep_the_names_of_the_methods(
    browser: Page, report: Path, width: int
) -> None:
    browser.requests.clear()
    browser.open(report, width=width, height=800)
    assert browser.requests == [report.as_uri()]
    assert browser.problems == []
    assert browser.run("document.documentElement.scrollWidth") <= width
    browser.run(f"{WIDEST}.focus()")
    name, figure = (left_of(browser, selector) for selector in ("tbody th", "tbody td"))
    browser.run(REDRAWN)
    for _ in range(40):  # a busy machine may swallow keys until the page is drawn
        browser.press("ArrowRight")
        browser.run(REDRAWN)
        if browser.run(f"{WIDEST}.scrollLeft") > 100:
            break
    browser.wait(f"{WIDEST}.scrollLeft > 100")
    browser.run(REDRAWN)
    assert left_of(browser, "tbody th") == pytest.approx(name, abs=1)
    assert left_of(browser, "tbody td") < figure - 100


def test_a_table_says_above_itself_what_it_holds(browser: Page, report: Path) -> None:
    browser.open(report)
    above = browser.run(
        """[...document.querySelectorAll("table.result")].every((table) =>
            table.caption.textContent.trim() &&
            table.caption.getBoundingClientRect().bottom <= table.tHead.getBoundingClientRect().top + 1)"""
    )
    assert above
    titles = browser.run("[...document.querySelectorAll('table.result caption')].map((c) => c.textContent)")
    assert {"3D consistency", "3D consistency: difference from base", "Camera"} <= set(titles)
    published = browser.run(
        "[...document.querySelectorAll('[aria-label^=\"Camera: published\"] thead th')].map((th) => th.textContent)"
    )
    assert published == ["method", "RotErr (rad) ↓", "TransErr ↓", "CamMC ↓"], "only columns with published figures"


def test_intervals_and_names_of_videos_are_not_torn_apart(browser: Page, report: Path) -> None:
    """An interval takes one line; the name of a video not more than four."""
    for width in (1280, 360):
        browser.open(report, width=width)
        tallest = browser.run(
            "Math.max(...[...document.querySelectorAll('#scores tbody th')].map((th) => th.clientHeight))"
        )
        assert tallest < 130
        lines = browser.run(
            """[...document.querySelectorAll(".result td.number")].map((cell) => {
                const found = /\\[[^\\]]*\\]/.exec(cell.textContent);
                if (!found) return 1;
                const range = document.createRange();
                range.setStart(cell.firstChild, found.index);
                range.setEnd(cell.firstChild, found.index + found[0].length);
                return new Set([...range.getClientRects()].map((box) => Math.round(box.top))).size;
            })"""
        )
        assert set(lines) == {1}


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_texts_have_contrast_and_headings_no_gaps(browser: Page, report: Path, scheme: str) -> None:
    browser.open(report, prefers_color_scheme=scheme)
    assert browser.run(CONTRASTS) == []
    levels = browser.run("[...document.querySelectorAll('h1,h2,h3,h4,h5,h6')].map((h) => Number(h.tagName[1]))")
    assert levels[0] == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
