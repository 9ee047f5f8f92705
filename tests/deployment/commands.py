"""Commands in examples: `worldr1 …` is parsed by the program, and what starts it by its own parser."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

import click

from worldr1_core.cli import cli

ROOT = Path(__file__).parents[2]


def check_worldr1(arguments: Sequence[str]) -> click.Context:
    """Parse the arguments after `worldr1`; return the context of the command that they name.

    Raises:
        click.UsageError: An option or argument is unknown or wrong.
    """
    group = cli.make_context("worldr1", list(arguments), resilient_parsing=False)
    name, *rest = [*group._protected_args, *group.args]
    command = cli.get_command(group, name)
    assert command is not None, name
    return command.make_context(name, rest, parent=group)


def after_worldr1(words: Sequence[str]) -> list[str]:
    """Return the arguments of the `worldr1` in a command line."""
    return list(words[list(words).index("worldr1") + 1 :])


def split(text: str) -> list[str]:
    """Split a command line as a shell does."""
    return shlex.split(text, comments=True)
