"""Views of a scored clip: input, re-render, error, coverage, depth and motion mask, per frame.

The report and the files of `--out` show the same things, so both start here; and nothing that fails on the way to a
picture may end a run whose scores are already computed.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from worldr1_core.errors import ScoreUnavailable, UserError
from worldr1_core.log import get_logger
from worldr1_core.pages.encoding import resize
from worldr1_core.reconstructor import Reconstruction, Render
from worldr1_core.scoring import ClipScores
from worldr1_rewards.rewards.moving_parts import find_moving_parts

log = get_logger(__name__)

MIN_COVERAGE = 0.5
"""Pixels that the scene explains to a smaller share are drawn as holes, and have no error."""


@dataclass(frozen=True, slots=True)
class ClipViews:
    """Pictures of one clip, on the CPU.

    Attributes:
        frames: Input `(T, 3, H, W)` RGB in [0, 1].
        rerender: `(T, 3, H, W)` in [0, 1], or `None`.
        coverage: `(T, H, W)` in [0, 1], or `None`; beside `rerender` always there.
        error: `(T, H, W)` mean absolute difference of the colour channels in [0, 1], NaN at holes; or `None`.
        depth: `(T, H, W)` z-depth in scene depths, NaN or infinite where unknown; or `None`.
        missing: Picture name (`"rerender"`, `"depth"`) -> why there is none, in words.
        moving: `(T, H, W)` in [0, 1], 1 where something moves by itself; `None` if no score has asked.
    """

    frames: Tensor
    rerender: Tensor | None = None
    coverage: Tensor | None = None
    error: Tensor | None = None
    depth: Tensor | None = None
    missing: dict[str, str] = field(default_factory=dict)
    moving: Tensor | None = None

    @property
    def covered(self) -> float:
        """Share of the pixels that the re-render accounts for, in [0, 1]; NaN without one."""
        return float("nan") if self.coverage is None else float(self.coverage.mean())


def clip_views(result: ClipScores) -> ClipViews:
    """Render and compare the frames of a clip; where the reconstruction gives no picture, its words say why.

    Args:
        result: From `worldr1_rewards.scoring.Scorer.score`.

    Raises:
        UserError: The reconstruction cannot render for any clip (absent weights or extra).
    """
    frames = result.clip.video.frames.detach().cpu()
    reconstruction = result.reconstruction
    if reconstruction is None:
        reason = "there is no reconstruction of this clip"
        return ClipViews(frames, missing={"rerender": reason, "depth": reason})
    missing: dict[str, str] = {}
    rerender = coverage = error = depth = None
    try:
        rerender, coverage = _rerender(result, reconstruction)
        # Frame by frame: differences of a whole long video would take as much memory again.
        error = torch.stack([(shown - frame).abs().mean(0) for shown, frame in zip(rerender, frames, strict=True)])
        error.masked_fill_(coverage < MIN_COVERAGE, torch.nan)
    except ScoreUnavailable as failure:
        missing["rerender"] = str(failure)
    try:
        depth = clip_depth(reconstruction, len(frames))
    except ScoreUnavailable as failure:
        missing["depth"] = str(failure)
    return ClipViews(frames, rerender, coverage, error, depth, missing, _moving(result, reconstruction))


def _rerender(result: ClipScores, reconstruction: Reconstruction) -> tuple[Tensor, Tensor]:
    try:
        render = reconstruction.rerender()
    except (UserError, ScoreUnavailable):
        raise
    except Exception as error:
        log.warning("re-render failed", clip=result.clip.name, exc_info=True)
        raise ScoreUnavailable(f"the re-render failed: {type(error).__name__}: {error}") from error
    return _checked(render, result.clip.video.frames)


def _checked(render: Render, frames: Tensor) -> tuple[Tensor, Tensor]:
    """Frames and coverage of a render at the input's size."""
    rerender, coverage = (_finite(tensor.detach().cpu().float()) for tensor in (render.frames, render.coverage))
    if rerender.ndim != 4 or coverage.ndim != 3 or not len(rerender) == len(coverage) == len(frames):
        raise ScoreUnavailable(
            f"rerender() gave frames {tuple(rerender.shape)} and coverage {tuple(coverage.shape)} for "
            f"{len(frames)} input frames; expected (T, 3, H, W) and (T, H, W)"
        )
    size = frames.shape[-2:]
    return resize(rerender, size).clamp_(0, 1), resize(coverage[:, None], size)[:, 0].clamp_(0, 1)


def clip_depth(reconstruction: Reconstruction, num_frames: int) -> Tensor:
    """Depth of every frame, `(T, H, W)` on the CPU in scene depths; NaN or infinite where unknown.

    Args:
        reconstruction: Its depth is in the unit of its trajectory.
        num_frames: T.

    Raises:
        ScoreUnavailable: There is no depth, or none that is determined by the video; the message says why.
    """
    if reconstruction.depth is None:
        raise ScoreUnavailable("the reconstructor estimates no depth")
    if not reconstruction.has_parallax:
        raise ScoreUnavailable("the camera does not travel, so that every depth explains these frames equally well")
    depth = reconstruction.depth.detach().cpu().float() / (reconstruction.trajectory.scene_depth or 1.0)
    if depth.ndim != 3 or len(depth) != num_frames:
        raise ScoreUnavailable(f"the reconstruction holds depth {tuple(depth.shape)} for {num_frames} frames")
    if not bool((torch.isfinite(depth) & (depth > 0)).any()):
        raise ScoreUnavailable("the reconstruction holds no positive finite depth")
    return depth


def _moving(result: ClipScores, reconstruction: Reconstruction) -> Tensor | None:
    """The motion mask `(T, H, W)` if a score has left out what moves by itself, and says so in its details."""
    if not any("moving_share" in score.details for score in result.scores.values()):
        return None
    return find_moving_parts(result.clip.video.frames, reconstruction).mask.detach().cpu().float()


def _finite(values: Tensor) -> Tensor:
    """A copy without NaN and infinities."""
    return torch.nan_to_num(values, nan=0.0, posinf=1.0, neginf=0.0)
