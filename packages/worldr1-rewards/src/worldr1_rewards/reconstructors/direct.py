"""The `direct` reconstructor: cameras and depth of a clip by direct photometric bundle adjustment.

It needs no weights and no download, runs on CPU and CUDA with torch alone, and gives the same answer for the same clip.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from pydantic import Field
from torch import Tensor

from worldr1_core.camera.geometry import invert_pose, scale_intrinsics
from worldr1_core.camera.trajectory import CameraTrajectory
from worldr1_core.clip import Clip
from worldr1_core.component import ComponentConfig
from worldr1_core.errors import ScoreUnavailable
from worldr1_core.reconstructor import Reconstruction, Reconstructor, Render
from worldr1_rewards.reconstructors.cameras import Cameras, estimate_cameras
from worldr1_rewards.reconstructors.clip_checks import MIN_FRAMES, MIN_SIDE, check_texture, clip_intrinsics
from worldr1_rewards.reconstructors.dense_depth import key_depths
from worldr1_rewards.reconstructors.depth_render import KeyFrames, enlarge, render_view, splat_depth
from worldr1_rewards.reconstructors.points import Points
from worldr1_rewards.reconstructors.pyramid import limit_size, luma

MIN_AGREEMENT = 0.6
"""By default, the least correlation of a frame's patches with those of other frames for it to show the same scene."""
MAX_SHORT_SHARE = 0.25
"""Share of frames that may fall short of it, as those do in which something melts."""
CHANCE = 0.4
"""Correlation that the patches of noise stay below, however their cameras and depths are chosen (0.37 was reached)."""
MAX_LOST_SHARE = 0.1
"""Share of frames that may stay below chance."""
DEPTH_SIDE = 128
"""Longest side of dense depth maps."""


@dataclass(frozen=True, kw_only=True)
class DirectReconstruction(Reconstruction):
    """Cameras, key frames with depth, and views of them.

    Attributes:
        keys: The scene as it is drawn.
        key_indices: Which frames of the clip the key frames are.
    """

    keys: KeyFrames
    key_indices: list[int]

    def render(self, c2w: Tensor, intrinsics: Tensor, size: tuple[int, int]) -> Render:
        """Render views; see `Reconstruction.render`. Holes keep coverage 0 and depth infinity."""
        poses = invert_pose(c2w.to(self.keys.poses))
        matrix = intrinsics.to(self.keys.poses)
        views = [render_view(self.keys, pose, matrix, size) for pose in poses]
        frames, coverage, depth = (torch.stack(parts) for parts in zip(*views, strict=True))
        return Render(frames, coverage, depth)

    def rerender(self) -> Render:
        """Render every frame from key frames other than itself."""
        return self._draw(self.keys)

    def rerender_frames(self, frames: Tensor) -> Render:
        """Render every frame from other key frames in the given colours; see `Reconstruction.rerender_frames`."""
        return self._draw(replace(self.keys, frames=frames[self.key_indices].to(self.keys.frames)))

    def _draw(self, scene: KeyFrames) -> Render:
        assert self.trajectory.intrinsics is not None
        poses = invert_pose(self.trajectory.c2w).to(scene.poses)
        matrix = self.trajectory.intrinsics.to(scene.poses)
        size = int(scene.frames.shape[-2]), int(scene.frames.shape[-1])
        views = []
        for t, pose in enumerate(poses):
            keys = scene.without(self.key_indices.index(t)) if t in self.key_indices else scene
            views.append(render_view(keys, pose, matrix, size))
        frames, coverage, depth = (torch.stack(parts) for parts in zip(*views, strict=True))
        return Render(frames, coverage, depth)


class DirectReconstructor(Reconstructor):
    """Direct photometric bundle adjustment.

    A search at thumbnail size finds the kind of move from many starts; a joint refinement of all cameras and of the
    depth of a few thousand pixels makes it accurate; model selection says whether the camera rests, turns or moves;
    a plane sweep gives dense depth. Intrinsics are taken as given (`clip.intrinsics`, else focal length 1.2 × width):
    a focal length cannot be recovered from a pan, nor reliably from a short orbit.
    """

    class Config(ComponentConfig):
        """Options."""

        max_side: int = Field(
            default=448,
            ge=32,
            le=4096,
            description="Longest side in pixels at which cameras are estimated; larger videos are shrunk to it.",
        )
        min_agreement: float = Field(
            default=MIN_AGREEMENT,
            ge=0,
            le=1,
            description="Correlation with other frames that at least three quarters of the frames must reach; nine "
            "tenths must reach 0.4, or this if it is less. Other clips are refused. 0 refuses none, and the re-render "
            "shows how little holds together.",
        )

    config: Config

    @torch.no_grad()
    def reconstruct(self, clip: Clip) -> DirectReconstruction:
        """Estimate cameras and scene.

        Raises:
            ScoreUnavailable: Fewer than three frames, frames that are too small, no texture, or frames that do not
                show one scene (noise, a scene a frame, most cuts; a cut that is let through is re-rendered badly).
            TrajectoryError: `clip.intrinsics` are not a pinhole camera's.
        """
        frames = clip.video.frames.to(self.device)
        _check_video(clip.name, frames)
        intrinsics = clip_intrinsics(clip).to(self.device)
        small, matrix = limit_size(frames, intrinsics.to(frames.dtype), self.config.max_side)
        check_texture(clip.name, small, "so neither camera nor depth can be seen.")
        cameras = estimate_cameras(small, matrix)
        check_agreement(clip.name, cameras, self.config.min_agreement)
        return _assemble(frames, intrinsics, small, matrix, cameras)


def _check_video(name: str, frames: Tensor) -> None:
    if frames.shape[0] < MIN_FRAMES:
        raise ScoreUnavailable(
            f"{name}: received {frames.shape[0]} frame(s); a reconstruction needs at least {MIN_FRAMES}. "
            "Use a longer clip."
        )
    if min(frames.shape[-2:]) < MIN_SIDE:
        raise ScoreUnavailable(
            f"{name}: frames of {frames.shape[-2]}x{frames.shape[-1]} are too small; both sides must have "
            f"at least {MIN_SIDE} pixels."
        )


def check_agreement(name: str, cameras: Cameras, least: float) -> None:
    """Refuse a clip whose frames do not correlate with each other along the cameras.

    Args:
        name: How the reason calls the clip.
        cameras: Estimated cameras.
        least: Least correlation of a frame's patches with those of other frames.

    Raises:
        ScoreUnavailable: More than a quarter of the frames fall short of it, or more than a tenth agree no better than
            noise would.
    """
    agreement = cameras.evidence.agreement
    short = (agreement < least).nonzero()[:, 0].tolist()
    lost = (agreement < min(least, CHANCE)).nonzero()[:, 0].tolist()
    if len(short) > MAX_SHORT_SHARE * len(agreement) or len(lost) > MAX_LOST_SHARE * len(agreement):
        raise ScoreUnavailable(
            f"{name}: frames {short} do not show the same scene as the others (best correlation "
            f"{float(agreement.min()):.2f}, at least {least} is needed): noise, or a cut."
        )


def _assemble(
    frames: Tensor, intrinsics: Tensor, small: Tensor, matrix: Tensor, cameras: Cameras
) -> DirectReconstruction:
    """Dense depth, the unit of length, and the figures for reports."""
    hosts = cameras.points.hosts
    depth_frames, depth_matrix = limit_size(small, matrix, DEPTH_SIDE)
    depth_size = int(depth_frames.shape[-2]), int(depth_frames.shape[-1])
    moves = cameras.evidence.kind == "moving"
    if moves:
        scale = depth_frames.new_tensor([depth_size[1] / small.shape[-1], depth_size[0] / small.shape[-2]])
        points = Points(hosts, cameras.points.positions * scale, cameras.points.weight)
        inverse = key_depths(luma(depth_frames), depth_matrix, cameras.poses, points, cameras.rho, cameras.confidence)
    else:
        inverse = torch.ones(len(hosts), *depth_size, dtype=frames.dtype, device=frames.device)
    unit = float((1 / inverse[0]).median())
    poses = cameras.poses.clone()
    poses[:, :3, 3] /= unit
    keys = KeyFrames(frames[hosts], inverse * unit, poses[hosts].to(frames.dtype), intrinsics.to(frames.dtype))
    trajectory = CameraTrajectory(
        c2w=invert_pose(poses).cpu(),
        intrinsics=intrinsics.cpu(),
        image_size=(int(frames.shape[-2]), int(frames.shape[-1])),
        scene_depth=1.0,
    )
    return DirectReconstruction(
        trajectory=trajectory,
        depth=frame_depths(keys, poses.to(frames.dtype)),
        has_parallax=moves,
        diagnostics=diagnose(cameras),
        keys=keys,
        key_indices=hosts,
    )


def frame_depths(keys: KeyFrames, poses: Tensor) -> Tensor:
    """Z-depth `(T, H, W)` of every frame; what no key frame saw is taken to be as far as the farthest tenth."""
    size = int(keys.frames.shape[-2]), int(keys.frames.shape[-1])
    coarse = int(keys.inverse_depth.shape[-2]), int(keys.inverse_depth.shape[-1])
    matrix = scale_intrinsics(keys.intrinsics, size, coarse)
    far = keys.inverse_depth.flatten().quantile(0.1) if keys.inverse_depth.numel() < 2**24 else keys.inverse_depth.min()
    maps = []
    for pose in poses:
        inverse = splat_depth(keys, pose, matrix, coarse)
        maps.append(1 / enlarge(torch.where(inverse > 0, inverse, far), size))
    return torch.stack(maps)


def points_relief(cameras: Cameras) -> float:
    """Spread of inverse depth, (90th - 10th percentile) / median, within one host frame; the median over the hosts.

    Only points count, by the information on their depth: on a plain wall dense depth is a guess, and would give a
    moved picture the relief of noise.
    """
    ceiling = 3 * float(cameras.confidence.median())
    spreads = []
    for rho, confidence, weight in zip(cameras.rho, cameras.confidence, cameras.points.weight, strict=True):
        order = rho.argsort()
        share = (confidence.clamp(max=ceiling) * weight)[order].cumsum(0)
        marks = torch.searchsorted(share, share[-1] * share.new_tensor([0.1, 0.5, 0.9])).clamp(max=len(rho) - 1)
        low, middle, high = rho[order][marks].tolist()
        spreads.append((high - low) / middle)
    return sorted(spreads)[len(spreads) // 2]


def diagnose(cameras: Cameras) -> dict[str, Any]:
    """Plain numbers about estimated cameras, for reports."""
    evidence = cameras.evidence
    return {
        "motion": evidence.kind,
        "move_ratio": evidence.move_ratio,
        "turn_ratio": evidence.turn_ratio,
        "parallax_px": evidence.parallax,
        "turn_px": evidence.turn,
        "relief": points_relief(cameras) if evidence.kind == "moving" else 0.0,
        "agreement_min": float(evidence.agreement.min()),
        "agreement_median": float(evidence.agreement.median()),
        **cameras.diagnostics,
    }
