"""Contact sheets for the eye: `python tests/worlds/sheet.py out.png` (with `tests` on the path)."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from worldr1_core.frame_grid import frame_grid, pick_frames
from worldr1_rewards.probes.world.clips import WorldClip, render_world
from worldr1_rewards.probes.world.scenes import FAMILIES


def save_sheet(clips: Sequence[WorldClip], path: str, columns: int = 5) -> None:
    """Write one row of evenly spaced frames per clip."""
    frame_grid([clip.frames[pick_frames(len(clip.frames), columns)] for clip in clips], gap=0).save(path)


if __name__ == "__main__":
    save_sheet(
        [render_world(family, "orbit left", seed=1, size=(160, 160), num_frames=5) for family in FAMILIES], sys.argv[1]
    )
