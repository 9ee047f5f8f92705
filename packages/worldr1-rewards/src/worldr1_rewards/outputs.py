"""Files that `worldr1 score --out` writes for a clip: scores, cameras and pictures."""

from __future__ import annotations

import io
import os
import shutil
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from torch import Tensor

from worldr1_core.camera.formats import save_trajectory
from worldr1_core.camera.geometry import default_intrinsics
from worldr1_core.camera.trajectory import CameraTrajectory
from worldr1_core.errors import OutputError
from worldr1_core.frame_grid import frame_grid
from worldr1_core.reconstructor import Reconstruction
from worldr1_core.scoring import ClipScores
from worldr1_core.video import Video
from worldr1_core.video_io import write_video
from worldr1_core.written_files import SCORE_FILES, SCORES
from worldr1_rewards.report.paths import draw_paths, standalone_svg
from worldr1_rewards.report.pictures import clip_strips, colour_depth, depth_ends, with_holes
from worldr1_rewards.report.views import MIN_COVERAGE, ClipViews, clip_views
from worldr1_rewards.serialise import score_line

OUTPUT_NAMES = SCORE_FILES
"""Every file that `write_clip_outputs` may write."""

_LABELS = {"input": "input", "rerender": "re-render", "error": "error", "depth": "depth", "moving": "moving"}


def write_clip_outputs(result: ClipScores, folder: str | Path, views: ClipViews | None = None) -> list[Path]:
    """Write a clip's files; a file for which there is nothing to show is not written.

    | file | holds |
    |---|---|
    | `scores.json` | the clip's JSON line |
    | `trajectory.json` | estimated `c2w` T×4×4 (frame 0 identity), `intrinsics` 3×3 in pixels, size, scene depth |
    | `trajectory.svg` | commanded and estimated path |
    | `rerender.mp4` | the frames rendered from the reconstruction; a grey chequerboard where it explains nothing |
    | `comparison.png` | contact sheet of input, re-render, absolute error and depth |
    | `depth.mp4` | depth in colours, near bright |
    | `depth.npz` | `depth` (T, H, W) float32 in scene depths |

    All files are completed aside before the first one is moved into place. Files of an earlier run that this run has
    no counterpart for are removed, and nothing else in the folder is touched.

    Args:
        result: From `worldr1_rewards.scoring.Scorer.score`.
        folder: Made if it does not exist.
        views: The clip's pictures, where the caller has them already.

    Returns:
        The files written.

    Raises:
        OutputError: The folder cannot be written.
        UserError: The reconstruction cannot render for any clip (absent weights or extra).
    """
    folder = Path(folder)
    writers = _writers(result, views or clip_views(result))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=".worldr1-", dir=folder))
        try:
            for name, write in writers.items():
                write(staging / name)
            _publish(staging, folder, list(writers))
        finally:
            shutil.rmtree(staging, ignore_errors=True)
    except OSError as error:
        raise OutputError(f"Cannot write to {str(folder)!r}: {error}. Choose a place you may write to.") from error
    return [folder / name for name in writers]


def _publish(staging: Path, folder: Path, names: list[str]) -> None:
    # Without scores.json the folder holds no earlier run, and files of these names are somebody else's.
    stale = set(OUTPUT_NAMES) - set(names) if (folder / SCORES).exists() else set()
    for name in sorted(stale):
        (folder / name).unlink(missing_ok=True)
    for name in names:
        os.replace(staging / name, folder / name)


def _writers(result: ClipScores, views: ClipViews) -> dict[str, Callable[[Path], object]]:
    """Map file names to their writers, for the files that have content."""
    clip, reconstruction, fps = result.clip, result.reconstruction, result.clip.video.fps
    writers: dict[str, Callable[[Path], object]] = {}
    if reconstruction is not None:
        estimated = estimated_trajectory(result, reconstruction)
        drawing = standalone_svg(draw_paths(estimated, clip.target))
        writers["trajectory.json"] = lambda path: save_trajectory(estimated, path)
        writers["trajectory.svg"] = lambda path: path.write_text(drawing, encoding="utf-8")
    if views.rerender is not None and views.coverage is not None:
        shown = with_holes(views.rerender, views.coverage < MIN_COVERAGE)
        writers["rerender.mp4"] = lambda path: write_video(Video(shown, fps), path)
    if views.depth is not None:
        depth = views.depth
        coloured = colour_depth(depth, depth_ends(depth))
        writers["depth.mp4"] = lambda path: write_video(Video(coloured, fps), path)
        writers["depth.npz"] = lambda path: _write_depth(path, depth)
    if views.rerender is not None or views.depth is not None:
        writers["comparison.png"] = lambda path: _write_comparison(path, views)
    # Last, so that a folder with scores is a complete one.
    writers[SCORES] = lambda path: path.write_text(score_line(result) + "\n", encoding="utf-8")
    return writers


def estimated_trajectory(result: ClipScores, reconstruction: Reconstruction) -> CameraTrajectory:
    """The estimated path with every field filled in: frame 0 identity, intrinsics, image size and unit."""
    estimate = reconstruction.trajectory.relative()
    size = result.clip.video.size
    intrinsics = estimate.intrinsics if estimate.intrinsics is not None else result.clip.intrinsics
    return replace(
        estimate,
        intrinsics=default_intrinsics(*size) if intrinsics is None else intrinsics,
        image_size=estimate.image_size or size,
        scene_depth=estimate.scene_depth or 1.0,
    )


def _write_depth(path: Path, depth: Tensor) -> None:
    """Write depth as `np.savez_compressed` does, without the time of writing, so that equal depth gives equal bytes."""
    buffer = io.BytesIO()
    np.save(buffer, depth.numpy())
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(zipfile.ZipInfo("depth.npy"), buffer.getvalue(), compress_type=zipfile.ZIP_DEFLATED)


def _write_comparison(path: Path, views: ClipViews) -> None:
    strips = clip_strips(views)
    frame_grid(
        [row.tiles for row in strips.rows],
        names=[_LABELS[row.name] for row in strips.rows],
        columns=[str(index) for index in strips.indices],
    ).save(path)
