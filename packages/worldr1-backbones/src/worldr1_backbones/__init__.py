"""Text-to-video backbones, samplers and noise conditioners.

Names are imported on first use: importing this package loads neither torch nor diffusers.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from worldr1_backbones.diffusers_backbone import DiffusersBackbone, DiffusersConfig, LatentLayout
    from worldr1_backbones.generation import Generator
    from worldr1_backbones.noise.camera_warp import CameraWarpNoise

__version__ = "0.1.0"

_EXPORTS = {
    "CameraWarpNoise": "worldr1_backbones.noise.camera_warp",
    "DiffusersBackbone": "worldr1_backbones.diffusers_backbone",
    "DiffusersConfig": "worldr1_backbones.diffusers_backbone",
    "Generator": "worldr1_backbones.generation",
    "LatentLayout": "worldr1_backbones.diffusers_backbone",
}
"""Public name -> module that it is imported from on first use."""

__all__ = ["CameraWarpNoise", "DiffusersBackbone", "DiffusersConfig", "Generator", "LatentLayout", "__version__"]


def __getattr__(name: str) -> Any:
    if name not in _EXPORTS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_EXPORTS[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
