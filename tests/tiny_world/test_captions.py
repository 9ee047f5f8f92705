"""Captions say everything about a clip, and are read back without loss."""

from __future__ import annotations

import pytest
import torch

from worldr1_backbones.tiny.captions import (
    COLOURS,
    COMPOSITES,
    MOVE_PAIRS,
    SINGLE_MOVES,
    CaptionError,
    held_out_captions,
    parse_caption,
    sample_caption,
)
from worldr1_core.camera.vocabulary import Move, detect_moves


def _sampled(count: int, *, held_out: bool = False, seed: int = 0) -> list:
    generator = torch.Generator().manual_seed(seed)
    return [sample_caption(generator, held_out=held_out, dynamic=0.3) for _ in range(count)]


def test_a_caption_reads_as_documented():
    caption = parse_caption(
        "Camera push in, then pan left. A red box and a blue ball in a green room with checker walls. "
        "The blue ball bounces."
    )
    assert caption.moves == (Move.PUSH_IN, Move.PAN_LEFT)
    assert caption.objects == (("red", "box"), ("blue", "ball"))
    assert (caption.room, caption.texture, caption.motion) == ("green", "checker", (1, "bounces"))


@pytest.mark.parametrize("held_out", [False, True])
def test_captions_parse_back(held_out):
    for caption in _sampled(150, held_out=held_out):
        assert parse_caption(caption.text) == caption
        assert parse_caption(caption.text.upper()) == caption


def test_the_core_detects_the_commanded_moves():
    for caption in _sampled(400):
        assert tuple(detect_moves(caption.text)) == caption.moves


def test_every_kind_of_caption_is_drawn():
    captions = _sampled(2500)
    moves = {caption.moves for caption in captions}
    assert moves == {(), *((m,) for m in (*SINGLE_MOVES, *COMPOSITES)), *MOVE_PAIRS}
    assert {colour for caption in captions for colour, _ in caption.objects} == set(COLOURS)
    assert {caption.motion and caption.motion[1] for caption in captions} == {
        None,
        "bounces",
        "slides left",
        "slides right",
    }


def test_no_held_out_scene_is_in_the_training_split():
    train = {caption.scene_sentence for caption in _sampled(1500)}
    test = {caption.scene_sentence for caption in _sampled(150, held_out=True, seed=1)}
    assert not train & test
    assert all(caption.held_out for caption in held_out_captions(27))


def test_colours_within_a_scene_differ():
    for caption in _sampled(400):
        colours = [*(colour for colour, _ in caption.objects), caption.room]
        assert len(set(colours)) == len(colours)


def test_the_test_set_commands_the_nine_moves_in_turn():
    captions = held_out_captions(30, seed=5)
    assert [caption.moves for caption in captions[:9]] == [(move,) for move in SINGLE_MOVES]
    assert captions == held_out_captions(30, seed=5)
    assert captions != held_out_captions(30, seed=6)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("Camera push in. A harbour at dawn.", "not a caption"),
        ("Camera push in. A red box in a blue room with plain walls. It rains.", "not in the tiny world's language"),
        ("A red box in a blue room with plain walls. The green ball bounces.", "not among"),
        ("", "not a caption"),
    ],
)
def test_other_text_is_refused(text, reason):
    with pytest.raises(CaptionError, match=reason):
        parse_caption(text)
