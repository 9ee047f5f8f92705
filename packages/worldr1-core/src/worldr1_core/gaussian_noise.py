"""Plain Gaussian noise: what a text-to-video model expects, and the start of every other conditioner."""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from worldr1_core.backbone import LatentGeometry
from worldr1_core.noise import InitialNoise, NoiseConditioner, NoiseRequest


class GaussianNoise(NoiseConditioner):
    """Independent N(0, 1) in every component; the prompt and its camera words have no effect."""

    def draw(self, request: NoiseRequest, generator: Generator) -> InitialNoise:
        """Draw noise `(C, num_frames, H, W)`."""
        return InitialNoise(standard_normal(request.geometry, generator))


def standard_normal(geometry: LatentGeometry, generator: Generator) -> Tensor:
    """Draw `(C, num_frames, H, W)` float32, without the padding frames.

    A conditioner that draws this first gives a prompt without camera words the noise that plain Gaussian noise has for
    the same seed.
    """
    shape = (geometry.channels, geometry.num_frames, geometry.height, geometry.width)
    return torch.randn(shape, generator=generator)
