"""Camera words: how prompts are read, and the exact path each word commands."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from worldr1_core.camera.vocabulary import (
    Move,
    MoveConstants,
    detect_moves,
    strip_moves,
    trajectory_from_moves,
    trajectory_from_prompt,
)
from worldr1_core.errors import TrajectoryError

# Per segment, with scene depth 1000: displacement (x, y, z) and yaw in degrees (positive turns right).
CHORD_X, CHORD_Z = 600 * math.sin(math.radians(24)), 600 * (1 - math.cos(math.radians(24)))
TOTALS = {
    "push in": ((0, 0, 600), 0),
    "pull out": ((0, 0, -600), 0),
    "move left": ((-220, 0, 0), 0),
    "move right": ((220, 0, 0), 0),
    "pan left": ((0, 0, 0), -14),
    "pan right": ((0, 0, 0), 14),
    "orbit left": ((-CHORD_X, 0, CHORD_Z), 24),
    "orbit right": ((CHORD_X, 0, CHORD_Z), -24),
    "pull left": ((-160, 0, -300), -8),
    "pull right": ((160, 0, -300), 8),
    "fixed": ((0, 0, 0), 0),
}


def matrix(displacement, yaw) -> np.ndarray:
    """Independent of the library's own rotation code."""
    result = np.eye(4)
    result[:3, :3] = Rotation.from_euler("y", yaw, degrees=True).as_matrix()
    result[:3, 3] = displacement
    return result


def test_every_word_of_the_vocabulary_is_covered_here():
    assert {move.phrase for move in Move} == set(TOTALS)


@pytest.mark.parametrize("word", TOTALS)
@pytest.mark.parametrize("num_frames", [2, 17, 81])
def test_totals_at_the_last_frame(word, num_frames):
    trajectory = trajectory_from_prompt(f"Camera {word}. A harbour.", num_frames)
    assert trajectory is not None
    assert trajectory.num_frames == num_frames
    np.testing.assert_allclose(trajectory.c2w[0], np.eye(4), atol=1e-15)
    np.testing.assert_allclose(trajectory.c2w[-1], matrix(*TOTALS[word]), atol=1e-9)


@pytest.mark.parametrize("word", TOTALS)
def test_the_scene_depth_is_1000_units(word):
    assert trajectory_from_prompt(word, 5).scene_depth == 1000.0


@pytest.mark.parametrize("word", [w for w in TOTALS if not w.startswith("orbit")])
def test_motion_within_a_segment_is_uniform(word):
    displacement, yaw = TOTALS[word]
    half = trajectory_from_prompt(word, 9).c2w[4]
    np.testing.assert_allclose(half, matrix(np.array(displacement) / 2, yaw / 2), atol=1e-9)


@pytest.mark.parametrize("word", ["orbit left", "orbit right"])
def test_an_orbit_keeps_its_centre_in_view_at_its_radius(word):
    c2w = trajectory_from_prompt(word, 17).c2w.numpy()
    centre = np.array([0.0, 0.0, 600.0])
    seen = np.einsum("tji,tj->ti", c2w[:, :3, :3], centre - c2w[:, :3, 3])
    np.testing.assert_allclose(seen, np.tile(centre, (17, 1)), atol=1e-9)


def test_an_orbit_to_the_left_travels_left_and_turns_right():
    last = trajectory_from_prompt("orbit left", 17).c2w[-1]
    assert last[0, 3] < 0
    assert last[0, 2] > 0, "the viewing direction points to the right"


@pytest.mark.parametrize("first", TOTALS)
@pytest.mark.parametrize("second", TOTALS)
def test_two_moves_compose_on_the_full_pose(first, second):
    trajectory = trajectory_from_prompt(f"Camera {first}, then {second}.", 17)
    np.testing.assert_allclose(trajectory.c2w[8], matrix(*TOTALS[first]), atol=1e-9)
    np.testing.assert_allclose(trajectory.c2w[16], matrix(*TOTALS[first]) @ matrix(*TOTALS[second]), atol=1e-9)


def test_a_move_after_a_pan_follows_the_new_viewing_direction():
    last = trajectory_from_prompt("pan right, then push in", 17).positions[-1]
    angle = math.radians(14)
    np.testing.assert_allclose(last, [600 * math.sin(angle), 0, 600 * math.cos(angle)], atol=1e-9)


@given(st.lists(st.sampled_from(list(Move)), min_size=1, max_size=4), st.integers(1, 40))
@settings(max_examples=40, deadline=None)
def test_the_last_pose_does_not_depend_on_the_number_of_frames(moves, extra):
    expected = np.eye(4)
    for move in moves:
        expected = expected @ matrix(*TOTALS[move.phrase])
    trajectory = trajectory_from_moves(moves, len(moves) + extra)
    np.testing.assert_allclose(trajectory.c2w[-1], expected, atol=1e-8)


def test_frames_are_shared_evenly_where_they_do_not_divide():
    depths = trajectory_from_prompt("push in, then push in, then push in", 5).positions[:, 2]
    np.testing.assert_allclose(depths, [0, 450, 900, 1350, 1800], atol=1e-9)


@pytest.mark.parametrize(("prompt", "count"), [("push in", 1), ("push in, then pan left", 2), ("fixed", 1)])
def test_a_clip_too_short_for_its_moves_is_refused(prompt, count):
    with pytest.raises(TrajectoryError, match=rf"at least {count + 1} frames, received num_frames={count}"):
        trajectory_from_prompt(prompt, count)


def test_intrinsics_follow_from_the_image_size():
    trajectory = trajectory_from_prompt("push in", 5, (480, 832))
    assert trajectory.image_size == (480, 832)
    assert trajectory.intrinsics.tolist() == [[1.2 * 832, 0, 416], [0, 1.2 * 832, 240], [0, 0, 1]]
    assert trajectory_from_prompt("push in", 5).intrinsics is None


def test_constants_can_be_replaced():
    constants = MoveConstants(scene_depth=2.0, push=1.0)
    trajectory = trajectory_from_moves([Move.PUSH_IN], 3, constants=constants)
    assert trajectory.positions[-1].tolist() == [0.0, 0.0, 1.0]
    assert trajectory.scene_depth == 2.0


def test_moves_are_accepted_by_name():
    assert torch.equal(trajectory_from_moves(["pan_left"], 5).c2w, trajectory_from_moves([Move.PAN_LEFT], 5).c2w)


def test_an_unknown_move_gets_a_suggestion():
    with pytest.raises(TrajectoryError, match=r"Unknown camera move 'pan_lft'.*Did you mean 'pan_left'"):
        trajectory_from_moves(["pan_lft"], 5)


def test_no_move_is_no_trajectory():
    assert trajectory_from_prompt("A quiet harbour at dawn.", 17) is None
    assert trajectory_from_prompt("", 17) is None
    with pytest.raises(TrajectoryError, match="at least one camera word"):
        trajectory_from_moves([], 17)


@pytest.mark.parametrize(
    ("prompt", "moves"),
    [
        ("Camera push in, then pan left. A harbour.", ["push_in", "pan_left"]),
        ("Camera pan left, then push in.", ["pan_left", "push_in"]),
        ("CAMERA PUSH IN", ["push_in"]),
        ("a slow push-in", ["push_in"]),
        ("push   in\tand pan\nleft", ["push_in", "pan_left"]),
        ("orbit_right", ["orbit_right"]),
        ("Camera orbit left, transitioning into a pan right.", ["orbit_left", "pan_right"]),
        ("push in, push in", ["push_in", "push_in"]),
        ("Camera fixed.", ["fixed"]),
        ("pull left", ["pull_left"]),
        ("pull_right", ["pull_right"]),
        ("Camera move left, pull out, then pan left.", ["move_left", "pull_out", "pan_left"]),
        ("Camera move left, pull out, then pan right.", ["move_left", "pull_out", "pan_right"]),
        ("pushing in", []),
        ("push into the room", []),
        ("a pushpin", []),
        ("remove left shoes", []),
        ("pan left-handed players", []),
        ("a fixed-wing aircraft", []),
        ("prefixed affixed", []),
        ("push, in", []),
        ("left pan", []),
        ("A frying pan. Left of it, a knife.", []),
    ],
)
def test_words_are_read_whole_in_any_case_and_in_order(prompt, moves):
    assert [str(move) for move in detect_moves(prompt)] == moves


def test_fixed_counts_anywhere_unless_strict():
    prompt = "Camera push in. A fixed bridge over the river."
    assert detect_moves(prompt) == [Move.PUSH_IN, Move.FIXED]
    assert detect_moves(prompt, strict=True) == [Move.PUSH_IN]
    assert trajectory_from_prompt("A fixed bridge.", 17, strict=True) is None


@pytest.mark.parametrize(
    ("prompt", "stripped"),
    [
        ("Camera push in, then pan left. A quiet harbour.", "A quiet harbour."),
        ("A harbour. Camera fixed.", "A harbour."),
        ("Camera orbit left, transitioning into a pan right. Sea. Wind!", "Sea. Wind!"),
        ("A cat on a mat; push in, then pan left", "A cat on a mat"),
        ("A cat, push in, on a mat.", "A cat, on a mat."),
        ("Nothing here.", "Nothing here."),
        ("", ""),
    ],
)
def test_stripping_leaves_the_scene(prompt, stripped):
    assert strip_moves(prompt) == stripped


@given(st.lists(st.sampled_from([*TOTALS, "a red boat", "Camera", "then", ",", ".", "the sea"]), max_size=10))
@settings(max_examples=60, deadline=None)
def test_a_stripped_prompt_holds_no_move(words):
    assert detect_moves(strip_moves(" ".join(words))) == []
