"""Exception for training runs that stop early."""

from __future__ import annotations

from worldr1_core.errors import WorldR1Error


class TrainingStopped(WorldR1Error):
    """Raised if too many rewards fail, or the loss diverges; the message names the checkpoint that was written."""
