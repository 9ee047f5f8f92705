"""The canvas: it covers what is seen, follows the closest view, and stays within its bounds."""

from __future__ import annotations

import pytest
import torch

from noise.clips import geometry, path_of
from worldr1_backbones.noise.canvas import canvas_noise
from worldr1_backbones.noise.motion import intrinsics_at, latent_frames, plane_maps
from worldr1_backbones.noise.tiles import lay_tiles
from worldr1_core.camera import CameraTrajectory
from worldr1_core.camera.geometry import pose, rotation_y

SIZE = (12, 20)
SIZES = geometry(2, 17, SIZE)
MANY = 1 << 22


def _views(path: CameraTrajectory, depth: float = 1000.0) -> tuple[torch.Tensor, torch.Tensor]:
    maps, stretch = plane_maps(path, depth, latent_frames(SIZES))
    return intrinsics_at(path, SIZES, SIZE) @ maps, stretch


def _hits(views: torch.Tensor, density: float, max_cells: int = MANY) -> torch.Tensor:
    """Cells that land in each pixel of each view, `(K, H, W)`, counted point by point."""
    points = views @ lay_tiles(views, SIZE, density, max_cells).directions()
    counts = torch.zeros(len(views), *SIZE)
    for view, (x, y, w) in enumerate(points):
        u, v = torch.floor(x / w), torch.floor(y / w)
        seen = (w > 0) & (u >= 0) & (u < SIZE[1]) & (v >= 0) & (v < SIZE[0])
        counts[view].index_put_((v[seen].long(), u[seen].long()), torch.ones(int(seen.sum())), accumulate=True)
    return counts


@pytest.mark.parametrize("words", ["push in", "pull out", "orbit left", "pull_right", "push in, then push in"])
def test_every_pixel_of_every_view_holds_cells(words):
    views, _ = _views(path_of(words, SIZES))
    assert float(_hits(views, 4).min()) >= 4


def test_a_camera_that_turns_round_and_looks_up_is_covered():
    yaw = torch.linspace(0, 330, 17, dtype=torch.float64)
    pitch = torch.tensor([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]], dtype=torch.float64)
    rotations = rotation_y(yaw)
    rotations[8:12] = rotations[8:12] @ pitch
    path = CameraTrajectory(pose(rotations, torch.zeros(17, 3, dtype=torch.float64)))
    views, _ = _views(path)
    assert float(_hits(views, 4).min()) >= 4


def test_a_long_way_sideways_is_covered_and_costs_what_it_shows():
    positions = torch.zeros(17, 3, dtype=torch.float64)
    positions[:, 0] = torch.linspace(0, 1e5, 17)
    path = CameraTrajectory(pose(torch.eye(3, dtype=torch.float64).expand(17, 3, 3), positions))
    views, _ = _views(path)
    tiles = lay_tiles(views, SIZE, 4, MANY)
    assert float(_hits(views, 4).min()) >= 2
    assert int(tiles.counts.sum()) < 6 * 16 * len(views) * SIZE[0] * SIZE[1]


def test_cells_follow_the_closest_view():
    """A zoom by 1.8 needs 3.3 times the cells where it ends, not everywhere."""
    still = int(lay_tiles(_views(path_of("fixed", SIZES))[0], SIZE, 4, MANY).counts.sum())
    zoom = int(lay_tiles(_views(path_of("push in", SIZES))[0], SIZE, 4, MANY).counts.sum())
    assert still <= zoom < 3 * still


@pytest.mark.parametrize("max_cells", [1000, 3000])
def test_the_number_of_cells_is_bounded_and_the_noise_stays_noise(max_cells):
    views, stretch = _views(path_of("push in", SIZES))
    assert int(lay_tiles(views, SIZE, 16, max_cells).counts.sum()) <= max_cells
    noise = canvas_noise(views, stretch, SIZE, 64, torch.Generator().manual_seed(0), density=16, max_cells=max_cells)
    assert float(noise.std()) == pytest.approx(1, abs=0.02)


def test_extreme_zoom_is_finite_and_bounded():
    positions = torch.zeros(17, 3, dtype=torch.float64)
    positions[:, 2] = torch.arange(17) * 990.0
    path = CameraTrajectory(pose(torch.eye(3, dtype=torch.float64).expand(17, 3, 3), positions))
    views, stretch = _views(path)
    assert int(lay_tiles(views, SIZE, 4, MANY).counts.sum()) < MANY
    noise = canvas_noise(views, stretch, SIZE, 8, torch.Generator().manual_seed(0), density=4, max_cells=MANY)
    assert float(noise.std()) == pytest.approx(1, abs=0.05)


def test_a_camera_seen_edge_on_gives_noise():
    """The picture turns until the plane of the first frame is a line, and further."""
    angle = torch.linspace(0, 89.9, 17, dtype=torch.float64)
    centre = torch.tensor([0.0, 0, 1000], dtype=torch.float64)
    rotations = rotation_y(angle)
    path = CameraTrajectory(pose(rotations, centre - rotations @ centre))
    views, stretch = _views(path)
    noise = canvas_noise(views, stretch, SIZE, 32, torch.Generator().manual_seed(0), density=4, max_cells=MANY)
    assert bool(noise.isfinite().all())
    assert float(noise.std()) == pytest.approx(1, abs=0.03)
