"""Pixels with the hue of named objects are counted, and nothing is learnt."""

from __future__ import annotations

import pytest
import torch

from worldr1_backbones.tiny.captions import COLOURS, parse_caption
from worldr1_backbones.tiny.data import clip_of, render_clip
from worldr1_backbones.tiny.object_pixels import COLOURLESS, TinyObjectPixelsReward, hue_share
from worldr1_backbones.tiny.textures import RGB
from worldr1_core.clip import Clip
from worldr1_core.errors import ScoreNotApplicable
from worldr1_core.plugins import installed
from worldr1_core.reward import RewardInputs
from worldr1_core.testing import check_reward
from worldr1_core.video import Video

PROMPT = "Camera fixed. A red box and a blue ball in a green room with plain walls."


def painted(*shares: tuple[str, int]) -> torch.Tensor:
    """Two frames of 10 x 10 gray pixels of which the first rows have colours."""
    frames = torch.full((2, 3, 100), 0.5)
    begin = 0
    for colour, count in shares:
        frames[:, :, begin : begin + count] = torch.tensor(RGB[colour])[:, None]
        begin += count
    return frames.view(2, 3, 10, 10)


def score(frames: torch.Tensor, prompt: str = PROMPT):
    return TinyObjectPixelsReward().score(Clip(Video(frames), prompt), RewardInputs())


def test_every_contract_of_rewards_is_kept():
    reward = installed().registry.load("reward", "tiny-object-pixels")
    clips = [Clip(Video(painted(("red", 20))), PROMPT), Clip(Video(painted(("blue", 10))), PROMPT)]
    assert "direction" in check_reward(reward, clips=clips, prefers=[(clips[0], clips[1])]).passed


def test_shares_are_counted_and_averaged_over_objects():
    result = score(painted(("red", 20), ("blue", 10), ("green", 40), ("yellow", 5)))
    assert result.details == pytest.approx({"red": 0.2, "blue": 0.1})
    assert result.value == pytest.approx(0.15)


def test_shade_does_not_matter_and_colours_are_told_apart():
    hues = [colour for colour in COLOURS if colour not in COLOURLESS]
    for colour in hues:
        frames = painted((colour, 50))
        assert hue_share(0.6 * frames, colour).tolist() == pytest.approx([0.5, 0.5])
        assert sum(float(hue_share(frames, other).sum()) for other in hues) == pytest.approx(1.0)


def test_white_and_gray_objects_have_no_hue():
    prompt = PROMPT.replace("red", "white")
    assert score(painted(("blue", 30)), prompt).value == pytest.approx(0.3)
    with pytest.raises(ScoreNotApplicable, match="white or gray"):
        score(painted(("blue", 30)), prompt.replace("blue", "gray"))
    with pytest.raises(ScoreNotApplicable, match="not a caption"):
        score(painted(("blue", 30)), "A red box.")


def test_a_render_has_more_of_its_objects_than_of_others():
    frames = render_clip(clip_of(parse_caption(PROMPT), seed=0))
    assert 0.02 < score(frames).value < 0.2
    assert score(frames, PROMPT.replace("red", "yellow").replace("blue", "purple")).value < 0.01


def test_the_warm_floor_is_not_orange():
    prompt = PROMPT.replace("A red", "An orange")
    frames = render_clip(clip_of(parse_caption(PROMPT), seed=0))
    assert hue_share(frames, "orange").max() < 0.01
    assert hue_share(render_clip(clip_of(parse_caption(prompt), seed=0)), "orange").min() > 0.05
