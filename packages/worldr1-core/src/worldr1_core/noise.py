"""The interface of noise conditioners: prompt and camera path to initial latent noise."""

from __future__ import annotations

import abc
from dataclasses import dataclass
from typing import TYPE_CHECKING

from worldr1_core.component import Component
from worldr1_core.errors import UserError

if TYPE_CHECKING:  # see worldr1_core.reward
    from torch import Generator, Tensor

    from worldr1_core.backbone import LatentGeometry
    from worldr1_core.camera.trajectory import CameraTrajectory


@dataclass(frozen=True, slots=True)
class NoiseRequest:
    """Request for the initial noise of one video.

    Attributes:
        geometry: Sizes of the latent and of the video.
        prompt: Its camera words command a path.
        seed: Seed of the noise.
        trajectory: Commanded path of the video's frames instead of the prompt's.
        flow: `(T - 1, 2, H, W)` pixels of the video's size, x then y, from each frame to the next: any motion, instead
            of the plane's. NaN, in x and y alike, where a pixel has no place in the next frame (`plane_flow`: it lies
            behind the camera).
        depth: `(T, H, W)` z-depth of every frame in the trajectory's unit, > 0 and finite: a scene instead of the
        plane.
    """

    geometry: LatentGeometry
    prompt: str = ""
    seed: int = 0
    trajectory: CameraTrajectory | None = None
    flow: Tensor | None = None
    depth: Tensor | None = None


@dataclass(frozen=True, slots=True)
class InitialNoise:
    """Initial latent of one video.

    Attributes:
        latents: `(C, T, H, W)` float32 of the geometry's `shape`, N(0, 1) in every component.
        trajectory: The path that it carries, if any.
        step_delta: `(C, T, H, W)` added after early steps (`PolicyRun.step_delta`), or `None`.
        step_weights: Its weights after steps 0, 1, ...
    """

    latents: Tensor
    trajectory: CameraTrajectory | None = None
    step_delta: Tensor | None = None
    step_weights: tuple[float, ...] = ()


class NoiseConditioner(Component, abc.ABC):
    """Draws initial noise that may carry the commanded camera path."""

    def initial_noise(self, request: NoiseRequest) -> InitialNoise:
        """The initial noise of one video; frames that only pad the latent in front are fresh noise.

        Raises:
            TrajectoryError: The commanded path does not fit the video.
            UserError: Flow or depth has a shape that does not fit the request, or both are given.
        """
        import torch

        from worldr1_core.seeding import generator

        check_motion(request)
        drawn = self.draw(request, generator(request.seed, "initial noise"))
        padding = request.geometry.leading_padding
        if not padding:
            return drawn
        channels, _, height, width = request.geometry.shape
        fresh = torch.randn(
            channels, padding, height, width, generator=generator(request.seed, "padding of initial noise")
        )
        delta = drawn.step_delta
        return InitialNoise(
            torch.cat([fresh, drawn.latents], dim=1),
            drawn.trajectory,
            None if delta is None else torch.cat([torch.zeros_like(fresh), delta], dim=1),
            drawn.step_weights,
        )

    @abc.abstractmethod
    def draw(self, request: NoiseRequest, generator: Generator) -> InitialNoise:
        """Noise `(C, num_frames, H, W)` of the latent frames that belong to the video.

        Args:
            request: The video to draw noise for.
            generator: CPU generator of this video; the only source of randomness.
        """


def check_motion(request: NoiseRequest) -> None:
    """Check the flow and the depth of a request.

    Raises:
        UserError: Both are given, or one has another shape or holds values that it may not.
    """
    geometry = request.geometry
    frame = (geometry.video_height, geometry.video_width)
    if request.flow is not None and request.depth is not None:
        raise UserError("The request has both flow and depth; one of them moves the noise. Leave the other out.")
    if request.flow is not None:
        _check_tensor(request.flow, "flow", (geometry.video_frames - 1, 2, *frame), "(T - 1, 2, H, W)")
        _check_flow_values(request.flow)
    if request.depth is not None:
        _check_tensor(request.depth, "depth", (geometry.video_frames, *frame), "(T, H, W)")
        _check_depth_values(request.depth)


def _check_tensor(value: Tensor, name: str, shape: tuple[int, ...], axes: str) -> None:
    import torch

    if not isinstance(value, torch.Tensor) or not value.is_floating_point():
        received = value.dtype if isinstance(value, torch.Tensor) else type(value).__name__
        raise UserError(f"{name} must be a floating-point tensor {axes}, received {received!r}.")
    if tuple(value.shape) != shape:
        raise UserError(
            f"{name} must be {axes} = {shape} for this video, received shape {tuple(value.shape)}. It is given for "
            "every video frame, at the video's size."
        )


def _check_flow_values(flow: Tensor) -> None:
    for step, field in enumerate(flow):  # one by one: the flow of a long clip is large
        lost = field.isnan()
        bad = field.isinf().any(0) | (lost[0] != lost[1])
        if bool(bad.any()):
            row, column = bad.nonzero()[0].tolist()
            raise UserError(
                f"flow must be finite, or NaN in x and y alike where a pixel has no place in the next frame; received "
                f"{field[:, row, column].tolist()!r} from frame {step}, row {row}, column {column}."
            )


def _check_depth_values(depth: Tensor) -> None:
    for frame, field in enumerate(depth):
        bad = ~((field > 0) & field.isfinite())
        if bool(bad.any()):
            row, column = bad.nonzero()[0].tolist()
            raise UserError(
                f"depth must be positive and finite everywhere, received {float(field[row, column])!r} in frame "
                f"{frame}, row {row}, column {column}. Give the sky a large depth."
            )
