"""The files of generated videos: the video, a JSON that makes it again, the commanded path, a contact sheet."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from worldr1_core.camera.plot import plot_trajectories
from worldr1_core.camera.trajectory import CameraTrajectory
from worldr1_core.files import atomic_path, atomic_write_text
from worldr1_core.frame_grid import frame_grid, pick_frames
from worldr1_core.pipeline import GeneratedVideo
from worldr1_core.provenance import versions
from worldr1_core.video_io import write_video
from worldr1_core.written_files import PATH_PLOT_SUFFIX

SUFFIXES = {"mp4": ".mp4", "webm": ".webm", "gif": ".gif", "frames": "", "safetensors": ".safetensors"}
"""Form of the video files -> their suffix; none is a folder of PNG images."""

_SHEET_COLUMNS = 8
_TILE = 160


def file_stem(prompt: str, seed: int, index: int) -> str:
    """File name of a video: number of the prompt, its first words, the seed."""
    plain = unicodedata.normalize("NFKD", prompt).encode("ascii", "ignore").decode().lower()
    words = "-".join(re.findall(r"[a-z0-9]+", plain))[:48].strip("-")
    return "-".join(part for part in (f"{index:03d}", words, f"seed{seed}") if part)


def write_generated(
    made: GeneratedVideo, folder: Path, stem: str, file_format: str, settings: dict[str, Any], *, lossless: bool = False
) -> dict[str, Any]:
    """Write one video with its record and plot.

    Args:
        made: The video.
        folder: Where the files go.
        stem: Their name without suffix.
        file_format: A key of `SUFFIXES`.
        settings: Other settings that the video depends on; written to the JSON unchanged.
        lossless: Keep 8-bit values bit for bit (mp4, webm).

    Returns:
        The record that stands in the JSON. It holds nothing that changes from run to run.

    Raises:
        OutputError: The folder cannot be written to, or the format cannot be lossless.
    """
    video = write_video(made.video, folder / f"{stem}{SUFFIXES[file_format]}", lossless=lossless)
    record: dict[str, Any] = {
        "video": video.name,
        "prompt": made.request.prompt,
        "seed": made.request.seed,
        **settings,
        "trajectory": None if made.commanded is None else _as_json(made.commanded),
        "versions": versions("diffusers", "transformers"),
    }
    atomic_write_text(folder / f"{stem}.json", json.dumps(record, indent=1, ensure_ascii=False, allow_nan=False) + "\n")
    if made.commanded is not None:
        plot_trajectories(
            {"commanded": made.commanded}, folder / f"{stem}{PATH_PLOT_SUFFIX}", title=made.request.prompt[:90]
        )
    return record


def sheet_frames(frames: Tensor) -> Tensor:
    """At most eight frames of a video `(T, 3, H, W)`, evenly spaced, first and last among them."""
    return frames[pick_frames(frames.shape[0], _SHEET_COLUMNS)]


def write_contact_sheet(rows: Sequence[Tensor], labels: Sequence[str], path: Path) -> None:
    """Write the frames of every video as one PNG, one row per video.

    Args:
        rows: Frames `(N, 3, H, W)` RGB in [0, 1] of each video, see `sheet_frames`.
        labels: One line of text above each row.
        path: The file.

    Raises:
        OutputError: The file cannot be written.
    """
    with atomic_path(path) as temporary:
        frame_grid(rows, titles=labels, side=_TILE, gap=0).save(temporary, format="PNG")


def _as_json(trajectory: CameraTrajectory) -> dict[str, Any]:
    intrinsics = trajectory.intrinsics
    return {
        "c2w": trajectory.c2w.tolist(),
        "intrinsics": None if intrinsics is None else intrinsics.tolist(),
        "image_size": None if trajectory.image_size is None else list(trajectory.image_size),
        "scene_depth": trajectory.scene_depth,
    }
