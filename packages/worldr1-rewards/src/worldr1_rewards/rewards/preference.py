"""The preference reward: would people like these frames for this prompt?

It is the general reward R_gen of World-R1 (arXiv 2604.24764, section 3): the paper averages HPSv3 over the first K
frames, the authors' release scores one frame with HPSv2.1. It keeps a policy from buying 3D consistency with dull
pictures.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal, Protocol

import torch
from PIL.Image import Image
from pydantic import Field
from torch import Tensor

from worldr1_core.clip import Clip
from worldr1_core.component import ComponentConfig
from worldr1_core.errors import ScoreNotApplicable, ScoreUnavailable
from worldr1_core.reward import Reward, RewardInputs, Score, score_each
from worldr1_core.weights_source import WeightsSource
from worldr1_rewards.judges.images import to_pil
from worldr1_rewards.preference_models import hpsv2, hpsv3

NO_PROMPT = "The clip has no prompt to prefer its frames for."


class PreferenceModel(Protocol):
    """A loaded preference model."""

    def score(self, images: Sequence[Image], prompts: Sequence[str]) -> Tensor:
        """Raw scores `(B,)` float32, higher is better."""

    def score_frames(self, frames: Tensor, prompts: Sequence[str]) -> Tensor:
        """The same of pictures `(B, 3, H, W)`, RGB in [0, 1], with a gradient in them."""

    def to_unit(self, raw: float) -> float:
        """A raw score to [0, 1], monotonically."""

    def to_unit_range(self, raw: Tensor) -> Tensor:
        """`to_unit` of tensors, with a gradient."""


class PreferenceReward(Reward):
    """Human-preference score of the first frames, mapped to [0, 1], higher is better.

    The raw scores of the first `num_frames` frames are averaged, and the mean is mapped to [0, 1] by the model's own
    monotone map: (cosine − 0.1) / 0.3, clamped, for HPSv2.1; the logistic function of (reward − 5) / 5 for HPSv3.
    `details` hold the raw values.

    With `batch_size` 1, the default, a clip's score does not depend on the other clips, to the last bit; larger batches
    agree within rounding, about 1e-5 in float32.
    """

    class Config(ComponentConfig):
        """Options of the `preference` reward."""

        model: Literal["hpsv2.1", "hpsv3"] = Field(
            "hpsv2.1", description="hpsv2.1 (1 B weights) or hpsv3 (7 B weights)."
        )
        checkpoint: str | None = Field(
            None, min_length=1, description="Hub id, folder or file; the released one if null."
        )
        revision: str | None = Field(
            None, description="Branch, tag or commit of a hub checkpoint; the default branch if null."
        )
        base: str = Field(
            hpsv3.BASE, min_length=1, description="hpsv3: hub id or folder with the backbone's configuration."
        )
        instruction: str | None = Field(
            None, min_length=1, description="hpsv3: file with its instruction; the installed hpsv3 package's if null."
        )
        num_frames: int = Field(1, ge=1, le=10_000, description="Average over this many first frames, or all if fewer.")
        batch_size: int = Field(
            1, ge=1, le=1024, description="Frames per forward pass; 1 makes scores exactly repeatable."
        )
        dtype: Literal["float32", "bfloat16", "float16"] | None = Field(
            None, description="Type to run in; float32 for hpsv2.1 and bfloat16 for hpsv3 if null."
        )
        local_files_only: bool = Field(False, description="Use only what is already on this machine.")

    config: Config
    _loaded: PreferenceModel | None = None

    def score(self, clip: Clip, inputs: RewardInputs) -> Score:
        """Score one clip; see `Reward.score`.

        Raises:
            ScoreNotApplicable: The clip has no prompt.
            ScoreUnavailable: The model gave no finite number.
            WeightsError: The model cannot be loaded.
            MissingExtraError: A required package is missing.
        """
        (answer,) = self.score_batch([clip], [inputs])
        if isinstance(answer, Exception):
            raise answer
        assert isinstance(answer, Score)
        return answer

    def score_batch(self, clips: Sequence[Clip], inputs: Sequence[RewardInputs]) -> list[Score | float | Exception]:
        """Score the first frames of all clips in batches; see `Reward.score_batch`."""
        failures: dict[int, Exception] = {}
        raw: dict[int, list[float]] = {index: [] for index in range(len(clips))}
        for index, clip in enumerate(clips):
            if not clip.prompt.strip():
                failures[index] = ScoreNotApplicable(NO_PROMPT)
        for chunk in self._chunks([(index, clip) for index, clip in enumerate(clips) if index not in failures]):
            owners = [index for index, _, _ in chunk]
            try:
                values = self._model().score([image for _, image, _ in chunk], [prompt for _, _, prompt in chunk])
            except (RuntimeError, ValueError) as error:
                reason = f"{self.config.model} failed: {type(error).__name__}: {error}"
                failures.update((owner, ScoreUnavailable(reason)) for owner in owners)
                continue
            for owner, value in zip(owners, values.tolist(), strict=True):
                raw[owner].append(value)
        return [failures[index] if index in failures else self._to_score(raw[index]) for index in range(len(clips))]

    def score_frames(self, frames: Tensor, clips: Sequence[Clip], inputs: Sequence[RewardInputs]) -> Tensor:
        """Score many clips with a gradient in their first frames; see `Reward.score_frames`.

        Raises:
            WeightsError: The model cannot be loaded.
            MissingExtraError: A required package is missing.
        """
        model = self._model()

        def value(own: Tensor, clip: Clip, known: RewardInputs) -> Tensor:
            if not clip.prompt.strip():
                raise ScoreNotApplicable(NO_PROMPT)
            chunks = own[: self.config.num_frames].split(self.config.batch_size)
            raw = torch.cat([model.score_frames(chunk, [clip.prompt] * len(chunk)) for chunk in chunks]).double()
            if not bool(torch.isfinite(raw).all()):
                raise self._not_finite(raw.tolist())
            return model.to_unit_range(raw.mean())

        return score_each(value, frames, clips, inputs)

    def _chunks(self, clips: Sequence[tuple[int, Clip]]) -> Iterator[list[tuple[int, Image, str]]]:
        """Frames with their clip's index and prompt, `batch_size` at a time, never all in memory."""
        chunk: list[tuple[int, Image, str]] = []
        for index, clip in clips:
            for frame in clip.video.frames[: self.config.num_frames]:
                chunk.append((index, to_pil(frame[None])[0], clip.prompt))
                if len(chunk) == self.config.batch_size:
                    yield chunk
                    chunk = []
        if chunk:
            yield chunk

    def _to_score(self, raw: list[float]) -> Score | Exception:
        mean = sum(raw) / len(raw)
        if not torch.isfinite(torch.tensor(raw)).all():
            return self._not_finite(raw)
        details = {"model": self.config.model, "raw": mean, "raw_frames": raw, "num_frames": len(raw)}
        return Score(self._model().to_unit(mean), details=details)

    def _not_finite(self, raw: list[float]) -> ScoreUnavailable:
        return ScoreUnavailable(f"{self.config.model} gave no finite score: {raw}.")

    def _model(self) -> PreferenceModel:
        if self._loaded is None:
            config = self.config
            dtype = None if config.dtype is None else getattr(torch, config.dtype)
            released = hpsv2.RELEASED if config.model == "hpsv2.1" else hpsv3.RELEASED
            source = WeightsSource(config.checkpoint or released, config.revision, config.local_files_only)
            with torch.inference_mode(False):  # inference tensors could not be saved for a gradient
                if config.model == "hpsv2.1":
                    self._loaded = hpsv2.HPSv2(source, device=self.device, dtype=dtype)
                else:
                    base = WeightsSource(config.base, None, config.local_files_only)
                    self._loaded = hpsv3.HPSv3(
                        source, base, instruction=config.instruction, device=self.device, dtype=dtype
                    )
        return self._loaded
