"""The bearer token of a server, which both sides read from an environment variable."""

from __future__ import annotations

import os

from worldr1_core.errors import UserError


def read_token(variable: str, setting: str) -> str:
    """Return the token that an environment variable holds.

    Args:
        variable: Name of the variable. It is not repeated in the error, for it may be the token, given by mistake.
        setting: Option that named it, for the error.

    Raises:
        UserError: There is no such variable, or it is empty.
    """
    token = os.environ.get(variable, "").strip() if variable.isidentifier() else ""
    if not token:
        raise UserError(
            f"{setting} names the environment variable that holds the server's token, and this variable is not set. "
            "Give the name of the variable, not the token."
        )
    return token
