"""Clips as plain arrays: npy, npz and safetensors, lossless in float32."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
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
from worldr1_core.numpy_errors import DAMAGED_NUMPY_FILE
from worldr1_core.video import Video
from worldr1_core.video_io.frame_buffer import FrameBuffer
from worldr1_core.video_io.memory import check_bytes

SUFFIXES = (".npy", ".npz", ".safetensors")
_KEY = "frames"
_DEFAULT_FPS = 16.0


@dataclass(frozen=True, slots=True)
class _Stored:
    """An array in a file, read frame by frame.

    Attributes:
        shape: Of the whole array.
        frame: Reads one entry of the first axis.
        fps: Frame rate.
    """

    shape: tuple[int, ...]
    frame: Callable[[int], Tensor]
    fps: float


def read(path: Path, max_frames: int | None, max_side: int | None) -> Video:
    """Read `(T, 3, H, W)` or `(T, H, W, 3)` frames, uint8 in [0, 255] or floating point in [0, 1].

    Raises:
        VideoError: The file is damaged, lacks the frames, they have another shape, type or range, or do not fit into
            memory.
    """
    if path.suffix.lower() != ".safetensors":
        return _gather(path, _open_numpy(path), max_frames, max_side)
    try:
        with safe_open(path, framework="pt") as file:
            return _gather(path, _open_safetensors(path, file), max_frames, max_side)
    except (OSError, SafetensorError) as error:
        raise VideoError(f"{path}: is damaged or no safetensors file: {error}.") from error


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


def _gather(path: Path, stored: _Stored, max_frames: int | None, max_side: int | None) -> Video:
    axis = _channel_axis(path, stored.shape)
    height, width = stored.shape[2:] if axis == 1 else stored.shape[1:3]
    count = min(stored.shape[0], max_frames or stored.shape[0])
    buffer = FrameBuffer(path, count, max_side)
    buffer.check_fits((height, width))
    for index in range(count):
        frame = stored.frame(index)
        if frame.dtype.is_floating_point:
            _check_range(path, frame)
        elif frame.dtype != torch.uint8:
            raise VideoError(f"{path}: frames must be uint8 or floating point, received {frame.dtype}. Convert them.")
        buffer.append(frame if axis == 1 else frame.permute(2, 0, 1))
    return Video(buffer.frames(), stored.fps, source=str(path), full_size=buffer.full_size)


def _open_numpy(path: Path) -> _Stored:
    try:
        loaded: Any = np.load(path, allow_pickle=False, mmap_mode="r")  # an npz is loaded array by array in any case
        if not isinstance(loaded, np.lib.npyio.NpzFile):
            return _Stored(loaded.shape, lambda index: _as_tensor(path, loaded[index]), _DEFAULT_FPS)
        with loaded:
            others = [name for name in loaded.files if name != "fps"]
            key = others[0] if len(others) == 1 else _KEY
            if key not in loaded.files:
                raise VideoError(f"{path}: needs an array {_KEY!r}, received {sorted(loaded.files)!r}.")
            fps = _as_fps(path, loaded["fps"]) if "fps" in loaded.files else _DEFAULT_FPS
            check_bytes(path, _member_bytes(path, key))
            array = loaded[key]
            return _Stored(array.shape, lambda index: _as_tensor(path, array[index]), fps)
    except DAMAGED_NUMPY_FILE as error:
        raise VideoError(f"{path}: is damaged or no NumPy file of plain numbers: {error}") from error


def _member_bytes(path: Path, key: str) -> int:
    """Size of an array in an npz, before it is loaded."""
    with zipfile.ZipFile(path) as archive:
        return sum(member.file_size for member in archive.infolist() if member.filename in (key, f"{key}.npy"))


def _open_safetensors(path: Path, file: Any) -> _Stored:
    keys = list(file.keys())
    if _KEY not in keys:
        raise VideoError(f"{path}: needs a tensor {_KEY!r}, received {sorted(keys)!r}.")
    metadata = file.metadata() or {}
    fps = _as_fps(path, metadata["fps"]) if "fps" in metadata else _DEFAULT_FPS
    array = file.get_slice(_KEY)
    return _Stored(tuple(array.get_shape()), lambda index: array[index : index + 1][0], fps)


def _as_tensor(path: Path, array: NDArray[Any]) -> Tensor:
    try:
        return torch.from_numpy(np.array(array, order="C"))
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


def _channel_axis(path: Path, shape: tuple[int, ...]) -> int:
    first, last = len(shape) == 4 and shape[1] == 3, len(shape) == 4 and shape[3] == 3
    if not (first or last) or 0 in shape:
        raise VideoError(f"{path}: frames must be (T, 3, H, W) or (T, H, W, 3) with T >= 1, received {shape!r}.")
    if first and last:
        raise VideoError(
            f"{path}: the shape {shape!r} can be read as (T, 3, H, W) and as (T, H, W, 3). "
            "Write the clip as .safetensors, .mp4 or images instead, or with another width."
        )
    return 1 if first else 3


def _check_range(path: Path, frames: Tensor) -> None:
    high = float(frames.max())
    if 2 < high < math.inf:
        raise VideoError(
            f"{path}: floating-point frames must lie in [0, 1], received a maximum of {high:.4g}. "
            "Divide by 255, or store uint8."
        )
