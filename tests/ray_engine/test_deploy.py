"""`serve deploy` of the example: a configuration file of Ray Serve brings up the same server as `worldr1 serve`."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import yaml

from worldr1_core.errors import UserError
from worldr1_rewards import Scorer
from worldr1_rewards.serving.client import ClientSettings, ScoringClient
from worldr1_rewards.serving.requests import encode_request

pytest.importorskip("ray")

EXAMPLE = Path(__file__).parents[2] / "examples" / "ray" / "serve.yaml"
RAY, SERVE = (str(Path(sys.executable).parent / name) for name in ("ray", "serve"))
SECONDS = 300


def free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [own.getsockname()[1] for own in sockets]
    for own in sockets:
        own.close()
    return ports


@pytest.fixture
def dashboard() -> Iterator[str]:
    """Address of the dashboard of a cluster on this machine, to which configuration files are sent."""
    port, dashboard, agent, client = free_ports(4)
    command = [RAY, "start", "--head", "--block", "--num-cpus=3", "--include-dashboard=true", "--disable-usage-stats"]
    command += [f"--port={port}", f"--dashboard-port={dashboard}", f"--dashboard-agent-listen-port={agent}"]
    command += [f"--ray-client-server-port={client}", "--node-ip-address=127.0.0.1", f"--object-store-memory={2**28}"]
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    cluster = subprocess.Popen(
        command, env={**environment, "REWARD_TOKEN": "secret", "OMP_NUM_THREADS": "1"}, start_new_session=True
    )
    address = f"http://127.0.0.1:{dashboard}"
    try:
        wait_until(lambda: answers(f"{address}/api/serve/applications/"))
        yield address
    finally:
        cluster.send_signal(signal.SIGTERM)  # ends the processes of the cluster too
        try:
            cluster.wait(60)
        finally:
            if cluster.poll() is None:
                os.killpg(cluster.pid, signal.SIGKILL)


def answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=10).status_code == 200
    except httpx.TransportError:
        return False


def wait_until(condition) -> None:
    end = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < end
        time.sleep(1)


def status(dashboard: str) -> tuple[str, str]:
    """State and message of the application."""
    found = httpx.get(f"{dashboard}/api/serve/applications/", timeout=30).json()["applications"].get("worldr1", {})
    return found.get("status", ""), found.get("message", "")


@pytest.mark.slow
def test_the_example_is_deployed_by_ray_serve_and_speaks_the_wire_format(dashboard, make_clip, tmp_path):
    manifest = tmp_path / "rewards.yaml"
    manifest.write_text("version: 1\ndevice: cpu\nrewards: [{name: contrast}, {name: motion}]\n")
    (port,) = free_ports(1)
    config = yaml.safe_load(EXAMPLE.read_text())
    config["http_options"] = {"host": "127.0.0.1", "port": port}
    config["applications"][0]["args"] |= {"manifest": str(manifest), "cpus_per_replica": 1}
    file = tmp_path / "serve.yaml"
    file.write_text(yaml.safe_dump(config))
    done = subprocess.run(
        [SERVE, "deploy", str(file), "--address", dashboard],
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    wait_until(lambda: status(dashboard)[0] in ("RUNNING", "DEPLOY_FAILED"))
    assert status(dashboard)[0] == "RUNNING", status(dashboard)[1]
    clips = [make_clip(seed) for seed in range(2)]
    client = ScoringClient(ClientSettings(urls=[f"http://127.0.0.1:{port}"], token="secret", timeout=100))
    scored = client.score(clips, ["contrast", "motion"])
    client.close()
    own = Scorer(["contrast", "motion"]).score(clips)
    assert [{name: score.value for name, score in clip.scores.items()} for clip in scored] == [
        {name: score.value for name, score in clip.scores.items()} for clip in own
    ]
    body = b"".join(encode_request(clips[:1], ["contrast"]))
    refused = httpx.post(
        f"http://127.0.0.1:{port}/v1/score", content=body, headers={"X-Request-ID": "request-1"}, timeout=60
    )
    assert (refused.status_code, refused.json()["code"]) == (401, "unauthorised")


def test_arguments_of_the_example_are_those_of_the_builder(tmp_path):
    from worldr1_rewards.ray_engine import deployment

    (application,) = yaml.safe_load(EXAMPLE.read_text())["applications"]
    assert application["import_path"] == f"{deployment.__name__}:{deployment.build.__name__}"
    args = deployment.ApplicationArgs.model_validate(json.loads(json.dumps(application["args"])))
    assert args.token_env in EXAMPLE.read_text().partition("proxy_location")[0]
    with pytest.raises(UserError, match="args: unknown key 'min_replica'"):
        deployment.build({**application["args"], "min_replica": 2})
