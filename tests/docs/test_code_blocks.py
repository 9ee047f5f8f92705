"""Every Python block of the README and the documentation runs, and so do the examples in docstrings.

The blocks of a page run one after the other in one namespace. A block that cannot run here has a comment before it in
the Markdown, `<!-- not run: reason -->`, and its reason is in `NOT_RUN`.
"""

from __future__ import annotations

import contextlib
import doctest
import hashlib
import importlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from worldr1_core import Clip, Reconstruction, unregister
from worldr1_core.cli import cli
from worldr1_core.errors import UnknownNameError
from worldr1_rewards.reconstructors.auto import AutoReconstructor

ROOT = Path(__file__).parents[2]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md"), *ROOT.glob("packages/*/README.md")])
BLOCK = re.compile(r"^(?:<!-- not run: (?P<reason>.+?) -->\n+)?```python\n(?P<code>.*?)^```$", re.DOTALL | re.MULTILINE)
TESTED_BY = {
    "docs/how-to/plugins.md": "test_plugin_docs.py",
    "docs/how-to/backbones.md": "test_backbone_docs.py",
}
"""Pages whose blocks are files of a project, and the tests that run them."""
NOT_RUN: dict[str, list[str]] = {}
"""Page -> reasons of the blocks that are not run, in order."""
FIVE_JOBS = 5
LONGEST_JOB = 5
SOURCES = sorted(path for path in ROOT.glob("packages/*/src/**/*.py") if ">>> " in path.read_text(encoding="utf-8"))


@dataclass(frozen=True)
class Block:
    """A Python block of a page, with the number of lines above it."""

    page: Path
    line: int
    code: str
    reason: str | None


def _name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def _blocks(page: Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    return [
        Block(page, text.count("\n", 0, match.start("code")), match["code"], match["reason"])
        for match in BLOCK.finditer(text)
    ]


def _run(block: Block, names: dict[str, object]) -> None:
    """Execute one block; a training run takes one step of two videos. Tracebacks show the lines of the page."""
    code = re.sub(r"\bmax_steps=\d+", "max_steps=1, num_generations=2", block.code)
    exec(compile("\n" * block.line + code, str(block.page), "exec"), names)


WITH_BLOCKS = [page for page in PAGES if _blocks(page)]
RUN_HERE = [page for page in WITH_BLOCKS if _name(page) not in TESTED_BY]


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Iterator[Path]:
    """A folder to run in, with the repository's examples; names that the blocks register are forgotten afterwards."""
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    with contextlib.suppress(UnknownNameError):
        unregister("reward", "brightness")


@pytest.fixture(scope="module")
def reconstructions() -> dict[bytes, Reconstruction]:
    """Reconstructions by a digest of frames and intrinsics: several pages score the same clip."""
    return {}


@pytest.fixture
def reconstruct_once(reconstructions, monkeypatch) -> None:
    """Each clip is reconstructed once for all pages."""
    original = AutoReconstructor.reconstruct

    def reconstruct(self: AutoReconstructor, clip: Clip) -> Reconstruction:
        key = hashlib.sha256(clip.video.frames.numpy().tobytes() + repr(clip.intrinsics).encode()).digest()
        if key not in reconstructions:
            reconstructions[key] = original(self, clip)
        return reconstructions[key]

    monkeypatch.setattr(AutoReconstructor, "reconstruct", reconstruct)


@pytest.mark.parametrize("page", [page for page in RUN_HERE if page.name != "README.md"], ids=_name)
def test_every_block_of_the_page_runs(page, folder, reconstruct_once):
    names: dict[str, object] = {"__name__": "page"}
    for block in _blocks(page):
        if block.reason is None:
            _run(block, names)


def test_the_jobs_of_the_readme_run(folder, reconstruct_once):
    names: dict[str, Any] = {"__name__": "readme"}
    for block in _blocks(ROOT / "README.md"):
        _run(block, names)
    assert tuple(names["video"].frames.shape) == (9, 3, 64, 64)  # as its comment says
    assert tuple(names["batch"].shape) == (2, 17, 3, 180, 320)


def test_the_first_job_of_the_readme_scores_as_the_command_line_does(folder, reconstruct_once, reconstructions):
    names: dict[str, object] = {"__name__": "readme"}
    block = _blocks(ROOT / "README.md")[0]
    _run(block, names)
    record = names["record"]
    assert isinstance(record, dict)
    reconstructions.clear()  # the command line makes its own
    command = ["score", "examples/clips/push_in.mp4", "--prompt", "Camera push in. A room with boxes."]
    printed = json.loads(CliRunner().invoke(cli, command, catch_exceptions=False).stdout)
    for key in printed.keys() - {"timings"}:
        assert json.loads(json.dumps(record[key])) == printed[key]


def test_the_readme_shows_five_jobs_of_at_most_five_lines():
    lengths = [sum(bool(line.strip()) for line in block.code.splitlines()) for block in _blocks(ROOT / "README.md")]
    assert len(lengths) == FIVE_JOBS
    assert max(lengths) <= LONGEST_JOB


def test_the_readme_of_a_package_runs(tmp_path):
    pages = [page for page in RUN_HERE if page.name == "README.md" and page.parent != ROOT]
    assert pages
    for page in pages:
        names: dict[str, object] = {"__name__": "page"}
        for block in _blocks(page):
            _run(block, names)


def test_blocks_that_are_not_run_are_known():
    skipped = {_name(page): [b.reason for b in _blocks(page) if b.reason is not None] for page in WITH_BLOCKS}
    assert {page: reasons for page, reasons in skipped.items() if reasons} == NOT_RUN


def test_pages_with_tests_of_their_own_have_them():
    for page, test in TESTED_BY.items():
        assert Path(page).name in (Path(__file__).parent / test).read_text(encoding="utf-8")
        assert _blocks(ROOT / page)


def test_every_python_block_is_found():
    for page in PAGES:
        assert page.read_text(encoding="utf-8").count("```python\n") == len(_blocks(page)), page


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: ".".join(path.parts[path.parts.index("src") + 1 :]))
def test_examples_in_docstrings_run(source, folder, reconstruct_once):
    parts = source.relative_to(ROOT).with_suffix("").parts
    module = importlib.import_module(".".join(part for part in parts[parts.index("src") + 1 :] if part != "__init__"))
    result = doctest.testmod(module, optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    assert result.attempted
    assert not result.failed
