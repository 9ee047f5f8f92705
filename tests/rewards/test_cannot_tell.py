"""Rewards of clips without parallax, texture or scene: the tables in docs/reference/rewards.md."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from functools import cache

import pytest
import torch

from worldr1_core.clip import Clip
from worldr1_core.compose import compose_scoring
from worldr1_core.manifest import parse_manifest
from worldr1_core.plugins import installed
from worldr1_core.reward import Score
from worldr1_core.scoring import ScoringEngine
from worldr1_core.testing.stand_ins import StubJudge
from worldr1_core.video import Video
from worldr1_rewards.probes.plan import to_clip
from worldr1_rewards.probes.world import render_world

REWARDS = ("reconstruction", "trajectory", "consistency", "meta-view", "psnr", "camera-accuracy")
CHEAP = ("path-rerender", "camera-move-likelihood", "statistics-threshold", "psnr-normalised", "motion")
STATISTICS = ("mean-gradient", "contrast")
OPTIONS = {"statistics-threshold": "mean_gradient: 0.05, contrast: 0.1, motion: 0.1"}  # all of which clean clips reach
HIGH, ZERO, TWO_THIRDS, NOT_APPLICABLE, FAILED = "high", "zero", "two thirds", "does not apply", "null"


@cache
def scores(moves: str, corruption: str, commanded: bool) -> Mapping[str, Score]:
    """All rewards on one clip, with the `direct` reconstructor and a judge that grades everything 0.5."""
    world = render_world(
        "rich", moves, seed=3, size=(64, 64), num_frames=9, corruption="clean" if corruption == "grey" else corruption
    )
    clip: Clip = to_clip(world, "clip")
    if corruption == "grey":
        clip = replace(clip, video=Video(torch.full_like(world.frames, 0.5)))
    if not commanded:
        clip = replace(clip, prompt="A room.", target=None)
    names = (*REWARDS, *CHEAP, *STATISTICS)
    lines = "".join(f"  - {{name: {name}, {OPTIONS.get(name, 'weight: 1')}}}\n" for name in names)
    text = f"version: 1\ndevice: cpu\nreconstructor: {{name: direct}}\njudge: {{name: openai}}\nrewards:\n{lines}"
    registry = installed().registry
    components = compose_scoring(parse_manifest(text, registry), registry)
    (result,) = ScoringEngine(replace(components, judge=StubJudge(0.5))).score([clip])
    return result.scores


def told(score: Score) -> str:
    """A score in the words of the table."""
    if score.reason is not None:
        assert math.isnan(score.value)
        return FAILED if score.applicable else NOT_APPLICABLE
    if abs(score.value - 2 / 3) < 0.02:
        return TWO_THIRDS
    return ZERO if score.value < 0.01 else HIGH if score.value > 0.7 else f"{score.value:.3f}"


@pytest.mark.parametrize(
    ("moves", "corruption", "commanded", "expected"),
    [
        ("fixed", "clean", True, (HIGH, HIGH, NOT_APPLICABLE, NOT_APPLICABLE, HIGH, HIGH)),
        ("pan left", "clean", True, (HIGH, HIGH, HIGH, NOT_APPLICABLE, HIGH, HIGH)),
        ("push in", "frozen", True, (ZERO, ZERO, ZERO, ZERO, HIGH, ZERO)),
        ("pan left", "frozen", True, (ZERO, ZERO, ZERO, NOT_APPLICABLE, HIGH, ZERO)),
        ("fixed", "clean", False, (ZERO, NOT_APPLICABLE, NOT_APPLICABLE, NOT_APPLICABLE, HIGH, NOT_APPLICABLE)),
        ("pan left", "clean", False, (HIGH, NOT_APPLICABLE, HIGH, NOT_APPLICABLE, HIGH, NOT_APPLICABLE)),
        ("push in", "grey", True, (FAILED,) * 6),
        ("push in", "pure_noise", True, (FAILED,) * 5),
    ],
)
def test_every_reward_says_what_it_can_tell(
    moves: str, corruption: str, commanded: bool, expected: tuple[str, ...]
) -> None:
    found = scores(moves, corruption, commanded)
    names = REWARDS[: len(expected)]  # `camera-accuracy` takes its pick even of noise
    assert {name: told(found[name]) for name in names} == dict(zip(names, expected, strict=True))


@pytest.mark.parametrize(
    ("moves", "corruption", "commanded", "expected"),
    [
        ("fixed", "clean", True, (HIGH, HIGH, HIGH, HIGH, ZERO)),
        ("pan left", "clean", True, (HIGH, HIGH, HIGH, HIGH)),
        ("push in", "frozen", True, (ZERO, ZERO, TWO_THIRDS, HIGH, ZERO)),
        ("pan left", "frozen", True, (ZERO, ZERO, TWO_THIRDS, HIGH, ZERO)),
        ("fixed", "clean", False, (NOT_APPLICABLE, NOT_APPLICABLE, TWO_THIRDS, HIGH, ZERO)),
        ("pan left", "clean", False, (NOT_APPLICABLE, NOT_APPLICABLE, HIGH, HIGH)),
        ("push in", "grey", True, (FAILED,) * 5),
    ],
)
def test_cheap_rewards_and_metrics_say_what_they_can_tell(
    moves: str, corruption: str, commanded: bool, expected: tuple[str, ...]
) -> None:
    found = scores(moves, corruption, commanded)
    names = CHEAP[: len(expected)]  # how much `motion` a pan shows depends on the scene
    assert {name: told(found[name]) for name in names} == dict(zip(names, expected, strict=True))


def test_noise_has_no_rerender_and_earns_little_of_the_commanded_path() -> None:
    found = scores("push in", "pure_noise", True)
    assert told(found["psnr-normalised"]) == FAILED
    assert found["path-rerender"].value < 0.1
    clean = scores("push in", "clean", True)
    assert found["camera-move-likelihood"].value < 0.6 < 0.9 < clean["camera-move-likelihood"].value


def test_statistics_of_blank_frames_are_zero_and_no_failure() -> None:
    blank, clean = scores("push in", "grey", True), scores("push in", "clean", True)
    assert {name: blank[name].value for name in STATISTICS} == dict.fromkeys(STATISTICS, 0.0)
    assert all(clean[name].value > 0.05 for name in STATISTICS)


def test_every_missing_score_has_a_reason_in_words() -> None:
    missing = {name: score for name, score in scores("push in", "grey", True).items() if name not in STATISTICS}
    assert set(missing) == {*REWARDS, *CHEAP}
    for name, score in missing.items():
        assert "texture" in str(score.reason), name
