"""The path that a clip's prompt commands is derived in one place, for whoever makes the clip."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from worldr1_core.camera.trajectory import CameraTrajectory
from worldr1_core.camera.vocabulary import Move, trajectory_from_moves, trajectory_from_prompt
from worldr1_core.clip import Clip
from worldr1_core.errors import TrajectoryError
from worldr1_core.video import Video

PROMPT = "Camera push in, then pan left. A room."
VIDEO = Video(torch.full((5, 3, 8, 12), 0.5))
PATH = CameraTrajectory(torch.eye(4).repeat(5, 1, 1))


def test_camera_words_command_the_path():
    clip = Clip(VIDEO, PROMPT)
    expected = trajectory_from_prompt(PROMPT, 5, (8, 12))
    assert torch.equal(clip.target.c2w, expected.c2w)
    assert torch.equal(clip.target.intrinsics, expected.intrinsics)
    assert clip.moves == (Move.PUSH_IN, Move.PAN_LEFT)


def test_moves_without_a_prompt_command_the_path():
    clip = Clip(VIDEO, moves=(Move.PAN_LEFT,))
    assert torch.equal(clip.target.c2w, trajectory_from_moves([Move.PAN_LEFT], 5).c2w)
    assert clip.moves == (Move.PAN_LEFT,)


def test_a_given_path_is_the_command():
    clip = Clip(VIDEO, PROMPT, PATH)
    assert clip.target is PATH
    assert clip.moves == ()


@pytest.mark.parametrize("prompt", ["", "A room."])
def test_prompt_without_camera_words_commands_nothing(prompt):
    clip = Clip(VIDEO, prompt)
    assert (clip.target, clip.moves) == (None, ())


def test_none_commands_nothing_whatever_the_prompt_says():
    clip = Clip(VIDEO, PROMPT, target=None)
    assert (clip.target, clip.moves) == (None, ())


def test_copy_keeps_what_is_commanded():
    clip = Clip(VIDEO, PROMPT)
    assert replace(clip, name="other").target is clip.target
    assert replace(Clip(VIDEO, PROMPT, None), name="other").target is None


def test_more_moves_than_steps_are_refused():
    with pytest.raises(TrajectoryError, match="need at least 3 frames"):
        Clip(Video(VIDEO.frames[:2]), PROMPT)
