"""Readers of what strangers send, each with valid inputs to damage and the errors that its documentation allows."""

from __future__ import annotations

import json
import struct
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch

from core.video_files import encode_images, pictures
from fuzz.mutations import damage, damage_document, dump
from worldr1_core.camera import load_trajectory, save_trajectory
from worldr1_core.camera.trajectory import CameraTrajectory
from worldr1_core.clip import Clip
from worldr1_core.errors import ManifestError, ScoreUnavailable, TrajectoryError, UserError, VideoError
from worldr1_core.judge import JudgeRequest, JudgeResult
from worldr1_core.manifest import load_manifest
from worldr1_core.placement import ScoredClip
from worldr1_core.plugins import installed
from worldr1_core.reward import Score
from worldr1_core.video import Video
from worldr1_core.video_io import read_video, write_video
from worldr1_rewards.serving.answers import decode_answer, encode_answer
from worldr1_rewards.serving.limits import MIB, Limits
from worldr1_rewards.serving.questions import (
    decode_grades,
    decode_questions,
    encode_grades,
    encode_questions,
    parse_questions,
)
from worldr1_rewards.serving.requests import decode_clips, encode_request, parse_request
from worldr1_rewards.serving.wire_errors import RequestFailed

LIMITS = Limits(body_bytes=4 * MIB, decoded_bytes=16 * MIB, frames=64)


@dataclass(frozen=True)
class Target:
    """A reader under test.

    Attributes:
        make: Makes a damaged input.
        read: Reads one of them.
        allowed: Errors that its documentation names.
    """

    make: Callable[[Random], Any]
    read: Callable[[Any], object]
    allowed: tuple[type[Exception], ...]


def _path(num_frames: int = 3) -> CameraTrajectory:
    c2w = torch.eye(4, dtype=torch.float64).repeat(num_frames, 1, 1)
    c2w[:, 2, 3] = torch.arange(num_frames) * 0.1
    intrinsics = torch.tensor([[50.0, 0, 8], [0, 50, 6], [0, 0, 1]], dtype=torch.float64)
    return CameraTrajectory(c2w, intrinsics, (12, 16), 2.0)


def _split(body: bytes) -> tuple[Any, bytes]:
    """Header and data of a safetensors file, with the JSON within the header decoded."""
    (length,) = struct.unpack("<Q", body[:8])
    header = json.loads(body[8 : 8 + length])
    header["__metadata__"]["worldr1"] = json.loads(header["__metadata__"]["worldr1"])
    return header, body[8 + length :]


def _join(header: Any, data: bytes) -> bytes:
    if isinstance(header, dict) and isinstance(header.get("__metadata__"), dict):
        metadata = dict(header["__metadata__"])
        if not isinstance(metadata.get("worldr1", ""), str):
            metadata["worldr1"] = json.dumps(metadata["worldr1"])
        header = {**header, "__metadata__": metadata}
    text = dump(header)
    return struct.pack("<Q", len(text)) + text + data


def _damaged_bodies(bodies: list[bytes]) -> Callable[[Random], bytes]:
    parts = [_split(body) for body in bodies]

    def make(draw: Random) -> bytes:
        if draw.random() < 0.5:
            return damage(draw, draw.choice(bodies))
        header, data = draw.choice(parts)
        return _join(damage_document(draw, header), data)

    return make


def request_target(folder: Path) -> Target:
    """Requests of the wire format, up to their clips."""
    video = Video(torch.rand(3, 3, 4, 5))
    levels = Video(torch.randint(0, 256, (2, 3, 3, 3)).float() / 255)
    clips = [
        Clip(video, "Camera push in.", target=_path(), name="a", reference=levels, intrinsics=torch.eye(3)),
        Clip(levels, "", target=None, name="b"),
    ]
    bodies = [b"".join(encode_request(own, ["contrast"], with_reference=True)) for own in ([clips[0]], clips)]

    def read(body: bytes) -> object:
        view = memoryview(body)
        return decode_clips(view, parse_request(view, LIMITS))

    return Target(_damaged_bodies(bodies), read, (RequestFailed,))


def question_target(folder: Path) -> Target:
    """Questions to a judge."""
    questions = [JudgeRequest(torch.rand(2, 3, 4, 5), "Grade it."), JudgeRequest(torch.zeros(1, 3, 3, 3), "Which?")]
    bodies = [b"".join(encode_questions(own)) for own in (questions[:1], questions)]

    def read(body: bytes) -> object:
        view = memoryview(body)
        return decode_questions(view, parse_questions(view, LIMITS))

    return Target(_damaged_bodies(bodies), read, (RequestFailed,))


def grade_target(folder: Path) -> Target:
    """Answers of a judge."""
    results = [JudgeResult(0.5, 0.9), JudgeResult(0.1, None, "text"), ScoreUnavailable("no digit")]
    bodies = [encode_grades(own) for own in (results, results[2:])]

    def read(body: bytes) -> object:
        found = decode_grades(memoryview(body), 3)
        for result in found:  # never a grade in doubt
            assert isinstance(result, ScoreUnavailable) or 0 <= result.score <= 1
        return found

    return Target(_damaged_bodies(bodies), read, (RequestFailed,))


def answer_target(folder: Path) -> Target:
    """Answers of the wire format."""
    scores = {"a": Score(0.5, details={"x": [1, 2.5, None, "y"]}, spatial_map=torch.rand(2, 3)), "b": Score(1.0)}
    missing = {"a": Score.unavailable("no texture"), "b": Score.unavailable("still", applicable=False)}
    bodies = [encode_answer([ScoredClip(own, {"a": 0.1}) for own in clips]) for clips in ([scores], [scores, missing])]

    def read(body: bytes) -> object:
        clips = decode_answer(memoryview(body), ["a", "b"], 1)
        for score in clips[0].scores.values():  # never a number in doubt
            assert (score.reason is None) == (score.value == score.value and abs(score.value) != float("inf"))
        return clips

    return Target(_damaged_bodies(bodies), read, (RequestFailed,))


MANIFEST = {
    "version": 1,
    "seed": 3,
    "device": "cpu",
    "backbone": {"name": "tiny-wan", "guidance_scale": 1.0},
    "sampler": {"name": "flow-sde", "num_inference_steps": 3},
    "reconstructor": {"name": "direct", "placement": {"name": "worker", "environment": {"extras": ["da3"]}}},
    "rewards": [
        {"name": "contrast", "weight": 0.5, "placement": {"name": "endpoint", "url": ["http://127.0.0.1:8100"]}},
        {"name": "trajectory"},
    ],
    "prompts": {"main": "train.txt"},
    "train": {"group_size": 4, "stages": [{"steps": 2, "prompts": "main"}], "objective": {"kl": 0.01}},
}


def manifest_target(folder: Path) -> Target:
    """Manifests, as files."""
    text = json.dumps(MANIFEST, indent=1).encode()
    block = b"version: 1\nrewards:\n  - {name: contrast, weight: 0.5}\n  - &a {name: motion}\ndevice: cpu\n# end\n"

    def make(draw: Random) -> bytes:
        if draw.random() < 0.5:
            return damage(draw, draw.choice((text, block)))
        return dump(damage_document(draw, MANIFEST))

    file, registry = folder / "manifest.yaml", installed().registry

    def read(body: bytes) -> object:
        file.write_bytes(body)
        return load_manifest(file, registry)

    return Target(make, read, (ManifestError, UserError))


_TABLES = {
    ".txt": (
        b"0 1 0 0 0.1 0 1 0 0 0 0 1 0.2\n1 0 0 0 0 1 0 0 0 0 1 0.3\n",  # KITTI, with one number too many
        b"1 0 0 0.1 0 1 0 0 0 0 1 0.2\n1 0 0 0 0 1 0 0 0 0 1 0.3\n",
        b"https://www.youtube.com/watch?v=x\n0 0.5 0.9 0.5 0.5 0 0 1 0 0 0.1 0 1 0 0 0 0 1 0\n",
        b"# Image list\n1 1 0 0 0 0.1 0.2 0.3 1 a.png\n1.0 2.0 -1\n2 1 0 0 0 0.2 0.2 0.3 1 b.png\n\n",
        b"# Camera list\n1 PINHOLE 16 12 50 50 8 6\n",
    ),
    ".csv": (b"#timestamp [ns],p_x [m],p_y,p_z,q_w,q_x,q_y,q_z\n0,0,0,0,1,0,0,0\n1,0,0,.1,1,0,0,0\n",),
}


def _documents() -> list[Any]:
    poses = [[[1.0, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0.1 * i], [0, 0, 0, 1]] for i in range(3)]
    frames = [{"file_path": f"{i}.png", "transform_matrix": pose} for i, pose in enumerate(poses)]
    recam = "[1 0 0 0] [0 1 0 0] [0 0 1 0] [3390 1380 240 1] "
    return [
        {"c2w": poses, "intrinsics": [[50, 0, 8], [0, 50, 6], [0, 0, 1]], "image_size": [12, 16], "scene_depth": 2},
        {"w2c": poses},
        {"camera_angle_x": 0.7, "w": 16, "h": 12, "fl_x": 50.0, "k1": 0.0, "frames": frames},
        {f"frame{i}": {"cam01": recam} for i in range(3)},
    ]


def trajectory_target(folder: Path) -> Target:
    """Camera paths in text, JSON and NumPy files."""
    corpus = [(suffix, text) for suffix, texts in _TABLES.items() for text in texts]
    corpus += [(".json", json.dumps(document).encode()) for document in _documents()]
    for suffix in (".tum", ".npy", ".json"):
        file = save_trajectory(_path(), folder / f"corpus{suffix}")
        corpus.append((suffix, file.read_bytes()))
    with (folder / "corpus.npz").open("wb") as archive:
        np.savez(archive, c2w=_path().c2w.numpy(), intrinsics=np.eye(3))
    corpus.append((".npz", (folder / "corpus.npz").read_bytes()))
    documents = _documents()

    def make(draw: Random) -> tuple[str, bytes]:
        if draw.random() < 0.3:
            return ".json", dump(damage_document(draw, draw.choice(documents)))
        suffix, content = draw.choice(corpus)
        return suffix, damage(draw, content)

    def read(case: tuple[str, bytes]) -> object:
        file = folder / f"case{case[0]}"
        file.write_bytes(case[1])
        return load_trajectory(file)

    return Target(make, read, (TrajectoryError,))


_VIDEOS = {
    "a.mp4": ("libx264", "yuv420p", {}),
    "b.mkv": ("ffv1", "yuv420p", {"level": "3", "slicecrc": "1"}),
    "c.avi": ("mjpeg", "yuvj420p", {}),
    "d.webm": ("libvpx-vp9", "yuv420p", {"cpu-used": "8", "deadline": "realtime"}),
    "e.gif": ("gif", "rgb8", {}),
}


def video_target(folder: Path) -> Target:
    """Video files of several containers, and arrays of frames."""
    corpus = []
    for name, (codec, pixel_format, options) in _VIDEOS.items():
        file = encode_images(folder / name, pictures(3, 16, 32), codec, pixel_format, options=options)
        corpus.append((file.suffix, file.read_bytes()))
    for suffix in (".npy", ".npz", ".safetensors"):
        file = write_video(Video(torch.rand(2, 3, 4, 4)), folder / f"f{suffix}")
        corpus.append((suffix, file.read_bytes()))

    def read(case: tuple[str, bytes]) -> object:
        file = folder / f"case{case[0]}"
        file.write_bytes(case[1])
        return read_video(file)

    def make(draw: Random) -> tuple[str, bytes]:
        suffix, content = draw.choice(corpus)
        return suffix, damage(draw, content)

    return Target(make, read, (VideoError,))


TARGETS: dict[str, Callable[[Path], Target]] = {
    "request": request_target,
    "answer": answer_target,
    "question": question_target,
    "grade": grade_target,
    "manifest": manifest_target,
    "trajectory": trajectory_target,
    "video": video_target,
}


@contextmanager
def opened(name: str) -> Iterator[Target]:
    """A target with a folder for its files, in memory where there is such a folder."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder:
        yield TARGETS[name](Path(folder))
