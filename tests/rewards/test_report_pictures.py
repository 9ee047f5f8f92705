from __future__ import annotations

import base64
import io
import math

import matplotlib
import pytest
import torch
from PIL import Image
from torch import Tensor

from rewards.report_samples import reconstruction_of, scored, smooth_frames
from worldr1_core.camera import CameraTrajectory
from worldr1_core.errors import MissingExtraError, ScoreUnavailable
from worldr1_core.frame_grid import frame_grid
from worldr1_core.pages.encoding import image_uri
from worldr1_core.pages.words import number, plain
from worldr1_core.reconstructor import Render
from worldr1_rewards.report.pictures import (
    ERROR_CEILING,
    STRIP_BYTES,
    DepthRange,
    clip_strips,
    colour_depth,
    colour_error,
    depth_ends,
    map_colours,
    with_holes,
)
from worldr1_rewards.report.views import ClipViews, clip_views


def colours_of(name: str) -> Tensor:
    return torch.tensor([matplotlib.colormaps[name](index)[:3] for index in range(256)], dtype=torch.float32)


def decoded(uri: str) -> Image.Image:
    head, body = uri.split(",")
    assert head == "data:image/webp;base64"
    return Image.open(io.BytesIO(base64.b64decode(body)))


def test_error_is_the_mean_absolute_difference_and_has_holes_where_nothing_is_covered() -> None:
    frames = smooth_frames(3, 8, 10)
    shown = (frames + torch.tensor([0.3, -0.1, 0.2]).reshape(1, 3, 1, 1)).clamp(0, 1)
    coverage = torch.ones(3, 8, 10)
    coverage[:, :, 6:] = 0.4
    views = clip_views(scored(frames=frames, reconstruction=reconstruction_of(frames, shown=Render(shown, coverage))))
    assert views.error is not None
    expected = (shown - frames).abs().sum(1) / 3
    torch.testing.assert_close(views.error[:, :, :6], expected[:, :, :6])
    assert bool(views.error[:, :, 6:].isnan().all())
    assert views.covered == pytest.approx((6 + 4 * 0.4) / 10)


def test_depth_is_measured_in_scene_depths() -> None:
    frames = smooth_frames(3, 8, 10)
    path = CameraTrajectory(torch.eye(4).expand(3, 4, 4), scene_depth=4.0)
    views = clip_views(scored(frames=frames, reconstruction=reconstruction_of(frames, trajectory=path)))
    assert views.depth is not None
    torch.testing.assert_close(views.depth[0, 0], torch.linspace(1, 2, 10) / 4)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"depth": None}, "the reconstructor estimates no depth"),
        ({"has_parallax": False}, "every depth explains these frames equally well"),
        ({"depth": torch.ones(2, 8, 10)}, r"depth \(2, 8, 10\) for 3 frames"),
        ({"depth": torch.full((3, 8, 10), math.nan)}, "no positive finite depth"),
    ],
)
def test_depth_that_cannot_be_shown_has_its_reason(changes: dict[str, object], reason: str) -> None:
    frames = smooth_frames(3, 8, 10)
    views = clip_views(scored(frames=frames, reconstruction=reconstruction_of(frames, **changes)))
    assert views.depth is None
    with pytest.raises(AssertionError, match=reason):
        raise AssertionError(views.missing["depth"])
    assert views.rerender is not None


@pytest.mark.parametrize(
    ("shown", "reason"),
    [
        (ScoreUnavailable("the scene is empty"), "the scene is empty"),
        (ZeroDivisionError("by zero"), "the re-render failed: ZeroDivisionError: by zero"),
        (
            Render(torch.zeros(2, 3, 8, 10), torch.zeros(3, 8, 10)),
            "rerender() gave frames (2, 3, 8, 10) and coverage (3, 8, 10) for 3 input frames; "
            "expected (T, 3, H, W) and (T, H, W)",
        ),
    ],
)
def test_a_render_that_fails_is_a_reason_and_leaves_the_rest(shown: Render | Exception, reason: str) -> None:
    frames = smooth_frames(3, 8, 10)
    views = clip_views(scored(frames=frames, reconstruction=reconstruction_of(frames, shown=shown)))
    assert views.missing == {"rerender": reason}
    assert views.rerender is views.coverage is views.error is None
    assert math.isnan(views.covered)
    assert views.depth is not None


def test_a_user_s_mistake_stops_the_run() -> None:
    frames = smooth_frames(3, 8, 10)
    with pytest.raises(MissingExtraError):
        clip_views(scored(frames=frames, reconstruction=reconstruction_of(frames, shown=MissingExtraError("install"))))


def test_a_render_of_another_size_or_with_stray_values_fits_the_input() -> None:
    frames = smooth_frames(3, 8, 12)
    shown = Render(torch.full((3, 3, 16, 24), 1.5), torch.full((3, 16, 24), math.nan))
    views = clip_views(scored(frames=frames, reconstruction=reconstruction_of(frames, shown=shown)))
    assert views.rerender is not None
    torch.testing.assert_close(views.rerender, torch.ones(3, 3, 8, 12))
    assert views.covered == 0.0


def test_error_colours_end_at_the_ceiling() -> None:
    error = torch.tensor([[[0.0, ERROR_CEILING / 2, ERROR_CEILING, 1.0]]])
    table = colours_of("inferno")
    expected = table[[0, 128, 255, 255]].T[None, :, None]
    torch.testing.assert_close(colour_error(error), expected)


def test_depth_colours_run_from_far_to_near_in_inverse_depth() -> None:
    ends = DepthRange(near=1.0, far=3.0)
    assert ends.middle == pytest.approx(1.5)
    depth = torch.tensor([[[1.0, 1.5, 3.0, 9.0, 0.2]]])
    table = colours_of("viridis")
    expected = table[[255, 128, 0, 0, 255]].T[None, :, None]
    torch.testing.assert_close(colour_depth(depth, ends), expected)


def test_unknown_depth_is_a_hole() -> None:
    depth = torch.tensor([[[math.nan, math.inf, -1.0, 0.0]]])
    colours = colour_depth(depth, DepthRange(1.0, 2.0))
    assert bool((colours[:, 0] == colours[:, 1]).all())
    assert bool((colours[:, 0] > 0.6).all())


def test_depth_ends_leave_out_outliers_and_never_coincide() -> None:
    depth = torch.cat([torch.linspace(1, 2, 1001), torch.tensor([math.inf, math.nan, -3.0])])
    ends = depth_ends(depth[None, None])
    assert ends.near == pytest.approx(1.02, abs=1e-6)
    assert ends.far == pytest.approx(1.98, abs=1e-6)
    flat = depth_ends(torch.full((1, 4, 4), 2.0))
    assert flat.far > flat.near == 2.0


def test_strips_are_small_and_of_one_size() -> None:
    frames = smooth_frames(20, 300, 600)
    strips = clip_strips(clip_views(scored(frames=frames, reconstruction=reconstruction_of(frames))))
    assert [row.name for row in strips.rows] == ["input", "rerender", "error", "depth"]
    assert {tuple(row.tiles.shape) for row in strips.rows} == {(8, 3, 128, 256)}
    assert len(strips.indices) == 8
    torch.testing.assert_close(strips.rows[0].tiles, strips.rows[1].tiles)


def test_small_frames_are_not_blown_up() -> None:
    frames = smooth_frames(2, 8, 10)
    strips = clip_strips(ClipViews(frames))
    assert strips.depth_range is None
    torch.testing.assert_close(strips.rows[0].tiles, frames)


def test_holes_are_a_grey_chequerboard() -> None:
    holes = torch.zeros(1, 8, 8, dtype=torch.bool)
    holes[:, :, :4] = True
    shown = with_holes(torch.zeros(1, 3, 8, 8), holes)
    assert bool((shown[..., 4:] == 0).all())
    assert set(shown[..., :4].unique().mul(100).round().int().tolist()) == {62, 74}


def test_data_uri_keeps_a_small_picture_s_size_and_colours() -> None:
    image = frame_grid([smooth_frames(2, 96, 160)], gap=0)
    shown = decoded(image_uri(image, max_bytes=STRIP_BYTES)).convert("RGB")
    assert shown.size == (320, 96)
    difference = torch.tensor(list(image.tobytes())).float() - torch.tensor(list(shown.tobytes())).float()
    assert float(difference.abs().mean()) < 4


def test_data_uri_squeezes_what_does_not_compress() -> None:
    noise = frame_grid([torch.rand(8, 3, 256, 256, generator=torch.Generator().manual_seed(0))], gap=0)
    uri = image_uri(noise, max_bytes=STRIP_BYTES)
    assert len(uri) <= STRIP_BYTES * 4 / 3 + 100
    shown = decoded(uri)
    assert shown.width / shown.height == pytest.approx(8, rel=0.05)


def test_data_uri_gives_up_squeezing_before_nothing_is_left() -> None:
    assert min(decoded(image_uri(frame_grid([torch.rand(1, 3, 64, 64)], gap=0), max_bytes=1)).size) >= 8


def test_legend_colours_are_the_map_s() -> None:
    low, high = map_colours("viridis", 2)
    assert (low, high) == ("#440154", "#fde725")


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0.0, "0.000"), (0.8125, "0.812"), (-0.5, "-0.500"), (12.345, "12.35"), (1234.5, "1234"), (2e-7, "2e-07"),
     (3e7, "3e+07"), (math.nan, "—"), (math.inf, "—")],
)  # fmt: skip
def test_numbers_read_well(value: float, shown: str) -> None:
    assert number(value) == shown


def test_details_of_any_type_become_one_line() -> None:
    assert plain({"a": True, "b": None, "c": [1, 2.5, "x"], "d": b"raw"}) == "a yes, b none, c 1, 2.500, x, d b'raw'"
    assert len(plain("x" * 10_000)) == 600
