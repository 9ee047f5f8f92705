"""The metric `imaging-quality` of VBench: MUSIQ trained on SPAQ, by the package pyiqa, mean over the frames.

pyiqa is not a dependency of this package: its licence (PolyForm Noncommercial) excludes commercial use. Whoever may use
it installs it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import torch
from pydantic import Field

from worldr1_core.clip import Clip
from worldr1_core.component import ComponentConfig
from worldr1_core.errors import require
from worldr1_core.reward import Reward, RewardInputs, Score
from worldr1_core.weights_source import WeightsSource
from worldr1_rewards.evaluation.columns import Column
from worldr1_rewards.frame_models.frames import at_most
from worldr1_rewards.pretrained import LOADING_ERRORS

LONGER_SIDE = 512
"""Longer side in pixels to which VBench shrinks frames."""
RANGE = 100.0
"""MUSIQ's scores range from 0 to 100."""


class ImagingQualityReward(Reward):
    """VBench's imaging quality: MUSIQ (SPAQ) of the frames divided by 100, in [0, 1], higher is better.

    Needs the package pyiqa, whose licence allows noncommercial use only.
    """

    class Config(ComponentConfig):
        """Options of `imaging-quality`."""

        model: str = Field("musiq-spaq", min_length=1, description="Name of a no-reference metric of pyiqa.")

    columns: ClassVar[tuple[Column, ...]] = (
        Column("imaging_quality", "Imaging quality", unit="%", scale=100, digits=2),
    )
    config: Config
    _loaded: Callable[[torch.Tensor], Any] | None = None

    def score(self, clip: Clip, inputs: RewardInputs) -> Score:
        """Score one clip.

        Raises:
            MissingExtraError: pyiqa is not installed.
            WeightsError: The weights are missing.
        """
        model = self._model()
        frames = at_most(clip.video.frames, LONGER_SIDE)
        with torch.inference_mode():
            values = [float(model(frame[None].to(self.device))) for frame in frames]
        return Score(sum(values) / len(values) / RANGE)

    def _model(self) -> Callable[[torch.Tensor], Any]:
        if self._loaded is None:
            pyiqa = require("pyiqa", extra="pyiqa")
            try:
                self._loaded = pyiqa.create_metric(self.config.model, device=torch.device(self.device))
            except LOADING_ERRORS as error:
                raise WeightsSource(self.config.model).fail("MUSIQ", error) from error
        return self._loaded
