"""Breaks of filmed frames: what each one changes, and what it leaves alone."""

from __future__ import annotations

from functools import lru_cache

import pytest
import torch
from torch import Tensor

from worldr1_core.errors import UserError
from worldr1_rewards.probes.footage_corruptions import FOOTAGE_CORRUPTIONS, FOOTAGE_HACKS, corrupt
from worldr1_rewards.probes.footage_regions import fill, image_motion, textured_regions
from worldr1_rewards.probes.world import render_world

KINDS = (*FOOTAGE_CORRUPTIONS, *FOOTAGE_HACKS)
CHANGES_FIRST_FRAME = {"flicker", "reversed", "frozen_noise", "slide2d", "blur", "pure_noise"}


@lru_cache(maxsize=2)
def clip(moves: str = "pan left", seed: int = 0) -> Tensor:
    return render_world("rich", moves, seed=seed, size=(64, 96), num_frames=9).frames


def other() -> Tensor:
    return render_world("rich", "push in", seed=50, size=(48, 48), num_frames=3).frames


@pytest.mark.parametrize("kind", KINDS)
def test_a_break_is_a_clip_of_the_same_form_and_repeats_exactly(kind: str) -> None:
    broken = corrupt(clip(), kind, 1.0, 3, other())
    assert broken.shape == clip().shape
    assert 0 <= float(broken.min()) <= float(broken.max()) <= 1
    assert float((broken - clip()).abs().mean()) > 0.002
    assert torch.equal(broken, corrupt(clip(), kind, 1.0, 3, other()))


@pytest.mark.parametrize("kind", KINDS)
def test_two_small_frames_without_texture_can_be_broken(kind: str) -> None:
    plain = torch.full((2, 3, 16, 20), 0.5)
    broken = corrupt(plain, kind, 1.0, 0, plain)
    assert broken.shape == plain.shape
    assert bool(torch.isfinite(broken).all())


@pytest.mark.parametrize("kind", sorted(set(KINDS) - CHANGES_FIRST_FRAME))
def test_the_first_frame_stays_as_it_was_filmed(kind: str) -> None:
    torch.testing.assert_close(corrupt(clip(), kind, 1.0, 0, other())[0], clip()[0], atol=1e-5, rtol=0)


@pytest.mark.parametrize("kind", ["morph", "bend", "swim", "vanish", "flicker", "jitter"])
def test_a_corruption_changes_more_the_higher_its_severity(kind: str) -> None:
    changes = [float((corrupt(clip(), kind, severity, 0) - clip()).abs().mean()) for severity in (1 / 3, 2 / 3, 1.0)]
    assert changes[0] < changes[1] < changes[2]


@pytest.mark.parametrize("kind", ["morph", "bend", "swim", "flicker", "jitter"])
def test_another_seed_breaks_it_otherwise(kind: str) -> None:
    assert not torch.equal(corrupt(clip(), kind, 1.0, 0), corrupt(clip(), kind, 1.0, 1))


@pytest.mark.parametrize("kind", ["morph", "vanish"])
def test_local_breaks_leave_most_of_the_picture_alone(kind: str) -> None:
    changed = ((corrupt(clip(), kind, 1.0, 0) - clip()).abs().amax(1) > 1e-4).float().mean((1, 2))
    assert 0.01 < float(changed[-1]) < 0.4


def test_vanishing_begins_half_way() -> None:
    broken = corrupt(clip(), "vanish", 1.0, 0)
    assert torch.equal(broken[:4], clip()[:4])
    assert all(not torch.equal(a, b) for a, b in zip(broken[4:], clip()[4:], strict=True))


@pytest.mark.parametrize(
    ("kind", "severity", "order"),
    [
        ("reversed", 1.0, [8, 7, 6, 5, 4, 3, 2, 1, 0]),
        ("reversed", 0.5, [0, 1, 2, 3, 4, 3, 2, 1, 0]),
        ("wrong_speed", 1.0, [0, 0, 1, 1, 2, 2, 2, 3, 3]),
        ("rushed", 1.0, [0, 2, 4, 6, 8, 8, 8, 8, 8]),
        ("repeated", 1.0, [0, 1, 2, 0, 1, 2, 0, 1, 2]),
        ("frozen", 1.0, [0] * 9),
    ],
)
def test_breaks_in_time_show_filmed_frames_in_another_order(kind: str, severity: float, order: list[int]) -> None:
    assert torch.equal(corrupt(clip(), kind, severity, 0), clip()[order])


def test_jitter_shows_nothing_from_beyond_the_border() -> None:
    ramp = torch.linspace(0.1, 0.9, 96).expand(6, 3, 64, 96).contiguous()
    steps = corrupt(ramp, "jitter", 1.0, 0)[:, 0].diff(dim=-1)
    assert float(steps.min()) > 0.5 * float(ramp[0, 0, 0].diff().min())


def test_a_cut_shows_the_other_clip_without_stretching_it() -> None:
    second = other()
    broken = corrupt(clip(), "scene_cut", 1.0, 0, second)
    assert torch.equal(broken[:4], clip()[:4])
    assert torch.equal(broken[6], broken[8])
    square = corrupt(clip()[..., :64], "scene_cut", 1.0, 0, clip()[..., 16:80])
    assert torch.equal(square[4:], clip()[:5, :, :, 16:80])


def test_unrelated_frames_need_no_other_clip() -> None:
    broken = corrupt(clip(), "unrelated", 1.0, 0)
    assert torch.equal(broken[0], clip()[0])
    assert float((broken[1:] - clip()[1:]).abs().mean()) > 0.05


@pytest.mark.parametrize(
    ("kind", "severity", "words"),
    [
        ("morf", 1.0, "Did you mean 'morph'"),
        ("morph", 0.0, r"severity must lie in \(0, 1\], received 0.0"),
        ("scene_cut", 1.0, "needs a clip to cut to"),
    ],
)
def test_mistakes_are_refused(kind: str, severity: float, words: str) -> None:
    with pytest.raises(UserError, match=words):
        corrupt(clip(), kind, severity, 0)


def test_a_region_follows_the_picture() -> None:
    wide = render_world("rich", "fixed", seed=4, size=(64, 160), num_frames=2).frames[0]
    shifts = [0, 3, 6, 9, 12]
    sliding = torch.stack([wide[..., 30 - shift : 126 - shift] for shift in shifts])
    (region,) = textured_regions(sliding, 12.0, 1, torch.Generator().manual_seed(0))
    assert (region.centres[:, 0] - region.centres[0, 0]).tolist() == pytest.approx(shifts, abs=1)
    assert region.centres[:, 1].tolist() == pytest.approx([float(region.centres[0, 1])] * 5, abs=1)
    assert image_motion(sliding) == pytest.approx((3, 0), abs=0.3)


def test_a_filled_place_continues_a_smooth_surface() -> None:
    y, x = torch.meshgrid(torch.linspace(0, 0.5, 48), torch.linspace(0, 0.5, 64), indexing="ij")
    plane = (x + y).expand(1, 3, 48, 64)
    mask = torch.zeros(1, 1, 48, 64, dtype=torch.bool)
    mask[..., 16:30, 20:40] = True
    filled = fill(torch.where(mask, 1.0, plane), mask, (30, 0))
    torch.testing.assert_close(filled, plane, atol=0.05, rtol=0)
