"""State of one endpoint for `worldr1 doctor`: whether it answers, and with which version."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from worldr1_core.errors import WorldR1Error
from worldr1_rewards.serving.client import ClientSettings, ScoringClient
from worldr1_rewards.serving.tokens import read_token


def check_endpoint(url: str, token_env: str | None, ca_file: str | None) -> dict[str, Any]:
    """Ask a server what it serves, once.

    Args:
        url: Root of the server.
        token_env: Environment variable with its token, or `None`.
        ca_file: Certificates that are trusted, or `None` for the usual ones.

    Returns:
        `url`, `reachable`, `version` of worldr1-rewards there, the `rewards` it has, the `judge` that it serves or
        `None`, and its `problem` or `None`.
    """
    row: dict[str, Any] = {
        "url": url,
        "reachable": False,
        "version": None,
        "rewards": [],
        "judge": None,
        "problem": None,
    }
    client = None
    try:
        token = None if token_env is None else read_token(token_env, "token_env")
        client = ScoringClient(
            ClientSettings(urls=[url], token=token, ca_file=None if ca_file is None else Path(ca_file))
        )
        served = client.composition(seconds=0)
    except WorldR1Error as error:
        return {**row, "problem": str(error)}
    finally:
        if client is not None:
            client.close()
    version = served.versions.get("worldr1-rewards")
    own = served.composition
    judge = own.judge.name if own.grades and own.judge is not None else None
    return {**row, "reachable": True, "version": version, "rewards": sorted(own.rewards), "judge": judge}
