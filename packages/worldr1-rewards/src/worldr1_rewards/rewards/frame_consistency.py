"""The metrics `subject-consistency` and `background-consistency` of VBench (arXiv 2311.17982), rebuilt.

Embeddings of every frame are compared with those of the frame before and of the first frame; VBench reads DINO for the
subject and CLIP for the background. Both prefer stillness: a frozen clip has 1.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from pydantic import Field
from torch import Tensor

from worldr1_core.clip import Clip
from worldr1_core.component import ComponentConfig
from worldr1_core.errors import ScoreUnavailable
from worldr1_core.reward import Reward, RewardInputs, Score
from worldr1_core.weights_source import WeightsSource
from worldr1_rewards.evaluation.columns import STILLNESS, Column
from worldr1_rewards.frame_models.embedders import CLIP_B32, DINO_B16, Embedder, load_clip, load_dino


def frame_consistency(embeddings: Tensor) -> float:
    """Mean over the frames from the second on of the cosines with the frame before and the first one, each at least 0.

    Args:
        embeddings: `(T, D)` of length 1, T >= 2.

    Returns:
        In [0, 1]; higher is better.
    """
    previous = (embeddings[1:] * embeddings[:-1]).sum(-1).clamp(min=0)
    first = (embeddings[1:] * embeddings[:1]).sum(-1).clamp(min=0)
    return float(((previous + first) / 2).double().mean())


class EmbedderConfig(ComponentConfig):
    """Options of the metrics that compare frames by an image model."""

    checkpoint: str
    revision: str | None = Field(None, description="Branch, tag or commit on the hub.")
    local_files_only: bool = Field(False, description="Use only what is already on this machine.")
    batch_size: int = Field(8, ge=1, le=1024, description="Frames per forward pass.")


class FrameConsistencyReward(Reward):
    """Similarity of frames by the embeddings of an image model, in [0, 1], higher is better."""

    load: ClassVar[Callable[..., Embedder]]
    """Loads the image model."""
    config: EmbedderConfig
    _loaded: Embedder | None = None

    def score(self, clip: Clip, inputs: RewardInputs) -> Score:
        """Score one clip.

        Raises:
            ScoreUnavailable: The clip has one frame.
            WeightsError: The weights are missing.
        """
        if clip.video.num_frames < 2:
            raise ScoreUnavailable("needs 2 frames, received 1: there is nothing to compare")
        if self._loaded is None:
            config = self.config
            source = WeightsSource(config.checkpoint, config.revision, config.local_files_only)
            self._loaded = self.load(source, device=self.device, batch_size=config.batch_size)
        return Score(min(1.0, frame_consistency(self._loaded(clip.video.frames))))


class SubjectConsistencyReward(FrameConsistencyReward):
    """VBench's subject consistency: similarity of the frames by DINO ViT-B/16, in [0, 1], higher is better."""

    class Config(EmbedderConfig):
        """Options of `subject-consistency`."""

        checkpoint: str = Field(DINO_B16, min_length=1, description="Hub id or folder of a ViT or DINOv2 model.")

    columns: ClassVar[tuple[Column, ...]] = (
        Column("subject_consistency", "Subject consistency", unit="%", scale=100, digits=2, blind_to=STILLNESS),
    )
    load = staticmethod(load_dino)


class BackgroundConsistencyReward(FrameConsistencyReward):
    """VBench's background consistency: similarity of the frames by CLIP ViT-B/32, in [0, 1], higher is better."""

    class Config(EmbedderConfig):
        """Options of `background-consistency`."""

        checkpoint: str = Field(CLIP_B32, min_length=1, description="Hub id or folder of a CLIP model.")

    columns: ClassVar[tuple[Column, ...]] = (
        Column("background_consistency", "Background consistency", unit="%", scale=100, digits=2, blind_to=STILLNESS),
    )
    load = staticmethod(load_clip)
