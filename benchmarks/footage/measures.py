"""What `real_footage.py` measures on one clip: cameras, re-render, camera words, time and memory."""

from __future__ import annotations

import os
import tempfile
import time
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from worldr1_core.camera.geometry import default_intrinsics, scale_intrinsics
from worldr1_core.camera.trajectory import CameraTrajectory
from worldr1_core.camera.vocabulary import SINGLE_MOVES, trajectory_from_moves
from worldr1_core.clip import Clip
from worldr1_core.reconstructor import Reconstruction, Reconstructor, Render
from worldr1_core.video import Video
from worldr1_core.video_io import read_video, write_video
from worldr1_rewards import metrics
from worldr1_rewards.camera_metrics import REST, absolute_trajectory_error, rotation_errors
from worldr1_rewards.probes.footage_corruptions import cropped_to
from worldr1_rewards.probes.memory import measure_peak
from worldr1_rewards.reconstructors.pyramid import limit_size
from worldr1_rewards.reconstructors.visibility import seen_share
from worldr1_rewards.rewards.trajectory import TrajectoryReward

VISIBILITY_SIDE = 160
"""Longer side in pixels at which is decided what other frames see: every frame is compared with every other one."""


@dataclass(frozen=True, slots=True)
class Cost:
    """What a reconstruction and its re-render took.

    Attributes:
        reconstruct, rerender: Wall seconds.
        cpu: CPU seconds of both, with those of processes that were started for them.
        mebibytes: Growth of the peak memory, or `None` where the system does not tell.
    """

    reconstruct: float
    rerender: float
    cpu: float
    mebibytes: float | None


@dataclass(frozen=True, kw_only=True)
class KeptReconstruction(Reconstruction):
    """A reconstruction that re-renders the clip once, however many ask."""

    inner: Reconstruction

    @classmethod
    def of(cls, inner: Reconstruction) -> KeptReconstruction:
        """The same cameras and scene."""
        return cls(
            trajectory=inner.trajectory,
            depth=inner.depth,
            has_parallax=inner.has_parallax,
            diagnostics=inner.diagnostics,
            inner=inner,
        )

    def render(self, c2w: Tensor, intrinsics: Tensor, size: tuple[int, int]) -> Render:
        """Render views."""
        return self.inner.render(c2w, intrinsics, size)

    def rerender(self) -> Render:
        """Render the clip's own frames."""
        return self._views

    @cached_property
    def _views(self) -> Render:
        return self.inner.rerender()


class Metered(Reconstructor):
    """A reconstructor whose last call's `cost` is known; the re-render belongs to the call."""

    def __init__(self, inner: Reconstructor) -> None:
        super().__init__(device=inner.device)
        self.inner = inner
        self.cost: Cost | None = None

    def reconstruct(self, clip: Clip) -> KeptReconstruction:
        """Reconstruct and re-render; `cost` is `None` after a failure."""
        self.cost = None
        with measure_peak(self.device) as peak:
            cpu, start = _cpu_seconds(), time.perf_counter()
            found = KeptReconstruction.of(self.inner.reconstruct(clip))
            middle = time.perf_counter()
            found.rerender()
            stop = time.perf_counter()
            cpu = _cpu_seconds() - cpu
        self.cost = Cost(middle - start, stop - middle, cpu, peak.megabytes)
        return found


def _cpu_seconds() -> float:
    return sum(os.times()[:4])


def camera_figures(estimate: Tensor, truth: CameraTrajectory) -> dict[str, float | None]:
    """Errors of an estimated path, both seen from frame 0.

    Args:
        estimate: `(T, 4, 4)` camera-to-world.
        truth: T poses.

    Returns:
        Mean and worst geodesic angle in degrees; root mean square distance of the centres after scale alignment in
        percent of the path's extent (`None` for a camera that stays in place).
    """
    degrees = torch.rad2deg(rotation_errors(estimate, truth.c2w))
    centre = None
    if truth.extent > REST:
        centre = 100 * absolute_trajectory_error(estimate, truth.c2w) / truth.extent
    return {
        "rotation_mean": float(degrees.mean()),
        "rotation_worst": float(degrees.max()),
        "centre_percent": centre,
    }


def focal_figures(reconstruction: Reconstruction, truth: Tensor) -> dict[str, Any]:
    """Estimated focal length over the true one, and what the reconstructor says about it.

    Args:
        reconstruction: Of a clip whose intrinsics were not given.
        truth: `(3, 3)` intrinsics in pixels of the clip.
    """
    matrix = reconstruction.trajectory.intrinsics
    return {
        "focal_over_true": None if matrix is None else float(matrix[0, 0] / truth[0, 0]),
        "focal_deviation": reconstruction.diagnostics.get("focal_deviation"),
        "focal_source": reconstruction.diagnostics.get("focal_source"),
    }


def render_figures(frames: Tensor, reconstruction: Reconstruction) -> dict[str, float | None]:
    """How well a clip is re-rendered.

    Args:
        frames: `(T, 3, H, W)`.
        reconstruction: Of this clip.

    Returns:
        PSNR of covered pixels in dB (mean over the frames, and the worst frame), covered share, and covered share of
        the pixels that some other frame sees (`None` without depth).
    """
    render = reconstruction.rerender()
    coverage = render.coverage.to(frames)
    values = metrics.psnr(render.frames.to(frames), frames, coverage)
    known = values[~values.isnan()]
    seen = seen_by_others(reconstruction)
    visible = None if seen is None or not bool(seen.any()) else float((coverage * seen).sum() / seen.sum())
    return {
        "psnr": float(known.mean()) if len(known) else None,
        "psnr_worst_frame": float(known.min()) if len(known) else None,
        "coverage": float(coverage.mean()),
        "coverage_of_visible": visible,
    }


def seen_by_others(reconstruction: Reconstruction) -> Tensor | None:
    """1 where the surface under a pixel is seen by at least one other frame, by the reconstruction's own geometry.

    Larger depth maps are thinned out to `VISIBILITY_SIDE` pixels first.

    Returns:
        `(T, H, W)`, or `None` where the reconstructor gives no depth.
    """
    depth, path = reconstruction.depth, reconstruction.trajectory
    if depth is None:
        return None
    full = int(depth.shape[-2]), int(depth.shape[-1])
    scale = min(1.0, VISIBILITY_SIDE / max(full))
    size = max(1, round(scale * full[0])), max(1, round(scale * full[1]))
    depth = functional.interpolate(depth.float().cpu()[:, None], size, mode="nearest-exact")[:, 0]
    known = default_intrinsics(*full) if path.intrinsics is None else path.intrinsics
    matrix = scale_intrinsics(known, full if path.intrinsics is None else path.image_size or full, size)
    views = []
    for frame in range(len(depth)):
        others = [index for index in range(len(depth)) if index != frame]
        views.append(seen_share(path.c2w[frame], matrix, depth[frame], path.c2w[others], matrix, depth[others]))
    return functional.interpolate(torch.stack(views)[:, None], full, mode="nearest-exact")[:, 0]


def judge_words(clip: Clip, reconstruction: Reconstruction) -> dict[str, Any]:
    """`trajectory` of each of the nine single camera words, judged as words without a path.

    Returns:
        The word with the highest score, the runner-up, the margin between them, and all scores.
    """
    reward, scores = TrajectoryReward(), {}
    for move in SINGLE_MOVES:
        target = trajectory_from_moves([move], clip.video.num_frames, clip.video.size)
        commanded = replace(clip, prompt=f"Camera {move.phrase}.", target=target, moves=(move,))
        scores[move.phrase] = reward.judge(commanded, reconstruction).value
    return {**rank_words(scores), "scores": scores}


def rank_words(scores: dict[str, float]) -> dict[str, Any]:
    """Winner, runner-up and margin; a tie has the margin 0.

    Example:
        >>> rank_words({"push in": 0.5, "fixed": 0.125, "pan left": 0.25})
        {'winner': 'push in', 'runner_up': 'pan left', 'margin': 0.25}
    """
    first, second = sorted(scores, key=lambda word: scores[word], reverse=True)[:2]
    return {"winner": first, "runner_up": second, "margin": scores[first] - scores[second]}


def shrunk(clip: Clip, max_side: int) -> Clip:
    """The clip with its longer side at most `max_side` pixels, its intrinsics with it."""
    known = default_intrinsics(*clip.video.size) if clip.intrinsics is None else clip.intrinsics
    frames, matrix = limit_size(clip.video.frames, known, max_side)
    return _with_frames(clip, frames.clamp(0, 1), None if clip.intrinsics is None else matrix)


def lengthened(clip: Clip, scene: Reconstruction, count: int, size: tuple[int, int]) -> Clip:
    """A longer and larger clip of the same scene along the same path, at an even pace.

    The frames between are drawn by the reconstruction, along the estimated path; what it does not cover is taken from
    the filmed frame nearest in time. Blended frames would show everything twice, which no camera sees.

    Args:
        clip: With a target.
        scene: Its reconstruction.
        count: Frames of the result.
        size: (H, W) of the result; the clip is enlarged, and cropped to the aspect ratio.
    """
    path = scene.trajectory
    assert clip.target is not None
    assert path.intrinsics is not None
    nearest = torch.linspace(0, clip.video.num_frames - 1, count).round().long()
    frames = cropped_to(clip.video.frames, size)[nearest]
    views = scene.render(path.resample(count).c2w, _enlarged(path.intrinsics, clip.video.size, size), size)
    frames = torch.where(views.coverage[:, None].to(frames) > 0.5, views.frames.to(frames), frames).clamp(0, 1)
    known = None if clip.intrinsics is None else _enlarged(clip.intrinsics, clip.video.size, size)
    return _with_frames(replace(clip, target=clip.target.resample(count)), frames, known)


def _enlarged(intrinsics: Tensor, size: tuple[int, int], to: tuple[int, int]) -> Tensor:
    """Intrinsics of what `cropped_to` gives."""
    scale = max(to[0] / size[0], to[1] / size[1])
    large = max(to[0], round(scale * size[0])), max(to[1], round(scale * size[1]))
    matrix = scale_intrinsics(intrinsics, size, large)
    matrix[0, 2] -= (large[1] - to[1]) // 2
    matrix[1, 2] -= (large[0] - to[0]) // 2
    return matrix


def _with_frames(clip: Clip, frames: Tensor, intrinsics: Tensor | None) -> Clip:
    target = clip.target
    if target is not None:
        target = replace(target, intrinsics=intrinsics, image_size=(int(frames.shape[-2]), int(frames.shape[-1])))
    return replace(clip, video=Video(frames, clip.video.fps), intrinsics=intrinsics, target=target)


def through_h264(clip: Clip) -> Clip:
    """The clip after a trip through an mp4 file, as a user's clip comes."""
    with tempfile.TemporaryDirectory() as folder:
        path = write_video(clip.video, Path(folder) / "clip.mp4")
        return replace(clip, video=read_video(path))
