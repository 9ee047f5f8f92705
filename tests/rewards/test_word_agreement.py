"""Camera words judged by kind and direction: the right word wins at any plausible amount, and hacks do not pay."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch

from worldr1_core.camera import CameraTrajectory, Move, trajectory_from_moves
from worldr1_core.camera.geometry import invert_pose
from worldr1_core.camera.vocabulary import DEFAULT_CONSTANTS, SINGLE_MOVES, MoveConstants
from worldr1_core.errors import TrajectoryError
from worldr1_rewards.probes.world.corruptions import shaken
from worldr1_rewards.probes.world.paths import camera_path, shift, yaw
from worldr1_rewards.rewards.path_agreement import Tolerances, compare_paths
from worldr1_rewards.rewards.word_agreement import compare_with_words

FRAMES = 17
MOVING = [move for move in Move if move is not Move.FIXED]
OPPOSITES = [
    (Move.PUSH_IN, Move.PULL_OUT),
    (Move.MOVE_LEFT, Move.MOVE_RIGHT),
    (Move.ORBIT_LEFT, Move.ORBIT_RIGHT),
    (Move.PAN_LEFT, Move.PAN_RIGHT),
]


def judged(c2w: torch.Tensor, *moves: Move, depth: float | None = 1.0, has_parallax: bool = True) -> float:
    estimate = CameraTrajectory(c2w, scene_depth=depth)
    return compare_with_words(estimate, moves, Tolerances(), has_parallax=has_parallax).score


def scaled_constants(factor: float) -> MoveConstants:
    c = DEFAULT_CONSTANTS
    return replace(
        c,
        push=c.push * factor,
        move=c.move * factor,
        pan=c.pan * factor,
        orbit_arc=c.orbit_arc * factor,
        pull_move=c.pull_move * factor,
        pull_back=c.pull_back * factor,
        pull_pan=c.pull_pan * factor,
    )


def path(*moves: Move, factor: float = 1.0, num_frames: int = FRAMES) -> torch.Tensor:
    """The vocabulary's path at another amount, in scene depths."""
    trajectory = trajectory_from_moves(moves, num_frames, constants=scaled_constants(factor))
    return trajectory.scaled(1 / DEFAULT_CONSTANTS.scene_depth).c2w


def drawn(x: torch.Tensor, z: torch.Tensor, degrees: torch.Tensor) -> torch.Tensor:
    """Poses from columns over time: place to the right and ahead in the first frame's axes, and yaw."""
    return torch.stack(
        [shift(a, b) @ yaw(angle) for a, b, angle in zip(x.tolist(), z.tolist(), degrees.tolist(), strict=True)]
    )


def filmed(name: str) -> torch.Tensor:
    """Smooth paths of the kinds that people with a camera walk when they are asked for one word."""
    t = torch.linspace(0, 1, FRAMES, dtype=torch.float64)
    match name:
        case "push, glance right":
            return drawn(-0.18 * (1 - torch.exp(-4 * t)), 0.59 * t, 22 * torch.sin(math.pi * t) + 8 * t)
        case "push, turned left":
            return drawn(-0.34 * t**1.2, 0.65 * t, -28 * (1 - (1 - t) ** 3))
        case "push, turned right":
            return drawn(0.14 * t, 0.35 * t, 30.5 * t)
        case "pull, turned left":
            return drawn(0.113 * t, -0.374 * t**1.3, -44 * t**2)
        case "pan, swung right":
            return drawn(0.25 * torch.sin(1.5 * t) / math.sin(1.5), -0.13 * t**2, 32.5 * t)
    raise ValueError(name)


def swept(track: torch.Tensor, degrees: torch.Tensor) -> torch.Tensor:
    """A path from steps (N - 1, 2), right and ahead in the camera's own axes, each followed by a turn (N - 1,)."""
    poses = [torch.eye(4, dtype=torch.float64)]
    for (right, ahead), angle in zip(track.tolist(), degrees.tolist(), strict=True):
        poses.append(poses[-1] @ shift(right, ahead) @ yaw(angle))
    return torch.stack(poses)


@pytest.mark.parametrize("factor", [0.5, 1.0, 2.0, 2.5])
@pytest.mark.parametrize("shown", SINGLE_MOVES)
def test_the_right_word_wins_at_any_plausible_amount(shown: Move, factor: float) -> None:
    values = {move: judged(path(shown, factor=factor), move) for move in SINGLE_MOVES}
    assert values[shown] >= (0.9 if factor == 1 else 0.6)
    assert all(value < values[shown] - 0.2 for move, value in values.items() if move is not shown)


@pytest.mark.parametrize("shown", MOVING)
def test_a_camera_that_stays_earns_nothing(shown: Move) -> None:
    still = torch.eye(4, dtype=torch.float64).repeat(FRAMES, 1, 1)
    trembling = shaken(still, 1.0, 0.2, torch.Generator().manual_seed(0))
    assert judged(still, shown) < 0.01
    assert judged(still, shown, depth=None) < 0.01
    assert judged(trembling, shown) < 0.05


@pytest.mark.parametrize(("first", "second"), OPPOSITES)
def test_the_opposite_earns_nothing(first: Move, second: Move) -> None:
    assert judged(path(first), second) < 0.01
    assert judged(path(second), first) < 0.01


@pytest.mark.parametrize("shown", MOVING)
def test_a_clip_played_backwards_earns_nothing(shown: Move) -> None:
    assert judged(path(shown).flip(0), shown) < 0.05


@pytest.mark.parametrize("shown", [Move.PULL_LEFT, Move.PULL_RIGHT])
def test_composites_are_told_from_each_other_and_from_their_parts(shown: Move) -> None:
    values = {move: judged(path(shown), move) for move in Move}
    assert max(values, key=lambda move: values[move]) is shown
    assert values[shown] >= 0.9
    assert judged(path(shown, factor=0.5), shown) > 0.6


@pytest.mark.parametrize(
    ("name", "word", "least", "second"),
    [
        ("push, glance right", Move.PUSH_IN, 0.65, None),
        ("push, turned left", Move.PUSH_IN, 0.75, Move.PAN_LEFT),
        ("push, turned right", Move.PUSH_IN, 0.7, Move.PAN_RIGHT),
        ("pull, turned left", Move.PULL_OUT, 0.65, Move.PAN_LEFT),
        ("pan, swung right", Move.PAN_RIGHT, 0.62, Move.MOVE_RIGHT),
    ],
)
def test_filmed_moves_earn_their_word(name: str, word: Move, least: float, second: Move | None) -> None:
    values = {move: judged(filmed(name), move) for move in SINGLE_MOVES}
    ranked = sorted(values, key=lambda move: -values[move])
    assert ranked[0] is word
    assert values[word] > least
    assert second is None or ranked[1] is second
    assert judged(filmed(name).flip(0), word) < 0.05


def test_a_wide_pan_earns_as_much_as_the_typical_one() -> None:
    for degrees in (14.0, 32.0, 90.0):
        wide = camera_path("pan right", FRAMES, scene_depth=1.0, amounts={"pan": degrees})
        assert judged(wide, Move.PAN_RIGHT) > 0.99


def test_ahead_may_mean_wherever_the_camera_looks() -> None:
    step = torch.tensor([[0.0, 0.5 / 16]]).repeat(16, 1)
    curve = swept(step, torch.full((16,), 60 / 16))
    assert judged(curve, Move.PUSH_IN) > 0.75
    assert judged(swept(-step, torch.full((16,), 60 / 16)), Move.PULL_OUT) > 0.75


@pytest.mark.parametrize("pair", list(itertools.permutations([m for m in SINGLE_MOVES if m is not Move.FIXED], 2)))
def test_two_moves_in_order_beat_the_swapped_order(pair: tuple[Move, Move]) -> None:
    for factor in (0.5, 1.0, 2.5):
        shown = path(*pair, factor=factor)
        right = judged(shown, *pair)
        assert right > (0.9 if factor == 1 else 0.6)
        assert judged(shown, pair[1], pair[0]) < 0.5 * right


@pytest.mark.parametrize("joint", [0.36, 0.43, 0.5, 0.57, 0.64])
def test_the_joint_of_two_moves_may_lie_off_the_middle(joint: float) -> None:
    num_first = round(joint * 32)
    first, second = path(Move.PUSH_IN, num_frames=num_first + 1), path(Move.PAN_LEFT, num_frames=33 - num_first)
    shown = torch.cat([first, first[-1] @ second[1:]])
    assert judged(shown, Move.PUSH_IN, Move.PAN_LEFT) > 0.75


def test_a_move_left_out_of_a_chain_costs_nearly_everything() -> None:
    assert judged(path(Move.PUSH_IN), Move.PUSH_IN, Move.PAN_LEFT) < 0.15
    assert judged(path(Move.PUSH_IN, Move.PAN_LEFT), Move.PUSH_IN, Move.PAN_LEFT, Move.ORBIT_LEFT) < 0.4


def test_every_chain_fits_every_clip_that_has_a_step_for_each_move() -> None:
    words = [Move.PUSH_IN, Move.PAN_LEFT, Move.MOVE_RIGHT, Move.PULL_OUT, Move.ORBIT_LEFT, Move.PAN_RIGHT]
    for count in range(1, len(words) + 1):
        for num_frames in range(count + 1, 16):
            assert judged(path(*words[:count], num_frames=num_frames), *words[:count]) > 0.6


@pytest.mark.parametrize("shown", MOVING)
def test_going_back_and_forth_costs(shown: Move) -> None:
    whole = path(shown)
    back = torch.cat([whole[:13], whole[8:12].flip(0)])
    assert judged(back, shown) < 0.3 * judged(whole, shown)


@pytest.mark.parametrize("shown", MOVING)
@pytest.mark.parametrize("num_frames", [9, 17, 81])
def test_shake_costs_the_more_the_stronger_it_is(shown: Move, num_frames: int) -> None:
    values = [
        sum(
            judged(
                shaken(path(shown, num_frames=num_frames), 1.0, strength, torch.Generator().manual_seed(seed)), shown
            )
            for seed in range(4)
        )
        / 4
        for strength in (0.0, 0.25, 1.0, 2.0)
    ]
    assert values == sorted(values, reverse=True)
    assert values[1] > 0.6 * values[0]
    assert values[2] < 0.6 * values[0]
    assert values[3] < 0.15 * values[0]


def test_a_turn_that_is_not_commanded_costs_a_slide_more_than_a_push() -> None:
    slides, pushes = [], []
    for degrees in (0.0, 5.0, 15.0, 40.0):
        t = torch.linspace(0, 1, FRAMES, dtype=torch.float64)
        slides.append(judged(drawn(0.4 * t, 0 * t, degrees * t), Move.MOVE_RIGHT))
        pushes.append(judged(drawn(0 * t, 0.4 * t, degrees * t), Move.PUSH_IN))
    assert slides == sorted(slides, reverse=True)
    assert pushes == sorted(pushes, reverse=True)
    assert all(slide < push for slide, push in zip(slides[1:], pushes[1:], strict=True))


@pytest.mark.parametrize(("right", "ahead"), [(1.0, 0.0), (-1.0, 0.0), (0.0, 1.0), (0.0, -1.0)])
def test_travel_costs_a_pan_the_more_the_farther_it_goes(right: float, ahead: float) -> None:
    step = torch.tensor([[right, ahead]]).repeat(16, 1) / 16
    values = [judged(swept(far * step, torch.full((16,), 1.5)), Move.PAN_RIGHT) for far in (0.0, 0.05, 0.2, 0.6, 2.0)]
    assert values == sorted(values, reverse=True)
    assert values[0] > 0.99
    assert values[1] > 0.7
    assert values[4] < 0.3


def test_travel_with_a_pan_costs_less_than_travel_that_holds_a_subject() -> None:
    step = torch.tensor([[0.2, 0.0]]).repeat(16, 1) / 16
    swinging = judged(swept(step, torch.full((16,), 1.5)), Move.PAN_RIGHT)
    holding = judged(swept(-step, torch.full((16,), 1.5)), Move.PAN_RIGHT)
    assert swinging > 1.3 * holding


@pytest.mark.parametrize("radius", [0.35, 0.6, 1.0, 1.4])
def test_the_distance_of_an_orbits_centre_is_free(radius: float) -> None:
    around = trajectory_from_moves(
        [Move.ORBIT_LEFT], FRAMES, constants=replace(DEFAULT_CONSTANTS, orbit_radius=1000 * radius)
    )
    assert judged(around.scaled(1e-3).c2w, Move.ORBIT_LEFT) > 0.85


@pytest.mark.parametrize("degrees", [-24.0, -3.0, 0.0, 24.0])
def test_a_slide_that_does_not_turn_about_a_centre_is_no_orbit(degrees: float) -> None:
    """An orbit to the left turns right: about .25 scene depths of way, with turns that no near centre explains."""
    step = torch.tensor([[-0.25, 0.0]]).repeat(16, 1) / 16
    turning = swept(step if degrees <= 3 else 8 * step, torch.full((16,), degrees / 16))
    assert judged(turning, Move.ORBIT_LEFT) < 0.1


def test_an_orbit_that_comes_nearer_earns_less() -> None:
    values = []
    for ahead in (0.0, 0.1, 0.25):
        step = torch.tensor([[-0.25, ahead]]).repeat(16, 1) / 16
        values.append(judged(swept(step, torch.full((16,), 1.5)), Move.ORBIT_LEFT))
    assert values[0] > 0.95
    assert values == sorted(values, reverse=True)
    assert values[2] < 0.5


@pytest.mark.parametrize("shown", MOVING)
def test_more_of_the_move_never_pays_less_up_to_the_typical_amount(shown: Move) -> None:
    values = [judged(path(shown, factor=factor), shown) for factor in (0.02, 0.1, 0.25, 0.5, 0.75, 1.0)]
    assert values == sorted(values)
    assert values[0] < 0.1


@pytest.mark.parametrize("name", ["push, turned left", "pull, turned left", "pan, swung right"])
def test_left_and_right_are_treated_alike(name: str) -> None:
    flip = torch.diag(torch.tensor([-1.0, 1.0, 1.0, 1.0], dtype=torch.float64))
    mirrored = flip @ filmed(name) @ flip
    for move in Move:
        swap = {"left": "right", "right": "left"}
        head, _, tail = move.value.partition("_")
        other = Move(f"{head}_{swap.get(tail, tail)}" if tail else move.value)
        assert judged(mirrored, other) == pytest.approx(judged(filmed(name), move), abs=1e-9)


@pytest.mark.parametrize("moves", [(Move.PUSH_IN,), (Move.PAN_LEFT,), (Move.ORBIT_LEFT, Move.PULL_OUT), (Move.FIXED,)])
def test_unit_and_axes_of_the_estimate_do_not_matter(moves: tuple[Move, ...]) -> None:
    shown = shaken(path(*moves), 1.0, 0.3, torch.Generator().manual_seed(1))
    expected = judged(shown, *moves)
    larger = shown.clone()
    larger[:, :3, 3] *= 40
    elsewhere = (shift(3.0, -2.0) @ yaw(70.0)) @ shown
    assert judged(larger, *moves, depth=40.0) == pytest.approx(expected)
    assert judged(elsewhere, *moves) == pytest.approx(expected)


@pytest.mark.parametrize("factor", [1e-3, 1.0, 300.0])
def test_without_a_unit_kind_and_direction_still_decide(factor: float) -> None:
    for shown in SINGLE_MOVES:
        scaled = path(shown)
        scaled[:, :3, 3] *= factor
        values = {move: judged(scaled, move, depth=None) for move in SINGLE_MOVES}
        assert max(values, key=lambda move: values[move]) is shown
        assert values[shown] >= 0.9


def test_translation_without_parallax_means_nothing() -> None:
    travelling = path(Move.PUSH_IN) @ path(Move.PAN_LEFT)
    assert judged(travelling, Move.PUSH_IN, has_parallax=False) < 0.01
    assert judged(travelling, Move.PAN_LEFT, has_parallax=False) == pytest.approx(
        judged(path(Move.PAN_LEFT), Move.PAN_LEFT)
    )


def test_rest_is_judged_as_exactly_as_by_a_path() -> None:
    still = torch.eye(4, dtype=torch.float64).repeat(FRAMES, 1, 1)
    for strength in (0.0, 0.3, 1.0):
        seen = CameraTrajectory(shaken(still, 1.0, strength, torch.Generator().manual_seed(2)), scene_depth=1.0)
        exact = compare_paths(seen, CameraTrajectory(still), Tolerances()).score
        assert compare_with_words(seen, [Move.FIXED], Tolerances()).score == pytest.approx(exact)


def test_factors_multiply_to_the_score_and_name_the_fault() -> None:
    estimate = CameraTrajectory(path(Move.MOVE_RIGHT, factor=0.2) @ path(Move.PAN_RIGHT), scene_depth=1.0)
    found = compare_with_words(estimate, [Move.MOVE_RIGHT], Tolerances())
    assert found.score == pytest.approx(found.direction * found.amount * found.dominance * found.smoothness)
    assert found.dominance == pytest.approx(0.044 / (0.044 + math.radians(14)), abs=1e-3)
    assert found.smoothness == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("moves", [(), (Move.PUSH_IN,) * 3])
def test_moves_that_do_not_fit_the_clip_are_refused(moves: Sequence[Move]) -> None:
    with pytest.raises(TrajectoryError, match="at least one move"):
        judged(path(Move.PUSH_IN, num_frames=3), *moves)


def test_inverse_of_the_path_is_the_wrong_direction() -> None:
    for shown in SINGLE_MOVES:
        if shown is not Move.FIXED:
            assert judged(torch.stack([invert_pose(c2w) for c2w in path(shown)]), shown) < 0.05
