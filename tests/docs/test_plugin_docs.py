"""The page about plugins: its files are written, installed and run, and it lists every hook."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from worldr1_core import hookspecs
from worldr1_core.plugins import discover
from worldr1_core.registry import KINDS

TEXT = (Path(__file__).parents[2] / "docs" / "how-to" / "plugins.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True)
class Block:
    language: str
    text: str

    @property
    def file(self) -> str | None:
        """The file that the first line names, as in `# pyproject.toml`."""
        match = re.match(r"# ([\w/.-]+\.\w+)\n", self.text)
        return match[1] if match else None


BLOCKS = [Block(*match.groups()) for match in BLOCK.finditer(TEXT)]
HOOKS = sorted(name for name in vars(hookspecs) if name.startswith("worldr1_"))


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    """A folder with every file of the page, installed as the page's pyproject says."""
    folder = tmp_path_factory.mktemp("docs")
    for block in BLOCKS:
        if block.file is not None:
            (folder / block.file).parent.mkdir(exist_ok=True)
            (folder / block.file).write_text(block.text, encoding="utf-8")
    project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
    info = folder / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
    points = "".join(f"{name} = {value}\n" for name, value in project["entry-points"]["worldr1"].items())
    (info / "entry_points.txt").write_text(f"[worldr1]\n{points}")
    frames = np.random.default_rng(0).random((3, 3, 16, 16), dtype=np.float32)
    np.save(folder / "clip.npy", frames)
    return folder


def _run(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1", "NO_COLOR": "1"}
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300, check=False
    )


def test_every_block_is_of_a_kind_that_is_run():
    assert {block.language for block in BLOCKS} == {"python", "toml", "yaml", "console"}
    assert all(block.file for block in BLOCKS if block.language in ("toml", "yaml"))


def test_the_tests_of_the_page_pass(project):
    run = _run(project, sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests")
    assert run.returncode == 0, run.stdout + run.stderr


def test_blocks_that_are_no_file_run(project):
    code = "\n".join(block.text for block in BLOCKS if block.language == "python" and block.file is None)
    assert code
    run = _run(project, sys.executable, "-c", code)
    assert run.returncode == 0, run.stderr


@pytest.mark.parametrize(
    "line", [line for b in BLOCKS if b.language == "console" for line in b.text.splitlines() if line.startswith("$ ")]
)
def test_commands_of_the_page_work(project, line):
    program, *arguments = line.removeprefix("$ ").split()
    assert program == "worldr1"
    run = _run(project, sys.executable, "-c", "from worldr1_core.cli import main; main()", *arguments)
    assert run.returncode == 0, run.stderr
    assert "brightness" in run.stdout


def test_the_smallest_plugin_is_eight_lines_and_five():
    module, configuration = (
        next(b.text for b in BLOCKS if b.file == name) for name in ("worldr1_brightness.py", "pyproject.toml")
    )
    code = [line for line in module.splitlines()[1:] if line.strip() and not line.strip().startswith(('"""', "#"))]
    assert len(code) == 8
    assert len(configuration.splitlines()[1:]) == 5


@pytest.mark.parametrize("hook", HOOKS)
def test_every_hook_is_documented(hook):
    assert f"`{hook}`" in TEXT
    assert (getattr(hookspecs, hook).__doc__ or "").strip()


@pytest.mark.parametrize("hook", KINDS.values())
def test_every_hook_registers_what_a_plugin_returns(hook, site):
    site.add(
        "acme-things",
        f"""
        from worldr1_core import hookimpl
        @hookimpl
        def {hook}():
            return {{"thing": "acme_things:Thing"}}
        """,
    )
    (kind,) = [kind for kind, name in KINDS.items() if name == hook]
    entry = discover().registry.find(kind, "thing")
    assert (entry.target, entry.owner.distribution) == ("acme_things:Thing", "acme-things")


@pytest.mark.parametrize(
    "call", ["check_reward", "check_reconstructor", "check_judge", "check_objective", "check_plugin"]
)
def test_every_kit_is_documented(call):
    from worldr1_core import testing

    assert call in testing.__all__
    assert f"`{call}(" in TEXT
