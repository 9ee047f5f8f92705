"""Camera paths on disk: our JSON, nerfstudio's `transforms.json`, TUM text and NumPy arrays.

| file | holds |
|---|---|
| `.json` with `c2w` | `c2w` T x 4 x 4; optional `intrinsics` 3 x 3, `image_size` [H, W], `scene_depth` |
| `.json` with `frames` | nerfstudio: OpenGL axes (y up, z backward), frames ordered by `file_path` |
| `.txt`, `.tum` | TUM: `timestamp tx ty tz qx qy qz qw` a line, camera-to-world, `#` starts a comment |
| `.npy`, `.npz` | `(T, 4, 4)` or `(T, 3, 4)` camera-to-world; npz may add the optional fields of the JSON form |

All but nerfstudio use OpenCV axes (x right, y down, z forward). Poses are returned as they stand in the file: call
`relative()` for a path whose frame 0 is the identity.
"""

from __future__ import annotations

import io
import os
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from worldr1_core.camera import nerfstudio
from worldr1_core.camera.documents import JsonObject, read_json, write_json
from worldr1_core.camera.geometry import matrix_from_quaternion, pose, quaternion_from_matrix, scale_intrinsics
from worldr1_core.camera.trajectory import CameraTrajectory, as_float64, check_image_size, check_intrinsics
from worldr1_core.errors import OutputError, TrajectoryError, suggest
from worldr1_core.files import atomic_path, atomic_write_text

SUFFIXES = (".json", ".txt", ".tum", ".npy", ".npz")
_OPTIONAL_KEYS = ("intrinsics", "image_size", "scene_depth")


def load_trajectory(
    path: str | os.PathLike[str],
    *,
    num_frames: int | None = None,
    image_size: tuple[int, int] | None = None,
    with_camera: bool = True,
) -> CameraTrajectory:
    """Read a camera path; the suffix and the keys of a JSON file decide the form.

    Args:
        path: File of one of the forms above.
        num_frames: Number of poses that is needed (that of the clip); any when left out.
        image_size: `(H, W)` of the clip, to which intrinsics are scaled; left out, they stay as the file states them.
        with_camera: Whether to read the file's intrinsics; without, the trajectory has none.

    Raises:
        TrajectoryError: There is no such file, it is malformed, its poses are not rigid, or their number is another.
    """
    path = _existing_file(path)
    try:
        trajectory = _LOADERS[path.suffix.lower()](path)
    except TrajectoryError as error:
        message = str(error)
        raise TrajectoryError(message if message.startswith(str(path)) else f"{path}: {message}") from error
    if num_frames is not None and trajectory.num_frames != num_frames:
        raise TrajectoryError(
            f"{path}: holds {trajectory.num_frames} poses, the clip has {num_frames} frames. Give one pose a frame."
        )
    if not with_camera:
        return replace(trajectory, intrinsics=None, image_size=None)
    if image_size is None or trajectory.intrinsics is None:
        return trajectory
    intrinsics = trajectory.intrinsics
    if trajectory.image_size is not None:
        intrinsics = _scaled_to(intrinsics, trajectory.image_size, image_size)
    return replace(trajectory, intrinsics=intrinsics, image_size=image_size)


def save_trajectory(trajectory: CameraTrajectory, path: str | os.PathLike[str], *, fps: float = 16.0) -> Path:
    """Write a camera path; a JSON file called `transforms.json` takes nerfstudio's form, others ours.

    TUM and npy hold poses only. Values keep their full double precision.

    Args:
        trajectory: Poses to write.
        path: Target file; it is replaced as a whole, missing folders are made.
        fps: Frame rate that sets the time stamps of TUM files.

    Returns:
        `path`.

    Raises:
        OutputError: The suffix is unknown or the place cannot be written to.
        TrajectoryError: The form needs intrinsics that the trajectory lacks.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise OutputError(
            f"{path}: cannot write a trajectory as {path.suffix!r}. Allowed: {list(SUFFIXES)}."
            f"{suggest(suffix, SUFFIXES)}"
        )
    if path.name == nerfstudio.FILE_NAME:
        write_json(nerfstudio.to_document(trajectory), path)
    elif suffix == ".json":
        write_json({"c2w": trajectory.c2w.tolist(), **_optional_fields(trajectory)}, path)
    elif suffix in (".txt", ".tum"):
        atomic_write_text(path, _tum_text(trajectory, fps))
    else:
        _save_numpy(trajectory, path)
    return path


def load_intrinsics(path: str | os.PathLike[str], image_size: tuple[int, int]) -> Tensor:
    """Read the intrinsics of a known camera and bring them to the size of the clip.

    Args:
        path: JSON with `intrinsics` (the form of trajectories), a bare 3 x 3 list, or nerfstudio's `transforms.json`.
        image_size: `(H, W)` of the clip. Intrinsics whose file states another size are scaled; the aspect ratio may
            not change by more than 1 %.

    Returns:
        `(3, 3)` float64 in pixels of `image_size`.

    Raises:
        TrajectoryError: There is no such file, or it holds no usable intrinsics.
    """
    path = _existing_file(path, allowed=(".json",))
    document = read_json(path)
    try:
        if isinstance(document, list):
            return check_intrinsics(document)
        if "intrinsics" in document:
            intrinsics, size = check_intrinsics(document["intrinsics"]), check_image_size(document.get("image_size"))
        elif nerfstudio.holds_camera(document):
            intrinsics, size = nerfstudio.camera(document)
        else:
            raise TrajectoryError(
                "holds no camera: needs 'intrinsics' (3x3, pixels) or nerfstudio's 'fl_x', "
                f"received {sorted(document)!r}."
            )
        return intrinsics if size is None else _scaled_to(intrinsics, size, image_size)
    except TrajectoryError as error:
        raise TrajectoryError(f"{path}: {error}") from error


def _existing_file(path: str | os.PathLike[str], allowed: tuple[str, ...] = SUFFIXES) -> Path:
    path = Path(path)
    if path.is_dir():
        raise TrajectoryError(f"{path}: is a folder. Name a file in it; allowed: {list(allowed)}.")
    if not path.exists():
        raise TrajectoryError(f"{path}: no such file.")
    suffix = path.suffix.lower()
    if suffix not in allowed:
        raise TrajectoryError(
            f"{path}: unknown kind of file {path.suffix!r}. Allowed: {list(allowed)}.{suggest(suffix, allowed)}"
        )
    return path


def _scaled_to(intrinsics: Tensor, size: tuple[int, int], image_size: tuple[int, int]) -> Tensor:
    stretch = (image_size[1] / size[1]) / (image_size[0] / size[0])
    if abs(stretch - 1) > 0.01:
        raise TrajectoryError(
            f"intrinsics are for image_size {list(size)!r} (H, W), the clip is {list(image_size)!r}: another aspect "
            "ratio, so it was cropped or stretched. Give the intrinsics of the clip itself."
        )
    return scale_intrinsics(intrinsics, size, image_size)


def _load_json(path: Path) -> CameraTrajectory:
    document = read_json(path)
    if isinstance(document, list):
        return CameraTrajectory(_four_rows(document))
    if "frames" in document:
        return nerfstudio.from_document(document)
    allowed = ("c2w", *_OPTIONAL_KEYS)
    for key in document:
        if key not in allowed:
            raise TrajectoryError(f"unknown key {key!r}. Allowed: {list(allowed)}.{suggest(key, allowed)}")
    if "c2w" not in document:
        raise TrajectoryError(f"key 'c2w' (T x 4 x 4, camera-to-world) is missing, received {sorted(document)!r}.")
    return CameraTrajectory(_four_rows(document["c2w"]), *(document.get(key) for key in _OPTIONAL_KEYS))


def _load_tum(path: Path) -> CameraTrajectory:
    rows = []
    for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), start=1):
        text = line.split("#", 1)[0].replace(",", " ").split()
        if text:
            rows.append(_tum_row(text, number))
    if not rows:
        raise TrajectoryError("holds no poses. Each line is 'timestamp tx ty tz qx qy qz qw'.")
    table = torch.tensor(rows, dtype=torch.float64)
    backward = (table[:, 0].diff() <= 0).nonzero()
    if len(backward):
        frame = int(backward[0])
        raise TrajectoryError(f"timestamps must increase, received {rows[frame][0]!r} then {rows[frame + 1][0]!r}.")
    return CameraTrajectory(pose(matrix_from_quaternion(table[:, 4:]), table[:, 1:4]))


def _tum_row(words: list[str], number: int) -> list[float]:
    try:
        values = [float(word) for word in words]
    except ValueError:
        values = []
    if len(values) != 8:
        raise TrajectoryError(f"line {number} must be 'timestamp tx ty tz qx qy qz qw', received {' '.join(words)!r}.")
    norm = float(np.linalg.norm(values[4:]))
    if not abs(norm - 1) < 0.01:
        raise TrajectoryError(f"line {number}: the quaternion {values[4:]!r} must have length 1, received {norm:.4g}.")
    return values


def _tum_text(trajectory: CameraTrajectory, fps: float) -> str:
    table = torch.cat([trajectory.positions, quaternion_from_matrix(trajectory.rotations)], dim=1).tolist()
    lines = [" ".join(repr(value) for value in (index / fps, *row)) for index, row in enumerate(table)]
    return "\n".join(["# timestamp tx ty tz qx qy qz qw", *lines]) + "\n"


def _load_numpy(path: Path) -> CameraTrajectory:
    try:
        loaded: Any = np.load(path, allow_pickle=False)
        if not isinstance(loaded, np.lib.npyio.NpzFile):
            return CameraTrajectory(_four_rows(loaded))
        with loaded:
            arrays = {name: loaded[name] for name in loaded.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise TrajectoryError(f"is damaged or no NumPy file of plain numbers: {error}") from error
    poses = [name for name in arrays if name not in _OPTIONAL_KEYS]
    if len(poses) != 1 and "c2w" not in arrays:
        raise TrajectoryError(f"needs an array 'c2w' (T x 4 x 4), received {sorted(arrays)!r}.")
    extras = [arrays[key].tolist() if key in arrays else None for key in _OPTIONAL_KEYS]
    return CameraTrajectory(_four_rows(arrays["c2w" if "c2w" in arrays else poses[0]]), *extras)


def _save_numpy(trajectory: CameraTrajectory, path: Path) -> None:
    buffer = io.BytesIO()
    if path.suffix.lower() == ".npy":
        np.save(buffer, trajectory.c2w.numpy())
    else:
        extras = {key: np.asarray(value) for key, value in _optional_fields(trajectory).items()}
        np.savez(buffer, allow_pickle=False, c2w=trajectory.c2w.numpy(), **extras)
    with atomic_path(path) as temporary:
        try:
            temporary.write_bytes(buffer.getvalue())
        except OSError as error:
            raise OutputError(f"{path}: cannot be written: {error}.") from error


def _four_rows(poses: Any) -> Tensor:
    """Poses with the last row added where a file leaves it out: `(T, 3, 4)` becomes `(T, 4, 4)`."""
    matrix = as_float64(poses, "c2w")
    if matrix.ndim == 3 and matrix.shape[1:] == (3, 4):
        return pose(matrix[:, :, :3], matrix[:, :, 3])
    return matrix


def _optional_fields(trajectory: CameraTrajectory) -> JsonObject:
    intrinsics = None if trajectory.intrinsics is None else trajectory.intrinsics.tolist()
    size = None if trajectory.image_size is None else list(trajectory.image_size)
    values = (intrinsics, size, trajectory.scene_depth)
    return {key: value for key, value in zip(_OPTIONAL_KEYS, values, strict=True) if value is not None}


_LOADERS = {".json": _load_json, ".txt": _load_tum, ".tum": _load_tum, ".npy": _load_numpy, ".npz": _load_numpy}
