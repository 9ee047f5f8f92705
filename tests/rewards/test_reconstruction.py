"""The reconstruction reward on reconstructions whose truth is known."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import pytest
import torch

from worldr1_core.camera import CameraTrajectory, trajectory_from_prompt
from worldr1_core.clip import Clip
from worldr1_core.errors import PluginError, ScoreUnavailable, UserError, WeightsError
from worldr1_core.reconstructor import Reconstruction, Render
from worldr1_core.reward import RewardInputs, Score
from worldr1_core.video import Video
from worldr1_rewards.probes.world import render_world
from worldr1_rewards.rewards import reconstruction as module
from worldr1_rewards.rewards.reconstruction import ReconstructionReward
from worldr1_rewards.rewards.trajectory import TrajectoryReward
from worlds.truth import TrueReconstruction, true_reconstruction

METRICS = ["photometric", "psnr", "ssim"]


@dataclass(frozen=True, kw_only=True)
class Fixed(Reconstruction):
    """Returns the re-render it was given."""

    shown: Render

    def render(self, c2w: Any, intrinsics: Any, size: Any) -> Render:
        raise NotImplementedError

    def rerender(self) -> Render:
        return self.shown


@lru_cache(maxsize=64)
def world(moves: str = "move right", corruption: str = "clean", family: str = "rich", seed: int = 0) -> Any:
    return render_world(family, moves, seed=seed, size=(64, 64), num_frames=9, corruption=corruption)


def clip_of(frames: torch.Tensor, prompt: str = "") -> Clip:
    return Clip(Video(frames), prompt, trajectory_from_prompt(prompt, len(frames)))


def score_truth(
    moves: str, corruption: str = "clean", *, command: bool = True, family: str = "rich", **options: Any
) -> Score:
    """Score a corrupted clip with the cameras and the depth of the world it pretends to show."""
    shown, honest = world(moves, corruption, family), world(moves, "clean", family)
    reconstruction = replace(true_reconstruction(honest), frames=shown.frames)
    clip = clip_of(shown.frames, shown.prompt if command else "")
    return ReconstructionReward(**options).score(clip, RewardInputs(reconstruction))


def score_render(render: Render, frames: torch.Tensor, **options: Any) -> Score:
    still = torch.eye(4).repeat(len(frames), 1, 1)
    fixed = Fixed(trajectory=CameraTrajectory(still), shown=render)
    return ReconstructionReward(**options).score(clip_of(frames), RewardInputs(fixed))


@pytest.mark.parametrize("metric", METRICS)
def test_perfect_rerender_earns_one(metric: str) -> None:
    frames = world().frames
    value = score_render(Render(frames, torch.ones(9, 64, 64)), frames, metric=metric, gate="none").value
    assert value == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("metric", METRICS)
def test_score_falls_with_every_error(metric: str) -> None:
    frames = world().frames
    y = torch.linspace(0, 6, 64)
    pattern = torch.sin(y)[:, None] * torch.cos(y)[None]
    values = [
        score_render(Render(frames + a * pattern, torch.ones(9, 64, 64)), frames, metric=metric, gate="none").value
        for a in (0.0, 0.02, 0.05, 0.1, 0.3)
    ]
    assert values == sorted(values, reverse=True)
    assert 0 <= values[-1] < values[0] - 0.1


@pytest.mark.parametrize("metric", METRICS)
def test_covering_less_earns_less(metric: str) -> None:
    frames = world().frames
    values = []
    for width in (64, 48, 32, 16) if metric == "ssim" else (64, 48, 32, 16, 4):  # SSIM needs windows of 11 pixels
        coverage = torch.zeros(9, 64, 64)
        coverage[..., :width] = 1
        values.append(score_render(Render(frames, coverage), frames, metric=metric, gate="none").value)
    assert values == sorted(values, reverse=True)
    assert values[-1] < 0.1 < 0.9 < values[1] if metric != "ssim" else values[-1] < 0.5


def test_what_lies_outside_the_coverage_is_not_looked_at() -> None:
    frames = world().frames
    coverage = torch.ones(9, 64, 64)
    coverage[:, :10] = 0
    spoiled = frames.clone()
    spoiled[:, :, :10] = float("nan")
    assert score_render(Render(spoiled, coverage), frames, gate="none").value == pytest.approx(
        score_render(Render(frames, coverage), frames, gate="none").value
    )


@pytest.mark.parametrize("moves", ["push in", "orbit left", "pan right"])
@pytest.mark.parametrize("family", ["rich", "soft", "plain", "noise"])
def test_corrupted_worlds_earn_much_less(moves: str, family: str) -> None:
    clean = score_truth(moves, family=family, gate="none").value
    for corruption in ("morph", "bend", "swim", "vanish", "flicker"):
        assert score_truth(moves, corruption, family=family, gate="none").value < 0.7 * clean, corruption


def test_boiling_detail_is_seen() -> None:
    frames = world().frames
    boil = 0.15 * torch.randn(frames.shape, generator=torch.Generator().manual_seed(0))
    assert score_render(Render(frames + boil, torch.ones(9, 64, 64)), frames, gate="none").value < 0.8


def test_flicker_is_seen_by_the_composite_and_hardly_by_ssim() -> None:
    def drop(metric: str) -> float:
        clean = score_truth("orbit left", metric=metric, gate="none").value
        return 1 - score_truth("orbit left", "flicker", metric=metric, gate="none").value / clean

    assert drop("photometric") > 0.5
    assert drop("ssim") < 0.2


def test_trajectory_gate_is_the_trajectory_reward() -> None:
    bare, gated = score_truth("push in", gate="none"), score_truth("push in")
    honest = world("push in")
    clip = clip_of(honest.frames, honest.prompt)
    path = TrajectoryReward().score(clip, RewardInputs(true_reconstruction(honest))).value
    assert gated.value == pytest.approx(bare.value * path)
    assert gated.details["gate_trajectory"] == pytest.approx(path)


def frozen_truth(moves: str) -> tuple[Clip, TrueReconstruction]:
    shown = world(moves, "frozen")
    return clip_of(shown.frames, shown.prompt), true_reconstruction(shown)


def test_a_perfect_still_earns_nothing_where_a_move_is_commanded() -> None:
    clip, still = frozen_truth("move left")
    assert ReconstructionReward(gate="none").score(clip, RewardInputs(still)).value > 0.9
    assert ReconstructionReward().score(clip, RewardInputs(still)).value < 0.01
    assert ReconstructionReward(gate="static-gain").score(clip, RewardInputs(still)).value == 0


def test_a_still_is_not_punished_where_the_camera_is_to_stay() -> None:
    clip, still = frozen_truth("fixed")
    assert ReconstructionReward().score(clip, RewardInputs(still)).value > 0.9


def test_without_a_command_the_gain_over_a_still_decides() -> None:
    moving = score_truth("orbit left", command=False)
    assert moving.value > 0.5
    assert moving.details["gate_static_gain"] > 0.8
    clip, still = frozen_truth("move left")
    assert ReconstructionReward().score(replace(clip, target=None), RewardInputs(still)).value == 0


def test_noise_on_a_still_gains_little() -> None:
    shown = world("move left", "frozen_noise")
    clip = clip_of(shown.frames)
    assert ReconstructionReward().score(clip, RewardInputs(true_reconstruction(shown))).value < 0.1


def test_lpips_is_one_minus_the_mean_distance(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = {}

    def distance(prediction: torch.Tensor, target: torch.Tensor, *, device: str) -> torch.Tensor:
        seen["prediction"] = prediction
        return torch.linspace(0.1, 0.3, len(target))

    monkeypatch.setattr(module, "lpips_distance", distance)
    frames = world().frames
    coverage = torch.ones(9, 64, 64)
    coverage[..., :32] = 0
    score = score_render(Render(torch.zeros_like(frames), coverage), frames, metric="lpips", gate="none")
    assert score.details["quality"] == pytest.approx(0.8)
    assert score.value < 0.8
    torch.testing.assert_close(seen["prediction"][..., :32], frames[..., :32])
    assert float(seen["prediction"][..., 32:].max()) == 0


def test_lpips_without_weights_stops_instead_of_scoring(monkeypatch: pytest.MonkeyPatch) -> None:
    def unavailable(*_: object, **__: object) -> torch.Tensor:
        raise WeightsError("no weights; choose `metric: photometric`")

    monkeypatch.setattr(module, "lpips_distance", unavailable)
    with pytest.raises(WeightsError, match="photometric"):
        score_truth("push in", metric="lpips")


def test_covering_less_than_a_window_of_ssim_is_no_score() -> None:
    frames = world().frames
    coverage = torch.zeros(9, 64, 64)
    coverage[:, :5, :5] = 1
    with pytest.raises(ScoreUnavailable, match=r"no covered part .* metric 'ssim'"):
        score_render(Render(frames, coverage), frames, metric="ssim", gate="none")
    assert score_render(Render(frames, coverage), frames, metric="psnr", gate="none").details["quality"] == 1.0


def test_covering_nothing_is_no_score() -> None:
    frames = world().frames
    with pytest.raises(ScoreUnavailable, match="covers no pixel"):
        score_render(Render(frames, torch.zeros(9, 64, 64)), frames)


def test_a_rerender_with_holes_in_its_numbers_is_no_score() -> None:
    frames = world().frames
    with pytest.raises(ScoreUnavailable, match="NaN"):
        score_render(Render(frames * float("nan"), torch.ones(9, 64, 64)), frames)


def test_a_rerender_of_another_size_is_the_reconstructors_fault() -> None:
    frames = world().frames
    with pytest.raises(PluginError, match="rerender"):
        score_render(Render(frames[..., :32], torch.ones(9, 64, 32)), frames)


def test_a_missing_reconstruction_is_the_scorers_fault() -> None:
    with pytest.raises(PluginError, match="needs a reconstruction"):
        ReconstructionReward().score(clip_of(torch.rand(3, 3, 16, 16)), RewardInputs())


@pytest.mark.parametrize("options", [{"metric": "fid"}, {"gate": "always"}, {"unexplained": 0}])
def test_options_are_bounded(options: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=next(iter(options))):
        ReconstructionReward(**options)


@pytest.mark.parametrize("family", ["rich", "soft", "plain", "gloss"])
def test_blur_costs_and_softness_does_not(family: str) -> None:
    world = render_world(family, "push in", seed=2, size=(64, 64), num_frames=5)
    blurred = render_world(family, "push in", seed=2, size=(64, 64), num_frames=5, corruption="blur")
    sharp, dull = (
        ReconstructionReward(gate="none").score(
            Clip(Video(clip.frames), clip.prompt), RewardInputs(true_reconstruction(clip))
        )
        for clip in (world, blurred)
    )
    assert sharp.details["sharpness"] == 1.0
    assert dull.details["sharpness"] < 0.2
    assert dull.value < 0.25 * sharp.value
    off = ReconstructionReward(gate="none", sharpness=0.0)
    assert (
        off.score(Clip(Video(blurred.frames)), RewardInputs(true_reconstruction(blurred))).details["sharpness"] == 1.0
    )
