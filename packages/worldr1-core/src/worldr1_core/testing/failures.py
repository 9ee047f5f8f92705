"""Outcomes of a check that does not pass, and the place in the component's code where an exception was raised."""

from __future__ import annotations

import contextlib
import traceback
import unittest
from collections.abc import Iterator, Sequence

from worldr1_core.errors import MissingExtraError, WeightsError, describe_exception

UNAVAILABLE = (MissingExtraError, WeightsError)
"""Exceptions that say that something is not installed here, which is not a fault of the component."""
_KIT = __name__.rpartition(".")[0]


class CheckFailed(AssertionError):
    """A component broke a contract; the message says what was seen.

    Args:
        message: What was seen.
        why: Why it matters, instead of the contract's reason.
        fix: What a plugin author does about it, instead of the contract's fix.
    """

    def __init__(self, message: str, *, why: str | None = None, fix: str | None = None) -> None:
        super().__init__(message)
        self.why, self.fix = why, fix


class CallFailed(CheckFailed):
    """A call that many checks make raised an exception, or returned something of the wrong form.

    It is reported without the reason and the fix of the check that happened to make the call.
    """


class NotConstructed(CallFailed):
    """The component could not be constructed, so that nothing else can be checked."""


class CheckSkipped(unittest.SkipTest):
    """A check could not be made; the message says why. Test runners show it as a skipped test with that reason."""


@contextlib.contextmanager
def checking(case: str) -> Iterator[None]:
    """Name the case under test in a failure, which the contract of the check then explains.

    Use it where an exception of the component is a failure of this very check, e.g. at a video of one frame.

    Args:
        case: What the component is given.

    Raises:
        CheckFailed: The block raised an exception.
    """
    try:
        yield
    except (*UNAVAILABLE, unittest.SkipTest):
        raise
    except CheckFailed as error:
        raise CheckFailed(f"{case}: {error}") from error
    except Exception as error:
        raise CheckFailed(f"{case} raised {describe_exception(error)}") from error


def causes(error: Exception) -> list[Exception]:
    """A failure, the failures that it names as its cause, and the exception of the component behind them, if any."""
    chain = [error]
    while isinstance(chain[-1], CheckFailed) and isinstance(chain[-1].__cause__, Exception):
        chain.append(chain[-1].__cause__)
    return chain


def place_in(error: Exception, modules: Sequence[str]) -> str | None:
    """The innermost frame of an exception in the component's code, as `file:line, in function`.

    Args:
        error: A raised exception.
        modules: Modules of the component's class and of the classes that it derives from. The code of the whole
            package counts, that of the first packages first; the kit's own code does not.

    Returns:
        The frame, or `None` if the exception did not pass through the component's code.
    """
    frames = list(traceback.walk_tb(error.__traceback__))
    names = [str(frame.f_globals.get("__name__", "")) for frame, _ in frames]
    for package in dict.fromkeys(module.partition(".")[0] for module in modules):
        for name, (frame, line) in zip(reversed(names), reversed(frames), strict=True):
            if name.partition(".")[0] == package and (name in modules or not _is_kit(name)):
                return f"{frame.f_code.co_filename}:{line}, in {frame.f_code.co_name}"
    return None


def innermost_place(error: Exception) -> str | None:
    """The innermost frame of an exception outside the kit, else the innermost of all, as `file:line, in function`."""
    frames = list(traceback.walk_tb(error.__traceback__))
    outside = [entry for entry in frames if not _is_kit(str(entry[0].f_globals.get("__name__", "")))]
    for frame, line in reversed(outside or frames):
        return f"{frame.f_code.co_filename}:{line}, in {frame.f_code.co_name}"
    return None


def _is_kit(module: str) -> bool:
    return module == _KIT or module.startswith(f"{_KIT}.")
