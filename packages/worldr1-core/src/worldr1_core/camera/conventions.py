"""Pose conventions by name: what an array called `w2c`, `extrinsics` or `cam2world` holds.

Files of poses rarely state their convention anywhere but in the name of the array. A name that says nothing is an error
here, never a guess: a path read in the wrong direction gives a score, and a wrong one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from worldr1_core.camera.geometry import invert_pose, pose
from worldr1_core.camera.trajectory import as_float64, check_poses
from worldr1_core.errors import TrajectoryError

OPENGL_TO_OPENCV = torch.tensor([1.0, -1.0, -1.0, 1.0], dtype=torch.float64)
"""Factors of the columns of a camera-to-world matrix that turn OpenGL camera axes (y up, z backward) into OpenCV's."""

_INVERSE_TOLERANCE = 1e-3
_WORLD_TO_CAMERA = re.compile(
    r"world(2|to)(cam|view)|worldview|cam(era)?(from|t)world|view(from|t)world|viewmat(s|rix|rices|$)"
)
_CAMERA_TO_WORLD = re.compile(r"(cam(era)?|view)(2|to)world|world(from|t)(cam|view)")
# Words that decide only where the name says nothing else: `extrinsics_c2w` is camera-to-world.
_CUSTOMARY = {"extrinsic": True, "poses": False}
_CODES = {
    **dict.fromkeys(("w2c", "w2v", "wtoc", "tcw", "cfw"), True),
    **dict.fromkeys(("c2w", "v2w", "ctow", "twc", "wfc"), False),
}
_OPENGL = frozenset({"opengl", "gl", "ogl", "blender", "nerf"})
_UNSUPPORTED_AXES = frozenset({"pytorch3d", "p3d", "unreal", "ue", "ue5", "unity", "ros", "flu"})
_AMBIGUOUS = frozenset(
    {"pose", "matrix", "matrices", "transform", "transforms", "rt", "cameras", "camera", "trajectory", "mat", "mats"}
)


@dataclass(frozen=True, slots=True)
class Convention:
    """Direction and camera axes of pose matrices.

    Attributes:
        world_to_camera: Whether matrices map world to camera coordinates, as `w2c` and `extrinsics` do.
        opengl: Whether camera axes are OpenGL's (y up, z backward) rather than OpenCV's (y down, z forward).
    """

    world_to_camera: bool = False
    opengl: bool = False


def convention_of(name: str, *, customary: bool = True) -> Convention | None:
    """The convention that an array's name states, or `None` if it states none or contradicts itself.

    Names are compared without case and punctuation; other words in them (`pred_c2w`, `w2c_mats`) do not matter.

    Args:
        name: Of an array or a file, or a comment.
        customary: Whether `extrinsics` (world-to-camera) and `poses` (camera-to-world) count, which are conventions by
            custom; in a sentence they are mere words.

    Example:
        >>> convention_of("world_to_camera")
        Convention(world_to_camera=True, opengl=False)
        >>> convention_of("c2w_opengl")
        Convention(world_to_camera=False, opengl=True)
        >>> convention_of("pose") is None
        True

    Raises:
        TrajectoryError: The name states axes that are not supported.
    """
    words = _words(name)
    joined = "".join(words)
    said = {_CODES[code] for code in _codes(words)}
    said |= {True} if _WORLD_TO_CAMERA.search(joined) else set()
    said |= {False} if _CAMERA_TO_WORLD.search(joined) else set()
    if not said and customary:
        said = {direction for word, direction in _CUSTOMARY.items() if word in joined}
    if len(said) != 1:
        return None
    axes = _UNSUPPORTED_AXES.intersection(words)
    if axes:
        raise TrajectoryError(
            f"{name!r} names camera axes {sorted(axes)!r}, which are not supported. Allowed: OpenCV (x right, y down, "
            "z forward) or OpenGL (x right, y up, z backward; say 'opengl' in the name). Convert the poses."
        )
    return Convention(said.pop(), bool(_OPENGL.intersection(words)))


def is_ambiguous(name: str) -> bool:
    """Return True if a name stands for pose matrices without a convention (`pose`, `matrix`, ...)."""
    return name.lower() in _AMBIGUOUS


def to_c2w(poses: Any, convention: Convention, name: str) -> Tensor:
    """Camera-to-world matrices `(T, 4, 4)`, OpenCV axes, of poses in another convention.

    Args:
        poses: `(T, 4, 4)` or `(T, 3, 4)`.
        convention: What they are.
        name: How messages call them.

    Raises:
        TrajectoryError: They are not rigid (see `check_poses`).
    """
    matrices = four_rows(poses, name)
    if convention.world_to_camera:
        # The inverse is taken by transposition, so that the matrices must be rigid before, not after.
        matrices = invert_pose(check_poses(matrices, name))
    return matrices * OPENGL_TO_OPENCV if convention.opengl else matrices


def four_rows(poses: Any, name: str = "c2w") -> Tensor:
    """Poses with the last row added where a file leaves it out: `(T, 3, 4)` becomes `(T, 4, 4)`."""
    matrix = as_float64(poses, name)
    if matrix.ndim == 3 and matrix.shape[1:] == (3, 4):
        return pose(matrix[:, :, :3], matrix[:, :, 3])
    return matrix


def choose_poses(arrays: Mapping[str, Any], selected: str | None = None, fallback: str = "") -> Tensor:
    """Camera-to-world poses of the array whose name says what it holds.

    Args:
        arrays: Candidates by name, other fields left out.
        selected: The name to take; needed where several arrays hold poses.
        fallback: A file's stem, which stands for the name where NumPy gave one (`arr_0`).

    Raises:
        TrajectoryError: No name, or more than one, qualifies; two arrays contradict each other.
    """
    if selected is not None:
        if selected not in arrays:
            raise TrajectoryError(f"holds no {selected!r}. Allowed after '#': {sorted(arrays)!r}.")
        arrays = {selected: arrays[selected]}
    if list(arrays) == ["arr_0"]:
        return unnamed_poses(arrays["arr_0"], fallback)
    named = {name: known for name in arrays if (known := convention_of(name)) is not None}
    if "c2w" in named:
        named = {name: known for name, known in named.items() if name in ("c2w", "w2c")}
    if not named:
        raise TrajectoryError(_no_convention(arrays))
    paths = {name: to_c2w(arrays[name], known, name) for name, known in named.items()}
    first, *others = paths
    for other in others:
        if not _same(paths[first], paths[other]):
            raise TrajectoryError(
                f"{first!r} and {other!r} hold different camera paths. Append '#NAME' to the file name to choose one "
                f"of {sorted(named)!r}."
            )
    return paths[first]


def unnamed_poses(poses: Any, stem: str) -> Tensor:
    """Camera-to-world poses of an array without a name: camera-to-world, unless the file's name says otherwise."""
    known = convention_of(stem) or Convention()
    return to_c2w(poses, known, "w2c" if known.world_to_camera else "c2w")


def _words(name: str) -> list[str]:
    separated = re.sub(r"(?<=[a-z])(?=[A-Z][a-z])", " ", name)
    return [word for word in re.split(r"[^a-z0-9]+", separated.lower()) if word]


def _codes(words: list[str]) -> set[str]:
    pairs = [a + b + c for a, b, c in zip(words, words[1:], words[2:], strict=False)]
    pairs += [a + b for a, b in pairwise(words)]
    found = set()
    for word in [*words, *pairs]:
        match = re.fullmatch(r"(w2c|w2v|wtoc|tcw|cfw|c2w|v2w|ctow|twc|wfc)(s|mats?|matrix|matrices)?", word)
        if match:
            found.add(match[1])
    return found


def _no_convention(arrays: Mapping[str, Any]) -> str:
    names = sorted(arrays)
    example = names[0] if names else "poses"
    return (
        f"needs an array 'c2w' (T x 4 x 4, camera-to-world) or 'w2c' (world-to-camera), OpenCV axes; received "
        f"{names!r}, and no name states a convention. Rename the poses, e.g. {example!r} to 'c2w' if "
        "the last column is the camera's position, to 'w2c' if the matrices map world points to the camera."
    )


def _same(first: Tensor, second: Tensor) -> bool:
    if first.shape != second.shape:
        return False
    scale = max(1.0, float(first[..., :3, 3].abs().max()))
    return bool(((first - second).abs() <= _INVERSE_TOLERANCE * scale).all())
