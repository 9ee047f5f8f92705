"""Pictures of a probe: a strip of frames of every kind of clip, from the first case that shows it."""

from __future__ import annotations

from dataclasses import dataclass, field

from worldr1_core.frame_grid import frame_grid, pick_frames
from worldr1_core.pages.encoding import image_uri, resize
from worldr1_core.scoring import ClipScores
from worldr1_rewards.probes.run import Outcome
from worldr1_rewards.probes.source import CLEAN, Source

NUM_FRAMES = 6
SIDE = 128


@dataclass(slots=True)
class Strips:
    """Strips as data URIs, by kind; pass `keep` as the `watch` of `run_probe`.

    Attributes:
        source: Tells which severity is the full one.
        images: Kind -> (case label, data URI, number of frames).
    """

    source: Source
    images: dict[str, tuple[str, str, int]] = field(default_factory=dict)

    def keep(self, outcome: Outcome, result: ClipScores) -> None:
        """Take the frames of a clip that is the first of its kind at full severity."""
        sample = outcome.sample
        full = sample.kind == CLEAN or sample.severity == self.source.severities[-1]
        if not full or sample.varied is not None or sample.kind in self.images:
            return
        shown = result.clip.video.frames
        frames = shown[pick_frames(len(shown), NUM_FRAMES)]
        scale = SIDE / max(frames.shape[-2:])
        size = (round(frames.shape[-2] * scale), round(frames.shape[-1] * scale))
        uri = image_uri(frame_grid([resize(frames, size)], gap=0), max_bytes=24 * 1024)
        self.images[sample.kind] = (sample.case.label, uri, len(frames))
