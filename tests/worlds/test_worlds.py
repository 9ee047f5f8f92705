"""The ray-caster against closed forms: what other tests call the truth must be true."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch.nn import functional

from worldr1_rewards.probes.world import (
    CHAINS,
    CORRUPTIONS,
    FAMILIES,
    HACKS,
    MOVES,
    build_scene,
    camera_path,
    intrinsics,
    prompt_of,
    render_depth,
    render_frame,
    render_world,
)
from worldr1_rewards.probes.world.scenes import Scene, Solid

SIZE = (48, 64)
EYE = torch.eye(4, dtype=torch.float64)


def empty_room(seed: int = 0) -> Scene:
    return build_scene("rich", seed).with_solids([])


def with_solid(solid: Solid) -> Scene:
    return build_scene("rich", 0).with_solids([solid])


def test_depth_of_a_facing_wall_is_its_distance() -> None:
    scene = replace(
        empty_room(), room_low=torch.tensor([-50.0, -50.0, -4.0]), room_high=torch.tensor([50.0, 50.0, 7.0])
    )
    pose = camera_path("push in", 2, scene_depth=5.0, amounts={"push": 0.3})[1]
    depth = render_depth(scene, pose, intrinsics(SIZE), SIZE)
    torch.testing.assert_close(depth, torch.full(SIZE, 5.5))


def test_depth_of_the_floor_follows_the_pinhole() -> None:
    scene = replace(
        empty_room(), room_low=torch.tensor([-90.0, -90.0, -4.0]), room_high=torch.tensor([90.0, 1.5, 500.0])
    )
    K = intrinsics(SIZE)
    depth = render_depth(scene, EYE, K, SIZE)
    row = SIZE[0] - 1
    expected = 1.5 * K[1, 1] / (row + 0.5 - K[1, 2])
    torch.testing.assert_close(depth[row], torch.full((SIZE[1],), expected.item()))


def test_depth_of_a_sphere_is_nearest_at_its_centre() -> None:
    scene = with_solid(Solid("sphere", torch.tensor([0.0, 0.0, 4.0]), torch.tensor([0.6, 0.6, 0.6])))
    depth = render_depth(scene, EYE, intrinsics((65, 65)), (65, 65))
    assert depth[32, 32].item() == pytest.approx(3.4, abs=1e-5)
    x = (40.5 - 32.5) / (1.2 * 65)
    a, b, c = 1 + x * x, -2 * 4.0, 16 - 0.36
    assert depth[32, 40].item() == pytest.approx((-b - math.sqrt(b * b - 4 * a * c)) / (2 * a), abs=1e-4)


def test_cylinder_has_a_round_side_and_a_flat_top() -> None:
    solid = Solid("cylinder", torch.tensor([0.0, 1.0, 4.0]), torch.tensor([0.5, 0.6, 0.5]))
    K = intrinsics((65, 65))
    depth = render_depth(with_solid(solid), EYE, K, (65, 65))
    points = torch.tensor([(row + 0.5 - 32.5) / K[1, 1] for row in range(65)]) * depth[:, 32]
    assert depth[50, 32].item() == pytest.approx(3.5, abs=1e-5)
    on_top = (points - 0.4).abs() < 1e-4
    assert int(on_top.sum()) >= 2
    assert float(depth[:, 32][on_top].max()) <= 4.5 + 1e-4


def test_turned_box_shows_its_edge() -> None:
    solid = Solid("box", torch.tensor([0.0, 0.0, 4.0]), torch.tensor([0.5, 0.5, 0.5]), yaw=math.pi / 4)
    depth = render_depth(with_solid(solid), EYE, intrinsics((65, 65)), (65, 65))
    assert depth[32, 32].item() == pytest.approx(4 - 0.5 * math.sqrt(2), abs=1e-4)


def test_focal_length_and_field_of_view_agree() -> None:
    assert intrinsics((48, 64))[0, 0].item() == pytest.approx(76.8)
    K = intrinsics((48, 64), fov=60)
    assert 2 * math.degrees(math.atan(32 / K[0, 0].item())) == pytest.approx(60)


@pytest.mark.parametrize("family", ["rich", "soft", "plain", "tiles"])
@pytest.mark.parametrize("move", ["push in", "orbit left", "pan right", ("move right", "push in")])
def test_frames_reproject_onto_each_other(family: str, move: str | tuple[str, ...]) -> None:
    clip = render_world(family, move, seed=4, size=(96, 96), num_frames=5, samples=3)
    K = clip.intrinsics
    y, x = torch.meshgrid(torch.arange(96) + 0.5, torch.arange(96) + 0.5, indexing="ij")
    pixels = torch.stack([x, y, torch.ones_like(x)], dim=-1).double().reshape(-1, 3)
    points = (pixels @ torch.linalg.inv(K).T) * clip.depth[0].double().reshape(-1, 1)
    for frame in (2, 4):
        w2c = torch.linalg.inv(clip.c2w[frame])
        seen = points @ w2c[:3, :3].T + w2c[:3, 3]
        uv = (seen / seen[:, 2:]) @ K.T
        grid = (2 * uv[:, :2] / 96 - 1).float().reshape(1, 96, 96, 2)
        colour = functional.grid_sample(clip.frames[frame][None], grid, align_corners=False)[0]
        depth = functional.grid_sample(clip.depth[frame][None, None], grid, mode="nearest", align_corners=False)[0, 0]
        z = seen[:, 2].reshape(96, 96).float()
        visible = (grid[0].abs() < 0.97).all(-1) & ((depth - z).abs() < 0.02 * z)
        error = (colour - clip.frames[0]).abs().mean(0)[visible]
        assert visible.float().mean() > 0.25
        assert error.median() < 0.02
        assert error.mean() < 0.035


@pytest.mark.parametrize("name", ["frozen", "repeated"])
def test_still_hacks_repeat_one_frame(name: str) -> None:
    clip = render_world("rich", "push in", size=SIZE, num_frames=4, corruption=name)
    assert torch.equal(clip.frames, clip.frames[:1].expand_as(clip.frames))
    assert torch.equal(clip.c2w, EYE.expand(4, 4, 4))


def test_sensor_noise_differs_between_frames_unless_one_frame_repeats() -> None:
    frozen = render_world("noise", "push in", size=SIZE, num_frames=3, corruption="frozen").frames
    repeated = render_world("noise", "push in", size=SIZE, num_frames=3, corruption="repeated").frames
    assert 0.01 < float((frozen[0] - frozen[1]).std()) < 0.06
    assert torch.equal(repeated[0], repeated[1])


@pytest.mark.parametrize("family", FAMILIES)
def test_equal_arguments_render_equal_clips(family: str) -> None:
    first = render_world(family, "move left", seed=2, size=SIZE, num_frames=2)
    build_scene.cache_clear()
    again = render_world(family, "move left", seed=2, size=SIZE, num_frames=2)
    assert torch.equal(first.frames, again.frames)
    assert first.frames.dtype == torch.float32
    assert 0 <= float(first.frames.min()) <= float(first.frames.max()) <= 1
    assert float(first.frames.std()) > 0.05


@pytest.mark.parametrize("name", [c for c in CORRUPTIONS + HACKS if c not in ("frozen", "repeated")])
def test_corruptions_change_the_clip_and_grow_with_severity(name: str) -> None:
    arguments = {"seed": 1, "size": SIZE, "num_frames": 5}
    clean = render_world("rich", "move right", **arguments).frames
    mild = render_world("rich", "move right", corruption=name, severity=0.2, **arguments).frames
    full = render_world("rich", "move right", corruption=name, severity=1.0, **arguments).frames
    assert float((full - clean).abs().mean()) > 0.003
    assert float((full - mild).abs().mean()) > 1e-4 or name in ("scene_cut", "unrelated")


@pytest.mark.parametrize(
    "name", ["morph", "bend", "swim", "vanish", "wrong_direction", "wrong_speed", "blur", "scene_cut", "unrelated"]
)
def test_corruptions_start_from_an_honest_first_frame(name: str) -> None:
    clean = render_world("tiles", "orbit right", seed=1, size=SIZE, num_frames=3)
    broken = render_world("tiles", "orbit right", seed=1, size=SIZE, num_frames=3, corruption=name)
    if name != "blur":
        torch.testing.assert_close(broken.frames[0], clean.frames[0], atol=2e-3, rtol=0)
    assert torch.equal(broken.c2w[0], EYE)


def test_vanish_removes_something_half_way_and_not_before() -> None:
    clean = render_world("plain", "fixed", seed=3, size=SIZE, num_frames=6)
    broken = render_world("plain", "fixed", seed=3, size=SIZE, num_frames=6, corruption="vanish")
    difference = (clean.frames - broken.frames).abs().mean(dim=(1, 2, 3))
    assert torch.equal(difference[:3], torch.zeros(3))
    assert float(difference[3:].min()) > 0.002


@pytest.mark.parametrize(
    ("move", "opposite"),
    [("push in", "pull out"), ("move left", "move right"), ("pan right", "pan left"), ("orbit left", "orbit right")],
)
def test_a_wrong_direction_ends_in_the_opposite_move_and_deviates_evenly(move: str, opposite: str) -> None:
    wrong = camera_path(move, 5, scene_depth=5.0, astray=180.0)
    torch.testing.assert_close(wrong, camera_path(opposite, 5, scene_depth=5.0))
    commanded, half = camera_path(move, 5, scene_depth=5.0), camera_path(move, 5, scene_depth=5.0, astray=90.0)
    away = [float((camera_path(move, 5, scene_depth=5.0, astray=a)[-1] - commanded[-1]).norm()) for a in (45, 90, 180)]
    assert away == sorted(away)
    assert half[-1, 1, 3] <= 1e-9


def test_unrelated_frames_share_no_scene() -> None:
    clip = render_world("rich", "push in", size=SIZE, num_frames=13, corruption="unrelated")
    honest = render_world("rich", "push in", size=SIZE, num_frames=13)
    assert torch.equal(clip.frames[0], honest.frames[0])
    assert float((clip.frames[1:] - clip.frames[:-1]).abs().mean()) > 3 * float(
        (honest.frames[1:] - honest.frames[:-1]).abs().mean()
    )


def test_half_speed_goes_forty_percent_of_the_way() -> None:
    clip = render_world("soft", "push in", size=SIZE, num_frames=3, corruption="wrong_speed")
    assert clip.c2w[-1, 2, 3].item() == pytest.approx(0.4 * clip.commanded[-1, 2, 3].item())


def test_slide_equals_a_translation_over_a_plane() -> None:
    clip = render_world("rich", "move right", seed=5, size=SIZE, num_frames=3, corruption="slide2d")
    pixels = 0.2 * clip.intrinsics[0, 0].item()
    whole = round(pixels)
    moved = functional.grid_sample(
        clip.frames[0][None],
        functional.affine_grid(
            torch.tensor([[[1.0, 0, 2 * pixels / SIZE[1]], [0, 1.0, 0]]]), (1, 3, *SIZE), align_corners=False
        ),
        align_corners=False,
    )[0]
    overlap = slice(2, SIZE[1] - whole - 2)
    assert float((moved - clip.frames[2])[..., overlap].abs().mean()) < 0.02


@pytest.mark.parametrize(
    ("move", "x", "z", "turn"),
    [
        ("push in", 0.0, 1.5, 0.0),
        ("pull out", 0.0, -1.5, 0.0),
        ("move left", -1.0, 0.0, 0.0),
        ("move right", 1.0, 0.0, 0.0),
        ("pan left", 0.0, 0.0, -16.0),
        ("pan right", 0.0, 0.0, 16.0),
        ("orbit left", -4 * math.sin(math.radians(24)), 4 * (1 - math.cos(math.radians(24))), 24.0),
        ("orbit right", 4 * math.sin(math.radians(24)), 4 * (1 - math.cos(math.radians(24))), -24.0),
        ("fixed", 0.0, 0.0, 0.0),
    ],
)
def test_moves_end_where_their_words_say(move: str, x: float, z: float, turn: float) -> None:
    path = camera_path(move, 9, scene_depth=5.0)
    assert torch.equal(path[0], EYE)
    assert path[-1, 0, 3].item() == pytest.approx(x, abs=1e-12)
    assert path[-1, 2, 3].item() == pytest.approx(z, abs=1e-12)
    assert math.degrees(math.atan2(path[-1, 0, 2], path[-1, 2, 2])) == pytest.approx(turn, abs=1e-9)


def test_orbit_keeps_its_centre_in_the_middle_of_the_view() -> None:
    path = camera_path("orbit left", 5, scene_depth=5.0)
    centre = torch.tensor([0.0, 0.0, 4.0, 1.0], dtype=torch.float64)
    seen = torch.linalg.inv(path) @ centre
    torch.testing.assert_close(seen, centre.expand(5, 4))


def test_a_chain_runs_one_move_after_the_other() -> None:
    path = camera_path(("push in", "pan left"), 9, scene_depth=5.0)
    torch.testing.assert_close(path[4], camera_path("push in", 2, scene_depth=5.0)[1])
    torch.testing.assert_close(path[8, :3, 3], path[4, :3, 3])
    torch.testing.assert_close(path[8, :3, :3], camera_path("pan left", 2, scene_depth=5.0)[1, :3, :3])


@pytest.mark.parametrize("moves", [*MOVES, *CHAINS])
def test_prompts_name_their_moves_in_order(moves: str | tuple[str, ...]) -> None:
    prompt = prompt_of(moves)
    words = [moves] if isinstance(moves, str) else list(moves)
    assert [prompt.index(word) for word in words] == sorted(prompt.index(word) for word in words)


def test_supersampling_converges() -> None:
    scene, K = build_scene("tiles", 1), intrinsics(SIZE)
    fine = render_frame(scene, EYE, K, SIZE, samples=6)
    coarse = [float((render_frame(scene, EYE, K, SIZE, samples=n) - fine).abs().mean()) for n in (1, 2, 3)]
    assert coarse[0] > coarse[1] > coarse[2]


def test_unknown_names_are_refused() -> None:
    with pytest.raises(ValueError, match="Unknown family"):
        build_scene("velvet")
    with pytest.raises(ValueError, match="Unknown move"):
        camera_path("tilt up", 3, scene_depth=1.0)
    with pytest.raises(ValueError, match="Unknown corruption"):
        render_world("rich", "push in", size=SIZE, corruption="melt")
    with pytest.raises(ValueError, match="severity"):
        render_world("rich", "push in", size=SIZE, corruption="morph", severity=0.0)
