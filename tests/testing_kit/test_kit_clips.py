"""The kit's clips are what they claim: depth, poses and colours belong together, and calls are watched honestly."""

from __future__ import annotations

import random
import subprocess
import sys

import numpy as np
import pytest
import torch

from worldr1_core.camera.geometry import default_intrinsics, invert_pose
from worldr1_core.testing import camera_path, flat_clip, make_clip, true_reconstruction
from worldr1_core.testing.clips import MOVES, TexturedRoom
from worldr1_core.testing.isolation import seeded


def _point(depth: float, x: float, y: float, intrinsics: torch.Tensor) -> torch.Tensor:
    return depth * torch.linalg.inv(intrinsics) @ torch.tensor([x, y, 1.0], dtype=torch.float64)


@pytest.mark.parametrize("move", ["push in", "move right", "arc", "pan right"])
def test_a_point_of_the_first_frame_is_where_depth_and_pose_put_it(move):
    """Lift pixels of frame 0, carry them into the last frame, and compare depth and colour there."""
    size, frames = (96, 128), 3
    path, K = camera_path(move, frames, size), default_intrinsics(*size)
    pictures, depth = TexturedRoom().render(path.c2w, K, size)
    compared = 0
    for row, column in [(20, 30), (24, 100), (30, 64), (12, 70)]:
        point = _point(float(depth[0, row, column]), column + 0.5, row + 0.5, K)
        seen = invert_pose(path.c2w[-1]) @ torch.cat([point, torch.ones(1, dtype=torch.float64)])
        u, v = float(K[0, 0] * seen[0] / seen[2] + K[0, 2]), float(K[1, 1] * seen[1] / seen[2] + K[1, 2])
        if 1 <= u < 127 and 1 <= v < 95 and abs(float(depth[-1, int(v), int(u)]) - float(seen[2])) < 0.05:
            compared += 1
            gap = (pictures[-1, :, int(v), int(u)] - pictures[0, :, row, column]).abs().max()
            assert float(gap) < 0.12
    assert compared >= 3


def test_the_far_wall_lies_where_the_scene_says():
    _, depth = TexturedRoom().render(torch.eye(4)[None], default_intrinsics(48, 64), (48, 64))
    assert float(depth[0, 10, 32]) == pytest.approx(4.0)
    assert float(depth.min()) == pytest.approx(2.2)


def test_the_unit_of_a_true_reconstruction_is_the_median_depth():
    scene = true_reconstruction("push in", 4, (32, 40))
    assert float(scene.depth[0].median()) == pytest.approx(1.0)
    assert scene.trajectory.extent * scene.unit == pytest.approx(0.8)
    assert torch.equal(scene.trajectory.c2w, make_clip("push in", num_frames=4, size=(32, 40)).target.c2w)


def test_a_true_reconstruction_renders_its_clip():
    clip = make_clip("arc", num_frames=3, size=(32, 40), seed=3)
    view = true_reconstruction("arc", 3, (32, 40), seed=3).rerender()
    assert torch.allclose(view.frames, clip.video.frames, atol=1e-4)


def test_clips_that_are_written_into_do_not_change_the_next():
    make_clip("arc").video.frames.zero_()
    assert float(make_clip("arc").video.frames.mean()) > 0.2


def test_moves_and_seeds_give_different_clips():
    clips = [make_clip(move).video.frames for move in MOVES] + [make_clip("arc", seed=1).video.frames]
    assert all(not torch.equal(a, b) for i, a in enumerate(clips) for b in clips[:i])
    assert make_clip("arc", with_target=False, prompt="").target is None


def test_a_flat_clip_has_no_texture():
    assert float(flat_clip().video.frames.std()) == 0.0


def test_seeded_puts_every_generator_back():
    before = random.random, torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()
    with seeded(3):
        random.random(), np.random.rand(), torch.rand(1)
    assert torch.equal(torch.get_rng_state(), before[1])
    assert np.array_equal(np.random.get_state()[1], before[2])
    assert random.getstate() == before[3]


def test_the_kit_needs_no_test_runner():
    code = "import sys, worldr1_core.testing; sys.exit('pytest' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=120, check=False).returncode == 0
