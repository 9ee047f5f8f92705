"""`worldr1 doctor MANIFEST` asks the endpoints of the manifest."""

from __future__ import annotations

import json
import socket
from importlib import metadata

import pytest
from click.testing import CliRunner

from worldr1_core.cli import cli


@pytest.fixture
def doctor(tmp_path):
    """Run `worldr1 doctor` for rewards at these endpoints; returns the report and the text."""

    def run(*urls: str, **options):
        placement = {"name": "endpoint", "url": list(urls), **options}
        rewards = [{"name": name, "placement": placement} for name in ("contrast", "motion")]
        path = tmp_path / "run.yaml"
        path.write_text(json.dumps({"version": 1, "rewards": rewards}))
        report = CliRunner().invoke(cli, ["doctor", str(path), "--json"])
        return json.loads(report.stdout), CliRunner().invoke(cli, ["doctor", str(path)]).stdout

    return run


@pytest.fixture
def closed_url():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    return f"http://127.0.0.1:{port}"


def test_a_server_is_reachable_and_has_a_version(server, doctor):
    report, text = doctor(server.url)
    assert report["endpoints"] == [
        {
            "url": server.url,
            "reachable": True,
            "version": server.service.versions.get("worldr1-rewards"),
            "rewards": ["contrast", "motion"],
            "judge": None,
            "problem": None,
        }
    ]
    assert server.url in text


def test_a_server_that_is_gone_is_a_problem(server, doctor, closed_url):
    report, text = doctor(server.url, closed_url)
    assert [row["reachable"] for row in report["endpoints"]] == [True, False]
    assert any(problem.startswith(closed_url) for problem in report["problems"])
    assert f"Problem: {closed_url}" in text


def test_a_token_that_is_refused_is_a_problem(start_server, doctor, monkeypatch):
    monkeypatch.setenv("REWARD_TOKEN", "wrong")
    server = start_server(token="right")
    report, _ = doctor(server.url, token_env="REWARD_TOKEN")
    (row,) = report["endpoints"]
    assert row["reachable"] is False
    assert "token" in row["problem"]
    assert "wrong" not in json.dumps(report)


def test_a_token_that_is_not_set_is_a_problem(server, doctor, monkeypatch):
    monkeypatch.delenv("REWARD_TOKEN", raising=False)
    report, _ = doctor(server.url, token_env="REWARD_TOKEN")
    assert "is not set" in report["endpoints"][0]["problem"]


def test_no_endpoint_is_asked_without_a_manifest():
    report = json.loads(CliRunner().invoke(cli, ["doctor", "--json"]).stdout)
    assert report["endpoints"] == []
    assert {disk["use"] for disk in report["disks"]} >= {"environments of workers", "downloaded models"}
    assert report["versions"]["worldr1-core"] == metadata.version("worldr1-core")
