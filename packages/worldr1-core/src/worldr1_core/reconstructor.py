"""The interface of reconstructors: a video in, cameras and a renderable 3D scene out."""

from __future__ import annotations

import abc
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from worldr1_core.component import Component
from worldr1_core.errors import UserError

if TYPE_CHECKING:  # see worldr1_core.reward
    from torch import Tensor

    from worldr1_core.camera.trajectory import CameraTrajectory
    from worldr1_core.clip import Clip


@dataclass(frozen=True, slots=True)
class Render:
    """Views of a reconstruction.

    Attributes:
        frames: Rendered `(N, 3, H, W)` RGB in [0, 1]; arbitrary where `coverage` is 0.
        coverage: `(N, H, W)` in [0, 1]: share of the pixel that the scene covers.
        depth: `(N, H, W)` z-depth in the trajectory's units, or `None`.
    """

    frames: Tensor
    coverage: Tensor
    depth: Tensor | None = None


@dataclass(frozen=True, kw_only=True)
class Reconstruction(abc.ABC):
    """Cameras and scene of one clip.

    Attributes:
        trajectory: Estimated poses (frame 0 = identity) and intrinsics; its unit is the median scene depth seen from
            frame 0, unless `trajectory.scene_depth` says otherwise.
        depth: `(T, H, W)` z-depth of every frame in the same unit, or `None` if the method has none.
        has_parallax: Whether the translation (and with it depth) is determined by the video. False on a pure pan or a
            fixed camera, where every depth explains the frames equally well.
        diagnostics: Plain numbers and strings for reports (residuals, iterations, chosen start, ...).
    """

    trajectory: CameraTrajectory
    depth: Tensor | None = None
    has_parallax: bool = True
    diagnostics: dict[str, Any] = field(default_factory=dict)

    @abc.abstractmethod
    def render(self, c2w: Tensor, intrinsics: Tensor, size: tuple[int, int]) -> Render:
        """Render views.

        Args:
            c2w: `(N, 4, 4)` camera-to-world poses in the frame and unit of `trajectory`.
            intrinsics: `(3, 3)` in pixels of `size`.
            size: `(H, W)`.
        """

    @abc.abstractmethod
    def rerender(self) -> Render:
        """Render the clip's own frames, `(T, 3, H, W)`, each from the other frames if the method allows it."""

    def rerender_frames(self, frames: Tensor) -> Render:
        """Render the same views with other colours, and with a gradient in them; optional.

        Cameras, depth, visibility and blending weights are those of `rerender()` and held fixed. With the clip's own
        frames the result is that of `rerender()`. Rewards that read re-renders need it for `Reward.score_frames`.

        Args:
            frames: `(T, 3, H, W)` RGB in [0, 1]: the colours of the clip's frames.

        Returns:
            Views on the reconstruction's device; only `frames` has a gradient.

        Raises:
            UserError: This reconstruction has no gradient.
        """
        raise UserError(
            f"{type(self).__name__} has no gradient in the frames: it does not implement rerender_frames. Choose a "
            "reconstructor whose re-render has one, such as direct or auto, or an objective that needs scores alone, "
            "such as flow-grpo or nft."
        )


class Reconstructor(Component, abc.ABC):
    """Estimates cameras and 3D scene of a clip. It must not read `clip.target`, which would bias the estimate."""

    @abc.abstractmethod
    def reconstruct(self, clip: Clip) -> Reconstruction:
        """Estimate cameras and scene.

        Raises:
            ScoreUnavailable: The clip cannot be reconstructed, e.g. for lack of texture; the message is the reason.
        """
