"""The parts of the manifest's `train.evaluation` that guard a run against hacked rewards."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from worldr1_train.alarms import DEFAULT_BOUNDS, AlarmRule, MetricBounds

BACKBONE_CLIPS = "backbone"
"""The value of `reference_clips.source` that stands for clips of the backbone's own."""

DIVERSITY, FLOW_MATCHING_LOSS = "diversity", "flow_matching_loss"
"""Metrics of an evaluation that are no rewards."""

NoiseLevel = Annotated[float, Field(gt=0, lt=1)]
Ratio = Annotated[float, Field(gt=0, le=1e6)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class DiversitySection(_Part):
    """How different the videos of one prompt are; measured on videos of their own, which no reward scores."""

    num_prompts: int = Field(default=12, ge=1, le=10**5, description="The first so many prompts of the evaluation.")
    num_seeds: int = Field(default=3, ge=2, le=100, description="Videos per prompt.")


class ReferenceClipsSection(_Part):
    """True clips, on which the flow-matching loss of the model is measured."""

    source: str | list[str] = Field(
        min_length=1,
        description="Folder or file of videos, or a list of them, each with its prompt beside it in NAME.txt (or in "
        "the key `prompt` of NAME.json); `backbone` for clips that the backbone makes itself (renders of the tiny "
        "world). Relative to the manifest.",
    )
    num_clips: int = Field(default=24, ge=1, le=10**5, description="The first so many.")
    noise_levels: list[NoiseLevel] = Field(
        default=[0.7],
        min_length=1,
        max_length=100,
        description="Noise levels sigma in (0, 1); the nearest level of the sampler's schedule is taken.",
    )

    @property
    def paths(self) -> list[str]:
        """The sources, one by one."""
        return [self.source] if isinstance(self.source, str) else list(self.source)

    @property
    def from_backbone(self) -> bool:
        """Whether the backbone makes the clips."""
        return self.source == BACKBONE_CLIPS

    def relative_to(self, folder: Path) -> ReferenceClipsSection:
        """The same with paths that start from a folder."""
        if self.from_backbone:
            return self
        return self.model_copy(update={"source": [str(folder / Path(path).expanduser()) for path in self.paths]})


class BoundsSection(_Part):
    """Allowed range of a metric, as a share of its value before training."""

    min_ratio: Ratio | None = Field(default=None, description="Below it, and surely fallen, it raises an alarm.")
    max_ratio: Ratio | None = Field(default=None, description="Above it, and surely risen, it raises an alarm.")


class AlarmSection(_Part):
    """When a run warns that trained rewards rise while metrics that are not trained on fall."""

    bounds: dict[str, BoundsSection | None] = Field(
        default_factory=dict,
        description="Metric -> bounds beside or instead of the usual ones; null for none, so that any sure fall "
        "counts. Usual: 0.97 for gradients, variances, contrast and motion, 0.9 for diversity, at most 1.1 for "
        "flow-matching-loss.",
    )
    other_metrics: bool = Field(
        default=True, description="Any other metric that is not trained on raises an alarm when it surely falls."
    )

    def rule(self) -> AlarmRule:
        """The rule, with the usual bounds filled in."""
        bounds: dict[str, MetricBounds] = dict(DEFAULT_BOUNDS)
        for name, given in self.bounds.items():
            key = name.replace("-", "_")
            if given is None:
                bounds.pop(key, None)
            else:
                bounds[key] = MetricBounds(given.min_ratio, given.max_ratio)
        return AlarmRule(bounds=bounds, other_metrics=self.other_metrics)

    def unknown(self, measured: Sequence[str]) -> list[str]:
        """Metrics that have bounds of their own and are not measured."""
        known = {name.replace("-", "_") for name in measured}
        return [name for name in self.bounds if name.replace("-", "_") not in known]
