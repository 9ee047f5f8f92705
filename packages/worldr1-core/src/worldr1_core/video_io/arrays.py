"""Clips as plain arrays: npy, npz and safetensors, lossless in float32."""

from __future__ import annotations

import math
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from worldr1_core.errors import OutputError, VideoError
from worldr1_core.files import atomic_path
from worldr1_core.video import Video

SUFFIXES = (".npy", ".npz", ".safetensors")
_KEY = "frames"
_DEFAULT_FPS = 16.0


def read(path: Path, max_frames: int | None) -> Video:
    """Read `(T, 3, H, W)` or `(T, H, W, 3)` frames, uint8 in [0, 255] or floating point in [0, 1].

    Raises:
        VideoError: The file is damaged, lacks the frames, or they have another shape, type or range.
    """
    load = _load_safetensors if path.suffix.lower() == ".safetensors" else _load_numpy
    frames, fps = load(path)
    frames = _channels_first(path, frames)[:max_frames]
    if frames.dtype == torch.uint8:
        values = frames.to(torch.float32).div_(255)
    elif frames.dtype.is_floating_point:
        values = frames.to(torch.float32)
        _check_range(path, values)
    else:
        raise VideoError(f"{path}: frames must be uint8 or floating point, received {frames.dtype}. Convert them.")
    return Video(values.contiguous(), fps, source=str(path))


def write(video: Video, path: Path, fps: float) -> None:
    """Write float32 `(T, 3, H, W)`; npz and safetensors keep the frame rate beside the frames.

    Raises:
        OutputError: The file cannot be written.
    """
    frames = video.frames.detach().cpu().contiguous()
    with atomic_path(path) as temporary:
        try:
            if path.suffix.lower() == ".safetensors":
                save_file({_KEY: frames}, temporary, metadata={"fps": repr(float(fps))})
            elif path.suffix.lower() == ".npz":
                np.savez(temporary, frames=frames.numpy(), fps=np.float64(fps))
            else:
                np.save(temporary, frames.numpy())
        except (OSError, SafetensorError) as error:
            raise OutputError(f"{path}: cannot be written: {error}.") from error


def _load_numpy(path: Path) -> tuple[Tensor, float]:
    try:
        loaded: Any = np.load(path, allow_pickle=False)
        if not isinstance(loaded, np.lib.npyio.NpzFile):
            return _as_tensor(path, loaded), _DEFAULT_FPS
        with loaded:
            others = [name for name in loaded.files if name != "fps"]
            key = others[0] if len(others) == 1 else _KEY
            if key not in loaded.files:
                raise VideoError(f"{path}: needs an array {_KEY!r}, received {sorted(loaded.files)!r}.")
            fps = _as_fps(path, loaded["fps"]) if "fps" in loaded.files else _DEFAULT_FPS
            return _as_tensor(path, loaded[key]), fps
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise VideoError(f"{path}: is damaged or no NumPy file of plain numbers: {error}") from error


def _load_safetensors(path: Path) -> tuple[Tensor, float]:
    try:
        with safe_open(path, framework="pt") as file:
            keys = list(file.keys())
            if _KEY not in keys:
                raise VideoError(f"{path}: needs a tensor {_KEY!r}, received {sorted(keys)!r}.")
            metadata = file.metadata() or {}
            fps = _as_fps(path, metadata["fps"]) if "fps" in metadata else _DEFAULT_FPS
            return file.get_tensor(_KEY), fps
    except (OSError, SafetensorError) as error:
        raise VideoError(f"{path}: is damaged or no safetensors file: {error}.") from error


def _as_tensor(path: Path, array: NDArray[Any]) -> Tensor:
    try:
        return torch.from_numpy(np.ascontiguousarray(array))
    except TypeError as error:
        raise VideoError(f"{path}: frames must be uint8 or floating point, received {array.dtype}.") from error


def _as_fps(path: Path, value: Any) -> float:
    try:
        fps = float(value)
    except (TypeError, ValueError) as error:
        raise VideoError(f"{path}: fps must be a positive number, received {value!r}.") from error
    if not 0 < fps < float("inf"):
        raise VideoError(f"{path}: fps must be a positive number, received {value!r}.")
    return fps


def _channels_first(path: Path, frames: Tensor) -> Tensor:
    shape = tuple(frames.shape)
    first, last = len(shape) == 4 and shape[1] == 3, len(shape) == 4 and shape[3] == 3
    if not (first or last) or 0 in shape:
        raise VideoError(f"{path}: frames must be (T, 3, H, W) or (T, H, W, 3) with T >= 1, received {shape!r}.")
    if first and last:
        raise VideoError(
            f"{path}: the shape {shape!r} can be read as (T, 3, H, W) and as (T, H, W, 3). "
            "Write the clip as .safetensors, .mp4 or images instead, or with another width."
        )
    return frames if first else frames.permute(0, 3, 1, 2)


def _check_range(path: Path, frames: Tensor) -> None:
    high = float(frames.max())
    if 2 < high < math.inf:
        raise VideoError(
            f"{path}: floating-point frames must lie in [0, 1], received a maximum of {high:.4g}. "
            "Divide by 255, or store uint8."
        )
