"""The ray-caster's truth: poses, depth and colour of a clip agree, and the camera never leaves free space."""

from __future__ import annotations

import math

import pytest
import torch

from worldr1_backbones.tiny.captions import COMPOSITES, MOVE_PAIRS, SHAPES, Caption, sample_caption
from worldr1_backbones.tiny.raycaster import render, render_depth
from worldr1_backbones.tiny.scenes import BEHIND, YAW, Scene, Solid, commanded_trajectory, sample_scene
from worldr1_core.camera.vocabulary import SINGLE_MOVES, Move, trajectory_from_prompt

ALL_PATHS = [(), *((m,) for m in (*SINGLE_MOVES, *COMPOSITES)), *MOVE_PAIRS]


def _scene(shape: str = "box", texture: str = "checker", motion: str | None = None, seed: int = 0) -> Scene:
    caption = Caption((), (("red", shape), ("blue", "ball")), "green", texture, None if motion is None else (0, motion))
    return sample_scene(caption, torch.Generator().manual_seed(seed))


def _world_points(scene, path):
    """Points `(T, H, W, 3)` that the depth maps place in the world; independent of the ray-caster's rays."""
    depth = render_depth(scene, path).double()
    size = depth.shape[-1]
    inverse = torch.linalg.inv(path.intrinsics)
    centres = torch.arange(size, dtype=torch.float64) + 0.5
    y, x = torch.meshgrid(centres, centres, indexing="ij")
    camera = torch.stack([x, y, torch.ones_like(x)], dim=-1) @ inverse.T * depth[..., None]
    return torch.einsum("tij,thwj->thwi", path.rotations, camera) + path.positions[:, None, None], depth


def _distance_to_solid(solid: Solid, centre: torch.Tensor, p: torch.Tensor) -> torch.Tensor:
    """How far a point is from being on the surface, by the shape's implicit equation, in units of `half`."""
    c, s = math.cos(YAW), math.sin(YAW)
    q = (p - centre) / solid.half
    x, y, z = c * q[..., 0] - s * q[..., 2], q[..., 1], s * q[..., 0] + c * q[..., 2]
    radius = (x**2 + z**2).sqrt()
    body = {
        "ball": (x**2 + y**2 + z**2).sqrt() - 1,
        "box": torch.stack([x.abs(), y.abs(), z.abs()]).amax(0) - 1,
        "cylinder": torch.maximum(radius, y.abs()) - 1,
        "cone": torch.maximum(radius - (y + 1) / 2, y - 1),
        "pyramid": torch.maximum(torch.maximum(x.abs(), z.abs()) - (y + 1) / 2, y - 1),
    }
    return body[solid.shape].abs()


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("moves", [(Move.ORBIT_LEFT,), (Move.PULL_OUT, Move.PAN_RIGHT)])
def test_depth_lies_on_the_surfaces(shape, moves):
    scene = _scene(shape, motion="bounces")
    path = commanded_trajectory(moves)
    points, _ = _world_points(scene, path)
    x, y, z = points.unbind(-1)
    gaps = [(x.abs() - scene.half_width).abs(), (y - scene.floor).abs(), (y + scene.ceiling).abs()]
    gaps += [(z - scene.back).abs(), (z + BEHIND).abs()]
    solids = []
    for solid in scene.solids:
        centre = solid.centres(scene.floor, path.num_frames).double()[:, None, None]
        solids.append(solid.half * _distance_to_solid(solid, centre, points))
    assert torch.stack([*gaps, *solids]).amin(0).max() < 1e-3
    assert all((gap < 1e-3).sum() > 50 for gap in solids), "both solids are seen"


def test_a_point_seen_in_two_frames_has_the_depth_that_the_poses_say():
    scene, path = _scene("pyramid"), commanded_trajectory((Move.ORBIT_RIGHT,))
    points, depth = _world_points(scene, path)
    target = 8
    camera = torch.einsum("ij,hwj->hwi", path.rotations[target].T, points[0] - path.positions[target])
    pixel = camera @ path.intrinsics.T
    grid = 2 * pixel[..., :2] / pixel[..., 2:] / 64 - 1
    seen = torch.nn.functional.grid_sample(depth[target][None, None], grid[None], align_corners=False)[0, 0]
    inside = grid.abs().amax(-1) < 0.95
    agree = ((seen - camera[..., 2]).abs() < 0.01 * seen)[inside].double().mean()
    assert inside.double().mean() > 0.3
    assert agree > 0.85  # the rest is hidden behind a solid, or straddles an edge


def test_colours_follow_the_points():
    scene, path = _scene("ball", "dotted"), commanded_trajectory((Move.MOVE_LEFT,))
    frames, (points, depth) = render(scene, path).double(), _world_points(scene, path)
    target = 4
    camera = torch.einsum("ij,hwj->hwi", path.rotations[target].T, points[0] - path.positions[target])
    pixel = camera @ path.intrinsics.T
    grid = 2 * pixel[..., :2] / pixel[..., 2:] / 64 - 1
    moved = torch.nn.functional.grid_sample(frames[target][None], grid[None], align_corners=False)[0]
    seen = torch.nn.functional.grid_sample(depth[target][None, None], grid[None], align_corners=False)[0, 0]
    visible = (grid.abs().amax(-1) < 0.95) & ((seen - camera[..., 2]).abs() < 0.01 * seen)
    followed = (moved - frames[0]).abs().mean(0)[visible].mean()
    stayed = (frames[target] - frames[0]).abs().mean(0)[visible].mean()
    assert followed < 0.025
    assert followed < stayed / 3


def test_the_path_is_the_one_that_the_prompt_commands():
    generator = torch.Generator().manual_seed(0)
    for moves in ALL_PATHS[1:]:
        caption = sample_caption(generator, moves=moves)
        wanted = trajectory_from_prompt(caption.text, 9, (64, 64))
        path = commanded_trajectory(caption.moves)
        torch.testing.assert_close(path.c2w[:, :3, 3], wanted.c2w[:, :3, 3] / 1000)
        torch.testing.assert_close(path.rotations, wanted.rotations)
        torch.testing.assert_close(path.intrinsics, wanted.intrinsics)


@pytest.mark.parametrize("seed", range(12))
def test_every_path_stays_in_free_space(seed):
    generator = torch.Generator().manual_seed(seed)
    scenes = [sample_scene(sample_caption(generator, dynamic=0.5), generator) for _ in range(20)]
    for moves in ALL_PATHS:
        camera = commanded_trajectory(moves, num_frames=25).positions.float()
        for scene in scenes:
            assert camera[:, 0].abs().max() < scene.half_width - 0.05
            assert camera[:, 2].min() > -BEHIND + 0.05
            assert camera[:, 2].max() < scene.back - 0.05
            for solid in scene.solids:
                reach = solid.half * (math.cos(YAW) + math.sin(YAW))
                for centre in solid.centres(scene.floor, 9):
                    gap = (camera[:, [0, 2]] - centre[[0, 2]]).norm(dim=-1).min() - reach
                    assert gap > 0.03, (moves, solid)


def test_solids_stay_inside_the_room_and_apart():
    generator = torch.Generator().manual_seed(3)
    for _ in range(300):
        scene = sample_scene(sample_caption(generator, dynamic=0.6), generator)
        for solid in scene.solids:
            reach = solid.half * (math.cos(YAW) + math.sin(YAW))
            centres = solid.centres(scene.floor, 9)
            assert centres[:, 0].abs().max() + reach < scene.half_width
            assert centres[:, 2].max() + reach < scene.back
            assert centres[:, 1].max() + solid.half <= scene.floor + 1e-6
            assert centres[:, 1].min() - solid.half > -scene.ceiling


@pytest.mark.parametrize(
    ("motion", "axis", "sign"), [("bounces", 1, -1), ("slides left", 0, -1), ("slides right", 0, 1)]
)
def test_a_moving_object_moves_as_its_caption_says(motion, axis, sign):
    scene = _scene("box", motion=motion)
    travel = scene.solids[0].centres(scene.floor, 9) - scene.solids[0].centres(scene.floor, 9)[0]
    assert travel[:, axis].abs().max() > 0.1
    assert (sign * travel[:, axis] >= -1e-6).all()
    frames = render(scene, commanded_trajectory((Move.FIXED,)))
    changed = (frames[2] - frames[0]).abs().amax(0) > 0.05
    assert 0.01 < changed.float().mean() < 0.4, "only the object and its shadow change"


def test_a_still_world_under_a_fixed_camera_is_still():
    frames = render(_scene(), commanded_trajectory((Move.FIXED,)))
    torch.testing.assert_close(frames, frames[:1].expand_as(frames))


def test_textures_and_shapes_look_different():
    path = commanded_trajectory((Move.FIXED,), num_frames=2)
    pictures = [render(_scene(texture=t), path)[0] for t in ("checker", "striped", "dotted", "brick", "plain")]
    pictures += [render(_scene(shape=s), path)[0] for s in SHAPES[1:]]
    for i, a in enumerate(pictures):
        assert all((a - b).abs().mean() > 0.004 for b in pictures[:i])


def test_a_path_without_intrinsics_is_refused():
    from worldr1_core.camera.vocabulary import trajectory_from_moves

    with pytest.raises(ValueError, match="intrinsics"):
        render(_scene(), trajectory_from_moves(["fixed"], 9))
