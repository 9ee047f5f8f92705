"""The `colmap` reconstructor: cameras by COLMAP's global mapper, depth by our plane sweep between its points."""

from __future__ import annotations

from typing import Any

import torch
from pydantic import Field
from torch import Tensor

from worldr1_core.camera.geometry import default_intrinsics, invert_pose
from worldr1_core.camera.trajectory import CameraTrajectory
from worldr1_core.clip import Clip
from worldr1_core.component import ComponentConfig
from worldr1_core.errors import ScoreUnavailable
from worldr1_core.reconstructor import Reconstructor
from worldr1_rewards.reconstructors.cameras import NUM_HOSTS, spread_indices
from worldr1_rewards.reconstructors.clip_checks import check_clip_size
from worldr1_rewards.reconstructors.colmap_run import SparseModel, run_colmap
from worldr1_rewards.reconstructors.dense_depth import key_depths
from worldr1_rewards.reconstructors.depth_render import KeyFrames
from worldr1_rewards.reconstructors.direct import DEPTH_SIDE, DirectReconstruction, frame_depths
from worldr1_rewards.reconstructors.points import Points
from worldr1_rewards.reconstructors.pyramid import limit_size, luma
from worldr1_rewards.reconstructors.rigid import rays_through

MIN_POINTS = 30
"""Fewest points that each frame must observe for its pose to be believed."""
MAX_REPROJECTION_ERROR = 1.5
"""Pixels, on average, beyond which the model does not explain the frames."""
MIN_PARALLAX = 1.0
"""Pixels by which the frames' points must move, at the median, beyond what a turn on the spot explains."""


class ColmapReconstructor(Reconstructor):
    """COLMAP (pycolmap, global mapper) for cameras; key frames with swept depth for views.

    Intrinsics are taken as given (`clip.intrinsics`, else focal length 1.2 × width) and held fixed. COLMAP cannot place
    a camera that turns on the spot or rests: such clips, and clips of which any frame is not placed, are refused.
    """

    class Config(ComponentConfig):
        """Options."""

        max_side: int = Field(
            default=832, ge=32, le=4096, description="Longest side in pixels; larger videos are shrunk to it."
        )
        max_features: int = Field(default=4096, ge=64, le=65_536, description="Most SIFT features a frame.")

    config: Config

    @torch.no_grad()
    def reconstruct(self, clip: Clip) -> DirectReconstruction:
        """Find cameras and depth.

        Raises:
            ScoreUnavailable: The clip is too short or too small, frames are not placed, or nothing shows parallax.
        """
        video = clip.video
        check_clip_size(clip, "COLMAP")
        intrinsics = default_intrinsics(*video.size) if clip.intrinsics is None else clip.intrinsics.double()
        intrinsics = intrinsics.cpu()
        if float(intrinsics[0, 1]) != 0:
            raise ScoreUnavailable(
                f"{clip.name}: COLMAP's pinhole camera has no skew, received {intrinsics.tolist()!r}."
            )
        small, matrix = limit_size(video.frames, intrinsics, self.config.max_side)
        model = run_colmap(clip.name, small, matrix, self.config.max_features)
        parallax = _check(clip.name, model, matrix)
        return _assemble(clip, intrinsics, small, matrix, model, parallax, self.device)


def _check(name: str, model: SparseModel, intrinsics: Tensor) -> float:
    """Refuse models that say nothing about the camera; the parallax in pixels of the others."""
    seen = model.observed[..., 0].isfinite()
    fewest = int(seen.sum(1).min())
    if fewest < MIN_POINTS:
        raise ScoreUnavailable(f"{name}: a frame shares {fewest} points with the others, {MIN_POINTS} are needed.")
    if model.reprojection_error > MAX_REPROJECTION_ERROR:
        raise ScoreUnavailable(
            f"{name}: COLMAP's points miss the frames by {model.reprojection_error:.1f} pixels on average, at most "
            f"{MAX_REPROJECTION_ERROR} is believed: the frames do not show one rigid scene."
        )
    parallax = _parallax(model.observed, intrinsics)
    if parallax < MIN_PARALLAX:
        raise ScoreUnavailable(
            f"{name}: points move by {parallax:.2f} pixels beyond a turn on the spot, {MIN_PARALLAX} are needed: the "
            "camera rests or turns, and COLMAP cannot place it."
        )
    return parallax


def _parallax(observed: Tensor, intrinsics: Tensor) -> float:
    """Largest median distance in pixels, over pairs with frame 0 and the middle one, left by the best rotation."""
    rays = torch.nn.functional.normalize(rays_through(observed, intrinsics), dim=-1)
    known = observed[..., 0].isfinite()
    found = [0.0]
    for start in (0, len(observed) // 2):
        for end in range(len(observed)):
            both = known[start] & known[end]
            if end == start or int(both.sum()) < 3:
                continue
            first, second = rays[start, both], rays[end, both]
            left, _, right = torch.linalg.svd(second.T @ first)
            flip = torch.diag(first.new_tensor([1.0, 1.0, float(torch.linalg.det(left @ right).sign())]))
            turned = first @ (left @ flip @ right).T
            found.append(float((turned - second).norm(dim=-1).median() * intrinsics[0, 0]))
    return max(found)


def _assemble(
    clip: Clip,
    intrinsics: Tensor,
    small: Tensor,
    matrix: Tensor,
    model: SparseModel,
    parallax: float,
    device: str,
) -> DirectReconstruction:
    """Depth of key frames around COLMAP's points, in units of the median depth of frame 0."""
    poses = model.poses @ invert_pose(model.poses[0])
    points = (model.points @ model.poses[0, :3, :3].T) + model.poses[0, :3, 3]
    unit = float(points[model.observed[0, :, 0].isfinite(), 2].median())
    poses[:, :3, 3] /= unit
    hosts = spread_indices(len(poses), NUM_HOSTS)
    depth_frames, depth_matrix = limit_size(small.to(device), matrix, DEPTH_SIDE)
    scale = depth_frames.shape[-1] / small.shape[-1]
    followed, rho = _host_points(model, hosts, poses, points / unit, scale)
    frames = depth_frames.dtype
    inverse = key_depths(
        luma(depth_frames),
        depth_matrix.to(device, frames),
        poses.to(device),
        Points(hosts, followed.to(device, frames), torch.ones_like(rho).to(device, frames)),
        rho.to(device, frames),
        torch.ones_like(rho).to(device, frames),
    )
    swept = float((1 / inverse[0]).median())
    poses[:, :3, 3] /= swept
    keys = KeyFrames(
        clip.video.frames[hosts].to(device),
        inverse * swept,
        poses[hosts].to(device, frames),
        intrinsics.to(device, frames),
    )
    poses[0] = torch.eye(4, dtype=poses.dtype)
    return DirectReconstruction(
        trajectory=CameraTrajectory(invert_pose(poses), intrinsics, clip.video.size, scene_depth=1.0),
        depth=frame_depths(keys, poses.to(device, frames)).cpu(),
        has_parallax=True,
        diagnostics=_diagnostics(model, parallax),
        keys=keys,
        key_indices=hosts,
    )


def _host_points(
    model: SparseModel, hosts: list[int], poses: Tensor, points: Tensor, scale: float
) -> tuple[Tensor, Tensor]:
    """Positions `(H, N, 2)` and inverse depth `(H, N)` of what each host observes; short lists repeat themselves."""
    seen = [model.observed[host, :, 0].isfinite().nonzero()[:, 0] for host in hosts]
    count = max(len(indices) for indices in seen)
    positions, rho = [], []
    for host, indices in zip(hosts, seen, strict=True):
        chosen = indices[torch.arange(count) % len(indices)]
        positions.append(model.observed[host, chosen] * scale)
        z = (points[chosen] @ poses[host, :3, :3].T + poses[host, :3, 3])[:, 2]
        rho.append(1 / z.clamp(min=1e-3))
    return torch.stack(positions), torch.stack(rho)


def _diagnostics(model: SparseModel, parallax: float) -> dict[str, Any]:
    return {
        "motion": "moving",
        "points": len(model.points),
        "reprojection_error_px": model.reprojection_error,
        "parallax_px": parallax,
    }
