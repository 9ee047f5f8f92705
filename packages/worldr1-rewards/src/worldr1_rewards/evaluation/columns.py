"""Columns of an evaluation: the figures that a reward reports, with direction, unit and format."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

STILLNESS = ("still", "repeated")
"""Degenerate clips in `Column.blind_to`: a camera that stands still, and few frames that repeat."""


@dataclass(frozen=True, slots=True)
class Column:
    """One figure of a video.

    A reward whose results are more than its score lists them in a class attribute `columns`. The value of a column is
    the entry of that name in `Score.details`; the column named like the reward (with `_` instead of `-`) is the score
    itself. A column that is missing in the details does not apply to the clip.

    Attributes:
        name: Identifier in results, with `_`.
        label: Heading in tables; the name if it is empty.
        higher_is_better: Direction.
        unit: Unit for people, e.g. `"dB"`; empty without one.
        scale: Factor in tables, e.g. 100 for values in [0, 1] that are published in per cent.
        digits: Decimal places in tables.
        failure: Value that counts for a clip whose reconstruction failed; `None` leaves the clip out of the mean, and
            it is counted as failed either way.
        blind_to: Degenerate clips that reach the value of a good clip in this column: `"still"` (the camera stands
            still), `"repeated"` (the same few frames again and again) or `"noise"`. Results list them, so that such a
            column is read beside one that sees them.
    """

    name: str
    label: str = ""
    higher_is_better: bool = True
    unit: str = ""
    scale: float = 1.0
    digits: int = 3
    failure: float | None = None
    blind_to: tuple[str, ...] = ()

    @property
    def heading(self) -> str:
        """Label, unit and an arrow that points to better."""
        unit = f" ({self.unit})" if self.unit else ""
        return f"{self.label or self.name}{unit} {'↑' if self.higher_is_better else '↓'}"

    def shown(self, value: float) -> str:
        """A value as tables show it."""
        return f"{value * self.scale:.{self.digits}f}"


PRESENTATION = {
    "psnr": Column("psnr", "PSNR", unit="dB", digits=2, blind_to=STILLNESS),
    "psnr_normalised": Column("psnr_normalised", "PSNR, normalised", unit="dB", digits=2, blind_to=STILLNESS),
}
"""Presentation of rewards that list no columns."""


def column_name(reward: str) -> str:
    """Name of the column for the score of a reward, with `_` instead of `-`."""
    return reward.replace("-", "_")


def columns_of(name: str, reward: object) -> tuple[Column, ...]:
    """Return the columns of a reward: its own, or its score.

    Args:
        name: Name that the reward is registered under.
        reward: The reward, an object or a class.

    Example:
        >>> columns_of("camera-accuracy", object())[0].name
        'camera_accuracy'
    """
    own: Sequence[Column] = getattr(reward, "columns", ())
    if own:
        return tuple(own)
    key = column_name(name)
    return (PRESENTATION.get(key, Column(key)),)
