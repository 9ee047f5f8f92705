"""Text-to-video backbones, samplers and noise conditioners.

Public names are imported on first use: importing this package loads neither torch nor diffusers.
"""

from typing import TYPE_CHECKING

from worldr1_core.lazy import lazy_exports

if TYPE_CHECKING:
    from worldr1_backbones.diffusers_backbone import DiffusersBackbone as DiffusersBackbone
    from worldr1_backbones.diffusers_backbone import DiffusersConfig as DiffusersConfig
    from worldr1_backbones.diffusers_backbone import LatentLayout as LatentLayout
    from worldr1_backbones.generation import Generator as Generator
    from worldr1_backbones.noise.camera_warp import CameraWarpNoise as CameraWarpNoise

__version__ = "0.1.0"

__all__ = ["CameraWarpNoise", "DiffusersBackbone", "DiffusersConfig", "Generator", "LatentLayout", "__version__"]

_EXPORTS = {
    "CameraWarpNoise": "worldr1_backbones.noise.camera_warp",
    "DiffusersBackbone": "worldr1_backbones.diffusers_backbone",
    "DiffusersConfig": "worldr1_backbones.diffusers_backbone",
    "Generator": "worldr1_backbones.generation",
    "LatentLayout": "worldr1_backbones.diffusers_backbone",
}

__getattr__, __dir__ = lazy_exports(__name__, _EXPORTS)
