"""Audit of the locked dependencies with pip-audit: `python -m tools.audit`, a step of `.ci/run`.

Every version of `uv.lock` is asked for, those of extras that exclude each other included. A known vulnerability fails
the step unless `.ci/audit-exceptions.toml` names it, with the reason and the day on which the exception ends. Where the
advisory service cannot be reached, the step says so and does not fail.
"""

from __future__ import annotations

import datetime
import json
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
EXCEPTIONS = ROOT / ".ci" / "audit-exceptions.toml"
PIP_AUDIT = "pip-audit==2.10.1"
CONTROL = ("jinja2", "2.4.1")
"""A version with published vulnerabilities: a service that does not know them gives no answer about others either."""
SECONDS = 50.0
"""Time for one call of pip-audit."""


class AuditUnavailable(Exception):
    """There is no answer; the message says why."""


def locked_versions(lock: Path) -> list[tuple[str, str]]:
    """Name and version of every distribution from an index in a lock file of uv, sorted."""
    document = tomllib.loads(lock.read_text(encoding="utf-8"))
    entries = document.get("package", [])
    return sorted({(entry["name"], entry["version"]) for entry in entries if "registry" in entry.get("source", {})})


def read_exceptions(path: Path, today: datetime.date) -> dict[str, str]:
    """Read the exceptions that hold today.

    Args:
        path: TOML file of `[[exception]]` with `id`, `package`, `reason` and `until`.
        today: Exceptions that end before are left out.

    Returns:
        Id of the vulnerability -> reason.

    Raises:
        ValueError: An entry is not complete.
    """
    found = {}
    for entry in tomllib.loads(path.read_text(encoding="utf-8")).get("exception", []):
        lacking = [key for key in ("id", "package", "reason", "until") if not entry.get(key)]
        if lacking or not isinstance(entry["until"], datetime.date):
            raise ValueError(f"{path.name}: {entry!r} needs id, package, reason and until (a date).")
        if entry["until"] >= today:
            found[entry["id"]] = entry["reason"]
    return found


def split_by_name(versions: Iterable[tuple[str, str]]) -> list[list[tuple[str, str]]]:
    """Split versions into lists in which no name stands twice, as pip-audit wants them."""
    lists: list[dict[str, str]] = []
    for name, version in versions:
        own = next((known for known in lists if name not in known), None)
        if own is None:
            lists.append(own := {})
        own[name] = version
    return [list(known.items()) for known in lists]


def run_pip_audit(versions: Sequence[tuple[str, str]]) -> list[dict[str, Any]]:
    """Ask pip-audit about versions.

    Returns:
        Its `dependencies`: each with `name`, and either `vulns` or a `skip_reason`.

    Raises:
        AuditUnavailable: It gives no report, or not in time.
    """
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        file.write("".join(f"{name}=={version}\n" for name, version in versions))
        file.flush()
        options = ["--no-deps", "--disable-pip", "--progress-spinner", "off", "--format", "json"]
        command = ["uv", "tool", "run", "--quiet", PIP_AUDIT, "--requirement", file.name, *options]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
        except subprocess.TimeoutExpired as error:
            raise AuditUnavailable(f"pip-audit did not finish within {SECONDS:.0f} s") from error
    try:
        dependencies: list[dict[str, Any]] = json.loads(done.stdout)["dependencies"]
    except (ValueError, KeyError) as error:
        last = (done.stderr.strip().splitlines() or ["it printed nothing"])[-1]
        raise AuditUnavailable(f"pip-audit gave no report: {last[:300]}") from error
    return dependencies


def find_vulnerabilities(
    dependencies: Iterable[Mapping[str, Any]], exceptions: Mapping[str, str]
) -> tuple[list[str], list[str]]:
    """Describe the vulnerabilities of a report.

    Args:
        dependencies: Report of pip-audit.
        exceptions: Id -> reason; an id may also be an alias, such as a CVE number.

    Returns:
        Those that no exception names, and those that one does.
    """
    open_, excepted = [], []
    for dependency in dependencies:
        for entry in dependency.get("vulns", []):
            known = next((name for name in (entry["id"], *entry.get("aliases", [])) if name in exceptions), None)
            fixed = ", ".join(entry.get("fix_versions", [])) or "no version"
            line = f"{dependency['name']} {dependency['version']}: {entry['id']}, fixed in {fixed}"
            if known is None:
                open_.append(line)
            else:
                excepted.append(f"{line}; exception: {exceptions[known]}")
    return open_, excepted


def main() -> int:
    """Audit the lock file; 1 if a vulnerability is open."""
    exceptions = read_exceptions(EXCEPTIONS, datetime.datetime.now(datetime.UTC).date())
    versions = locked_versions(ROOT / "uv.lock")
    try:
        if not find_vulnerabilities(run_pip_audit([CONTROL]), {})[0]:
            raise AuditUnavailable(
                f"the advisory service knows no vulnerability of {' '.join(CONTROL)}, which has some"
            )
        reports = [entry for part in split_by_name(versions) for entry in run_pip_audit(part)]
    except AuditUnavailable as error:
        _say(f"NOT AUDITED, {len(versions)} locked versions were not checked: {error}.")
        return 0
    open_, excepted = find_vulnerabilities(reports, exceptions)
    skipped = [entry["name"] for entry in reports if "skip_reason" in entry]
    for line in (*excepted, *open_):
        _say(line)
    _say(
        f"{len(reports)} versions audited, {len(open_)} open vulnerabilities, {len(excepted)} excepted, unknown to the "
        f"service: {skipped or 'none'}."
    )
    return 1 if open_ else 0


def _say(line: str) -> None:
    sys.stderr.write(f"pip-audit: {line}\n")


if __name__ == "__main__":
    sys.exit(main())
