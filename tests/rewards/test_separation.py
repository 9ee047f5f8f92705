"""The default composition, end to end: honest clips above broken ones, and no pay for hacks."""

from __future__ import annotations

import itertools
from functools import lru_cache
from pathlib import Path

import pytest
from separation import NO_SCORE, run, summarise

from worldr1_core.camera import trajectory_from_prompt
from worldr1_core.clip import Clip
from worldr1_core.video import Video
from worldr1_core.video_io import read_video, write_video
from worldr1_rewards.probes.world import CORRUPTIONS, render_world
from worldr1_rewards.scoring import Scorer

HACKS = ("frozen", "repeated", "flat2d")
CASES = tuple(itertools.product(("rich", "soft", "plain", "noise"), ("push in", "orbit right", "pan left"), (3,)))


@lru_cache(maxsize=32)
def total(family: str, moves: str, corruption: str, encoded: str | None = None) -> float:
    world = render_world(family, moves, seed=5, size=(64, 64), num_frames=9, corruption=corruption)
    video = Video(world.frames)
    if encoded is not None:
        write_video(video, encoded)
        video = read_video(encoded)
    clip = Clip(video, world.prompt, trajectory_from_prompt(world.prompt, video.num_frames))
    (result,) = Scorer().score([clip])
    return result.total if result.total == result.total else NO_SCORE


@pytest.mark.parametrize("corruption", ["morph", "vanish", "flicker", "jitter", "wrong_direction", "wrong_speed"])
def test_a_corrupted_clip_earns_clearly_less_than_the_clip_it_was(corruption: str) -> None:
    assert total("rich", "orbit left", corruption) < 0.8 * total("rich", "orbit left", "clean")


@pytest.mark.parametrize("hack", ["frozen", "frozen_noise", "slide2d"])
def test_a_hack_earns_clearly_less_than_the_commanded_move(hack: str) -> None:
    assert total("rich", "move left", hack) < 0.8 * total("rich", "move left", "clean")


def test_an_honest_still_earns_fully_where_the_camera_is_to_stay() -> None:
    assert total("soft", "fixed", "clean") > 1.5


def test_encoding_changes_little(tmp_path: Path) -> None:
    assert total("rich", "orbit left", "clean", str(tmp_path / "clip.mp4")) > 0.8 * total("rich", "orbit left", "clean")


@pytest.mark.slow
@pytest.mark.parametrize("encode", [False, True])
def test_default_composition_separates_honest_from_broken_across_scenes(encode: bool) -> None:
    report = summarise(run(CASES, (*CORRUPTIONS, *HACKS), 64, 9, encode=encode))
    corruptions, hacks = report["corruptions"], report["hacks"]
    assert {name: entry["auc"] for name, entry in corruptions.items() if entry["auc"] < 0.95} == {}
    assert {name: entry["auc"] for name, entry in hacks.items() if entry["auc"] < 0.95} == {}
    assert {name: entry["reach_own_clean"] for name, entry in hacks.items() if entry["reach_own_clean"]} == {}
