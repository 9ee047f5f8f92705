"""The default reconstructor `auto`: sparse features, then photometric refinement, then multi-view stereo.

Clips that features cannot explain (tiny, synthetic or textureless ones, and scenes that change) go through the search
of `direct`; small clips try both methods. The diagnostics state the chosen method and the reason.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from pydantic import Field
from torch import Tensor

from worldr1_core.camera.geometry import invert_pose as invert
from worldr1_core.camera.geometry import scale_intrinsics as resize_intrinsics
from worldr1_core.camera.trajectory import CameraTrajectory
from worldr1_core.clip import Clip
from worldr1_core.component import ComponentConfig
from worldr1_core.errors import ScoreUnavailable
from worldr1_core.reconstructor import Reconstructor
from worldr1_rewards.reconstructors.cameras import (
    Cameras,
    best_explained,
    estimate_cameras,
    grey_levels,
    refine_cameras,
    spread_indices,
    straightened,
)
from worldr1_rewards.reconstructors.clip_checks import check_clip_size, check_texture, clip_intrinsics
from worldr1_rewards.reconstructors.dense_scene import (
    MAX_DEPTH_FRAMES,
    DenseReconstruction,
    dense_scene,
    frame_depths,
)
from worldr1_rewards.reconstructors.direct import check_agreement, diagnose
from worldr1_rewards.reconstructors.feature_cameras import FeatureCameras, cameras_from_features
from worldr1_rewards.reconstructors.pyramid import limit_size
from worldr1_rewards.reconstructors.rigid import rays_through

MIN_FEATURE_SIDE = 64
"""Least shorter side in pixels at which features are used."""
SURE_SIDE = 160
"""Shorter side in pixels from which features come first, and determine an unknown focal length: smaller frames have
few of them, and the search is quick there."""
CLEAR_AGREEMENT = 0.9
"""Least correlation of every frame with the others from which the search alone decides about a small clip."""
MIN_AGREEMENT = 0.3
"""By default, the least correlation of a frame's patches with other frames where features place the cameras."""
DIRECT_AGREEMENT = 0.6
"""The same where the cameras come from the search of `direct`: an unrelated frame reaches 0.5 by chance."""


@dataclass(frozen=True, slots=True)
class _Found:
    """Cameras at the size at which they were estimated, and how they were found."""

    cameras: Cameras
    intrinsics: Tensor
    points: Tensor
    diagnostics: dict[str, Any]


class AutoReconstructor(Reconstructor):
    """Cameras and dense depth of any clip, without weights, on CPU or CUDA.

    1. SIFT features, matched between neighbours, give camera poses by incremental mapping and robust bundle
       adjustment; where a turn on the spot explains the matches, rotations alone. Unknown focal lengths are estimated
       where the clip determines them.
    2. All cameras are refined photometrically, and the simplest motion that explains the clip is kept: resting,
       turning, or moving. Where features fail, the search of `direct` finds the cameras.
    3. Multi-view stereo with semi-global matching gives the depth of up to 24 frames; every frame is then predicted
       from the others, without its own colours and depth.
    """

    class Config(ComponentConfig):
        """Options."""

        max_side: int = Field(
            default=512,
            ge=64,
            le=4096,
            description="Longest side in pixels at which cameras are estimated; larger videos are shrunk to it.",
        )
        min_agreement: float = Field(
            default=MIN_AGREEMENT,
            ge=0,
            le=1,
            description="Correlation with other frames that nine tenths of the frames must reach; other clips are "
            "refused. 0 refuses none. Where features found no cameras, three quarters must reach twice as much, and "
            "nine tenths 0.4.",
        )

    config: Config

    @torch.no_grad()
    def reconstruct(self, clip: Clip) -> DenseReconstruction:
        """Estimate cameras and scene.

        Raises:
            ScoreUnavailable: Fewer than three frames, frames that are too small, no texture, or frames that do not
                show one scene.
            TrajectoryError: `clip.intrinsics` are not a pinhole camera's.
        """
        check_clip_size(clip, "a reconstruction")
        frames = clip.video.frames.to(self.device)
        size = clip.video.size
        guess = clip_intrinsics(clip).to(self.device)
        small, matrix = limit_size(frames, guess.to(frames.dtype), self.config.max_side)
        check_texture(clip.name, small, "so neither camera nor depth can be seen.")
        found = self._cameras(clip, small, matrix.double())
        small_size = int(small.shape[-2]), int(small.shape[-1])
        intrinsics = resize_intrinsics(found.intrinsics, small_size, size)
        return _assemble(frames, intrinsics, found)

    def _cameras(self, clip: Clip, small: Tensor, matrix: Tensor) -> _Found:
        """Use features if they explain the clip, else the search; small clips use the search if its result is clear."""
        sure = min(int(small.shape[-2]), int(small.shape[-1])) >= SURE_SIDE
        given = clip.intrinsics is not None
        if sure:
            found, reason = self._by_features(clip.name, small, matrix, focal_known=given)
            return self._by_search(clip, small, matrix, reason) if found is None else found
        searched = self._by_search(
            clip, small, matrix, "the frames are small, and the search explains them", strict=False
        )
        if float(searched.cameras.evidence.agreement.min()) >= CLEAR_AGREEMENT:
            return searched
        found, reason = self._by_features(clip.name, small, matrix, focal_known=True)
        if found is not None:
            levels = grey_levels(small, matrix.to(small))
            if best_explained(levels, [found.cameras, searched.cameras]) == 0:
                kept = {key: searched.diagnostics[key] for key in ("focal_source", "focal_over_width")}
                told = {key: value for key, value in found.diagnostics.items() if key != "focal_deviation"}
                return replace(found, diagnostics={**told, **kept})
            reason = "the search explains the frames better"
        check_agreement(clip.name, searched.cameras, self._search_agreement)
        return replace(searched, diagnostics={**searched.diagnostics, "features": reason})

    @property
    def _search_agreement(self) -> float:
        return min(1.0, self.config.min_agreement * DIRECT_AGREEMENT / MIN_AGREEMENT)

    def _by_search(self, clip: Clip, small: Tensor, matrix: Tensor, reason: str, *, strict: bool = True) -> _Found:
        """Cameras by the search of `direct`.

        Raises:
            ScoreUnavailable: `strict`, and the frames do not show the same scene.
        """
        cameras = estimate_cameras(small, matrix.to(small.dtype))
        if strict:
            check_agreement(clip.name, cameras, self._search_agreement)
        diagnostics = {
            "cameras_from": "search",
            "features": reason,
            "focal_source": "default" if clip.intrinsics is None else "given",
            "focal_over_width": float(matrix[0, 0]) / int(small.shape[-1]),
        }
        return _Found(cameras, matrix.cpu(), _world_points(cameras, matrix), diagnostics)

    def _by_features(self, name: str, small: Tensor, matrix: Tensor, *, focal_known: bool) -> tuple[_Found | None, str]:
        """Refined cameras from features, or the reason why there are none."""
        shorter = min(int(small.shape[-2]), int(small.shape[-1]))
        if shorter < MIN_FEATURE_SIDE:
            return None, f"frames have {shorter} pixels on the shorter side, features need {MIN_FEATURE_SIDE}"
        if float(matrix[0, 1]) != 0:
            return None, "the camera has skew, which the mapper's pinhole camera has not"
        try:
            features = cameras_from_features(name, small.cpu(), matrix.cpu(), focal_known=focal_known)
            return _refined(name, small, features, self.config.min_agreement), ""
        except ScoreUnavailable as error:
            return None, str(error).removeprefix(f"{name}: ")


def _refined(name: str, small: Tensor, found: FeatureCameras, least: float) -> _Found:
    """Photometric refinement and model selection from the poses that features gave.

    Raises:
        ScoreUnavailable: The frames do not agree with each other along these poses.
    """
    matrix = found.intrinsics.to(small)
    levels = grey_levels(small, matrix)
    sure = min(int(small.shape[-2]), int(small.shape[-1])) >= SURE_SIDE
    exact = sure and found.moving is not None and len(found.key_frames) == len(small)
    turning = found.turning.to(small.device)
    moving = turning if found.moving is None else found.moving.to(small.device)
    bounds = (0.3, 2.0) if found.scene is None else _bounds(found)
    unit = 0.5 * (bounds[0] + bounds[1])
    moving = moving.clone()
    moving[:, :3, 3] *= unit
    bounds = bounds[0] / unit, bounds[1] / unit
    if exact:
        # On a shallow scene the mapper may mistake a shift for a turn.
        straight = straightened(levels, moving, bounds)
        moving = moving if straight is None else straight
    cameras = refine_cameras(
        levels,
        moving,
        bounds,
        turning,
        first_level=0 if exact else min(2, len(levels) - 1),
        try_straight=not sure,
    )
    check_agreement(name, cameras, least)
    diagnostics = {
        "cameras_from": "features",
        "focal_source": found.focal.source,
        "focal_over_width": found.focal.pixels / int(small.shape[-1]),
        "focal_deviation": found.focal.deviation,
        **found.diagnostics,
    }
    return _Found(cameras, found.intrinsics, _world_points(cameras, found.intrinsics), diagnostics)


def _bounds(found: FeatureCameras) -> tuple[float, float]:
    """Range of inverse depth of the tracked points, in the unit of their poses."""
    assert found.scene is not None
    inverse = torch.cat([found.scene.inverse_depths(frame) for frame in range(len(found.key_frames))])
    low, high = torch.quantile(inverse[:: max(1, len(inverse) // 100_000)], inverse.new_tensor([0.02, 0.98])).tolist()
    return 0.6 * low, 1.5 * high


def _world_points(cameras: Cameras, matrix: Tensor) -> Tensor:
    """Points `(N, 3)` of the refined cameras in the world of their poses; those that were followed well."""
    rays = rays_through(cameras.points.positions.double(), matrix.to(cameras.points.positions.device).double())
    local = rays / cameras.rho.double()[..., None]
    hosts = invert(cameras.poses[cameras.points.hosts])
    world = local @ hosts[:, :3, :3].transpose(1, 2) + hosts[:, None, :3, 3]
    sure = (cameras.points.weight > 0) & (cameras.confidence >= cameras.confidence.flatten().quantile(0.25))
    return world[sure]


def _assemble(frames: Tensor, intrinsics: Tensor, found: _Found) -> DenseReconstruction:
    """Dense depth, the unit of length, and the figures for reports."""
    moves = found.cameras.evidence.kind == "moving"
    poses = found.cameras.poses
    chosen = spread_indices(len(frames), MAX_DEPTH_FRAMES)
    scene, unit = dense_scene(frames, poses, intrinsics, found.points if moves else None, chosen)
    poses = poses.clone()
    poses[:, :3, 3] /= unit
    trajectory = CameraTrajectory(
        c2w=invert(poses).cpu(),
        intrinsics=intrinsics.cpu(),
        image_size=(int(frames.shape[-2]), int(frames.shape[-1])),
        scene_depth=1.0,
    )
    return DenseReconstruction(
        trajectory=trajectory,
        depth=frame_depths(scene, chosen, poses.to(frames.dtype)),
        has_parallax=moves,
        diagnostics={**diagnose(found.cameras), **found.diagnostics},
        scene=scene,
        scene_frames=chosen,
    )
