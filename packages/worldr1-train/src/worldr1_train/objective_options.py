"""Options of objectives, shared by the manifest section and the objectives."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import model_validator

from worldr1_core.component import ComponentConfig
from worldr1_train.option_checks import Spelling, check_credit
from worldr1_train.options import OPTIONS, manifest_field


class AdvantageConfig(ComponentConfig):
    """Options of objectives that use advantages and, optionally, a KL term to the model before training."""

    kl: float = manifest_field("objective.kl")
    advantage_clip: float = manifest_field("objective.advantage_clip")
    aggregation: Literal["weighted-sum", "gdpo"] = manifest_field("objective.aggregation")
    credit: Literal["video", "spatial"] = manifest_field("objective.credit")

    @model_validator(mode="after")
    def _spatial_credit_needs_gdpo(self) -> Self:
        aggregation = OPTIONS["multi_objective_aggregation"].to_argument(self.aggregation)
        check_credit(Spelling.MANIFEST, self.credit, aggregation)
        return self


class FlowGRPOOptions(AdvantageConfig):
    """Options of `flow-grpo` (paper, section 3)."""

    clip: float = manifest_field("objective.clip")
    clip_high: float | None = manifest_field("objective.clip_high")
    ratio_normalisation: bool = manifest_field("objective.ratio_normalisation")
    rectification: bool = manifest_field("objective.rectification")
