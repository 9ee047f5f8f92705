"""Fixtures shared by every area: plugins that are really installed, a registry of fakes, and small clips."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
import structlog
import torch

from worldr1_core.clip import Clip
from worldr1_core.plugins import installed
from worldr1_core.registry import Entry, Owner, Registry
from worldr1_core.video import Video

# Workers share the cores: more threads than one in each of them, and in what they start, wait for each other.
torch.set_num_threads(int(os.environ.setdefault("OMP_NUM_THREADS", "1")))


class Site:
    """A folder of installed distributions: modules and real `.dist-info` folders, to be put on the path."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.modules: set[str] = set()

    def add(
        self,
        distribution: str,
        source: str | None,
        *,
        module: str | None = None,
        entry_points: str | None = None,
        version: str = "1.2.3",
    ) -> None:
        """Install one module as a distribution; its entry point `plugin` names the module unless given."""
        module = module or distribution.replace("-", "_")
        if source is not None:
            (self.path / f"{module}.py").write_text(textwrap.dedent(source), encoding="utf-8")
        self.modules.add(module)
        folder = self.path / f"{distribution.replace('-', '_')}-{version}.dist-info"
        folder.mkdir()
        metadata = f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\nSummary: A fake of the tests.\n"
        (folder / "METADATA").write_text(metadata, encoding="utf-8")
        if entry_points is None:
            entry_points = f"[worldr1]\nplugin = {module}\n"
        (folder / "entry_points.txt").write_text(entry_points, encoding="utf-8")


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """A fresh site folder at the front of this process's path; discovery and imports of it are forgotten afterwards."""
    folder = tmp_path / "site"
    folder.mkdir()
    fake = Site(folder)
    monkeypatch.syspath_prepend(str(folder))
    installed.cache_clear()
    yield fake
    installed.cache_clear()
    for module in fake.modules:
        sys.modules.pop(module, None)


@pytest.fixture
def run_worldr1(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run the `worldr1` program in its own process: `run(*args, site=..., **environment)`."""

    def run(*args: str, site: Site | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
        env = {**os.environ, "OMP_NUM_THREADS": "1", "NO_COLOR": "1", "COLUMNS": "200", **environment}
        if site is not None:
            env["PYTHONPATH"] = str(site.path)
        command = [sys.executable, "-c", "from worldr1_core.cli import main; main()", *args]
        return subprocess.run(command, env=env, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)

    return run


@pytest.fixture
def make_registry() -> Callable[[Mapping[str, Mapping[str, str]]], Registry]:
    """Build a registry from `{kind: {name: target}}`, all owned by one fake distribution."""

    def make(components: Mapping[str, Mapping[str, str]]) -> Registry:
        registry = Registry()
        owner = Owner("plugin", "acme-rewards", "2.0", "acme_rewards")
        for kind, names in components.items():
            for name, target in names.items():
                registry.add(Entry(kind, name, target, owner))
        return registry

    return make


@pytest.fixture
def make_clip() -> Callable[..., Clip]:
    """Build a tiny random clip: `make_clip(seed=0, name="clip", prompt="")`."""

    def make(seed: int = 0, name: str = "clip", prompt: str = "") -> Clip:
        frames = torch.rand(3, 3, 8, 8, generator=torch.Generator().manual_seed(seed))
        return Clip(Video(frames), prompt=prompt, name=name)

    return make


@pytest.fixture(autouse=True)
def _structlog_defaults() -> Iterator[None]:
    """What one test does to the logging of the process does not reach the next."""
    yield
    structlog.reset_defaults()
