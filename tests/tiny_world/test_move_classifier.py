"""The matcher names the move that a clip shows, whatever the clip's sharpness and brightness."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from tools.tiny_world.evaluate import following, truths
from tools.tiny_world.move_classifier import match_moves, normalise_local_contrast
from worldr1_backbones.tiny.captions import MOVE_PAIRS, held_out_captions
from worldr1_core.camera.vocabulary import SINGLE_MOVES


@pytest.fixture(scope="module")
def captions():
    return held_out_captions(27, seed=11)


@pytest.fixture(scope="module")
def renders(captions):
    return truths(captions, seed=500)


def test_renders_are_matched(renders, captions):
    assert following(renders, captions)["camera_accuracy"] >= 0.97


@pytest.mark.parametrize("change", ["darker", "flat", "blurred", "noisy"])
def test_what_happens_to_pixels_does_not_decide(renders, captions, change):
    generator = torch.Generator().manual_seed(0)
    flat = renders.flatten(0, 1)
    changed = {
        "darker": lambda: 0.5 * renders,
        "flat": lambda: 0.4 + 0.3 * renders,
        "blurred": lambda: functional.avg_pool2d(flat, 3, 1, 1, count_include_pad=False).view_as(renders),
        "noisy": lambda: renders + 0.04 * torch.randn(renders.shape, generator=generator),
    }[change]()
    assert following(changed[:9], captions[:9])["camera_accuracy"] >= 0.94


def test_a_frozen_clip_is_fixed_whatever_was_commanded(renders):
    frozen = renders[:9, :1].expand_as(renders[:9])
    assert (match_moves(frozen).best == SINGLE_MOVES.index("fixed")).all()


def test_a_reversed_clip_is_matched_with_the_opposite(renders, captions):
    reversed_ = match_moves(renders[:9].flip(1)).best
    names = [SINGLE_MOVES[i].value for i in reversed_]
    assert names[2:4] == ["move_right", "move_left"]
    assert names[6:8] == ["pan_right", "pan_left"]


def test_two_moves_are_told_apart():
    caption = held_out_captions(9, seed=3)[0]
    first, second = MOVE_PAIRS[6], MOVE_PAIRS[40]
    clips = truths([type(caption)(m, caption.objects, caption.room, caption.texture) for m in (first, second)])
    assert match_moves(clips, [second, first]).best.tolist() == [1, 0]


def test_normalised_pixels_ignore_gain_and_offset(renders):
    a, b = normalise_local_contrast(renders[:2]), normalise_local_contrast(0.25 + 0.5 * renders[:2])
    assert torch.nn.functional.cosine_similarity(a.flatten(), b.flatten(), dim=0) > 0.98
    raw = renders[:2].mean(2)
    assert (a - b).abs().mean() / a.abs().mean() < 0.3
    assert a.mean((2, 3)).abs().max() < 0.1 < raw.mean((2, 3)).abs().min()


def test_frames_of_another_form_are_refused():
    with pytest.raises(ValueError, match="B, T, 3, H, H"):
        match_moves(torch.zeros(1, 9, 64, 64, 3))
