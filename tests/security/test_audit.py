"""The audit of dependencies: what fails it, what is excepted, and what it says without an answer."""

from __future__ import annotations

import datetime
import json
import subprocess
from pathlib import Path

import pytest

from tools import audit

TODAY = datetime.date(2030, 1, 15)
VULNERABLE = {
    "name": "acme",
    "version": "1.0",
    "vulns": [{"id": "PYSEC-1", "aliases": ["CVE-2030-1"], "fix_versions": ["1.1"]}],
}
EXCEPTION = '[[exception]]\nid = "{id}"\npackage = "acme"\nreason = "never called"\nuntil = {until}\n'


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Audit a lock file of two versions, with a function in the place of pip-audit: exit code and lines."""
    monkeypatch.setattr(audit, "ROOT", tmp_path)
    monkeypatch.setattr(audit, "EXCEPTIONS", tmp_path / "exceptions.toml")
    lock = "".join(
        f'[[package]]\nname = "acme"\nversion = "{version}"\nsource = {{ registry = "index" }}\n'
        for version in ("1.0", "2.0")
    )
    (tmp_path / "uv.lock").write_text(
        lock + '[[package]]\nname = "own"\nversion = "1"\nsource = { editable = "packages/own" }\n'
    )

    def run(answer, exceptions: str = "") -> tuple[int, list[str], list]:
        asked = []

        def call(command, **options):
            names = Path(command[command.index("--requirement") + 1]).read_text().splitlines()
            asked.append(names)
            return answer(names)

        monkeypatch.setattr(subprocess, "run", call)
        (tmp_path / "exceptions.toml").write_text(exceptions)
        status = audit.main()
        return status, capsys.readouterr().err.splitlines(), asked

    return run


def report(*dependencies) -> subprocess.CompletedProcess:
    return subprocess.CompletedProcess([], 1, json.dumps({"dependencies": dependencies}), "")


def knows_acme(names):
    return report(VULNERABLE if "acme==1.0" in names or "jinja2" in names[0] else {**VULNERABLE, "vulns": []})


def test_an_open_vulnerability_fails_the_step(run):
    status, lines, asked = run(knows_acme)
    assert status == 1
    assert "pip-audit: acme 1.0: PYSEC-1, fixed in 1.1" in lines
    assert asked[1:] == [["acme==1.0"], ["acme==2.0"]]  # each locked version, and none of the workspace


@pytest.mark.parametrize("name", ["PYSEC-1", "CVE-2030-1"])
def test_an_exception_passes_and_its_reason_is_shown(run, name):
    status, lines, _ = run(knows_acme, EXCEPTION.format(id=name, until="2099-01-01"))
    assert status == 0
    assert lines[0].endswith("exception: never called")


def test_an_exception_ends(run):
    assert run(knows_acme, EXCEPTION.format(id="PYSEC-1", until="2020-01-01"))[0] == 1


def test_an_exception_needs_its_reason(tmp_path):
    path = tmp_path / "exceptions.toml"
    path.write_text(EXCEPTION.format(id="PYSEC-1", until="2099-01-01").replace("never called", ""))
    with pytest.raises(ValueError, match="needs id, package, reason and until"):
        audit.read_exceptions(path, TODAY)


def silent(names):
    return report({"name": "jinja2", "skip_reason": "not found"})


def slow(names):
    raise subprocess.TimeoutExpired("pip-audit", 50)


def broken(names):
    return subprocess.CompletedProcess([], 1, "", "ConnectionError: no such host")


@pytest.mark.parametrize(
    ("answer", "reason"),
    [(silent, "knows no vulnerability of jinja2"), (slow, "did not finish"), (broken, "no such host")],
)
def test_without_an_answer_the_step_says_that_nothing_was_audited(run, answer, reason):
    status, (line,), _ = run(answer)
    assert status == 0
    assert "NOT AUDITED, 2 locked versions were not checked" in line
    assert reason in line


def test_the_exceptions_of_the_repository_are_complete():
    audit.read_exceptions(audit.EXCEPTIONS, TODAY)
