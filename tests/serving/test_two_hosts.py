"""Two hosts, simulated by network namespaces: training with rewards at the other one is training with rewards here."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from train.sites import MANIFEST, add_fake_world, write_prompts

PROGRAM = [sys.executable, "-c", "from worldr1_core.cli import main; main()"]
PLACES = "placement: {name: endpoint, url: 'http://10.231.7.2:8100', token_env: REWARD_TOKEN, timeout: 120}"


@dataclass(frozen=True)
class Hosts:
    """Names of two network namespaces that reach each other, and nothing else, at 10.231.7.1 and 10.231.7.2."""

    first: str
    second: str

    def command(self, host: str, *command: str) -> list[str]:
        return ["ip", "netns", "exec", host, *command]


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)


@pytest.fixture(scope="module")
def hosts() -> Iterator[Hosts]:
    if shutil.which("ip") is None:
        pytest.skip("there is no program `ip`")
    own = Hosts(f"worldr1-a-{os.getpid()}", f"worldr1-b-{os.getpid()}")
    links = [f"w1a{os.getpid() % 10**6}", f"w1b{os.getpid() % 10**6}"]
    try:
        _ip("netns", "add", own.first)
        _ip("netns", "add", own.second)
        _ip("link", "add", links[0], "netns", own.first, "type", "veth", "peer", "name", links[1], "netns", own.second)
        for number, (host, link) in enumerate(zip((own.first, own.second), links, strict=True), start=1):
            _ip("-n", host, "address", "add", f"10.231.7.{number}/24", "dev", link)
            _ip("-n", host, "link", "set", link, "up")
            _ip("-n", host, "link", "set", "lo", "up")
    except subprocess.CalledProcessError as error:
        _remove(own)
        pytest.skip(f"this user or kernel has no network namespaces: {error.stderr.decode().strip()}")
    yield own
    _remove(own)


def _remove(own: Hosts) -> None:
    for host in (own.first, own.second):  # their link goes with them
        subprocess.run(["ip", "netns", "del", host], capture_output=True, check=False)


def train(folder: Path, text: str, environment: dict[str, str], prefix: list[str]) -> tuple[list[dict], dict]:
    folder.mkdir()
    write_prompts(folder)
    (folder / "run.yaml").write_text(text, encoding="utf-8")
    command = [*prefix, *PROGRAM, "train", "run.yaml"]
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    lines = [json.loads(line) for line in (folder / "runs/run/metrics.jsonl").read_text().splitlines()]
    kept = ("step", "loss", "reward", "reward_std", "kl", "grad_norm")
    return [{key: line[key] for key in kept if key in line} for line in lines], json.loads(done.stdout)["after"]


@pytest.mark.slow
def test_training_with_rewards_at_another_host_is_the_same_run(hosts, tmp_path):
    add_fake_world(tmp_path / "site")
    environment = {
        **os.environ,
        "PYTHONPATH": str(tmp_path / "site"),
        "OMP_NUM_THREADS": "1",
        "REWARD_TOKEN": "a-secret-of-this-test",
    }
    served = tmp_path / "served.yaml"
    served.write_text("version: 1\ndevice: cpu\nrewards: [{name: brightness}, {name: redness}]\n", encoding="utf-8")
    options = ["--host", "10.231.7.2", "--port", "8100", "--token-env", "REWARD_TOKEN"]
    text = MANIFEST.replace("max_steps: 16", "max_steps: 6")
    away = text.replace("{name: brightness}", f"{{name: brightness, {PLACES}}}").replace(
        "{name: redness, weight: 0.5}", f"{{name: redness, weight: 0.5, {PLACES}}}"
    )
    assert away.count("10.231.7.2") == 2
    here = train(tmp_path / "here", text, environment, [])
    with subprocess.Popen(
        hosts.command(hosts.second, *PROGRAM, "serve", str(served), *options),
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    ) as server:
        try:
            assert server.stdout.readline().strip() == "http://10.231.7.2:8100"
            there = train(tmp_path / "there", away, environment, hosts.command(hosts.first))
        finally:
            server.terminate()
    assert there == here
