"""The contracts of World-R1, and what sharpness means."""

import math

import pytest
import torch
from torch.nn.functional import avg_pool2d
from worldr1_core.clip import Clip
from worldr1_core.errors import ScoreUnavailable
from worldr1_core.reward import RewardInputs
from worldr1_core.testing import flat_clip, make_clip, plugin_checks, reward_checks
from worldr1_core.video import Video

from worldr1_sharpness import SharpnessReward


def blurred(clip):
    frames = avg_pool2d(clip.video.frames, 5, stride=1, padding=2, count_include_pad=False)
    return Clip(Video(frames), clip.prompt, name=f"{clip.name}, blurred")


def sharpness(frames, **options):
    return SharpnessReward(**options).score(Clip(Video(frames)), RewardInputs()).value


CHECKS = [
    *plugin_checks("worldr1_sharpness"),
    *reward_checks(SharpnessReward, prefers=[(make_clip("arc"), blurred(make_clip("arc")))]),
]


@pytest.mark.parametrize("check", CHECKS, ids=str)
def test_contract(check):
    check()


def test_a_checkerboard_keeps_eight_ninths():
    """The mean of 3 x 3 pixels of a checkerboard is a ninth of the middle one."""
    row = torch.arange(128)
    board = ((row[:, None] + row) % 2).float()
    assert sharpness(board.expand(2, 3, 128, 128)) == pytest.approx(8 / 9, rel=1e-2)


def test_a_wave_loses_what_a_box_filter_takes():
    """A box of 3 pixels scales a wave by (1 + 2 cos w) / 3, so 2 (1 - cos w) / 3 of it is detail."""
    w = 2 * math.pi / 16
    wave = 0.5 + 0.4 * torch.sin(w * torch.arange(4096))
    expected = 2 * (1 - math.cos(w)) / 3
    assert sharpness(wave.expand(1, 3, 4, 4096)) == pytest.approx(expected, rel=1e-2)


def test_brightness_and_contrast_do_not_matter():
    frames = make_clip("arc").video.frames
    assert sharpness(0.3 * frames + 0.5) == pytest.approx(sharpness(frames), rel=1e-4)


def test_a_larger_radius_counts_coarser_detail():
    frames = make_clip("arc").video.frames
    assert sharpness(frames, radius=4) > sharpness(frames, radius=1)


def test_a_blank_frame_has_no_score():
    with pytest.raises(ScoreUnavailable, match="frame 0 has no contrast"):
        SharpnessReward().score(flat_clip(), RewardInputs())
