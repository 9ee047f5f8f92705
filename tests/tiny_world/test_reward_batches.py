"""A score belongs to its clip: not to the batch that it came in, not to its place there, not to the device."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import pytest
import torch

from rewards.tiny_preference import ARCHITECTURE, register_tiny_clip, save_hpsv2
from worldr1_backbones.plugin import worldr1_register_rewards as rewards_of_backbones
from worldr1_backbones.tiny.captions import parse_caption
from worldr1_backbones.tiny.data import clip_of as make_tiny_clip
from worldr1_backbones.tiny.data import render_clip
from worldr1_core.camera import trajectory_from_prompt
from worldr1_core.clip import Clip
from worldr1_core.compose import compose_scoring
from worldr1_core.errors import ScoreUnavailable
from worldr1_core.manifest import parse_manifest
from worldr1_core.plugins import installed
from worldr1_core.reconstructor import Reconstruction, Reconstructor
from worldr1_core.reward import Score
from worldr1_core.scoring import ScoringEngine
from worldr1_core.testing.stand_ins import StubJudge
from worldr1_core.video import Video
from worldr1_rewards.plugin import worldr1_register_rewards as rewards_of_rewards
from worldr1_rewards.preference_models import hpsv2
from worldr1_rewards.probes.world import render_world

DOWNLOADED = {
    "aesthetic-quality",
    "background-consistency",
    "flow-smoothness",
    "imaging-quality",
    "lpips-similarity",
    "subject-consistency",
    "vbench-package",
}
"""Metrics that need the weights of a hub, or a package in another environment."""
REWARDS = sorted((rewards_of_rewards() | rewards_of_backbones()).keys() - DOWNLOADED)
OPTIONS = {"statistics-threshold": "mean_gradient: 0.5, contrast: 0.4, motion: 3"}  # above what the clips reach
MOVES = ("push in", "pan left", "move right")
TOLERANCE = 1e-5
DEVICE_TOLERANCE = 1e-3

Results = Mapping[str, Mapping[str, Score]]
"""Clip name -> reward name -> score."""


def make_clips() -> list[Clip]:
    """Clips of the tiny world that push, turn and slide; one that stands still; another room; noise."""
    prompts = [f"Camera {move}. A red box and a blue ball in a green room with checker walls." for move in MOVES]
    frames = [render_clip(make_tiny_clip(parse_caption(prompt), seed)) for seed, prompt in enumerate(prompts)]
    frames.append(frames[0][:1].expand_as(frames[0]).clone())
    frames.append(render_world("rich", "orbit left", size=(64, 64), num_frames=9).frames)
    frames.append(torch.rand(frames[0].shape, generator=torch.Generator().manual_seed(0)))
    prompts += [prompts[0], "Camera orbit left. A room with simple objects.", prompts[2]]
    before = [*frames[1:], frames[0]]
    return [
        Clip(Video(one), prompt, trajectory_from_prompt(prompt, len(one)), name=f"clip {index}", reference=Video(other))
        for index, (one, other, prompt) in enumerate(zip(frames, before, prompts, strict=True))
    ]


class Remembering(Reconstructor):
    """Asks another reconstructor once a clip."""

    def __init__(self, asked: Reconstructor) -> None:
        super().__init__(device=asked.device)
        self.asked = asked
        self.known: dict[str, Reconstruction | ScoreUnavailable] = {}

    def reconstruct(self, clip: Clip) -> Reconstruction:
        if clip.name not in self.known:
            try:
                self.known[clip.name] = self.asked.reconstruct(clip)
            except ScoreUnavailable as error:
                self.known[clip.name] = error
        found = self.known[clip.name]
        if isinstance(found, ScoreUnavailable):
            raise found
        return found


def make_scorer(device: str, checkpoint: object) -> ScoringEngine:
    options = OPTIONS | {"preference": f"checkpoint: {checkpoint}, batch_size: 3"}
    lines = "".join(f"  - {{name: {name}, {options.get(name, 'weight: 1')}}}\n" for name in REWARDS)
    text = f"version: 1\ndevice: {device}\nreconstructor: {{name: direct}}\njudge: {{name: openai}}\nrewards:\n{lines}"
    registry = installed().registry
    components = compose_scoring(parse_manifest(text, registry), registry)
    assert components.reconstructor is not None
    return ScoringEngine(replace(components, judge=StubJudge(0.5), reconstructor=Remembering(components.reconstructor)))


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hps")
    register_tiny_clip(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hpsv2, "ARCHITECTURE", ARCHITECTURE)
        yield save_hpsv2(folder)


@pytest.fixture(scope="module")
def clips():
    return make_clips()


@pytest.fixture(scope="module")
def scorer(checkpoint) -> ScoringEngine:
    return make_scorer("cpu", checkpoint)


@pytest.fixture(scope="module")
def alone(scorer, clips) -> Results:
    return {result.clip.name: result.scores for result in scorer.score(clips, batch_size=1)}


@pytest.fixture(scope="module")
def runs(scorer, clips, alone) -> dict[str, Results]:
    orders = {"together": (clips, len(clips)), "backwards, in fours": (clips[::-1], 4)}
    orders["without the first"] = (clips[1:], len(clips))
    others = {
        name: {result.clip.name: result.scores for result in scorer.score(given, batch_size=size)}
        for name, (given, size) in orders.items()
    }
    return {"alone": alone, **others}


def measured(score: Score) -> float:
    """The score; of `preference` what it is made from, since random weights are all clamped to 0."""
    return float(score.details.get("raw", score.value))


def apart(one: Score, other: Score) -> float:
    """Distance of two scores; infinite where one alone is missing, or missing for another reason."""
    if one.reason is not None or other.reason is not None:
        return 0.0 if one.reason == other.reason and one.applicable == other.applicable else math.inf
    return abs(measured(one) - measured(other)) / max(1.0, abs(measured(one)))


@pytest.mark.parametrize("reward", REWARDS)
def test_batch_and_order_change_no_score(reward, runs):
    alone = {clip: scores[reward] for clip, scores in runs["alone"].items()}
    numbers = {measured(score) for score in alone.values() if score.reason is None}
    assert len(numbers) > 1, "clips that all get the same cannot show an exchange"
    for name, results in runs.items():
        gaps = {clip: apart(alone[clip], scores[reward]) for clip, scores in results.items()}
        assert {clip: gap for clip, gap in gaps.items() if not gap <= TOLERANCE} == {}, name


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_the_device_changes_no_score(checkpoint, clips, alone):
    there = {result.clip.name: result.scores for result in make_scorer("cuda", checkpoint).score(clips)}
    gaps = {
        (clip, reward): apart(score, there[clip][reward])
        for clip, scores in alone.items()
        for reward, score in scores.items()
        if score.reason is None
    }
    assert {where: gap for where, gap in gaps.items() if not gap <= DEVICE_TOLERANCE} == {}
