"""The metric `aesthetic-quality` of VBench: LAION's linear head on CLIP ViT-L/14, mean over the frames."""

from __future__ import annotations

from typing import ClassVar

import torch
from pydantic import Field

from worldr1_core.clip import Clip
from worldr1_core.component import ComponentConfig
from worldr1_core.reward import Reward, RewardInputs, Score
from worldr1_core.weights_source import WeightsSource
from worldr1_rewards.evaluation.columns import Column
from worldr1_rewards.frame_models.embedders import CLIP_L14, Embedder, load_clip
from worldr1_rewards.frame_models.heads import LAION_HEAD, find_head
from worldr1_rewards.pretrained import fill_strictly, read_state_dict

RANGE = 10.0
"""Scores of the head range from 1 to 10 for the pictures that it was fitted to."""


class AestheticQualityReward(Reward):
    """VBench's aesthetic quality: LAION's aesthetic score of the frames divided by 10, higher is better.

    Values lie between 0.1 and 1 for the pictures that the head was fitted to; the head is linear, so that other
    pictures may leave this range.
    """

    class Config(ComponentConfig):
        """Options of `aesthetic-quality`."""

        checkpoint: str = Field(CLIP_L14, min_length=1, description="Hub id or folder of a CLIP model.")
        revision: str | None = Field(None, description="Branch, tag or commit on the hub.")
        head: str = Field(LAION_HEAD, min_length=1, description="Address or file of the linear head.")
        local_files_only: bool = Field(False, description="Use only what is already on this machine.")
        batch_size: int = Field(8, ge=1, le=1024, description="Frames per forward pass.")

    columns: ClassVar[tuple[Column, ...]] = (
        Column("aesthetic_quality", "Aesthetic quality", unit="%", scale=100, digits=2),
    )
    config: Config
    _loaded: tuple[Embedder, torch.nn.Module] | None = None

    def score(self, clip: Clip, inputs: RewardInputs) -> Score:
        """Score one clip.

        Raises:
            WeightsError: The weights are missing.
        """
        embedder, head = self._models()
        with torch.inference_mode():
            scores = head(embedder(clip.video.frames))[:, 0].double()
        return Score(float(scores.mean()) / RANGE)

    def _models(self) -> tuple[Embedder, torch.nn.Module]:
        if self._loaded is None:
            config = self.config
            source = WeightsSource(config.checkpoint, config.revision, config.local_files_only)
            path, head_source = find_head(config.head, local_files_only=config.local_files_only)
            state = read_state_dict(path, head_source, "the aesthetic head")
            width = state["weight"].shape[-1] if "weight" in state else 0
            head = fill_strictly(torch.nn.Linear(width, 1), state, head_source, "the aesthetic head")
            self._loaded = load_clip(source, device=self.device, batch_size=config.batch_size), head
        return self._loaded
