"""A clip to be scored: the video, the words it was made from, and the camera path those words command.

`Clip` derives the path from the prompt, so that scoring, training, evaluation and probes agree on what a prompt
commands.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from worldr1_core.camera.trajectory import CameraTrajectory
from worldr1_core.camera.vocabulary import Move, detect_moves, trajectory_from_moves
from worldr1_core.video import Video

FROM_WORDS: Any = object()
"""Default of `Clip.target`: the camera words command the path."""


@dataclass(frozen=True, slots=True)
class Clip:
    """One video with its context.

    Example:
        >>> import torch
        >>> clip = Clip(Video(torch.rand(5, 3, 16, 16)), prompt="Camera push in. A room.")
        >>> clip.moves, clip.target.num_frames
        ((<Move.PUSH_IN: 'push_in'>,), 5)
        >>> Clip(clip.video, clip.prompt, target=None).target is None
        True

    Attributes:
        video: Frames `(T, 3, H, W)`, RGB in [0, 1].
        prompt: Text the video was generated from; may be empty.
        target: Commanded camera path with `T` poses, or `None` if none is commanded. By default `moves` command it, or
            else the camera words of `prompt`. An explicit `None` commands nothing, whatever the prompt says.
        intrinsics: Known `(3, 3)` intrinsics in pixels of `video`, or `None` for the default guess.
        name: Name of the clip in messages and output files.
        reference: Video of the model before post-training from the same prompt and initial noise, or `None`.
        moves: Camera words of the prompt if they alone command the path; `target` is then the vocabulary's typical
            path. Empty if a path is given, or none is commanded.

    Raises:
        TrajectoryError: The video has too few frames for the moves.
    """

    video: Video
    prompt: str = ""
    target: CameraTrajectory | None = FROM_WORDS
    intrinsics: Tensor | None = None
    name: str = "clip"
    reference: Video | None = None
    moves: tuple[Move, ...] = ()

    def __post_init__(self) -> None:
        if self.target is not FROM_WORDS:
            return
        moves = self.moves or tuple(detect_moves(self.prompt))
        path = trajectory_from_moves(moves, self.video.num_frames, self.video.size) if moves else None
        object.__setattr__(self, "moves", moves)
        object.__setattr__(self, "target", path)
