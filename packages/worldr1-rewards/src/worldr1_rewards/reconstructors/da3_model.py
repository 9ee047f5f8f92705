"""Depth Anything 3 through its own package: a checkpoint in, cameras and depth of a clip's frames out.

Only this module imports `depth_anything_3`, and only inside functions: the import takes seconds and prints.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from worldr1_core.errors import UserError, require
from worldr1_core.weights_source import WeightsSource
from worldr1_rewards.pretrained import LOADING_ERRORS, find_file, read_state_dict
from worldr1_rewards.reconstructors.foreign_code import quiet, seeded

EXTRA = "worldr1-rewards[da3]"
WHAT = "Depth Anything 3"


@dataclass(frozen=True, slots=True)
class Prediction:
    """Raw predictions of the model for `T` frames, not yet checked.

    Attributes:
        depth: `(T, h, w)` float32 z-depth in a unit of its own, at the size the model works at.
        confidence: `(T, h, w)` float32, larger is surer, or `None`.
        w2c: `(T, 3, 4)` float64 world-to-camera, OpenCV axes.
        intrinsics: `(T, 3, 3)` float64 in pixels of `depth`.
    """

    depth: Tensor
    confidence: Tensor | None
    w2c: Tensor
    intrinsics: Tensor


def load_model(source: WeightsSource, device: str) -> Any:
    """The `DepthAnything3` of a checkpoint in the released layout: `config.json` and `model.safetensors`.

    The package's own `from_pretrained` leaves parameters that a checkpoint lacks at random values; here they are an
    error.

    Raises:
        MissingExtraError: depth-anything-3 is not installed.
        WeightsError: The files are absent, damaged, of an unknown model, or do not fill it.
    """
    with quiet():
        api = require("depth_anything_3.api", extra=EXTRA)
        names = list(require("depth_anything_3.registry", extra=EXTRA).MODEL_REGISTRY)
    try:
        config = json.loads(find_file(source, "config.json", WHAT).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise source.fail(WHAT, error) from error
    name = config.get("model_name") if isinstance(config, dict) else None
    if name not in names:
        raise source.fail(WHAT, f"config.json has the model_name {name!r}, known are {names}")
    state = read_state_dict(find_file(source, "model.safetensors", WHAT), source, WHAT)
    with quiet(), seeded(device):
        model = api.DepthAnything3(model_name=name)
    try:
        report = model.load_state_dict(state, strict=False)
    except LOADING_ERRORS as error:
        raise source.fail(WHAT, f"the checkpoint does not fit {name}: {' '.join(str(error).split())[:300]}") from error
    if absent := _unfilled(model, set(report.missing_keys)):
        raise source.fail(WHAT, f"the checkpoint does not fill {name}: it lacks {absent[:3]}")
    return model.to(device).eval().requires_grad_(False)


def _unfilled(model: torch.nn.Module, missing: set[str]) -> list[str]:
    """Those of the missing keys that no present one fills: of tensors that modules share, a file holds one copy."""
    tensors = model.state_dict(keep_vars=True)
    filled = {id(tensor) for name, tensor in tensors.items() if name not in missing}
    return sorted(name for name in missing if id(tensors[name]) not in filled)


def predict(model: Any, frames: Tensor, process_res: int, device: str) -> Prediction:
    """Cameras and depth of frames, from the frames alone: poses given to the model come back as its estimate.

    Args:
        model: See `load_model`.
        frames: `(T, 3, H, W)` RGB in [0, 1].
        process_res: Longest side in pixels at which the model works; it rounds both sides to multiples of 14.
        device: Where the model is.

    Raises:
        UserError: The model finds no cameras (the metric and the monocular ones do not).
    """
    pictures = (frames.detach().cpu().clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous()
    with quiet(), seeded(device):
        found = model.inference([picture.numpy() for picture in pictures], process_res=process_res)
    if found.extrinsics is None or found.intrinsics is None:
        raise UserError(
            f"The model {getattr(model, 'model_name', '?')!r} gives depth but no cameras. Use one that sees several "
            "views: DA3-SMALL, DA3-BASE, DA3-LARGE-1.1, DA3-GIANT-1.1 or DA3NESTED-GIANT-LARGE-1.1."
        )
    return Prediction(
        depth=torch.tensor(found.depth, dtype=torch.float32),
        confidence=None if found.conf is None else torch.tensor(found.conf, dtype=torch.float32),
        w2c=torch.tensor(found.extrinsics, dtype=torch.float64)[:, :3],
        intrinsics=torch.tensor(found.intrinsics, dtype=torch.float64),
    )
