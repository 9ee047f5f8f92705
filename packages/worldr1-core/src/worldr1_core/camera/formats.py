"""Reading of camera paths in every format, and writing of those that are supported.

| file | holds | module |
|---|---|---|
| `.json` with `c2w`, `w2c`, ... | what the key names; `intrinsics`, `image_size`, `scene_depth` | `json_paths` |
| `.json` with `frames` | nerfstudio, instant-ngp, Blender: OpenGL axes (y up, z backward) | `nerfstudio` |
| `.json` with `frame0`, ... | ReCamMaster: row vectors, centimetres, Unreal's axes | `recammaster` |
| `.txt`, `.tum`, `.csv` | TUM, EuRoC, KITTI, RealEstate10K, COLMAP, told apart by their lines | `text_paths` |
| `.npy`, `.npz` | arrays by name, MegaSaM, ViPE | `numpy_paths` |

Whatever the file's convention, poses are returned camera-to-world with OpenCV axes (x right, y down, z forward), in
the file's world and unit: call `relative()` for a path whose frame 0 is the identity. Every format is documented in
`docs/reference/camera-paths.md`.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from torch import Tensor

from worldr1_core.camera import json_paths, nerfstudio, numpy_paths, text_paths, tum
from worldr1_core.camera.documents import JsonObject, write_json
from worldr1_core.camera.intrinsics import StatedCamera
from worldr1_core.camera.path_file import PathFile
from worldr1_core.camera.trajectory import CameraTrajectory
from worldr1_core.errors import OutputError, TrajectoryError, suggest
from worldr1_core.files import atomic_path, atomic_write_text

SUFFIXES = (".json", ".txt", ".tum", ".csv", ".npy", ".npz")
WRITTEN_SUFFIXES = (".json", ".txt", ".tum", ".npy", ".npz")
INTRINSICS_SUFFIXES = (".json", ".txt", ".npy", ".npz")


def load_trajectory(
    path: str | os.PathLike[str],
    *,
    num_frames: int | None = None,
    image_size: tuple[int, int] | None = None,
    with_camera: bool = True,
) -> CameraTrajectory:
    """Read a camera path; the contents of the file decide the format.

    Args:
        path: File in one of the formats above. `FILE#NAME` chooses one of several arrays or cameras in it.
        num_frames: Required number of poses (that of the clip); any number by default.
        image_size: `(H, W)` of the clip, to which intrinsics are scaled; by default they stay as the file states them.
        with_camera: Read the file's intrinsics. If false, the trajectory has none, and a lens that is not a pinhole
            is not an error.

    Returns:
        Camera-to-world poses, OpenCV axes, with the intrinsics that the file states.

    Raises:
        TrajectoryError: There is no such file, it is malformed or ambiguous, its poses are not rigid, their number is
            wrong, or its intrinsics do not fit the clip.
    """
    path, selected = _existing_file(path)
    try:
        file = _read_path(path, selected)
        trajectory = _with_camera(file, image_size) if with_camera else _path_alone(file)
    except TrajectoryError as error:
        message = str(error)
        raise TrajectoryError(message if message.startswith(str(path)) else f"{path}: {message}") from error
    if num_frames is not None and trajectory.num_frames != num_frames:
        raise TrajectoryError(
            f"{path}: holds {trajectory.num_frames} poses, the clip has {num_frames} frames. Give one pose per frame."
        )
    return trajectory


def save_trajectory(trajectory: CameraTrajectory, path: str | os.PathLike[str], *, fps: float = 16.0) -> Path:
    """Write a camera path; a JSON file called `transforms.json` takes nerfstudio's format, others ours.

    TUM and npy hold poses only. Values keep their full double precision.

    Args:
        trajectory: Poses to write.
        path: Target file; it is replaced as a whole, missing folders are created.
        fps: Frame rate that sets the time stamps of TUM files.

    Returns:
        `path`.

    Raises:
        OutputError: The suffix is unknown or the target cannot be written.
        TrajectoryError: The format needs intrinsics that the trajectory lacks.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in WRITTEN_SUFFIXES:
        raise OutputError(
            f"{path}: cannot write a trajectory as {path.suffix!r}. Allowed: {list(WRITTEN_SUFFIXES)}."
            f"{suggest(suffix, WRITTEN_SUFFIXES)}"
        )
    if path.name == nerfstudio.FILE_NAME:
        write_json(nerfstudio.to_document(trajectory), path)
    elif suffix == ".json":
        write_json({"c2w": trajectory.c2w.tolist(), **_optional_fields(trajectory)}, path)
    elif suffix in (".txt", ".tum"):
        atomic_write_text(path, tum.to_text(trajectory, fps))
    else:
        _save_numpy(trajectory, path)
    return path


def load_intrinsics(path: str | os.PathLike[str], image_size: tuple[int, int]) -> Tensor:
    """Read the intrinsics of a known camera and bring them to the size of the clip.

    Args:
        path: JSON with `intrinsics` (the format of trajectories), a bare 3 x 3 list, `fx fy cx cy` or nerfstudio's
            `transforms.json`; a NumPy file with a 3 x 3 array, `intrinsics` or ViPE's `data`; text with 3 rows of 3
            numbers, COLMAP's `cameras.txt` or a RealEstate10K file.
        image_size: `(H, W)` of the clip. Intrinsics whose file states another size are scaled, normalised ones
            multiplied by it; the aspect ratio may not change by more than 3 %. Without a stated size, a principal point
            at the centre of another size of the same aspect ratio tells that size.

    Returns:
        `(3, 3)` float64 in pixels of `image_size`.

    Raises:
        TrajectoryError: There is no such file, it holds no usable intrinsics, or the lens distorts.
    """
    path, _ = _existing_file(path, allowed=INTRINSICS_SUFFIXES)
    try:
        camera = _read_intrinsics(path)
        if camera is None:
            raise TrajectoryError("holds no intrinsics that hold for all frames. A clip has one camera: give its own.")
        return camera.at(image_size)
    except TrajectoryError as error:
        message = str(error)
        raise TrajectoryError(message if message.startswith(str(path)) else f"{path}: {message}") from error


def split_choice(path: str | os.PathLike[str]) -> tuple[Path, str | None]:
    """A file and the name after `#` that chooses one of several arrays or cameras in it.

    A `#` that belongs to the name of an existing file chooses nothing.
    """
    path = Path(path)
    if path.exists() or "#" not in path.name:
        return path, None
    name, _, selected = path.name.rpartition("#")
    return path.with_name(name), selected


def _read_path(path: Path, selected: str | None) -> PathFile:
    suffix = path.suffix.lower()
    if suffix == ".json":
        return json_paths.read_path(path, selected)
    if suffix in (".npy", ".npz"):
        return numpy_paths.read_path(path, selected)
    return text_paths.read_path(path)


def _read_intrinsics(path: Path) -> StatedCamera | None:
    readers: dict[str, Callable[[Path], StatedCamera | None]] = {
        ".json": json_paths.read_intrinsics,
        ".txt": text_paths.read_intrinsics,
    }
    return readers.get(path.suffix.lower(), numpy_paths.read_intrinsics)(path)


def _path_alone(file: PathFile) -> CameraTrajectory:
    return CameraTrajectory(file.c2w, scene_depth=file.scene_depth)


def _with_camera(file: PathFile, image_size: tuple[int, int] | None) -> CameraTrajectory:
    path = _path_alone(file)
    camera = file.camera()
    if camera is None:
        return path
    if image_size is not None:
        return replace(path, intrinsics=camera.at(image_size), image_size=image_size)
    if camera.square_pixels:
        # A field of view alone gives no vertical focal length before the clip's size is known.
        return path
    return replace(path, intrinsics=camera.matrix, image_size=camera.size)


def _existing_file(path: str | os.PathLike[str], allowed: tuple[str, ...] = SUFFIXES) -> tuple[Path, str | None]:
    path, selected = split_choice(path)
    if path.is_dir():
        raise TrajectoryError(f"{path}: is a folder. Name a file in it; allowed: {list(allowed)}.")
    if not path.exists():
        raise TrajectoryError(f"{path}: no such file.")
    suffix = path.suffix.lower()
    if suffix not in allowed:
        raise TrajectoryError(
            f"{path}: unknown kind of file {path.suffix!r}. Allowed: {list(allowed)}.{suggest(suffix, allowed)}"
        )
    return path, selected


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


def _optional_fields(trajectory: CameraTrajectory) -> JsonObject:
    intrinsics = None if trajectory.intrinsics is None else trajectory.intrinsics.tolist()
    size = None if trajectory.image_size is None else list(trajectory.image_size)
    values = (intrinsics, size, trajectory.scene_depth)
    return {key: value for key, value in zip(json_paths.OPTIONAL_KEYS, values, strict=True) if value is not None}
