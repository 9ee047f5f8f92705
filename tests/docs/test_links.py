"""Links in the Markdown pages lead somewhere, and the site's navigation lists every page."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(
    [
        *DOCS.rglob("*.md"),
        *ROOT.glob("*.md"),
        *ROOT.glob("packages/*/README.md"),
        *ROOT.glob("examples/*/README.md"),
    ]
)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
MENTION = re.compile(r"\bdocs/[\w/-]+\.md")


@cache
def _prose(page: Path) -> str:
    """The page without its code blocks and inline code."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    return re.sub(r"`[^`\n]*`", lambda match: "" if "](" in match[0] else match[0], text)


@cache
def _anchors(page: Path) -> set[str]:
    """Anchors of the headings, as GitHub and Python-Markdown both spell them."""
    headings = re.findall(r"^#+ (.+)$", _prose(page), re.MULTILINE)
    plain = [re.sub(r"[^\w\- ]", "", heading.lower()).strip() for heading in headings]
    return {re.sub(r"[ -]+", "-", heading) for heading in plain}


def _name(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_every_relative_link_resolves(page):
    broken = []
    for target in LINK.findall(_prose(page)):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        goal = (page.parent / path).resolve() if path else page
        if not goal.exists() or (anchor and anchor not in _anchors(goal)):
            broken.append(target)
        elif DOCS in page.parents and DOCS not in goal.parents:
            broken.append(f"{target}: outside docs/, so the site cannot show it")
    assert not broken


def test_the_navigation_lists_every_page():
    class Loader(yaml.SafeLoader):
        pass

    nav = yaml.load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"), Loader)["nav"]

    def pages(entry) -> list[str]:
        if isinstance(entry, str):
            return [entry]
        values = entry.values() if isinstance(entry, dict) else entry
        return [page for value in values for page in pages(value)]

    assert sorted(pages(nav)) == sorted(str(page.relative_to(DOCS)) for page in DOCS.rglob("*.md"))


def test_pages_that_the_code_mentions_exist():
    files = [
        path
        for folder in ("packages", "tests", "benchmarks", "tools", "examples")
        for path in (ROOT / folder).rglob("*.py")
    ]
    missing = {
        f"{_name(path)}: {mention}"
        for path in files
        for mention in MENTION.findall(path.read_text(encoding="utf-8"))
        if not (ROOT / mention).exists()
    }
    assert not missing
