"""Flawed clips for pretraining: they break the world in 3D, and repeat from their seed."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tools.tiny_world.dataset import render_dataset
from tools.tiny_world.flawed_clips import OBJECT_FLAWS, ROOM_FLAWS, FlawedShares, flawed_clip, render_flawed
from worldr1_backbones.tiny.captions import parse_caption
from worldr1_backbones.tiny.raycaster import render
from worldr1_backbones.tiny.scenes import Scene, commanded_trajectory, sample_scene
from worldr1_core.camera.trajectory import CameraTrajectory
from worldr1_core.camera.vocabulary import Move

HONEST = FlawedShares(incoherent=0.0, wrong_moves=0.0)
PATH = commanded_trajectory([Move.MOVE_LEFT])


def scene(caption: str = "Camera move left. A red box and a blue ball in a green room with checker walls.") -> Scene:
    return sample_scene(parse_caption(caption), torch.Generator().manual_seed(1))


def flawed(flaw: str, path: CameraTrajectory = PATH, seed: int = 3) -> torch.Tensor:
    return render_flawed(scene(), path, (flaw,), torch.Generator().manual_seed(seed))


def test_equal_arguments_give_equal_clips() -> None:
    shares = FlawedShares(incoherent=1.0, wrong_moves=0.5)
    (frames, caption), (again, text) = (flawed_clip(4, 2, shares) for _ in range(2))
    torch.testing.assert_close(frames, again, rtol=0, atol=0)
    assert caption == text


def test_no_flaw_is_the_honest_clip() -> None:
    frames = render_flawed(scene(), PATH, (), torch.Generator().manual_seed(0))
    torch.testing.assert_close(frames, render(scene(), PATH), rtol=0, atol=0)


@pytest.mark.parametrize("flaw", [*ROOM_FLAWS, *OBJECT_FLAWS])
def test_every_flaw_changes_the_clip(flaw: str) -> None:
    frames = flawed(flaw)
    assert frames.shape == (9, 3, 64, 64)
    assert float(frames.min()) >= 0
    assert float(frames.max()) <= 1
    assert (frames - render(scene(), PATH)).abs().mean() > 0.002


@pytest.mark.parametrize("flaw", ROOM_FLAWS)
def test_a_flawed_room_begins_as_the_honest_one(flaw: str) -> None:
    torch.testing.assert_close(flawed(flaw)[0], render(scene(), PATH)[0])


def test_patterns_slip_while_the_camera_rests_only_by_their_drift() -> None:
    path = commanded_trajectory([Move.FIXED])
    frames = flawed("slip", path)
    assert (frames[-1] - frames[0]).abs().mean() > 0.002
    torch.testing.assert_close(render(scene(), path)[-1], render(scene(), path)[0])


def test_wrong_camera_words_leave_the_caption_and_change_the_path() -> None:
    wrong = FlawedShares(incoherent=0.0, wrong_moves=1.0)
    told = [(flawed_clip(i, 0, wrong), flawed_clip(i, 0, HONEST)) for i in range(4)]
    assert [a[1] for a, _ in told] == [b[1] for _, b in told]
    assert all((a[0] - b[0]).abs().mean() > 0.002 for a, b in told)


def test_a_data_set_can_hold_flawed_clips(tmp_path: Path) -> None:
    shares = FlawedShares(incoherent=1.0, wrong_moves=0.0)
    frames, captions = render_dataset(tmp_path, 2, 5, flawed=shares)
    video, caption = flawed_clip(1, 5, shares)
    assert captions[1] == caption.text
    assert (torch.tensor(frames[1]) == (video * 255).round().to(torch.uint8)).all()
