"""Types of paths on the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from worldr1_rewards.addresses import is_remote


class FilePath(click.Path):
    """A path that is not empty, so that `"$VIDEO"` with an unset variable does not mean the current folder."""

    def __init__(self) -> None:
        super().__init__(path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Refuse an empty path."""
        if value == "":
            self.fail("must not be empty. Name a file or folder; '.' is the current folder.", param, ctx)
        return super().convert(value, param, ctx)


class VideoPath(FilePath):
    """Such a path, or the address of a file system that fsspec opens."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Keep an address as text: a path would lose one of its slashes."""
        return value if isinstance(value, str) and is_remote(value) else super().convert(value, param, ctx)
