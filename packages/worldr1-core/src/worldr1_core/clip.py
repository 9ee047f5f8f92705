"""A clip to be scored: the video, the words it was made from, and the camera path those words command."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from worldr1_core.camera.trajectory import CameraTrajectory
from worldr1_core.camera.vocabulary import Move
from worldr1_core.video import Video


@dataclass(frozen=True, slots=True)
class Clip:
    """One video with its context.

    Attributes:
        video: Frames `(T, 3, H, W)`, RGB in [0, 1].
        prompt: Text the video was generated from; may be empty.
        target: Commanded camera path with `T` poses, or `None` where no move is commanded.
        intrinsics: Known `(3, 3)` intrinsics in pixels of `video`, or `None` for the default guess.
        name: How messages and output files call the clip.
        reference: What the model before post-training made of the same prompt and initial noise, or `None`.
        moves: Camera words of the prompt, where they alone command the path; `target` is then the vocabulary's typical
            path. Empty where a path is given, or none is commanded.
    """

    video: Video
    prompt: str = ""
    target: CameraTrajectory | None = None
    intrinsics: Tensor | None = None
    name: str = "clip"
    reference: Video | None = None
    moves: tuple[Move, ...] = ()
