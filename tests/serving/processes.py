"""`worldr1 serve` as a real process, with a reward that does what the prompt says."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import httpx
import torch
from prometheus_client.parser import text_string_to_metric_families

from worldr1_core.clip import Clip
from worldr1_core.video import Video
from worldr1_rewards.serving.client import ClientSettings, ScoringClient
from worldr1_rewards.serving.requests import encode_request

REWARD = "acme-obeys"
PLUGIN = '''
import math, pathlib, resource, time
import torch
from worldr1_core import Reward, hookimpl

def vm_bytes():
    return int(pathlib.Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()

class Obeys(Reward):
    """The mean of the frames, after the deed that the prompt names: `wait FILE`, `nan`, `limit MIB`, `allocate MIB`."""
    def score(self, clip, inputs):
        deed, _, value = clip.prompt.partition(" ")
        if deed == "wait":
            while pathlib.Path(value).exists():
                time.sleep(0.02)
        elif deed == "nan":
            return math.nan
        elif deed == "limit":
            resource.setrlimit(resource.RLIMIT_AS, (vm_bytes() + int(value) * 2**20, resource.RLIM_INFINITY))
        elif deed == "allocate":
            torch.empty(int(value) * 2**20, dtype=torch.uint8)
        return float(clip.video.frames.double().mean())

@hookimpl
def worldr1_register_rewards():
    return {"acme-obeys": "acme_obeys:Obeys"}
'''


def install_plugin(folder: Path) -> dict[str, str]:
    """Install the reward into a folder, and return the variables of processes that see it."""
    metadata = folder / "acme_obeys-1.dist-info"
    metadata.mkdir(parents=True)
    (folder / "acme_obeys.py").write_text(textwrap.dedent(PLUGIN), encoding="utf-8")
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-obeys\nVersion: 1\n", encoding="utf-8")
    (metadata / "entry_points.txt").write_text("[worldr1]\nplugin = acme_obeys\n", encoding="utf-8")
    return {**os.environ, "PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1"}


def children(pid: int) -> list[int]:
    """Child processes, whichever thread started them."""
    texts = [path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/children")]
    return [int(child) for text in texts for child in text.split()]


def is_running(pid: int) -> bool:
    """Whether a process exists and is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_until(condition: Callable[[], object], seconds: float = 120) -> None:
    """Wait for a condition, and fail the test if it does not come true."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def make_clip(prompt: str = "", *, level: int = 64, size: int = 8, name: str = "clip") -> Clip:
    """A grey clip, whose score is `level / 256`."""
    return Clip(Video(torch.full((2, 3, size, size), level / 256)), prompt=prompt, target=None, name=name)


class ServerProcess:
    """`worldr1 serve` of the reward of `PLUGIN`.

    Args:
        folder: Folder for the manifest and the log.
        environment: Variables, from `install_plugin`.
        options: Options of `worldr1 serve`.
        prefix: Program that starts the server, with its arguments.
    """

    def __init__(
        self, folder: Path, environment: dict[str, str], *options: str, prefix: Sequence[str] = (), port: int = 0
    ) -> None:
        self.manifest = folder / "served.yaml"
        self.manifest.write_text(f"version: 1\ndevice: cpu\nrewards: [{{name: {REWARD}}}]\n")
        self._log = folder / "server.log"
        program = [sys.executable, "-c", "from worldr1_core.cli import main; main()"]
        with self._log.open("a") as log:
            self.process = subprocess.Popen(
                [*prefix, *program, "serve", str(self.manifest), "--port", str(port), *options],
                env=environment,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        self.url = self.process.stdout.readline().strip()
        assert self.url.startswith("http"), self.log

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    @property
    def log(self) -> str:
        """What it wrote to stderr so far."""
        return self._log.read_text()

    @property
    def worker(self) -> int:
        """Process id of its worker."""
        (worker,) = children(self.process.pid)
        return worker

    def metric(self, name: str) -> float:
        """A counter or gauge, summed over its labels."""
        families = text_string_to_metric_families(httpx.get(f"{self.url}/metrics").text)
        samples = [sample for family in families for sample in family.samples if sample.name == f"worldr1_{name}"]
        return sum(sample.value for sample in samples)

    def post(self, clip: Clip, request_id: str, seconds: float = 100) -> httpx.Response:
        """Send a request once."""
        body = b"".join(encode_request([clip], [REWARD]))
        headers = {"X-Request-ID": request_id, "X-Timeout-Seconds": str(seconds)}
        return httpx.post(f"{self.url}/v1/score", content=body, headers=headers, timeout=100)

    def client(self, url: str | None = None, **options: object) -> ScoringClient:
        """A client of the server."""
        settings = {"urls": [url or self.url], "timeout": 100.0, "patience": 100.0, **options}
        return ScoringClient(ClientSettings(**settings))

    def stop(self) -> None:
        """End it, whatever state it is in."""
        self.process.send_signal(signal.SIGCONT)
        self.process.kill()
        self.process.wait()


def score_of(client: ScoringClient, clip: Clip) -> object:
    """The score of one clip, or the reason why it has none."""
    (scored,) = client.score([clip], [REWARD])
    score = scored.scores[REWARD]
    return score.value if score.reason is None else score.reason
