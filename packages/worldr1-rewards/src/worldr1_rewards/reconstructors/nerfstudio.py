"""The `nerfstudio` reconstructor: nerfacto or splatfacto, fitted in memory with the cameras of another one."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from worldr1_core.camera.geometry import scale_intrinsics
from worldr1_core.camera.trajectory import CameraTrajectory
from worldr1_core.clip import Clip
from worldr1_core.component import ComponentConfig
from worldr1_core.errors import UserError, require
from worldr1_core.reconstructor import Reconstruction, Reconstructor, Render
from worldr1_rewards.reconstructors.camera_source import build_camera_source, estimate
from worldr1_rewards.reconstructors.clip_checks import check_clip_size
from worldr1_rewards.reconstructors.foreign_code import quiet
from worldr1_rewards.reconstructors.nerfstudio_models import EXTRA, FitPlan, FittedModel, fit
from worldr1_rewards.reconstructors.pyramid import limit_size
from worldr1_rewards.reconstructors.visibility import seen_share


@dataclass(frozen=True, kw_only=True)
class NerfstudioReconstruction(Reconstruction):
    """A fitted model with the cameras it was fitted to.

    Attributes:
        fitted: Draws views.
        own: The clip's frames as the model draws them, at the size it was fitted at.
        own_depth: `(T, h, w)` z-depth of these, whatever `depth` says.
    """

    fitted: FittedModel
    own: Render
    own_depth: Tensor

    @property
    def fitted_size(self) -> tuple[int, int]:
        """(H, W) of the frames that the model was fitted to."""
        return int(self.own_depth.shape[-2]), int(self.own_depth.shape[-1])

    def render(self, c2w: Tensor, intrinsics: Tensor, size: tuple[int, int]) -> Render:
        """Render views; see `Reconstruction.render`. Coverage is opacity where a frame of the clip saw the surface."""
        assert self.trajectory.intrinsics is not None
        assert self.trajectory.image_size is not None
        ratio = min(1.0, max(self.fitted_size) / max(size))
        small = max(1, round(size[0] * ratio)), max(1, round(size[1] * ratio))
        matrix = scale_intrinsics(intrinsics.cpu().double(), size, small)
        frames, depth, opacity = self.fitted.draw(c2w, matrix, small)
        known = scale_intrinsics(self.trajectory.intrinsics, self.trajectory.image_size, self.fitted_size)
        poses = self.trajectory.c2w
        seen = [
            seen_share(pose.cpu(), matrix, one, poses, known, self.own_depth)
            for pose, one in zip(c2w, depth, strict=True)
        ]
        return _resized(Render(frames, opacity * torch.stack(seen), depth), size)

    def rerender(self) -> Render:
        """The clip's frames as the model draws them. It was fitted to all of them: no frame is held out."""
        assert self.trajectory.image_size is not None
        return _resized(self.own, self.trajectory.image_size)


class NerfstudioReconstructor(Reconstructor):
    """nerfstudio's nerfacto (CPU, CUDA) or splatfacto (CUDA), fitted to one clip with another reconstructor's cameras.

    Path, intrinsics and `has_parallax` are those of the reconstructor named by `cameras`, and what it refuses is
    refused here for the same reason. Colours, depth and novel views are the fitted model's.
    """

    class Config(ComponentConfig):
        """Options."""

        method: Literal["auto", "nerfacto", "splatfacto"] = Field(
            default="auto", description="Model to fit; `auto` is splatfacto on CUDA and nerfacto elsewhere."
        )
        cameras: str = Field(
            default="direct", min_length=1, description="Registered reconstructor that finds the cameras."
        )
        iterations: int = Field(default=400, ge=1, le=100_000, description="Optimiser steps.")
        rays: int = Field(default=256, ge=16, le=65_536, description="Rays a step; splatfacto takes a frame a step.")
        max_side: int = Field(
            default=128,
            ge=24,
            le=4096,
            description="Longest side in pixels of fit and pictures; larger videos are shrunk to it.",
        )

    config: Config

    def __init__(self, config: Any = None, *, device: str = "cpu", **options: Any) -> None:
        super().__init__(config, device=device, **options)
        if self.config.method == "splatfacto" and not device.startswith("cuda"):
            raise UserError(
                f"method 'splatfacto' draws with CUDA alone, received device {device!r}. Use method 'nerfacto'."
            )
        self._cameras = build_camera_source(self.config.cameras, asked_by=self)

    @property
    def plan(self) -> FitPlan:
        """Return the plan of the fit on this device."""
        method = self.config.method
        if method == "auto":
            method = "splatfacto" if self.device.startswith("cuda") else "nerfacto"
        return FitPlan(method, self.config.iterations, self.config.rays)

    def reconstruct(self, clip: Clip) -> NerfstudioReconstruction:
        """Find cameras, then fit.

        Raises:
            ScoreUnavailable: The clip is too short or too small, the cameras cannot be found, or the fit diverges.
            MissingExtraError: nerfstudio is not installed.
        """
        with quiet():
            require("nerfstudio", extra=EXTRA)
        check_clip_size(clip, "a fit")
        found = estimate(self._cameras, clip)
        path = _in_scene_depths(found, clip.video.size)
        assert path.intrinsics is not None
        frames, matrix = limit_size(clip.video.frames, path.intrinsics, self.config.max_side)
        size = int(frames.shape[-2]), int(frames.shape[-1])
        small = replace(path, intrinsics=matrix, image_size=size)
        fitted = fit(frames, small, _starting_depth(found, size), self.plan, self.device)
        picture, depth, opacity = fitted.draw(path.c2w, matrix, size)
        return NerfstudioReconstruction(
            trajectory=path,
            depth=_enlarged(depth, clip.video.size) if found.has_parallax else None,
            has_parallax=found.has_parallax,
            diagnostics={
                **found.diagnostics,
                "cameras": self.config.cameras,
                "method": self.plan.method,
                "iterations": self.plan.iterations,
                "loss": fitted.loss,
            },
            fitted=fitted,
            own=Render(picture, opacity, depth),
            own_depth=depth,
        )


def _in_scene_depths(found: Reconstruction, size: tuple[int, int]) -> CameraTrajectory:
    """The found path in units of the median depth of frame 0."""
    path = found.trajectory.relative()
    unit = path.scene_depth or 1.0
    return replace(path.scaled(1 / unit), scene_depth=1.0, image_size=path.image_size or size)


def _starting_depth(found: Reconstruction, size: tuple[int, int]) -> Tensor | None:
    if found.depth is None or not found.has_parallax:
        return None
    return _enlarged(found.depth.cpu() / (found.trajectory.scene_depth or 1.0), size)


def _enlarged(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Maps `(N, h, w)` at another size; the inverse of depth is linear on planes, depth is not."""
    if tuple(maps.shape[-2:]) == size:
        return maps
    return 1 / functional.interpolate(1 / maps[:, None], size, mode="bilinear", align_corners=False)[:, 0]


def _resized(view: Render, size: tuple[int, int]) -> Render:
    if tuple(view.frames.shape[-2:]) == size:
        return view
    assert view.depth is not None
    frames = functional.interpolate(view.frames, size, mode="bilinear", align_corners=False)
    coverage = functional.interpolate(view.coverage[:, None], size, mode="nearest-exact")[:, 0]
    return Render(frames, coverage, _enlarged(view.depth, size))
