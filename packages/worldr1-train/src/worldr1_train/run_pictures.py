"""Pictures of a finished run: learning curves, and test videos before and after training."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from worldr1_core.errors import UserError
from worldr1_core.log import get_logger
from worldr1_train import contact_sheet
from worldr1_train.curves import plot_curves, read_curves
from worldr1_train.evaluation import AFTER, BEFORE, NOISE_ONLY

VIDEOS = "videos"
"""Folder of a run for test videos, with a subfolder for each evaluation."""
CURVES, SHEET = "curves.png", "before-after.png"
SHOWN_AS: Mapping[str, str] = {
    BEFORE: contact_sheet.BEFORE,
    NOISE_ONLY: contact_sheet.NOISE_ONLY,
    AFTER: contact_sheet.AFTER,
}
"""File of an evaluation -> name of its videos in the picture."""

log = get_logger(__name__)


def draw_run(folder: Path) -> None:
    """Draw `curves.png`, and `before-after.png` if test videos were written.

    If a picture cannot be drawn (because matplotlib is not installed, for example), a warning is logged.

    Args:
        folder: Folder of the run.
    """
    _draw(folder / CURVES, lambda path: plot_curves({folder.name: read_curves(folder)}, path))
    if (folder / VIDEOS).is_dir():
        _draw(folder / SHEET, lambda path: _draw_sheet(folder / VIDEOS, path))


def _draw_sheet(videos: Path, path: Path) -> None:
    comparisons = contact_sheet.read_comparisons(videos)
    if comparisons:
        contact_sheet.draw_comparisons(comparisons, path)


def _draw(path: Path, draw: Callable[[Path], None]) -> None:
    try:
        draw(path)
    except UserError as error:
        log.warning("picture not drawn", path=str(path), reason=str(error))
