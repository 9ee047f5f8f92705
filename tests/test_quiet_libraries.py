"""Python users own stdout, logging and warning filters: libraries touch none of them."""

from __future__ import annotations

import ast
import logging
from pathlib import Path

import pytest
import structlog
import torch

from worldr1_core import Reward
from worldr1_rewards import Scorer


class Broken(Reward):
    """Fails, which is logged."""

    def score(self, clip, inputs):
        raise RuntimeError("no luck")


@pytest.fixture
def settings():
    """The settings of the process, as a function."""
    structlog.reset_defaults()

    def read():
        root = logging.getLogger()
        return list(root.handlers), root.level, structlog.is_configured()

    return read


def test_scoring_in_python_writes_nothing_to_stdout(capsys, settings):
    before = settings()
    frames = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    Scorer(["reconstruction", "trajectory", Broken], reconstructor="direct")(frames, prompt="Camera push in.")
    assert capsys.readouterr().out == ""
    assert settings() == before


def test_generating_in_python_writes_nothing_to_stdout(capsys, settings):
    from worldr1_backbones import Generator

    before = settings()
    Generator.from_pretrained("tiny-wan", sampler={"name": "flow-sde", "num_inference_steps": 2})("Camera push in.")
    assert capsys.readouterr().out == ""
    assert settings() == before


CONFIGURES = {"filterwarnings", "simplefilter", "basicConfig", "configure_logging", "set_verbosity", "print"}
COMMANDS = ("cli", "commands")
"""Modules of the command line, which owns the process."""
PROGRAMS = {"serving/worker.py", "ray_engine/replica.py", "ray_engine/tasks.py"}
"""Main programs of processes of their own."""


def test_only_the_command_line_configures_the_process():
    found = []
    for path in sorted((Path(__file__).parents[1] / "packages").glob("*/src/**/*.py")):
        if any(part.startswith(COMMANDS) for part in path.parts) or "/".join(path.parts[-2:]) in PROGRAMS:
            continue
        tree = ast.parse(path.read_text(encoding="utf-8"))
        undone = {inner for node in ast.walk(tree) if _catches_warnings(node) for inner in ast.walk(node)}
        calls = (node for node in ast.walk(tree) if isinstance(node, ast.Call) and node not in undone)
        found += [f"{path}:{call.lineno}" for call in calls if _called_name(call) in CONFIGURES]
    assert found == []


def _catches_warnings(node: ast.AST) -> bool:
    return isinstance(node, ast.With) and any("catch_warnings" in ast.unparse(item) for item in node.items)


def _called_name(call: ast.Call) -> str:
    """Name of the called function; a method `print`, such as that of a console that writes to a string, is none."""
    if isinstance(call.func, ast.Attribute):
        return "" if call.func.attr == "print" else call.func.attr
    return getattr(call.func, "id", "")
