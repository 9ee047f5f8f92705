"""Exception for training runs that stop early."""

from __future__ import annotations

from worldr1_core.errors import WorldR1Error


class TrainingStopped(WorldR1Error):
    """Raised if rewards fail, the loss diverges or SIGTERM comes; the message names the checkpoint that was written."""
