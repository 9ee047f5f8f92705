"""Contact sheets for the eye: `python tests/worlds/sheet.py out.png` (with `tests` on the path)."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import torch
from PIL import Image

from worldr1_rewards.probes.world.clips import WorldClip, render_world
from worldr1_rewards.probes.world.scenes import FAMILIES


def save_sheet(clips: Sequence[WorldClip], path: str, columns: int = 5) -> None:
    """Write one row of evenly spaced frames a clip."""
    rows = []
    for clip in clips:
        picks = torch.linspace(0, len(clip.frames) - 1, columns).round().long()
        rows.append(torch.cat(list(clip.frames[picks]), dim=2))
    sheet = (torch.cat(rows, dim=1).permute(1, 2, 0) * 255).round().byte().numpy()
    Image.fromarray(sheet).save(path)


if __name__ == "__main__":
    save_sheet(
        [render_world(family, "orbit left", seed=1, size=(160, 160), num_frames=5) for family in FAMILIES], sys.argv[1]
    )
