"""`scene: room`: depth of an empty room, and noise that rests on its walls."""

from __future__ import annotations

import pytest
import torch

from noise.clips import SMALL, drawn, path_of
from noise.measures import goodness_of_fit, lag_scores
from worldr1_backbones.noise import CameraWarpNoise
from worldr1_backbones.noise.room import Room, room_depth
from worldr1_core.camera.geometry import default_intrinsics, pose
from worldr1_core.errors import UserError
from worldr1_core.noise import NoiseRequest

ROOM = Room(half_width=0.4, floor=0.18, ceiling=0.26, back=1.5)
FRAME = (SMALL.video_height, SMALL.video_width)


def _depth(words: str) -> torch.Tensor:
    path = path_of(words)
    return room_depth(ROOM, path.c2w, default_intrinsics(*FRAME), FRAME, path.scene_depth)


def test_a_room_is_as_deep_as_its_walls_are_far():
    first = _depth("fixed")[0]
    height, width = FRAME
    focal = 1.2 * width
    assert float(first[height // 2, width // 2]) == pytest.approx(1500)
    assert float(first[-1, width // 2]) == pytest.approx(180 * focal / (height / 2 - 0.5))
    assert float(first[0, width // 2]) == pytest.approx(260 * focal / (height / 2 - 0.5))
    assert float(first[height // 2, 0]) == pytest.approx(400 * focal / (width / 2 - 0.5))


def test_a_push_comes_closer_to_the_end_of_the_room():
    middle = _depth("push in")[:, FRAME[0] // 2, FRAME[1] // 2]
    assert float(middle[-1]) == pytest.approx(1500 - 600)


def test_a_wall_that_the_camera_has_passed_is_gone():
    beyond = pose(torch.eye(3), torch.tensor([0.0, 0.0, 9.0]))[None]
    depth = room_depth(ROOM, beyond, default_intrinsics(*FRAME), FRAME, 1.0)[0]
    assert bool((depth > 0).all() and depth.isfinite().all())
    inside = room_depth(ROOM, pose(torch.eye(3), torch.zeros(3))[None], default_intrinsics(*FRAME), FRAME, 1.0)[0]
    assert torch.equal(depth[0], inside[0])  # the ceiling goes on
    assert bool((depth >= inside).all())


@pytest.mark.parametrize("words", ["move left", "orbit right", "pan left", "push in, then pull out"])
def test_noise_in_a_room_is_that_of_its_depth(words):
    options = {"injection": "replace", "degradation": 0.0}
    given = NoiseRequest(SMALL, words, 0, depth=_depth(words).float())
    expected = CameraWarpNoise(**options).initial_noise(given).latents
    found = drawn(words, scene="room", room=ROOM.model_dump(), **options).latents
    # A cell on the border between two pixels may fall to either, as depth was rounded to float32.
    assert float((found == expected).float().mean()) > 0.95


def test_frames_of_a_room_are_white():
    noise = drawn("orbit left", scene="room", injection="replace", degradation=0.0).latents
    assert goodness_of_fit(noise) > 1e-3
    assert float(lag_scores(noise.flatten(0, 1)).abs().max()) < 4.5


def test_without_a_path_a_room_changes_nothing_and_bad_rooms_are_refused():
    assert torch.equal(drawn("", scene="room").latents, drawn("").latents)
    with pytest.raises(UserError, match="half_width"):
        CameraWarpNoise(scene="room", room={"half_width": 0.0})
    with pytest.raises(UserError, match="scene"):
        CameraWarpNoise(scene="cellar")
