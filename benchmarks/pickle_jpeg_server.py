"""A reward server as many training repositories have one: pickle over HTTP, and frames as JPEG files.

It is the other side of the comparison in `benchmarks/serving.py`, which starts it on the loopback interface. Never let
strangers reach such a server: unpickling a request runs whatever code the request holds.
"""

from __future__ import annotations

import io
import pickle
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Self

import numpy as np
import torch
from PIL import Image

from worldr1_core.clip import Clip
from worldr1_core.video import Video
from worldr1_rewards import Scorer

JPEG_QUALITY = 95


class PickleJpegServer:
    """The server in a process of its own.

    Args:
        rewards: Rewards to score with.
    """

    def __init__(self, rewards: Sequence[str]) -> None:
        command = [sys.executable, __file__, ",".join(rewards)]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        self._url = self._process.stdout.readline().strip()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, stack: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.wait()

    def score(self, clip: Clip) -> float:
        """Total of a clip, whose frames have been JPEG files on the way."""
        body = encode(clip)
        with urllib.request.urlopen(urllib.request.Request(self._url, data=body), timeout=600) as answer:
            (total,) = pickle.loads(answer.read())
        return float(total)


def encode(clip: Clip) -> bytes:
    """The request of a clip."""
    frames = (clip.video.frames * 255).round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).numpy()
    files = []
    for frame in frames:
        file = io.BytesIO()
        Image.fromarray(frame).save(file, format="JPEG", quality=JPEG_QUALITY)
        files.append(file.getvalue())
    return pickle.dumps({"images": [files], "prompts": [clip.prompt]})


def decode(body: bytes) -> list[Clip]:
    """The clips of a request."""
    request = pickle.loads(body)
    clips = []
    for files, prompt in zip(request["images"], request["prompts"], strict=True):
        frames = np.stack([np.asarray(Image.open(io.BytesIO(file))) for file in files])
        video = Video(torch.from_numpy(frames).permute(0, 3, 1, 2).float() / 255)
        clips.append(Clip(video, prompt, name="clip"))
    return clips


def main() -> None:
    """Serve the rewards that the argument names, until the process is killed."""
    torch.set_num_threads(1)
    scorer, lock = (
        Scorer(manifest={"device": "cpu", "rewards": [{"name": n} for n in sys.argv[1].split(",")]}),
        threading.Lock(),
    )

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            clips = decode(self.rfile.read(int(self.headers["Content-Length"])))
            with lock:
                totals = [result.total for result in scorer.engine.score(clips, batch_size=len(clips))]
            answer = pickle.dumps(totals)
            self.send_response(200)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    class Server(ThreadingHTTPServer):
        request_queue_size = 512
        daemon_threads = True

    server = Server(("127.0.0.1", 0), Handler)
    print(f"http://127.0.0.1:{server.server_address[1]}", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
