"""Contact sheet of test videos: of the untrained model without and with the manifest's noise, and the trained model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import Tensor

from worldr1_core.clip import Clip
from worldr1_core.errors import UserError, describe_exception
from worldr1_core.figures import check_figure_suffix, save_picture
from worldr1_core.files import atomic_write_text
from worldr1_core.frame_grid import frame_grid, pick_frames
from worldr1_core.gaussian_noise import GaussianNoise
from worldr1_core.manifest import Manifest
from worldr1_core.registry import Registry
from worldr1_core.video_io import read_video, write_video
from worldr1_train.standalone_evaluation import make_evaluation_videos

MOST_FRAMES = 9
"""Maximum number of frames of a video in a row."""
_SIDE = 110
"""Longer side of a frame in the picture, in pixels."""
_GAP = 2

BEFORE, NOISE_ONLY, AFTER = "before", "noise only", "after"


@dataclass(frozen=True, slots=True)
class Comparison:
    """Versions of one test video.

    Attributes:
        prompt: Prompt of the video.
        rows: Name of the version -> frames `(T, 3, H, W)` RGB in [0, 1]: `before` (untrained model from plain noise),
            `noise only` (untrained model with the manifest's noise conditioner, if it has one), and `after` (trained
            model with the manifest's noise).
        fps: Frames per second.
    """

    prompt: str
    rows: Mapping[str, Tensor]
    fps: float = 16.0


def generate_comparisons(
    manifest: Manifest, registry: Registry, base: Path, adapter: Path, count: int
) -> list[Comparison]:
    """Generate test videos, evenly spaced over those of the evaluation, without and with an adapter.

    Args:
        manifest: Manifest with backbone, sampler, noise and prompts.
        registry: Where names are looked up.
        base: Folder that relative paths of prompt files start from.
        adapter: Folder of the trained adapter.
        count: Number of videos, at least 1; limited to the number of videos of the evaluation.

    Raises:
        UserError: A required component is missing.
    """
    if count < 1:
        raise UserError(f"A contact sheet needs at least 1 prompt, received {count}.")
    videos = make_evaluation_videos(manifest, registry, base)
    total = len(videos)
    chosen = pick_frames(total, count)
    made = {BEFORE: videos.with_noise(GaussianNoise()).generate(chosen)}
    if manifest.noise is not None:
        made[NOISE_ONLY] = videos.generate(chosen)
    videos.pipeline.backbone.load_adapter(adapter)
    made[AFTER] = videos.generate(chosen)
    return [
        Comparison(videos.prompts[index], {name: clips[i].video.frames for name, clips in made.items()})
        for i, index in enumerate(chosen)
    ]


def read_comparisons(folder: Path) -> list[Comparison]:
    """Read the test videos that a run has written, with one folder per version; see `ShownVideos`.

    Videos that do not exist in every version are left out.

    Raises:
        UserError: A video or its prompt cannot be read.
    """
    ways = [way for way in (BEFORE, NOISE_ONLY, AFTER) if (folder / folder_name(way)).is_dir()]
    written = [{path.stem: path for path in (folder / folder_name(way)).glob("*.mp4")} for way in ways]
    stems = sorted(set.intersection(*(set(paths) for paths in written))) if written else []
    return [_read_comparison(ways, [paths[stem] for paths in written]) for stem in stems]


def _read_comparison(ways: Sequence[str], paths: Sequence[Path]) -> Comparison:
    videos = [read_video(path) for path in paths]
    rows = {way: video.frames for way, video in zip(ways, videos, strict=True)}
    return Comparison(_read_prompt(paths[0].with_suffix(".txt")), rows, videos[0].fps)


def _read_prompt(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, ValueError) as error:
        raise UserError(
            f"Cannot read the prompt of a test video from {str(path)!r}: {describe_exception(error)}. Restore the "
            "file, or remove the video beside it."
        ) from error


def folder_name(way: str) -> str:
    """Return the folder name of a version of the videos."""
    return way.replace(" ", "-")


class ShownVideos:
    """Writes a selection of an evaluation's videos with their prompts, to view and for `read_comparisons`.

    Args:
        folder: Output folder, one per version of the videos.
        total: Number of videos of the evaluation.
        count: Number of videos to write, evenly spaced.
    """

    def __init__(self, folder: Path, total: int, count: int) -> None:
        self._folder, self._chosen = folder, frozenset(pick_frames(total, count)) if count else frozenset()

    def __call__(self, index: int, clip: Clip) -> None:
        """Write video `index` if it is selected."""
        if index in self._chosen:
            path = self._folder / f"{index:04d}.mp4"
            write_video(clip.video, path)
            atomic_write_text(path.with_suffix(".txt"), clip.prompt + "\n")


def draw_comparisons(comparisons: Sequence[Comparison], path: Path) -> None:
    """Draw the versions of every test video as rows of frames, below their prompt and beside their names.

    Args:
        comparisons: Test videos to draw, at least one; all of the same size.
        path: `.png` or `.svg` file.

    Raises:
        UserError: `comparisons` is empty.
        OutputError: The suffix is unknown, or the file cannot be written.
    """
    if not comparisons:
        raise UserError("There is nothing to draw: received no video. Give at least one comparison.")
    check_figure_suffix(path)
    rows, names, titles = [], [], []
    for one in comparisons:
        for name, frames in one.rows.items():
            rows.append(frames[pick_frames(len(frames), MOST_FRAMES)])
            names.append(name)
        titles += [one.prompt, *[""] * (len(one.rows) - 1)]
    save_picture(frame_grid(rows, titles=titles, names=names, side=_SIDE, gap=_GAP), path)


def strip(frames: Tensor) -> np.ndarray:
    """Draw up to `MOST_FRAMES` frames of a video side by side, including the first and the last.

    Args:
        frames: `(T, 3, H, W)` RGB in [0, 1].

    Returns:
        `(H, W', 3)` uint8.
    """
    return np.asarray(frame_grid([frames[pick_frames(len(frames), MOST_FRAMES)]], gap=_GAP))
