"""A stand-in for the package `depth_anything_3`: it knows the kit's room and answers in its own unit and world."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from worldr1_core.camera.geometry import default_intrinsics, invert_pose, pose, rotation_y, scale_intrinsics
from worldr1_core.testing import make_clip
from worldr1_core.testing.clips import MOVES, TexturedRoom, camera_path

NAME = "da3-fake"
PATCH = 14
UNIT = 0.37
"""Length of the room's unit in that of the model."""
WORLD = pose(rotation_y(40.0), torch.tensor([0.3, -1.2, 2.0], dtype=torch.float64))
"""The room in the model's world: frame 0 is not at its origin."""


def worked_size(size: tuple[int, int], process_res: int) -> tuple[int, int]:
    """(h, w) that the package makes of a picture: longest side `process_res`, both rounded to multiples of 14."""
    scale = process_res / max(size)
    height, width = (max(PATCH, round(side * scale / PATCH) * PATCH) for side in size)
    return height, width


class DepthAnything3(nn.Module):
    """Exact answers; `change` edits them before they are returned."""

    change: Any = None
    calls: list[dict[str, Any]]

    def __init__(self, model_name: str) -> None:
        super().__init__()
        self.model_name = model_name
        self.weight = nn.Parameter(torch.randn(2))
        self.shared = self.weight
        self.calls = []

    def inference(self, image: Sequence[np.ndarray], **options: Any) -> SimpleNamespace:
        """What `DepthAnything3.inference` returns."""
        sys.stdout.write("[INFO] as the package does")
        torch.rand(3)
        self.calls.append(options)
        size = image[0].shape[:2]
        height, width = worked_size(size, options["process_res"])
        c2w = camera_path(_move_of(image), len(image), size).c2w
        matrix = scale_intrinsics(default_intrinsics(*size), size, (height, width))
        _, depth = TexturedRoom().render(c2w, matrix, (height, width))
        there = WORLD @ pose(c2w[:, :3, :3], c2w[:, :3, 3] * UNIT)
        answer = SimpleNamespace(
            depth=(depth * UNIT).numpy(),
            conf=np.full(depth.shape, 2.0, np.float32),
            extrinsics=invert_pose(there)[:, :3].numpy().astype(np.float32),
            intrinsics=matrix.repeat(len(image), 1, 1).numpy().astype(np.float32),
        )
        if type(self).change is not None:
            type(self).change(answer)
        return answer


def _move_of(image: Sequence[np.ndarray]) -> str:
    shown = np.stack(image)
    for move in MOVES:
        frames = make_clip(move, num_frames=len(image), size=shown.shape[1:3]).video.frames
        if np.array_equal(shown, as_pictures(frames)):
            return move
    raise AssertionError("the stand-in knows the kit's clips alone")


def as_pictures(frames: Tensor) -> np.ndarray:
    """`(T, H, W, 3)` bytes of `(T, 3, H, W)` frames."""
    return (frames * 255).round().byte().permute(0, 2, 3, 1).numpy()


def modules() -> dict[str, ModuleType]:
    """What stands in `sys.modules`; every call makes a model class of its own."""
    package, api, registry = (ModuleType(f"depth_anything_3{part}") for part in ("", ".api", ".registry"))
    api.DepthAnything3 = type("DepthAnything3", (DepthAnything3,), {})
    registry.MODEL_REGISTRY = {NAME: "config.yaml"}
    return {module.__name__: module for module in (package, api, registry)}


def write_checkpoint(folder: Path, *, model_name: str = NAME, keys: Sequence[str] = ("weight",)) -> Path:
    """A folder in the released layout."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps({"model_name": model_name}))
    save_file({key: torch.tensor([1.0, 2.0]) for key in keys}, folder / "model.safetensors")
    return folder
