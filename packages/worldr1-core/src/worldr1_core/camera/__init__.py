"""Camera paths: poses and intrinsics, the prompt vocabulary, file formats, flow and plots."""

from worldr1_core.camera.formats import load_intrinsics, load_trajectory, save_trajectory
from worldr1_core.camera.geometry import default_intrinsics, scale_intrinsics
from worldr1_core.camera.trajectory import CameraTrajectory
from worldr1_core.camera.vocabulary import (
    Move,
    MoveConstants,
    detect_moves,
    strip_moves,
    trajectory_from_moves,
    trajectory_from_prompt,
)

__all__ = [
    "CameraTrajectory",
    "Move",
    "MoveConstants",
    "default_intrinsics",
    "detect_moves",
    "load_intrinsics",
    "load_trajectory",
    "save_trajectory",
    "scale_intrinsics",
    "strip_moves",
    "trajectory_from_moves",
    "trajectory_from_prompt",
]
