"""The `da3` reconstructor: cameras and depth of a clip in one pass of Depth Anything 3, views from its depth."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from worldr1_core.camera.geometry import invert_pose, scale_intrinsics
from worldr1_core.camera.trajectory import CameraTrajectory, check_intrinsics
from worldr1_core.clip import Clip
from worldr1_core.component import ComponentConfig
from worldr1_core.errors import ScoreUnavailable, TrajectoryError
from worldr1_core.reconstructor import Reconstructor
from worldr1_core.weights_source import WeightsSource
from worldr1_rewards.reconstructors.cameras import spread_indices
from worldr1_rewards.reconstructors.clip_checks import check_clip_size, check_texture
from worldr1_rewards.reconstructors.da3_model import Prediction, load_model, predict
from worldr1_rewards.reconstructors.depth_render import KeyFrames
from worldr1_rewards.reconstructors.direct import DirectReconstruction
from worldr1_rewards.reconstructors.pyramid import limit_size
from worldr1_rewards.reconstructors.rigid import pixel_rays

TEXTURE_SIDE = 448
"""Longest side at which texture is measured, as `direct` does by default."""
FOCAL_RANGE = (0.2, 10.0)
"""Focal length over width, 136 to 6 degrees of view, beyond which an estimate is degenerate."""
MAX_FOCAL_FACTOR = 2.0
"""Factor between the focal lengths of two frames, or of the estimate and the known one, beyond which it is refused."""
MAX_DEPTH_FACTOR = 1e6
"""Farthest over nearest depth of a clip beyond which it is degenerate."""


@dataclass(frozen=True, kw_only=True)
class DA3Reconstruction(DirectReconstruction):
    """Cameras and depth of Depth Anything 3; views are drawn from key frames and their depth, on the CPU.

    Attributes:
        confidence: `(T, h, w)` of the model's depth at the size it works at, larger is surer, or `None`.
    """

    confidence: Tensor | None = None


class DA3Reconstructor(Reconstructor):
    """Depth Anything 3 (any-view models), from the frames alone.

    The commanded path is never given to the model. Intrinsics are those of the clip if known, else the median over the
    frames of the model's own. The model returns cameras for every clip, even for noise or a cut; only the re-render
    shows that they are wrong.
    """

    class Config(ComponentConfig):
        """Options."""

        model: str = Field(
            default="depth-anything/DA3-BASE",
            min_length=1,
            description="Hub id, or a folder with config.json and model.safetensors.",
        )
        revision: str | None = Field(default=None, description="Branch, tag or commit on the hub.")
        local_files_only: bool = Field(default=False, description="Never ask the network for weights.")
        process_res: int = Field(
            default=504, ge=56, le=4096, description="Longest side in pixels at which the model works."
        )
        key_frames: int = Field(
            default=8, ge=2, le=256, description="Frames, evenly spread, from which views are drawn."
        )
        min_parallax: float = Field(
            default=0.01,
            ge=0,
            le=1,
            description="Median shift of frame 0's points by the camera's travel, over the width, below which the "
            "camera counts as not having moved.",
        )

    config: Config

    def __init__(self, config: Any = None, *, device: str = "cpu", **options: Any) -> None:
        super().__init__(config, device=device, **options)
        self._model: Any = None

    @torch.no_grad()
    def reconstruct(self, clip: Clip) -> DA3Reconstruction:
        """Ask the model, check its answer, and put it into the project's units.

        Raises:
            ScoreUnavailable: The clip is too short, too small or without texture, or the model's answer is not finite
                or degenerate.
            MissingExtraError: depth-anything-3 is not installed.
            WeightsError: The checkpoint cannot be loaded.
            UserError: The model gives no cameras.
        """
        known = None if clip.intrinsics is None else check_intrinsics(clip.intrinsics, f"{clip.name}: intrinsics")
        if self._model is None:
            source = WeightsSource(self.config.model, self.config.revision, self.config.local_files_only)
            self._model = load_model(source, self.device)
        _check_video(clip)
        found = predict(self._model, clip.video.frames, self.config.process_res, self.device)
        _check_depth(clip, found)
        return _assemble(clip, found, known, self.config)


def _check_video(clip: Clip) -> None:
    check_clip_size(clip, "a reconstruction")
    small, _ = limit_size(clip.video.frames, torch.eye(3), TEXTURE_SIDE)
    check_texture(clip.name, small, "and what the model makes of blank frames is a guess.")


def _check_depth(clip: Clip, found: Prediction) -> None:
    frames, depth = clip.video.num_frames, found.depth
    shapes = {"depth": depth.shape[:1], "w2c": found.w2c.shape, "intrinsics": found.intrinsics.shape}
    wanted = {"depth": (frames,), "w2c": (frames, 3, 4), "intrinsics": (frames, 3, 3)}
    for name, shape in shapes.items():
        if tuple(shape) != wanted[name] or depth.ndim != 3:
            raise ScoreUnavailable(
                f"{clip.name}: Depth Anything 3 gave {name} of shape {tuple(shape)} for {frames} frames."
            )
    for name, values in (("depth", depth), ("poses", found.w2c), ("intrinsics", found.intrinsics)):
        bad = ~torch.isfinite(values).flatten(1).all(1)
        if bool(bad.any()):
            raise ScoreUnavailable(
                f"{clip.name}: Depth Anything 3 gave {name} that are not finite in {int(bad.sum())} of {frames} frames."
            )
    low, high = float(depth.min()), float(depth.max())
    if not (low > 0 and high <= MAX_DEPTH_FACTOR * low):
        raise ScoreUnavailable(
            f"{clip.name}: Depth Anything 3 gave depth from {low:.3g} to {high:.3g}; it must be positive, and span a "
            f"factor of at most {MAX_DEPTH_FACTOR:.0e}."
        )


def _assemble(
    clip: Clip, found: Prediction, known: Tensor | None, config: DA3Reconstructor.Config
) -> DA3Reconstruction:
    """Poses seen from frame 0 in units of its median depth, and key frames to draw from."""
    size = clip.video.size
    intrinsics, focal_ratio = _one_camera(clip, found, known)
    inverse = _resized(1 / found.depth, size)
    unit = float((1 / inverse[0]).median())
    try:
        path = CameraTrajectory(invert_pose(_homogeneous(found.w2c)), intrinsics, size).relative()
    except TrajectoryError as error:
        raise ScoreUnavailable(f"{clip.name}: Depth Anything 3 gave unusable cameras: {error}") from error
    c2w = path.c2w.clone()
    c2w[:, :3, 3] /= unit
    depth = 1 / (inverse * unit)
    parallax = _parallax(c2w, depth[0], intrinsics)
    moves = parallax >= config.min_parallax
    if not moves:
        c2w[:, :3, 3] = 0
    trajectory = CameraTrajectory(c2w, intrinsics, size, scene_depth=1.0)
    hosts = spread_indices(len(c2w), config.key_frames)
    frames = clip.video.frames.detach().cpu()
    keys = KeyFrames(
        frames[hosts],
        _key_inverse(found.depth[hosts], inverse[hosts], size) * unit,
        invert_pose(trajectory.c2w[hosts]).to(frames.dtype),
        intrinsics.to(frames.dtype),
    )
    return DA3Reconstruction(
        trajectory=trajectory,
        depth=depth,
        has_parallax=moves,
        diagnostics={
            "motion": "moving" if moves else "turning" if trajectory.rotation_extent > 0.1 else "resting",
            "model": config.model,
            "parallax_share": parallax,
            "focal_estimated_over_used": focal_ratio,
            "confidence_mean": None if found.confidence is None else float(found.confidence.mean()),
        },
        keys=keys,
        key_indices=hosts,
        confidence=found.confidence,
    )


def _one_camera(clip: Clip, found: Prediction, known: Tensor | None) -> tuple[Tensor, float]:
    """Intrinsics `(3, 3)` of the whole clip in its pixels, and the estimated focal length over the one that is used."""
    worked = int(found.depth.shape[-2]), int(found.depth.shape[-1])
    matrices = scale_intrinsics(found.intrinsics, worked, clip.video.size)
    focal = matrices.diagonal(dim1=1, dim2=2)[:, :2]
    share = focal / clip.video.size[1]
    if not FOCAL_RANGE[0] <= float(share.min()) <= float(share.max()) <= FOCAL_RANGE[1]:
        raise ScoreUnavailable(
            f"{clip.name}: Depth Anything 3 gave focal lengths of {float(share.min()):.3g} to {float(share.max()):.3g} "
            f"times the width, allowed are {FOCAL_RANGE[0]} to {FOCAL_RANGE[1]}."
        )
    spread = float((focal.amax(0) / focal.amin(0)).max())
    if spread > MAX_FOCAL_FACTOR:
        raise ScoreUnavailable(
            f"{clip.name}: Depth Anything 3's focal length changes by a factor of {spread:.2f} over the clip, at most "
            f"{MAX_FOCAL_FACTOR} is believed: the frames do not show one camera."
        )
    estimate = matrices.median(0).values
    if known is None:
        return estimate, 1.0
    ratio = float(estimate[0, 0] / known[0, 0])
    if not 1 / MAX_FOCAL_FACTOR <= ratio <= MAX_FOCAL_FACTOR:
        raise ScoreUnavailable(
            f"{clip.name}: Depth Anything 3 saw a focal length {ratio:.2f} times the known one; its poses belong to "
            f"another camera. At most a factor of {MAX_FOCAL_FACTOR} is let through."
        )
    return known, ratio


def _parallax(c2w: Tensor, depth: Tensor, intrinsics: Tensor) -> float:
    """Largest over the frames of the median angle by which frame 0's points are seen from elsewhere, over the width.

    The angle counts in focal lengths, which at the picture's centre are pixels.
    """
    height, width = depth.shape
    step = max(1, min(height, width) // 32)
    points = (pixel_rays(intrinsics, height, width) * depth.to(intrinsics)[..., None])[::step, ::step].reshape(-1, 3)
    seen = points - c2w[:, None, :3, 3]
    sine = torch.linalg.cross(points.expand_as(seen), seen).norm(dim=-1)
    angles = torch.atan2(sine, (points * seen).sum(-1))
    return float(angles.median(dim=1).values.max() * intrinsics[0, 0] / width)


def _homogeneous(w2c: Tensor) -> Tensor:
    poses = torch.eye(4, dtype=w2c.dtype).repeat(len(w2c), 1, 1)
    poses[:, :3] = w2c
    return poses


def _key_inverse(depth: Tensor, at_clip_size: Tensor, size: tuple[int, int]) -> Tensor:
    """Inverse depth to draw from: the model's own resolution, unless that is finer than the clip's."""
    return at_clip_size if depth.shape[-2] * depth.shape[-1] > size[0] * size[1] else 1 / depth


def _resized(maps: Tensor, size: tuple[int, int]) -> Tensor:
    if tuple(maps.shape[-2:]) == size:
        return maps
    return functional.interpolate(maps[:, None], size, mode="bilinear", align_corners=False, antialias=True)[:, 0]
