"""Renamed things: the old name works for one version and warns."""

from __future__ import annotations

import warnings


def warn_renamed(what: str, old: str, new: str) -> None:
    """Warn that a name has changed; Python shows the same warning once per process.

    Args:
        what: The renamed thing, as a user knows it, e.g. `"Reward"`.
        old: The name that was used.
        new: The name to use instead.
    """
    warnings.warn(
        f"{what} {old!r} is now called {new!r}. The old name will be removed in the next version: write {new!r}.",
        FutureWarning,
        stacklevel=1,
    )
