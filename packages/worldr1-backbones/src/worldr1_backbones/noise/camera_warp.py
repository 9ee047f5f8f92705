"""The conditioner `camera-warp`: prompt, path, flow or depth to initial noise that follows the commanded camera."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field, field_validator
from torch import Generator, Tensor

from worldr1_backbones.noise import injection
from worldr1_backbones.noise.canvas import canvas_noise
from worldr1_backbones.noise.depth_transport import depth_noise
from worldr1_backbones.noise.flow_transport import flow_noise
from worldr1_backbones.noise.motion import fit_to_clip, intrinsics_at, latent_frames, plane_depth, plane_maps
from worldr1_backbones.noise.room import Room, room_depth
from worldr1_core.camera import CameraTrajectory, load_trajectory, trajectory_from_prompt
from worldr1_core.component import ComponentConfig
from worldr1_core.errors import UserError
from worldr1_core.gaussian_noise import standard_normal
from worldr1_core.noise import InitialNoise, NoiseConditioner, NoiseRequest


class CameraWarpConfig(ComponentConfig):
    """Options of `camera-warp`."""

    injection: Literal["replace", "blend", "lowpass-delta", "stepwise-delta"] = Field(
        "stepwise-delta",
        description="How the warped noise enters: instead of the Gaussian noise (the paper's text), mixed with it, in "
        "its low spatial frequencies alone, or as a delta after the first steps of the sampler (the authors' release).",
    )
    degradation: float = Field(0.35, ge=0, le=1, description="Share alpha of fresh noise in the warped noise.")
    strength: float = Field(
        0.35,
        ge=0,
        le=1,
        description="Share of the warped noise in `blend` and `lowpass-delta`, sum of the weights in `stepwise-delta`; "
        "the release has 0.35 for Wan 1.3B, 0.40 for Wan 14B and CogVideoX. No effect on `replace`.",
    )
    filter_size: int = Field(
        9, ge=1, le=63, description="Odd side of the low-pass box in latent pixels (`lowpass-delta`, `stepwise-delta`)."
    )
    renormalise: Literal["frequency", "latent"] = Field(
        "frequency",
        description="`lowpass-delta`: keep every spatial frequency at unit power, so that the noise stays white; or "
        "only mean and std of the whole latent, as the release does.",
    )
    num_delta_steps: int = Field(8, ge=1, le=1000, description="Steps after which `stepwise-delta` injects.")
    trajectory: str | None = Field(
        None,
        description="Camera path instead of the prompt's: JSON, nerfstudio's transforms.json, TUM text, npy or npz "
        "poses.",
    )
    resample: bool = Field(
        False,
        description="Stretch a path whose number of poses is not that of the video's frames, instead of refusing it.",
    )
    scene_depth: float | None = Field(
        None,
        gt=0,
        le=1e9,
        description="Distance of the scene plane in the path's unit, where the path does not state it; the "
        "vocabulary's paths do (1000).",
    )
    scene: Literal["plane", "room"] = Field(
        "plane",
        description="What the path moves past where the request has neither flow nor depth: the paper's plane before "
        "every camera, or the walls of an empty room, in which a slide and a turn do not look alike.",
    )
    room: Room = Field(
        default_factory=lambda: Room.model_validate({}), description="The room of `scene: room`, in scene depths."
    )
    strict_camera_words: bool = Field(
        False, description="Read camera words only in sentences that contain the word 'camera'."
    )
    cells_per_pixel: int = Field(
        4, ge=4, le=16, multiple_of=2, description="Noise cells along the side of a latent pixel in the closest view."
    )
    max_cells: int = Field(
        4_000_000,
        ge=1000,
        le=1_000_000_000,
        description="Largest number of noise cells; beyond it cells become larger, and correlation along the motion "
        "weaker.",
    )

    @field_validator("filter_size")
    @classmethod
    def _odd(cls, size: int) -> int:
        if size % 2 == 0:
            raise ValueError("the side of the low-pass box must be odd")
        return size


class CameraWarpNoise(NoiseConditioner):
    """Noise that is carried along the commanded camera path (paper, section 1 of the method).

    The motion comes from, in this order: the request's `flow`; its `depth` with the path; the path past the scene
    plane, or through an empty room. The path is the request's, that of the file in the options, or what the camera
    words of the prompt command. With neither flow nor path, the noise equals that of `gaussian` with the same seed.

    Every frame is exactly white N(0, 1) before injection, and after it with `replace`, `blend` and `lowpass-delta`.
    With `stepwise-delta` the initial latent is that of `gaussian`, and the delta is passed to the sampler.
    """

    Config = CameraWarpConfig
    config: CameraWarpConfig

    def draw(self, request: NoiseRequest, generator: Generator) -> InitialNoise:
        """Noise `(C, num_frames, H, W)`, the path that it carries, and the delta of `stepwise-delta`.

        Raises:
            TrajectoryError: The path does not fit the video, or states no depth that it needs.
            UserError: There is depth but no path, or the latent shows more frames than the video has.
        """
        base = standard_normal(request.geometry, generator)
        path = self.commanded_path(request)
        if path is None and request.depth is not None:
            raise UserError(
                "Depth alone moves nothing: the request has depth, and neither a trajectory nor a camera word in its "
                f"prompt {request.prompt!r}. Give the path too, or leave the depth out."
            )
        if path is None and request.flow is None:
            return InitialNoise(base)
        return self._inject(base, self.warped(request, path, generator), path, generator)

    def commanded_path(self, request: NoiseRequest) -> CameraTrajectory | None:
        """The path of the video's frames, seen from the first, or `None` if nothing commands one.

        Raises:
            TrajectoryError: It cannot be read, or has another number of poses than the video has frames.
        """
        config, geometry = self.config, request.geometry
        if request.trajectory is not None:
            path = request.trajectory
        elif config.trajectory is not None:
            path = load_trajectory(config.trajectory)
        else:
            size = (geometry.video_height, geometry.video_width)
            return trajectory_from_prompt(
                request.prompt, geometry.video_frames, size, strict=config.strict_camera_words
            )
        return fit_to_clip(path, geometry.video_frames, resample=config.resample)

    def warped(self, request: NoiseRequest, path: CameraTrajectory | None, generator: Generator) -> Tensor:
        """Noise `(C, num_frames, H, W)` that the motion carries, before degradation and injection.

        Args:
            request: Its flow, if any, takes precedence over the path.
            path: One pose a video frame; optional if there is flow.
            generator: Source of all randomness.
        """
        geometry, frames = request.geometry, latent_frames(request.geometry)
        size = (geometry.height, geometry.width)
        density, max_cells = self.config.cells_per_pixel, self.config.max_cells
        if request.flow is not None:
            return flow_noise(
                request.flow, frames, size, geometry.channels, generator, density=density, max_cells=max_cells
            )
        if path is None:
            raise ValueError("Noise that moves needs a path or flow.")
        intrinsics = intrinsics_at(path, geometry, size)
        depth = None if request.depth is None else request.depth[frames]
        if depth is None and self.config.scene == "room":
            video = (geometry.video_height, geometry.video_width)
            unit = plane_depth(path, self.config.scene_depth)
            depth = room_depth(self.config.room, path.c2w[frames], intrinsics_at(path, geometry, video), video, unit)
        if depth is not None:
            return depth_noise(
                depth,
                path.c2w[frames],
                intrinsics,
                size,
                geometry.channels,
                generator,
                density=density,
                max_cells=max_cells,
            )
        maps, stretch = plane_maps(path, plane_depth(path, self.config.scene_depth), frames)
        return canvas_noise(
            intrinsics @ maps, stretch, size, geometry.channels, generator, density=density, max_cells=max_cells
        )

    def _inject(
        self, base: Tensor, warped: Tensor, path: CameraTrajectory | None, generator: Generator
    ) -> InitialNoise:
        config = self.config
        if config.injection == "replace":
            return InitialNoise(injection.mix(warped, base, config.degradation), path)
        fresh = torch.randn(base.shape, generator=generator)
        warped = injection.mix(warped, fresh, config.degradation)
        if config.injection == "blend":
            return InitialNoise(injection.mix(base, warped, config.strength), path)
        if config.injection == "lowpass-delta":
            by_frequency = config.renormalise == "frequency"
            lowpass = injection.replace_low_frequencies if by_frequency else injection.add_lowpass_delta
            return InitialNoise(lowpass(base, warped, config.strength, config.filter_size), path)
        delta = injection.stepwise_delta(base, warped, config.filter_size)
        return InitialNoise(base, path, delta, injection.stepwise_weights(config.strength, config.num_delta_steps))
