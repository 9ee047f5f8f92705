"""Settings in the manifest's `train.evaluation` that detect reward hacking."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from worldr1_train.alarms import DEFAULT_BOUNDS, AlarmRule, MetricBounds

BACKBONE_CLIPS = "backbone"
"""Value of `reference_clips.source` for clips that the backbone generates itself."""

DIVERSITY, FLOW_MATCHING_LOSS = "diversity", "flow_matching_loss"
"""Metrics of an evaluation that are not rewards."""

NoiseLevel = Annotated[float, Field(gt=0, lt=1)]
Ratio = Annotated[float, Field(gt=0, le=1e6)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class DiversitySection(_Part):
    """Diversity of the videos of one prompt, measured on additional videos that are not scored by rewards."""

    num_prompts: int = Field(
        default=12, ge=1, le=10**5, description="Number of prompts, taken from the start of the evaluation prompts."
    )
    num_seeds: int = Field(default=3, ge=2, le=100, description="Videos per prompt.")


class ReferenceClipsSection(_Part):
    """Real clips on which the flow-matching loss of the model is measured."""

    source: str | list[str] = Field(
        min_length=1,
        description="Video file, folder of videos, or a list of these, relative to the manifest. The prompt of "
        "NAME.mp4 is read from NAME.txt beside it, or from the key `prompt` of NAME.json. `backbone` for clips that "
        "the backbone generates itself (renders of the tiny world).",
    )
    num_clips: int = Field(default=24, ge=1, le=10**5, description="Number of clips, taken from the start.")
    noise_levels: list[NoiseLevel] = Field(
        default=[0.7],
        min_length=1,
        max_length=100,
        description="Noise levels sigma in (0, 1); the nearest level of the sampler's schedule is used.",
    )

    @property
    def paths(self) -> list[str]:
        """List of the sources."""
        return [self.source] if isinstance(self.source, str) else list(self.source)

    @property
    def from_backbone(self) -> bool:
        """Whether the backbone generates the clips."""
        return self.source == BACKBONE_CLIPS

    def relative_to(self, folder: Path) -> ReferenceClipsSection:
        """Return a copy whose relative paths start from a folder."""
        if self.from_backbone:
            return self
        return self.model_copy(update={"source": [str(folder / Path(path).expanduser()) for path in self.paths]})


class BoundsSection(_Part):
    """Allowed range of a metric, as a ratio to its value before training."""

    min_ratio: Ratio | None = Field(
        default=None, description="Raise an alarm below this ratio, if the 95 % interval of the change is below 0."
    )
    max_ratio: Ratio | None = Field(
        default=None, description="Raise an alarm above this ratio, if the 95 % interval of the change is above 0."
    )


class AlarmSection(_Part):
    """Warnings if trained rewards rise while metrics that are not trained on get worse."""

    bounds: dict[str, BoundsSection | None] = Field(
        default_factory=dict,
        description="Metric -> bounds, in addition to or instead of the default bounds. null removes the bounds of a "
        "metric, which is then treated like the other metrics. Defaults: at least 0.97 for gradients, variances, "
        "contrast and motion, at least 0.9 for diversity, at most 1.1 for flow-matching-loss.",
    )
    other_metrics: bool = Field(
        default=True,
        description="Whether any other metric that is not trained on raises an alarm if the 95 % interval of its "
        "change is below 0.",
    )

    def rule(self) -> AlarmRule:
        """Return the alarm rule, with the default bounds filled in."""
        bounds: dict[str, MetricBounds] = dict(DEFAULT_BOUNDS)
        for name, given in self.bounds.items():
            key = name.replace("-", "_")
            if given is None:
                bounds.pop(key, None)
            else:
                bounds[key] = MetricBounds(given.min_ratio, given.max_ratio)
        return AlarmRule(bounds=bounds, other_metrics=self.other_metrics)

    def unknown(self, measured: Sequence[str]) -> list[str]:
        """Return the metrics in `bounds` that are not measured."""
        known = {name.replace("-", "_") for name in measured}
        return [name for name in self.bounds if name.replace("-", "_") not in known]
