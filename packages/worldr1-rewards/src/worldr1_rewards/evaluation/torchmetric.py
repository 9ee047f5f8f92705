"""Any metric as a `torchmetrics.Metric`, for training loops that collect their metrics with torchmetrics."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from worldr1_core.errors import UserError, require, suggest
from worldr1_rewards.evaluation.measure import VideoMeasurer
from worldr1_rewards.scoring import Scorer
from worldr1_rewards.video_inputs import VideoLike, collect_clips

if TYPE_CHECKING:
    from torchmetrics import Metric
else:
    Metric = require("torchmetrics", extra="worldr1-rewards[eval]").Metric


class VideoMetric(Metric):
    """Mean of a metric over videos, synchronised between processes as torchmetrics does.

    Videos without a value are left out of the mean; `num_failed` counts those that failed.

    Args:
        metric: Name of a registered reward.
        column: Which of its columns, e.g. `"rot_err"` of `camera-errors`; the first one by default.
        scorer: Scorer with this reward; by default one with the default manifest.
        **options: Arguments of `torchmetrics.Metric`.

    Raises:
        UserError: The metric or the column is unknown.

    Example:
        ```python
        contrast = VideoMetric("contrast")
        contrast.update(torch.rand(2, 9, 3, 64, 64), ["a cat", "a dog"])
        print(contrast.compute())
        ```
    """

    full_state_update = False
    is_differentiable = False

    def __init__(self, metric: str, *, column: str | None = None, scorer: Scorer | None = None, **options: Any) -> None:
        super().__init__(**options)
        self.measurer = VideoMeasurer((Scorer([metric]) if scorer is None else scorer).engine)
        columns = [known for own in self.measurer.columns.values() for known in own]
        names = [known.name for known in columns]
        if column is not None and column not in names:
            raise UserError(f"Metric {metric!r} has no column {column!r}. Allowed: {names}.{suggest(column, names)}")
        self.column = columns[0] if column is None else columns[names.index(column)]
        for name in ("total", "num_values", "num_failed"):
            self.add_state(name, default=torch.tensor(0.0, dtype=torch.float64), dist_reduce_fx="sum")

    @property
    def higher_is_better(self) -> bool:
        """Direction of the column."""
        return self.column.higher_is_better

    def update(
        self, videos: VideoLike | Iterable[VideoLike], prompts: str | Sequence[str | None] | None = None
    ) -> None:
        """Measure videos.

        Args:
            videos: One or several, in any form that `Scorer` accepts.
            prompts: Prompt of every video, or one per video.
        """
        for clip in collect_clips(videos, prompts):
            value, has_failed = self.measurer.measure_clip(clip, self.column.name)
            self.num_failed += has_failed
            if value is not None:
                self.total += value
                self.num_values += 1

    def compute(self) -> Tensor:
        """Return the mean, float32 without dimensions; NaN without any value."""
        return (self.total / self.num_values).float()
