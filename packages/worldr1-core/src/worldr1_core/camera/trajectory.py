"""A camera path: poses, intrinsics, and the unit in which it is measured."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, slots=True)
class CameraTrajectory:
    """Poses of a clip.

    Attributes:
        c2w: `(T, 4, 4)` float64 camera-to-world, OpenCV axes (x right, y down, z forward).
        intrinsics: `(3, 3)` float64 in pixels of `image_size`, or `None` if unknown.
        image_size: `(H, W)` to which `intrinsics` refer, or `None`.
        scene_depth: Typical depth of the scene in the unit of the translations, or `None` if the scale is arbitrary.
    """

    c2w: Tensor
    intrinsics: Tensor | None = None
    image_size: tuple[int, int] | None = None
    scene_depth: float | None = None
