"""Base class of objectives that use advantages and, optionally, a KL term to the model before training."""

from __future__ import annotations

from worldr1_core.objective import AdvantageOptions, Objective
from worldr1_train.objective_options import AdvantageConfig


class AdvantageObjective(Objective):
    """Objective whose `Config` derives from `AdvantageConfig`."""

    config: AdvantageConfig

    @property
    def needs_reference(self) -> bool:
        """See `Objective.needs_reference`."""
        return self.config.kl > 0

    @property
    def advantage_options(self) -> AdvantageOptions:
        """See `Objective.advantage_options`."""
        config = self.config
        return AdvantageOptions(config.aggregation, config.advantage_clip, config.credit)
