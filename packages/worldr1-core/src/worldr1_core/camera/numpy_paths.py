"""Camera paths and intrinsics in NumPy files: `.npy`, `.npz` of named arrays, MegaSaM's and ViPE's results.

| arrays | format |
|---|---|
| one, without a name (`.npy`, `arr_0`) | camera-to-world, unless the file's name says `w2c` |
| `c2w`, `w2c`, `extrinsics`, ... | what the name says (`conventions`); `intrinsics`, `image_size`, `scene_depth` |
| `cam_c2w`, `intrinsic`, `images`, `depths` | MegaSaM: camera-to-world; intrinsics in pixels of `images` |
| `data`, `inds` in `pose/NAME.npz` | ViPE: camera-to-world `(T, 4, 4)` |
| `data`, `inds` in `intrinsics/NAME.npz` | ViPE: `fx fy cx cy`, `(T, 4)` |

Poses are `(T, 4, 4)` or `(T, 3, 4)`.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from worldr1_core.camera.conventions import Convention, choose_poses, to_c2w, unnamed_poses
from worldr1_core.camera.distortion import is_distortion_key, refuse_distortion
from worldr1_core.camera.intrinsics import StatedCamera, from_values, image_size_of
from worldr1_core.camera.path_file import PathFile
from worldr1_core.errors import TrajectoryError
from worldr1_core.numpy_errors import DAMAGED_NUMPY_FILE

_INTRINSICS = ("intrinsics", "intrinsic", "K", "Ks")
_SIZES = ("image_size", "h", "w", "height", "width", "H", "W")
_VIPE = {"data", "inds"}


def read_path(path: Path, selected: str | None = None) -> PathFile:
    """Path and camera of a NumPy file; `selected` names the array where several hold poses.

    Raises:
        TrajectoryError: The file is damaged, or no array qualifies.
    """
    with _opened(path) as loaded:
        if not isinstance(loaded, np.lib.npyio.NpzFile):
            return PathFile(unnamed_poses(loaded, path.stem))
        names = loaded.files
        if set(names) >= _VIPE:
            return _read_vipe(loaded, path)
        fields = _small_fields(loaded)
        poses = {name: loaded[name] for name in names if name not in fields and _holds_poses(path, name)}
        if not poses:
            raise TrajectoryError(_no_poses(sorted(names)))
        c2w = choose_poses(poses, selected, path.stem)
        depth = fields.get("scene_depth")
        size = _size_of_images(path, names)
        return PathFile(c2w, partial(_camera, fields, size), None if depth is None else depth.tolist())


def read_intrinsics(path: Path) -> StatedCamera | None:
    """Camera of a NumPy file: a `(3, 3)` array, `intrinsics` or ViPE's `data` `(T, 4)`.

    Raises:
        TrajectoryError: It holds none.
    """
    with _opened(path) as loaded:
        if not isinstance(loaded, np.lib.npyio.NpzFile):
            return from_values(loaded)
        if set(loaded.files) >= _VIPE:
            return _vipe_intrinsics(loaded["data"], path)
        fields = _small_fields(loaded)
        if list(loaded.files) == ["arr_0"]:
            fields = {"intrinsics": loaded["arr_0"]}
        if not any(name in fields for name in _INTRINSICS):
            raise TrajectoryError(f"holds no camera: needs an array 'intrinsics', received {sorted(loaded.files)!r}.")
        return _camera(fields, _size_of_images(path, loaded.files))


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    try:
        loaded: Any = np.load(path, allow_pickle=False)
        if isinstance(loaded, np.lib.npyio.NpzFile):
            with loaded:
                yield loaded
        else:
            yield loaded
    except DAMAGED_NUMPY_FILE as error:
        raise TrajectoryError(f"is damaged or no NumPy file of plain numbers: {error}") from error


def _small_fields(loaded: Mapping[str, Any]) -> dict[str, Any]:
    names = (*_INTRINSICS, *_SIZES, "scene_depth")
    return {name: loaded[name] for name in loaded if name in names or is_distortion_key(name)}


def _camera(fields: Mapping[str, Any], images: tuple[int, int] | None) -> StatedCamera | None:
    plain = {name: value.tolist() for name, value in fields.items()}
    refuse_distortion(plain)
    stated = [name for name in _INTRINSICS if name in plain]
    if not stated:
        return None
    return from_values(plain[stated[0]], image_size_of(plain) or images)


def _holds_poses(path: Path, name: str) -> bool:
    shape = _shape(path, name)
    return len(shape) == 3 and shape[1:] in ((3, 4), (4, 4))


def _size_of_images(path: Path, names: list[str]) -> tuple[int, int] | None:
    """`(H, W)` of MegaSaM's frames `(T, H, W, 3)`."""
    shape = _shape(path, "images") if "images" in names else ()
    return (shape[1], shape[2]) if len(shape) == 4 and shape[3] == 3 else None


def _shape(path: Path, name: str) -> tuple[int, ...]:
    """Shape of an array of an npz from its header: frames and depth maps are too large to be read for it."""
    with zipfile.ZipFile(path) as archive:
        if f"{name}.npy" not in archive.namelist():
            return ()
        return _header_shape(archive, f"{name}.npy")


def _header_shape(archive: zipfile.ZipFile, member: str) -> tuple[int, ...]:
    with archive.open(member) as file:
        version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        return tuple(read(file)[0])


def _read_vipe(loaded: Mapping[str, Any], path: Path) -> PathFile:
    data, indices = loaded["data"], loaded["inds"]
    if data.ndim == 2:
        raise TrajectoryError(
            f"holds ViPE's intrinsics, 'data' of shape {data.shape!r}, and no poses. Give pose/{path.name}."
        )
    if indices.ndim != 1 or not np.issubdtype(indices.dtype, np.number) or data.ndim != 3:
        raise TrajectoryError(
            f"ViPE's 'data' must be (T, 4, 4) and 'inds' (T,), received shapes {data.shape!r} and {indices.shape!r}."
        )
    steps = np.diff(indices)
    if len(indices) != len(data) or (steps <= 0).any() or len(set(steps.tolist())) > 1:
        raise TrajectoryError(
            f"'inds' must number the frames of 'data' ({len(data)} poses) evenly, received {indices.tolist()!r}. "
            "Frames without a pose cannot be compared with the clip."
        )
    beside = path.parent.parent / "intrinsics" / path.name
    found = path.parent.name == "pose" and beside.is_file()
    return PathFile(to_c2w(data, Convention(), "data"), partial(_camera_beside, beside if found else None))


def _camera_beside(path: Path | None) -> StatedCamera | None:
    return None if path is None else read_intrinsics(path)


def _vipe_intrinsics(data: Any, path: Path) -> StatedCamera | None:
    kinds = path.with_name(f"{path.stem}_camera.txt")
    models = {line.split(":")[-1].strip() for line in kinds.read_text().splitlines()} if kinds.is_file() else set()
    for model in sorted(models - {"PINHOLE"}):
        refuse_distortion({"camera_model": model}, f"the camera of {kinds.name}")
        raise TrajectoryError(f"the camera of {kinds.name} is {model!r}. Allowed: 'PINHOLE'.")
    if data.ndim != 2 or data.shape[1] != 4:
        raise TrajectoryError(f"ViPE's 'data' must be (T, 4), fx fy cx cy, received shape {data.shape!r}.")
    return from_values(data)


def _no_poses(names: list[str]) -> str:
    return (
        f"needs an array 'c2w' (T x 4 x 4, camera-to-world) or 'w2c' (world-to-camera), OpenCV axes; received "
        f"{names!r}, and none of shape (T, 4, 4) or (T, 3, 4)."
    )
