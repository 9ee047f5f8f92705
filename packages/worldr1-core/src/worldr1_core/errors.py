"""Every exception that a user of World-R1 may see, and the exit code it stands for.

A message says what went wrong, what was received (`!r`), what is allowed, and how to fix it.
"""

from __future__ import annotations

import difflib
import importlib
import reprlib
from collections.abc import Iterable
from types import ModuleType


class WorldR1Error(Exception):
    """A failure that is not caused by the input (exit code 1)."""

    exit_code = 1


class UserError(WorldR1Error):
    """The input cannot be used; the message says how to fix it (exit code 2)."""

    exit_code = 2


class VideoError(UserError):
    """A video file or a frame tensor that cannot be read or does not have the documented form."""


class TrajectoryError(UserError):
    """Camera poses or intrinsics that are malformed, non-rigid or of the wrong length."""


class ManifestError(UserError):
    """A manifest that cannot be read, or does not validate; carries file, line and key path."""


class UnknownNameError(UserError):
    """A component name that nothing installed registers."""


class DuplicateNameError(UserError):
    """A component name that two installed distributions register."""


class PluginError(UserError):
    """A plugin that is needed here but failed to load, or broke its contract."""


class MissingExtraError(UserError):
    """An optional dependency that is needed here but not installed."""


class WeightsError(UserError):
    """Pretrained weights that cannot be found, fetched or loaded."""


class OutputError(UserError):
    """An output that cannot be written."""


class ScoreUnavailable(WorldR1Error):
    """There is no score for this clip; the message is the reason that is reported with the NaN.

    Raise it in a reward, reconstructor or judge. It marks the clip as failed: the total is NaN too.
    """


class ScoreNotApplicable(ScoreUnavailable):
    """The reward makes no sense for this clip, e.g. because no move is commanded; the total leaves it out."""


def suggest(name: str, allowed: Iterable[str]) -> str:
    """A sentence ` Did you mean 'x'?` for the closest allowed name, or the empty string."""
    matches = difflib.get_close_matches(name, list(allowed), n=1, cutoff=0.6)
    return f" Did you mean {matches[0]!r}?" if matches else ""


def shorten(value: object) -> str:
    """`repr(value)` in at most a few hundred characters, however large the value is."""
    short = reprlib.Repr()
    short.maxlevel, short.maxdict, short.maxlist, short.maxtuple = 3, 6, 6, 6
    short.maxstring = short.maxother = short.maxlong = 100
    return short.repr(value)


def with_article(noun: str) -> str:
    """A noun with its indefinite article: `a sampler`, `an Objective`."""
    return f"{'an' if noun[:1].lower() in 'aeiou' else 'a'} {noun}"


def describe_exception(error: BaseException) -> str:
    """`Type: message`; the type alone where there is no message, or none that can be had."""
    try:
        message = str(error)
    except Exception:  # noqa: BLE001 - a third party's exception may fail to print itself
        message = "(its message cannot be shown)"
    if isinstance(error, MemoryError):
        return f"out of memory{f' ({message})' if message else ''}; take a smaller or shorter clip"
    return f"{type(error).__name__}: {message}" if message else type(error).__name__


def require(module: str, *, extra: str) -> ModuleType:
    """Import an optional dependency.

    Args:
        module: Module to import, e.g. `"open_clip"`.
        extra: Requirement that provides it, e.g. `"worldr1-rewards[hps]"`.

    Raises:
        MissingExtraError: The module is not installed; the message names the command that installs it.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not (module == error.name or module.startswith(error.name + ".")):
            raise
        raise MissingExtraError(
            f"Python package {module!r} is not installed, and this needs it. Install it with: pip install '{extra}'"
        ) from error
