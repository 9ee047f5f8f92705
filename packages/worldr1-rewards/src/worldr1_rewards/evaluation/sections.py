"""Sections with pictures for the page of an evaluation, written to disk as the videos are measured.

Pictures need a video's reconstruction, which only the process that measures it has, and only while it does. So each
section is a file of its own in the evaluation's folder, and an evaluation that is resumed finds those of finished
videos.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup

from worldr1_core.files import atomic_write_text
from worldr1_core.frame_grid import pick_frames
from worldr1_core.log import get_logger
from worldr1_core.scoring import ClipScores
from worldr1_rewards.evaluation.jobs import VideoJob

log = get_logger(__name__)

FOLDER = "pictures"
"""Folder of the sections, in the folder of an evaluation."""
NUM_SHOWN = 5
"""Default number of prompts whose videos are shown with pictures."""
_SECTION = re.compile(r"[0-9a-f]{64}\.html")


@dataclass(frozen=True, slots=True)
class Sections:
    """Sections of an evaluation on disk.

    Attributes:
        folder: Folder of the sections.
        shown: Fingerprints of the videos that get a section.
    """

    folder: Path
    shown: frozenset[str]

    def lacks(self, fingerprint: str) -> bool:
        """Return True if a video should have a section and has none yet."""
        return fingerprint in self.shown and not self._path(fingerprint).exists()

    def write(self, job: VideoJob, fingerprint: str, result: ClipScores) -> None:
        """Draw and write the section of a video, if it gets one. A video too large to be drawn is left out.

        Raises:
            OutputError: The folder cannot be written.
            UserError: The reconstruction cannot render for any clip (absent weights or extra).
        """
        if fingerprint not in self.shown:
            return
        from worldr1_rewards.report.clip_section import clip_section
        from worldr1_rewards.report.views import clip_views

        try:
            title = f"{job.method}: {job.name}"
            section = clip_section(anchor(fingerprint), result, clip_views(result), title=title, with_total=False)
        except MemoryError:
            log.warning("pictures left out: they do not fit into memory", video=job.name)
            section = Markup()
        # Lone surrogates of a file name are no UTF-8; markup never needs them.
        text = str(section).encode("utf-8", "replace").decode("utf-8")
        atomic_write_text(self._path(fingerprint), text)

    def remove_others(self) -> None:
        """Remove the sections that an earlier evaluation wrote into this folder and that are not shown any more."""
        for path in self.folder.glob("*.html"):
            if _SECTION.fullmatch(path.name) and path.stem not in self.shown:
                path.unlink(missing_ok=True)

    def _path(self, fingerprint: str) -> Path:
        return self.folder / f"{fingerprint}.html"


def read_sections(folder: Path, fingerprints: Sequence[str]) -> dict[str, Markup]:
    """Read the sections of an evaluation.

    Args:
        folder: Folder of the evaluation.
        fingerprints: Videos, in the order of the page.

    Returns:
        Fingerprint -> section, for the videos that have one.
    """
    sections = {}
    for fingerprint in fingerprints:
        path = folder / FOLDER / f"{fingerprint}.html"
        if path.exists() and (text := path.read_text(encoding="utf-8")):
            sections[fingerprint] = Markup(text)
    return sections


def choose_shown(jobs: Sequence[VideoJob], fingerprints: Sequence[str], num_prompts: int) -> frozenset[str]:
    """Choose the videos that are shown: of evenly spaced prompts the first video of every set.

    Args:
        jobs: Videos.
        fingerprints: One per video.
        num_prompts: Number of prompts, >= 0.
    """
    prompts = sorted({job.prompt_index for job in jobs})
    chosen = {prompts[index] for index in pick_frames(len(prompts), num_prompts)} if num_prompts else set()
    first: dict[tuple[str, int], tuple[int, str]] = {}
    for job, mark in zip(jobs, fingerprints, strict=True):
        if job.prompt_index in chosen:
            key = (job.method, job.prompt_index)
            first[key] = min(first.get(key, (job.seed, mark)), (job.seed, mark))
    return frozenset(mark for _, mark in first.values())


def anchor(fingerprint: str) -> str:
    """Identifier of a video's section on the page."""
    return f"video-{fingerprint[:16]}"
