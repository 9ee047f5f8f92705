"""The score report in a headless Chromium: from disk, without network, by keyboard, and for every reader."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from pages.browser import Page, find_browser, open_browser
from rewards.report_samples import failed, reconstruction_of, scored
from worldr1_core.reconstructor import Render
from worldr1_rewards.report import ReportWriter

pytestmark = pytest.mark.skipif(find_browser() is None, reason="no Chromium is installed")

HOSTILE = "</script><script>window.hacked = 1</script><img src=x onerror='window.hacked = 1'>"
NUM_FRAMES = 6
REDRAWN = "new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"
"""A promise that is kept when the page has been drawn anew."""

CONTRASTS = """
(() => {
  const channels = (text) => text.match(/[\\d.]+/g).map(Number);
  const light = (colour) => {
    const [r, g, b] = colour.slice(0, 3).map((c) => (c /= 255) <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ground = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const colour = channels(getComputedStyle(at).backgroundColor);
      if (colour.length < 4 || colour[3] === 1) return colour;
    }
    return [255, 255, 255];
  };
  const poor = [];
  for (const element of document.querySelectorAll("body *:not(script):not(style):not(svg):not(svg *)")) {
    const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
    if (!own || !element.checkVisibility()) continue;
    const colours = [channels(getComputedStyle(element).color), ground(element)].map(light).sort((a, b) => b - a);
    const ratio = (colours[0] + 0.05) / (colours[1] + 0.05);
    if (ratio < 4.5) poor.push(`${element.tagName} ${element.className} ${element.textContent.slice(0, 30)} ${ratio}`);
  }
  return poor;
})()
"""
"""Texts whose contrast with their ground is below 4.5, the level AA of WCAG."""


def grey_level(index: int) -> float:
    return 0.15 + 0.12 * index


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page of two clips; frame i of the first, and of its re-render, has the grey level of i."""
    path = tmp_path_factory.mktemp("report") / "report.html"
    levels = torch.tensor([grey_level(index) for index in range(NUM_FRAMES)])
    frames = levels[:, None, None, None].expand(NUM_FRAMES, 3, 48, 64).clone()
    shown = Render(frames, torch.ones(NUM_FRAMES, 48, 64))
    writer = ReportWriter(manifest="version: 1\n")
    writer.add(scored(frames=frames, reconstruction=reconstruction_of(frames, shown=shown)))
    writer.add(failed(HOSTILE, name="bad.mp4"))
    writer.write(path)
    return path


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with open_browser(tmp_path_factory.mktemp("profile")) as page:
        yield page


@pytest.fixture
def page(browser: Page, report: Path) -> Page:
    browser.requests.clear()
    browser.problems.clear()
    browser.open(report)
    browser.wait("document.querySelector('.screens').checkVisibility()")
    return browser


def levels_of_screens(page: Page) -> list[float]:
    """Grey levels in the middle of the canvases of input and re-render."""
    script = """[...document.querySelectorAll(".player canvas")].slice(0, 2).map((canvas) =>
        canvas.getContext("2d").getImageData(canvas.width / 2, canvas.height / 2, 1, 1).data[1] / 255)"""
    return list(page.run(script))


def test_page_loads_from_disk_without_any_request_or_complaint(page: Page, report: Path) -> None:
    assert page.requests == [report.as_uri()]
    assert page.problems == []
    assert page.run("typeof window.hacked") == "undefined"


@pytest.mark.slow
def test_clip_and_rerender_show_the_same_frame(page: Page) -> None:
    for index in (0, 1, 2, 3):
        page.wait(f"document.querySelector('.controls output').textContent === 'frame {index} / {NUM_FRAMES - 1}'")
        page.wait("!document.querySelector('.player video').seeking")
        page.run(REDRAWN)
        assert levels_of_screens(page) == pytest.approx([grey_level(index)] * 2, abs=0.03)
        page.run("document.querySelector('[data-step=\"1\"]').click()")


@pytest.mark.slow
def test_nothing_plays_until_the_reader_starts_it_by_keyboard(page: Page) -> None:
    assert page.run("document.querySelector('.player video').paused")
    page.run("document.querySelector('.play').focus()")
    page.press("Enter")
    page.wait("!document.querySelector('.player video').paused && document.querySelector('.controls input').value > 1")
    assert page.run("document.querySelector('.play').textContent") == "Pause"
    page.press("Enter")
    page.wait("document.querySelector('.player video').paused")


@pytest.mark.parametrize("fit", ["points", "paths"])
def test_plots_turn_by_keyboard_and_back(page: Page, fit: str) -> None:
    plot = f"document.querySelector('[data-fit={fit}]')"
    page.run(f"{plot}.scrollIntoView()")
    page.run(f"{plot}.focus()")
    page.run(REDRAWN)
    start = page.run(f"{plot}.toDataURL()")
    for key, back in (("ArrowLeft", "ArrowRight"), ("ArrowUp", "ArrowDown"), ("+", "0")):
        page.press(key)
        page.run(REDRAWN)
        assert page.run(f"{plot}.toDataURL()") != start
        page.press(back)
        page.run(REDRAWN)
        assert page.run(f"{plot}.toDataURL()") == start
    assert "zoom 1.0" in page.run(f"{plot}.parentElement.querySelector('output').textContent")


@pytest.mark.slow
def test_plots_turn_with_the_mouse(page: Page) -> None:
    plot = "document.querySelector('[data-fit=paths]')"
    page.run(f"{plot}.scrollIntoView({{block: 'center', behavior: 'instant'}})")
    box = page.run(f"JSON.parse(JSON.stringify({plot}.getBoundingClientRect()))")
    before = page.run(f"{plot}.parentElement.querySelector('output').textContent")
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    for kind, shift in (("mousePressed", 0), ("mouseMoved", 60), ("mouseReleased", 60)):
        page.call("Input.dispatchMouseEvent", type=kind, x=x + shift, y=y, button="left", buttons=1, clickCount=1)
    assert page.run(f"{plot}.parentElement.querySelector('output').textContent") != before


@pytest.mark.slow
def test_layers_can_be_hidden(page: Page) -> None:
    plot = "document.querySelector('[data-fit=points]')"
    drawn = f"""{plot}.getContext("2d").getImageData(0, 0, {plot}.width, {plot}.height).data
        .reduce((count, value) => count + (value > 0), 0)"""
    page.run(f"{plot}.scrollIntoView()")
    page.run(REDRAWN)
    before = page.run(drawn)
    page.run("document.querySelector('input[value=points]').click()")
    page.run(REDRAWN)
    assert page.run(drawn) < 0.7 * before


@pytest.mark.slow
def test_everything_has_a_name_for_screen_readers(page: Page) -> None:
    roles = {"button", "slider", "checkbox", "combobox", "application", "image", "figure", "link", "region", "group"}
    names = page.names()
    assert {"button", "slider", "checkbox", "application", "image"} <= {role for role, _ in names}
    unnamed = [role for role, name in names if role in roles - {"figure", "group"} and not name]
    assert unnamed == []


@pytest.mark.slow
def test_headings_have_no_gap_in_their_levels(page: Page) -> None:
    levels = page.run("[...document.querySelectorAll('h1,h2,h3,h4,h5,h6')].map((h) => Number(h.tagName[1]))")
    assert levels[0] == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_texts_have_contrast_in_light_and_dark(browser: Page, report: Path, scheme: str) -> None:
    browser.open(report, prefers_color_scheme=scheme)
    browser.wait("document.querySelector('.screens').checkVisibility()")
    ground = browser.run("getComputedStyle(document.body).backgroundColor")
    assert (ground == "rgb(17, 20, 25)") == (scheme == "dark")
    assert browser.run(CONTRASTS) == []


@pytest.mark.slow
def test_a_narrow_screen_needs_no_sideways_scrolling(browser: Page, report: Path) -> None:
    browser.open(report, width=360, height=740)
    browser.wait("document.querySelector('.screens').checkVisibility()")
    assert browser.run("document.documentElement.scrollWidth") <= 360


@pytest.mark.slow
def test_scrolling_is_instant_for_readers_who_want_less_motion(browser: Page, report: Path) -> None:
    browser.open(report, prefers_reduced_motion="reduce")
    assert browser.run("getComputedStyle(document.documentElement).scrollBehavior") == "auto"


@pytest.mark.slow
def test_markup_that_slips_in_cannot_run(page: Page) -> None:
    page.run("document.body.insertAdjacentHTML('beforeend', '<img src=x: onerror=\"window.hacked = 1\">')")
    page.wait("true")
    assert page.run("typeof window.hacked") == "undefined"
    assert any("Content Security Policy" in problem for problem in page.problems)
