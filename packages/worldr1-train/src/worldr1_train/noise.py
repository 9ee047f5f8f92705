"""The noise of a stage whose conditioner is off."""

from __future__ import annotations

import torch
from torch import Generator

from worldr1_core.noise import InitialNoise, NoiseConditioner, NoiseRequest


class WhiteNoise(NoiseConditioner):
    """Initial noise without a camera path."""

    def draw(self, request: NoiseRequest, generator: Generator) -> InitialNoise:
        """See `NoiseConditioner.draw`."""
        geometry = request.geometry
        shape = (geometry.channels, geometry.num_frames, geometry.height, geometry.width)
        return InitialNoise(torch.randn(shape, generator=generator))
