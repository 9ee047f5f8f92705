"""How a training run ends before its time."""

from __future__ import annotations

from worldr1_core.errors import WorldR1Error


class TrainingStopped(WorldR1Error):
    """Going on would train on nothing or break the weights; a checkpoint is written, and the message names it."""
