from __future__ import annotations

import math
import xml.etree.ElementTree as ET

import pytest
import torch
from torch import Tensor

from worldr1_core.camera import CameraTrajectory, default_intrinsics, trajectory_from_moves
from worldr1_core.camera.geometry import pose, rotation_y
from worldr1_rewards.report.paths import PathDrawing, draw_paths, standalone_svg


def labels(drawing: PathDrawing) -> list[str]:
    return [str(ET.fromstring(panel).get("aria-label")) for panel in drawing.panels]


def commanded(*moves: str) -> CameraTrajectory:
    return trajectory_from_moves(list(moves), 9, (64, 96))


def turning(degrees: Tensor) -> CameraTrajectory:
    return CameraTrajectory(pose(rotation_y(degrees), torch.zeros(len(degrees), 3, dtype=torch.float64)))


def test_both_paths_are_measured_in_scene_depths() -> None:
    target = commanded("push_in")
    drawing = draw_paths(target.scaled(0.002), target)
    assert labels(drawing) == [
        "Camera path, seen from above, in scene depths: commanded ends 0.000 to the right and 0.600 forward; "
        "estimated ends 0.000 to the right and 0.600 forward.",
        "Turn to the right, degrees, over 9 frames: commanded ends at 0.000; estimated ends at 0.000.",
        "Distance from the start, scene depths, over 9 frames: commanded ends at 0.600; estimated ends at 0.600.",
    ]
    assert not drawing.fitted
    assert drawing.names == ["commanded", "estimated"]


def test_equal_paths_are_drawn_on_top_of_each_other() -> None:
    target = commanded("orbit_left")
    panel = ET.fromstring(draw_paths(target.scaled(0.001), target).panels[0])
    first, second = (line.get("points") for line in panel.iter("polyline"))
    assert first == second


def test_points_lie_inside_the_panel_at_one_scale_for_both_axes() -> None:
    panel = ET.fromstring(draw_paths(None, commanded("pull_left")).panels[0])
    (line,) = panel.iter("polyline")
    points = [tuple(map(float, point.split(","))) for point in str(line.get("points")).split()]
    assert all(46 <= x <= 328 and 30 <= y <= 230 for x, y in points)
    across, down = points[-1][0] - points[0][0], points[-1][1] - points[0][1]
    assert down / across == pytest.approx(-300 / 160, abs=0.01)  # 160 to the left, 300 backward: down the page


@pytest.mark.parametrize(("word", "turn"), [("pan_right", "14.00"), ("pan_left", "-14.00"), ("fixed", "0.000")])
def test_turns_are_signed(word: str, turn: str) -> None:
    label = labels(draw_paths(None, commanded(word)))[1]
    assert label == f"Turn to the right, degrees, over 9 frames: commanded ends at {turn}."


def test_a_full_circle_does_not_jump_back() -> None:
    label = labels(draw_paths(turning(torch.linspace(0, 360, 13)), None))[1]
    assert label == "Turn to the right, degrees, over 13 frames: estimated ends at 360.0."


def test_a_path_without_a_unit_takes_the_estimate_s_size() -> None:
    target = commanded("move_right")
    drawing = draw_paths(target.scaled(0.001), CameraTrajectory(target.c2w))
    assert drawing.fitted
    assert labels(drawing)[0].count("0.220 to the right") == 2


def test_a_still_path_without_a_unit_has_nothing_to_fit() -> None:
    still = CameraTrajectory(torch.eye(4).expand(9, 4, 4))
    assert not draw_paths(commanded("push_in"), still).fitted


def test_rising_and_tilting_cameras_get_their_own_panels() -> None:
    angle = torch.deg2rad(torch.linspace(0, 20, 9, dtype=torch.float64))
    c2w = torch.eye(4, dtype=torch.float64).repeat(9, 1, 1)
    c2w[:, 1, 1] = c2w[:, 2, 2] = angle.cos()
    c2w[:, 2, 1], c2w[:, 1, 2] = angle.sin(), -angle.sin()
    c2w[:, 1, 3] = -torch.linspace(0, 0.5, 9, dtype=torch.float64)
    found = labels(draw_paths(CameraTrajectory(c2w), None))
    assert found[1].startswith("Camera path, seen from behind")
    assert found[1].endswith("estimated ends 0.000 to the right and -0.500 down.")
    assert found[3] == "Turn downwards, degrees, over 9 frames: estimated ends at -20.00."


def test_a_path_that_does_not_start_at_the_identity_is_drawn_from_its_first_camera() -> None:
    target = commanded("push_in")
    moved = CameraTrajectory(pose(rotation_y(torch.tensor(40.0)), torch.tensor([3.0, 2.0, 1.0]).double()) @ target.c2w)
    assert labels(draw_paths(None, CameraTrajectory(moved.c2w, scene_depth=1000.0))) == labels(draw_paths(None, target))


def test_nothing_to_draw() -> None:
    assert draw_paths(None, None) == PathDrawing([], [], False)


def test_a_single_frame_can_be_drawn() -> None:
    assert len(draw_paths(CameraTrajectory(torch.eye(4)[None]), None).panels) == 3


def test_cameras_open_as_wide_as_their_field_of_view() -> None:
    path = CameraTrajectory(torch.eye(4).expand(2, 4, 4), default_intrinsics(48, 96), (48, 96), 1.0)
    wedge = next(ET.fromstring(draw_paths(path, None).panels[0]).iter("polygon"))
    apex, left, right = ([float(v) for v in point.split(",")] for point in str(wedge.get("points")).split())
    assert apex[0] == pytest.approx((left[0] + right[0]) / 2, abs=0.11)
    slope = (right[0] - apex[0]) / (apex[1] - right[1])
    assert slope == pytest.approx(0.5 / 1.2, abs=0.02)


def test_standalone_drawing_is_one_svg_with_a_legend() -> None:
    target = commanded("push_in", "pan_left")
    root = ET.fromstring(standalone_svg(draw_paths(target, target)))
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert [panel.get("x") for panel in root.findall("{*}svg")] == ["0", "340", "680"]
    words = [text.text for text in root.iter("{http://www.w3.org/2000/svg}text")]
    assert words[-2:] == ["commanded", "estimated"]
    assert all(math.isfinite(float(line.get("x1", "0"))) for line in root.iter("{http://www.w3.org/2000/svg}line"))
