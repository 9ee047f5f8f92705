"""The trajectory reward: exact paths earn 1, worse ones earn less, for every word of the vocabulary."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch

from worldr1_core.camera import CameraTrajectory, Move, detect_moves, trajectory_from_moves, trajectory_from_prompt
from worldr1_core.clip import Clip
from worldr1_core.errors import PluginError, ScoreNotApplicable, TrajectoryError, UserError
from worldr1_core.reconstructor import Reconstruction, Render
from worldr1_core.reward import Reward, RewardInputs
from worldr1_core.video import Video
from worldr1_rewards.probes.world.corruptions import shaken
from worldr1_rewards.probes.world.paths import CHAINS, MOVES, camera_path, prompt_of, yaw
from worldr1_rewards.rewards.consistency import ConsistencyReward
from worldr1_rewards.rewards.reconstruction import ReconstructionReward
from worldr1_rewards.rewards.trajectory import TrajectoryReward, inverse_depth_relief

FRAMES = 17
DEPTH = 5.0
TRAVELLING = ["push in", "pull out", "move left", "move right", "orbit left", "orbit right"]
PROMPTS = [*MOVES, *CHAINS]


@dataclass(frozen=True, kw_only=True)
class Estimated(Reconstruction):
    """A path and nothing to render."""

    def render(self, c2w: Any, intrinsics: Any, size: Any) -> Render:
        raise NotImplementedError

    def rerender(self) -> Render:
        raise NotImplementedError


def commanded(moves: str | tuple[str, ...], num_frames: int = FRAMES) -> CameraTrajectory:
    target = trajectory_from_prompt(prompt_of(moves), num_frames)
    assert target is not None
    return target


def follow(c2w: torch.Tensor, target: CameraTrajectory, depth: float | None = DEPTH, **options: Any) -> float:
    estimate = CameraTrajectory(c2w, scene_depth=depth)
    return TrajectoryReward(**options).follow(Estimated(trajectory=estimate), target).value


def turned(c2w: torch.Tensor, degrees: float) -> torch.Tensor:
    """The path with a turn that grows over the clip."""
    return torch.stack([pose @ yaw(degrees * i / (len(c2w) - 1)) for i, pose in enumerate(c2w)])


@pytest.mark.parametrize("move", list(Move))
def test_exact_path_of_every_word_earns_one(move: Move) -> None:
    target = trajectory_from_moves([move], FRAMES)
    assert follow(target.c2w, target, depth=target.scene_depth) == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize("moves", CHAINS)
def test_exact_path_of_two_moves_earns_one(moves: tuple[str, ...]) -> None:
    target = commanded(moves)
    assert follow(target.c2w, target, depth=target.scene_depth) == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize("moves", PROMPTS)
@pytest.mark.parametrize("factor", [1e-3, 0.5, 40.0])
def test_unit_of_the_estimate_does_not_matter_when_unknown(moves: str | tuple[str, ...], factor: float) -> None:
    target = replace(commanded(moves), scene_depth=None)
    estimate = turned(target.c2w, 2.0)
    expected = follow(estimate, target, depth=None)
    scaled = estimate.clone()
    scaled[:, :3, 3] *= factor
    assert follow(scaled, target, depth=None) == pytest.approx(expected)
    assert follow(estimate, target.scaled(factor), depth=None) == pytest.approx(expected)


@pytest.mark.parametrize("moves", PROMPTS)
def test_global_scale_does_not_matter_when_depth_scales_too(moves: str | tuple[str, ...]) -> None:
    target = commanded(moves)
    estimate = camera_path(moves, FRAMES, scene_depth=DEPTH, scale=0.7)
    scaled = estimate.clone()
    scaled[:, :3, 3] *= 7
    assert follow(scaled, target, depth=7 * DEPTH) == pytest.approx(follow(estimate, target))
    assert follow(estimate, target.scaled(0.01)) == pytest.approx(follow(estimate, target))


@pytest.mark.parametrize("moves", PROMPTS)
def test_score_falls_with_every_degree_of_rotation_error(moves: str | tuple[str, ...]) -> None:
    target = commanded(moves)
    sign = -1.0 if "pan right" in str(moves) or "orbit left" in str(moves) else 1.0
    values = [follow(turned(target.c2w, sign * angle), target, depth=1000.0) for angle in (0, 1, 2, 4, 8, 16, 30, 60)]
    assert values == sorted(values, reverse=True)
    assert len(set(values)) == len(values)
    assert values[-1] < 0.05


@pytest.mark.parametrize("moves", PROMPTS)
def test_turning_too_far_costs_too(moves: str | tuple[str, ...]) -> None:
    target = commanded(moves)
    values = [
        follow(turned(target.c2w, sign * angle), target, depth=1000.0) for sign in (1, -1) for angle in (0, 4, 40)
    ]
    assert values[0] > values[1] > values[2]
    assert values[3] > values[4] > values[5]


@pytest.mark.parametrize("move", TRAVELLING)
def test_score_falls_with_every_degree_between_directions(move: str) -> None:
    target = commanded(move)
    values = []
    for degrees in (0, 5, 10, 20, 45, 90, 135, 180):
        estimate = target.c2w.clone()
        estimate[:, :3, 3] = estimate[:, :3, 3] @ yaw(degrees)[:3, :3].T
        values.append(follow(estimate, target, depth=None))
    assert values == sorted(values, reverse=True)
    assert len(set(values)) == len(values)
    assert values[5] < 0.05
    assert values[7] < 0.01


@pytest.mark.parametrize("moves", PROMPTS)
def test_score_falls_with_shake(moves: str | tuple[str, ...]) -> None:
    target = commanded(moves)
    path = camera_path(moves, FRAMES, scene_depth=DEPTH)
    values = []
    for severity in (0.0, 0.1, 0.3, 1.0):
        seeds = [torch.Generator().manual_seed(seed) for seed in range(4)]
        values.append(sum(follow(shaken(path, DEPTH, severity, g), target) for g in seeds) / 4)
    assert values == sorted(values, reverse=True)
    assert values[-1] < 0.5 * values[0]


@pytest.mark.parametrize("moves", [m for m in PROMPTS if m != "fixed"])
def test_standing_still_earns_nothing_where_a_move_is_commanded(moves: str | tuple[str, ...]) -> None:
    target = commanded(moves)
    still = torch.eye(4, dtype=torch.float64).repeat(FRAMES, 1, 1)
    assert follow(still, target) < 0.01
    assert follow(still, target, depth=None) < 0.01


def test_standing_still_is_right_where_it_is_commanded() -> None:
    target = commanded("fixed")
    still = torch.eye(4, dtype=torch.float64).repeat(FRAMES, 1, 1)
    assert follow(still, target) == 1
    assert follow(still, target, depth=None) == 1
    for moves in (m for m in MOVES if m != "fixed"):
        assert follow(camera_path(moves, FRAMES, scene_depth=DEPTH), target) < 0.35


@pytest.mark.parametrize("moves", [m for m in PROMPTS if m != "fixed"])
def test_the_reverse_of_a_move_earns_nothing(moves: str | tuple[str, ...]) -> None:
    target = commanded(moves)
    assert follow(torch.linalg.inv(camera_path(moves, FRAMES, scene_depth=DEPTH)), target) < 0.05


@pytest.mark.parametrize("moves", [m for m in PROMPTS if m != "fixed"])
def test_less_than_half_the_way_pays_clearly_less(moves: str | tuple[str, ...]) -> None:
    target = commanded(moves)
    whole = follow(camera_path(moves, FRAMES, scene_depth=DEPTH), target)
    part = follow(camera_path(moves, FRAMES, scene_depth=DEPTH, scale=0.4), target)
    assert whole > 0.65
    assert part < 0.7 * whole


@pytest.mark.parametrize("move", TRAVELLING)
def test_travel_pays_more_the_farther_it_goes_and_saturates(move: str) -> None:
    target = commanded(move)
    values = []
    for share in (0.05, 0.2, 0.5, 0.8, 1.0, 1.5, 3.0):
        estimate = target.c2w.clone()
        estimate[:, :3, 3] *= share
        values.append(follow(estimate, target, depth=1000.0))
    assert values == sorted(values)
    assert values[0] < 0.1
    assert values[3] < values[4] == pytest.approx(1)
    assert max(values) <= 1


def test_every_word_is_told_from_every_other() -> None:
    targets = {move: commanded(move) for move in MOVES}
    for shown in MOVES:
        path = camera_path(shown, FRAMES, scene_depth=DEPTH)
        values = {move: follow(path, target) for move, target in targets.items()}
        assert max(values, key=lambda move: values[move]) == shown
        assert sorted(values.values())[-2] < 0.5 * values[shown]


def test_order_of_two_moves_matters() -> None:
    right, wrong = commanded(("push in", "pan left")), commanded(("pan left", "push in"))
    path = camera_path(("push in", "pan left"), FRAMES, scene_depth=DEPTH)
    assert follow(path, right) > 2 * follow(path, wrong)


def test_translation_without_parallax_means_nothing() -> None:
    path = CameraTrajectory(camera_path("push in", FRAMES, scene_depth=DEPTH), scene_depth=DEPTH)
    blind = Estimated(trajectory=path, has_parallax=False)
    assert TrajectoryReward().follow(blind, commanded("push in")).value < 0.01
    assert TrajectoryReward().follow(blind, commanded("fixed")).value == 1


def test_a_pan_must_not_travel() -> None:
    target = commanded("pan left")
    slide = target.c2w.clone()
    slide[:, 0, 3] = torch.linspace(0, 0.3 * DEPTH, FRAMES)
    assert follow(slide, target) < 0.2 * follow(target.c2w, target)
    assert follow(slide, target, depth=None) < 0.01


def flat_scene(relief: float) -> torch.Tensor:
    """Depth whose inverse spreads evenly, (95th - 5th percentile) / median = relief."""
    inverse = 1 + relief / 0.9 * (torch.linspace(0, 1, 64 * 64) - 0.5)
    return (DEPTH / inverse).reshape(1, 64, 64).repeat(FRAMES, 1, 1)


def test_relief_is_the_spread_of_inverse_depth() -> None:
    path = CameraTrajectory(camera_path("move left", FRAMES, scene_depth=DEPTH))
    for relief in (0.0, 0.1, 0.5):
        found = inverse_depth_relief(Estimated(trajectory=path, depth=flat_scene(relief)))
        assert found == pytest.approx(relief, abs=5e-3)


def test_moving_over_a_flat_picture_earns_little() -> None:
    target = commanded("move left")
    path = CameraTrajectory(camera_path("move left", FRAMES, scene_depth=DEPTH), scene_depth=DEPTH)
    values = [
        TrajectoryReward().follow(Estimated(trajectory=path, depth=flat_scene(relief)), target).value
        for relief in (0.0, 0.05, 0.13, 0.3, 0.8)
    ]
    assert values == sorted(values)
    assert values[0] == 0
    assert values[1] < 0.1
    assert values[4] == TrajectoryReward().follow(Estimated(trajectory=path), target).value
    plane = Estimated(trajectory=path, depth=flat_scene(0.05))
    assert TrajectoryReward(relief=0).follow(plane, target).value > 0.9


@pytest.mark.parametrize("move", ["pan left", "fixed"])
def test_relief_does_not_matter_where_no_travel_is_commanded(move: str) -> None:
    path = CameraTrajectory(camera_path(move, FRAMES, scene_depth=DEPTH))
    flat = Estimated(trajectory=path, depth=flat_scene(0.0), has_parallax=False)
    assert TrajectoryReward().follow(flat, commanded(move)).value > 0.9


def test_a_slide_taken_for_a_pan_earns_less_the_worse_a_rotation_fits() -> None:
    path = CameraTrajectory(camera_path("pan left", FRAMES, scene_depth=DEPTH))
    values = []
    for ratio in (0.9, 1.0, 1.3, 3.0, 8.0, 40.0):
        turning = Estimated(trajectory=path, has_parallax=False, diagnostics={"move_ratio": ratio})
        values.append(TrajectoryReward().follow(turning, commanded("pan left")).value)
    assert values[0] == values[1]
    assert values[1:] == sorted(values[1:], reverse=True)
    assert values[2] > 0.98 * values[0]
    assert values[4] < 0.3 * values[0]
    assert TrajectoryReward(misfit=0).follow(turning, commanded("pan left")).value == pytest.approx(values[0])


def test_misfit_of_a_rotation_does_not_matter_where_none_is_commanded() -> None:
    still = CameraTrajectory(camera_path("fixed", FRAMES, scene_depth=DEPTH))
    resting = Estimated(trajectory=still, has_parallax=False, diagnostics={"move_ratio": 9.0})
    assert TrajectoryReward().follow(resting, commanded("fixed")).value == 1


def test_scene_depth_comes_from_the_first_depth_map_where_the_path_has_none() -> None:
    target = commanded("push in")
    half = CameraTrajectory(camera_path("push in", FRAMES, scene_depth=DEPTH, scale=0.4))
    with_depth = Estimated(trajectory=half, depth=flat_scene(0.9))
    without = Estimated(trajectory=half)
    assert TrajectoryReward().follow(with_depth, target).value < 0.7 * TrajectoryReward().follow(without, target).value


def test_no_command_is_not_applicable() -> None:
    clip = Clip(Video(torch.rand(3, 3, 16, 16)))
    with pytest.raises(ScoreNotApplicable, match="no camera"):
        TrajectoryReward().score(clip, RewardInputs())


def test_a_missing_reconstruction_is_the_scorers_fault() -> None:
    clip = Clip(Video(torch.rand(3, 3, 16, 16)), target=commanded("push in", 3))
    with pytest.raises(PluginError, match="reconstruction"):
        TrajectoryReward().score(clip, RewardInputs())


def test_a_path_of_another_length_is_the_users_fault() -> None:
    estimate = Estimated(trajectory=CameraTrajectory(camera_path("push in", 5, scene_depth=1.0)))
    with pytest.raises(TrajectoryError, match=r"17 poses.*5 frames"):
        TrajectoryReward().follow(estimate, commanded("push in"))


def test_score_explains_itself() -> None:
    clip = Clip(Video(torch.rand(FRAMES, 3, 16, 16)), target=commanded("orbit left"))
    path = CameraTrajectory(camera_path("orbit left", FRAMES, scene_depth=DEPTH), scene_depth=DEPTH)
    score = TrajectoryReward().score(clip, RewardInputs(Estimated(trajectory=path, depth=flat_scene(0.5))))
    assert 0.9 < score.value <= 1
    assert score.details["turn"] == pytest.approx(1)
    assert score.details["relief"] == pytest.approx(0.5, abs=0.01)
    assert {"direction_error", "rotation_error", "travel", "travelled", "turned", "validity"} <= set(score.details)


def test_a_single_frame_is_compared_without_steps() -> None:
    one = torch.eye(4, dtype=torch.float64)[None]
    assert follow(one, CameraTrajectory(one)) == 1


@pytest.mark.parametrize("options", [{"rotation_scale": 0}, {"relief": 2}, {"relief_gate": 0.1}, {"amount": "half"}])
def test_options_are_bounded(options: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=next(iter(options))):
        TrajectoryReward(**options)


def wide_pan(relief: float | None = None) -> Estimated:
    """A real pan, farther than the vocabulary's, that swings about the body."""
    c2w = camera_path("pan right", FRAMES, scene_depth=DEPTH, amounts={"pan": 32.0})
    c2w[:, 0, 3] = torch.linspace(0, 0.25 * DEPTH, FRAMES)
    depth = None if relief is None else flat_scene(relief)
    return Estimated(trajectory=CameraTrajectory(c2w, scene_depth=DEPTH), depth=depth)


def clip_of(prompt: str, *, words_alone: bool) -> Clip:
    moves = tuple(detect_moves(prompt)) if words_alone else ()
    target = trajectory_from_prompt(prompt, FRAMES)
    return Clip(Video(torch.rand(FRAMES, 3, 16, 16)), prompt, target, moves=moves)


def test_words_alone_command_kind_and_direction_but_no_amount() -> None:
    words = clip_of("Camera pan right. A room.", words_alone=True)
    score = TrajectoryReward().judge(words, wide_pan())
    assert score.value > 0.7
    assert score.value == score.details["lenient"]
    assert score.details["exact"] < 0.05
    expected = {"direction", "amount", "dominance", "smoothness", "rotation_error", "turn", "validity"}
    assert expected <= set(score.details)
    wrong = clip_of("Camera pan left. A room.", words_alone=True)
    assert TrajectoryReward().judge(wrong, wide_pan()).value < 0.01


@pytest.mark.parametrize("moves", PROMPTS)
def test_a_given_path_is_the_command_to_the_last_bit(moves: str | tuple[str, ...]) -> None:
    clip = clip_of(prompt_of(moves), words_alone=False)
    assert clip.target is not None
    estimate = CameraTrajectory(turned(camera_path(moves, FRAMES, scene_depth=DEPTH), 3.0), scene_depth=DEPTH)
    reconstruction = Estimated(trajectory=estimate, depth=flat_scene(0.4))
    assert TrajectoryReward().score(clip, RewardInputs(reconstruction)) == TrajectoryReward().follow(
        reconstruction, clip.target
    )


def test_the_option_amount_chooses_which_of_both_counts() -> None:
    words, given = (clip_of("Camera pan right. A room.", words_alone=alone) for alone in (True, False))
    values = {
        (amount, clip.moves != ()): TrajectoryReward(amount=amount).judge(clip, wide_pan()).value
        for amount in ("auto", "exact", "lenient")
        for clip in (words, given)
    }
    exact, lenient = values["exact", True], values["lenient", True]
    assert exact < 0.05 < 0.7 < lenient
    assert values["auto", True] == lenient
    assert values["auto", False] == values["exact", False] == exact
    assert values["lenient", False] == lenient


def test_both_values_are_reported_when_the_exact_one_counts() -> None:
    score = TrajectoryReward(amount="exact").judge(clip_of("Camera pan right.", words_alone=True), wide_pan())
    assert score.value == score.details["exact"] < score.details["lenient"]


def test_lenient_without_words_follows_the_path() -> None:
    clip = replace(clip_of("Camera pan right.", words_alone=False), prompt="A room.")
    assert clip.target is not None
    assert TrajectoryReward(amount="lenient").judge(clip, wide_pan()) == TrajectoryReward().follow(
        wide_pan(), clip.target
    )


def test_a_moved_picture_is_no_move_by_words_either() -> None:
    words = clip_of("Camera move left. A room.", words_alone=True)
    path = CameraTrajectory(camera_path("move left", FRAMES, scene_depth=DEPTH), scene_depth=DEPTH)
    solid, flat = (
        TrajectoryReward().judge(words, Estimated(trajectory=path, depth=flat_scene(relief))) for relief in (0.8, 0.03)
    )
    assert solid.value > 0.9
    assert flat.value < 0.05
    assert flat.value == pytest.approx(solid.value * flat.details["validity"])


def test_a_slide_taken_for_a_pan_is_no_pan_by_words_either() -> None:
    words = clip_of("Camera pan left. A room.", words_alone=True)
    path = CameraTrajectory(camera_path("pan left", FRAMES, scene_depth=DEPTH))
    honest, slide = (
        Estimated(trajectory=path, has_parallax=False, diagnostics={"move_ratio": ratio}) for ratio in (1.0, 20.0)
    )
    assert TrajectoryReward().judge(words, honest).value > 0.9
    assert TrajectoryReward().judge(words, slide).value < 0.1


def test_words_alone_still_ask_for_one_pose_a_frame() -> None:
    words = clip_of("Camera push in.", words_alone=True)
    estimate = Estimated(trajectory=CameraTrajectory(camera_path("push in", 5, scene_depth=1.0)))
    with pytest.raises(TrajectoryError, match=r"17 poses.*5 frames"):
        TrajectoryReward().judge(words, estimate)


@dataclass(frozen=True, kw_only=True)
class Shown(Estimated):
    """A path and a perfect re-render."""

    frames: torch.Tensor

    def rerender(self) -> Render:
        return Render(self.frames, torch.ones_like(self.frames[:, 0]))


@pytest.mark.parametrize("words_alone", [True, False])
@pytest.mark.parametrize(("reward", "gate"), [(ReconstructionReward, "gate_trajectory"), (ConsistencyReward, "gate")])
def test_the_gates_judge_a_clip_as_trajectory_does(reward: type[Reward], gate: str, words_alone: bool) -> None:
    clip = clip_of("Camera pan right. A room.", words_alone=words_alone)
    path = wide_pan().trajectory
    depth = torch.full((FRAMES, 16, 16), DEPTH)
    reconstruction = Shown(trajectory=path, depth=depth, frames=clip.video.frames)
    expected = TrajectoryReward().judge(clip, reconstruction).value
    assert reward().score(clip, RewardInputs(reconstruction)).details[gate] == expected
    assert (expected > 0.7) == words_alone
