"""The contents of one camera file, before they are checked and brought to a clip."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from worldr1_core.camera.intrinsics import StatedCamera


def no_camera() -> StatedCamera | None:
    """Of a file that states no intrinsics."""
    return None


@dataclass(frozen=True, slots=True)
class PathFile:
    """A camera path as a reader found it.

    Attributes:
        c2w: `(T, 4, 4)` float64 camera-to-world, OpenCV axes, not yet checked for rigidity.
        camera: Reads the intrinsics; called only if they are needed, so that a path can be had from a file whose
            camera is unusable.
        scene_depth: Typical depth of the scene in units of the translations, or `None`.
    """

    c2w: Tensor
    camera: Callable[[], StatedCamera | None] = no_camera
    scene_depth: Any = None
