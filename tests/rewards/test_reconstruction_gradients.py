"""`score_frames` of the rewards that read a re-render: the value of `score`, and the gradient at fixed geometry."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from typing import Any

import pytest
import torch

from worldr1_core.camera import CameraTrajectory, trajectory_from_prompt
from worldr1_core.camera.geometry import invert_pose
from worldr1_core.clip import Clip
from worldr1_core.compose import ScoringComponents, WeightedReward
from worldr1_core.errors import UserError
from worldr1_core.frame_scoring import FrameScorer
from worldr1_core.reconstructor import Reconstruction, Render
from worldr1_core.reward import Reward, RewardInputs
from worldr1_core.testing import reward_checks
from worldr1_core.video import Video
from worldr1_rewards.probes.world import render_world
from worldr1_rewards.reconstructors.auto import AutoReconstructor
from worldr1_rewards.reconstructors.dense_scene import DenseReconstruction
from worldr1_rewards.reconstructors.depth_render import KeyFrames
from worldr1_rewards.reconstructors.direct import DirectReconstruction, DirectReconstructor
from worldr1_rewards.reconstructors.view_synthesis import DepthFrames
from worldr1_rewards.rewards import lpips_net
from worldr1_rewards.rewards.reconstruction import ReconstructionReward
from worldr1_rewards.rewards.rerender_psnr import NormalisedPSNRReward, PSNRReward

SIZE, NUM_FRAMES = (48, 48), 5
KEYS = [0, 2, 4]
RECONSTRUCTION = [
    {"metric": "local"},
    {"metric": "photometric"},
    {"metric": "lpips"},
    {"metric": "psnr"},
    {"metric": "ssim"},
    {"gate": "static-gain"},
    {"gate": "none", "sharpness": 1.0},
]
REWARDS: list[tuple[type[Reward], dict[str, Any]]] = [
    (PSNRReward, {}),
    (NormalisedPSNRReward, {}),
    *((ReconstructionReward, options) for options in RECONSTRUCTION),
]
every_reward = pytest.mark.parametrize(("kind", "options"), REWARDS, ids=str)


@pytest.fixture(scope="module", autouse=True)
def random_alexnet() -> Any:
    """LPIPS with random weights."""
    import torchvision

    torch.manual_seed(0)
    with torch.device("meta"):
        shapes = {name: value.shape for name, value in torchvision.models.alexnet().state_dict().items()}
    state = {name: 0.05 * torch.randn(shape) for name, shape in shapes.items() if name.startswith("features")}
    patch = pytest.MonkeyPatch()
    patch.setattr(lpips_net, "_nets", {})
    patch.setattr(lpips_net, "_backbone_state", lambda: state)
    yield
    patch.undo()


@lru_cache(maxsize=4)
def world(seed: int = 0) -> Any:
    return render_world("rich", "push in", seed=seed, size=SIZE, num_frames=NUM_FRAMES)


def clip_of(frames: torch.Tensor, prompt: str = "Camera push in.") -> Clip:
    return Clip(Video(frames), prompt, trajectory_from_prompt(prompt, len(frames)))


def _common(c2w: torch.Tensor | None) -> dict[str, Any]:
    shown = world()
    poses = shown.c2w if c2w is None else c2w
    path = CameraTrajectory(poses, shown.intrinsics, SIZE, shown.scene_depth)
    return {"trajectory": path, "depth": shown.depth}


def key_scene(frames: torch.Tensor, c2w: torch.Tensor | None = None) -> DirectReconstruction:
    """What `direct` returns, with the true cameras and depth."""
    shown = world()
    poses = invert_pose(shown.c2w)[KEYS].float()
    keys = KeyFrames(frames[KEYS], 1 / shown.depth[KEYS], poses, shown.intrinsics.float())
    return DirectReconstruction(**_common(c2w), keys=keys, key_indices=KEYS)


def stereo_scene(frames: torch.Tensor, c2w: torch.Tensor | None = None) -> DenseReconstruction:
    """What `auto` returns, with the true cameras and depth."""
    shown = world()
    scene = DepthFrames(frames, 1 / shown.depth, invert_pose(shown.c2w).float(), shown.intrinsics.float())
    return DenseReconstruction(**_common(c2w), scene=scene, scene_frames=list(range(NUM_FRAMES)))


SCENES: list[Callable[..., Any]] = [key_scene, stereo_scene]


def graded(
    reward: Reward, frames: torch.Tensor, scenes: list[Reconstruction], prompt: str = "Camera push in."
) -> tuple[torch.Tensor, torch.Tensor]:
    """Values `(B,)` for the same frames with each of the scenes, and the gradient of the sum of those with a score."""
    batch = frames.repeat(len(scenes), 1, 1, 1, 1).requires_grad_()
    clips = [clip_of(frames, prompt) for _ in scenes]
    values = reward.score_frames(batch, clips, [RewardInputs(scene) for scene in scenes])
    [gradient] = torch.autograd.grad(values.nansum(), batch)
    return values.detach(), gradient


@pytest.mark.parametrize("scene_of", SCENES)
def test_own_colours_give_the_rerender(scene_of: Callable[..., Any]) -> None:
    frames = world().frames
    scene = scene_of(frames)
    expected, found = scene.rerender(), scene.rerender_frames(frames)
    assert all(torch.equal(getattr(expected, part), getattr(found, part)) for part in ("frames", "coverage", "depth"))


@pytest.mark.parametrize("scene_of", SCENES)
def test_other_colours_leave_the_geometry(scene_of: Callable[..., Any]) -> None:
    """Views are linear in the colours: half the brightness gives half the view."""
    frames = world().frames
    scene = scene_of(frames)
    expected, found = scene.rerender(), scene.rerender_frames(frames / 2)
    assert torch.equal(expected.coverage, found.coverage)
    torch.testing.assert_close(found.frames, expected.frames / 2)


def test_a_view_depends_on_the_other_key_frames_alone() -> None:
    frames = world().frames.clone().requires_grad_()
    view = key_scene(world().frames).rerender_frames(frames).frames[2]
    [gradient] = torch.autograd.grad(view.sum(), frames)
    assert [bool(part.any()) for part in gradient] == [True, False, False, False, True]


@every_reward
@pytest.mark.parametrize("scene_of", SCENES)
def test_values_are_those_of_score(kind: Any, options: dict[str, Any], scene_of: Callable[..., Any]) -> None:
    reward, frames = kind(**options), world().frames
    scene = scene_of(frames)
    for prompt in ("Camera push in.", "A room."):
        expected = reward.score(clip_of(frames, prompt), RewardInputs(scene)).value
        assert float(graded(reward, frames, [scene], prompt)[0]) == pytest.approx(expected, rel=1e-6)
        assert expected > 0.01


@every_reward
def test_gradient_agrees_with_finite_differences(kind: Any, options: dict[str, Any]) -> None:
    """The kit moves the frames beside a clip that stays, and so beside a geometry that stays."""
    clips = [clip_of(world().frames, "A room." if options.get("gate") == "static-gain" else "Camera push in.")]
    checks = reward_checks(
        kind, options=options, clips=clips, reconstruct=lambda clip: key_scene(clip.video.frames), tolerance=1e-5
    )
    for check in checks:
        if check.name.startswith("gradient-"):
            check()


def test_gradient_through_stereo_scenes_agrees_with_finite_differences() -> None:
    checks = reward_checks(
        PSNRReward, clips=[clip_of(world().frames)], reconstruct=lambda clip: stereo_scene(clip.video.frames)
    )
    next(check for check in checks if check.name == "gradient-differences")()


class Detached(DirectReconstruction):
    """Hides that the colours of the re-render come from the frames."""

    def rerender_frames(self, frames: torch.Tensor) -> Render:
        return super().rerender_frames(frames.detach())


@every_reward
def test_gradient_also_goes_through_the_rerender(kind: Any, options: dict[str, Any]) -> None:
    """Only key frames are colours of the re-render; what the others receive is the same without it."""
    reward, scene = kind(**options), key_scene(world().frames)
    hidden = Detached(**{name: getattr(scene, name) for name in scene.__dataclass_fields__})
    whole, part = (graded(reward, world().frames, [one])[1][0] for one in (scene, hidden))
    through = (whole - part).abs().amax((1, 2, 3)) / whole.abs().max()
    assert float(through[KEYS].min()) > 1e-3
    assert float(through[[1, 3]].max()) < 1e-6


@every_reward
def test_a_step_along_the_gradient_raises_the_score(kind: Any, options: dict[str, Any]) -> None:
    noise = torch.randn(world().frames.shape, generator=torch.Generator().manual_seed(0))
    frames = (world().frames + 0.05 * noise).clamp(0.02, 0.98)
    reward, scene = kind(**options), key_scene(frames)
    value, gradient = graded(reward, frames, [scene])
    better = frames + 0.004 * gradient[0] / gradient.abs().max()
    assert reward.score(clip_of(better), RewardInputs(key_scene(better))).value > float(value)


@every_reward
def test_clips_without_a_score_are_nan_and_leave_the_others_alone(kind: Any, options: dict[str, Any]) -> None:
    frames = world().frames
    good = key_scene(frames)
    empty = replace(good, keys=replace(good.keys, inverse_depth=torch.zeros_like(good.keys.inverse_depth)))
    values, gradient = graded(kind(**options), frames, [empty, good])
    assert values.isnan().tolist() == [True, False]
    assert not bool(gradient[0].any())
    torch.testing.assert_close(gradient[1:], graded(kind(**options), frames, [good])[1])


@every_reward
def test_a_flat_frame_and_an_uncovered_one_leave_the_gradient_finite(kind: Any, options: dict[str, Any]) -> None:
    frames = world().frames.clone()
    frames[1] = 0.5
    backwards = world().c2w.clone()
    backwards[3, :3, :3] = torch.diag(torch.tensor([-1.0, 1.0, -1.0]))
    scene = key_scene(frames, backwards)
    assert scene.rerender().coverage.amax((1, 2)).tolist() == [1, 1, 1, 0, 1]
    for prompt in ("Camera push in.", "A room."):
        values, gradient = graded(kind(**options), frames, [scene], prompt)
        assert values.isfinite().all()
        assert gradient.isfinite().all()


@every_reward
def test_a_scene_made_in_inference_mode_has_a_gradient(kind: Any, options: dict[str, Any]) -> None:
    frames = world().frames
    for scene_of in SCENES:
        with torch.inference_mode():
            scene = scene_of(frames.clone())
            scene.rerender()
        found = graded(kind(**options), frames, [scene])[1]
        torch.testing.assert_close(found, graded(kind(**options), frames, [scene_of(frames)])[1])


class Opaque(Reconstruction):
    """A reconstruction whose views have no gradient."""

    def render(self, c2w: Any, intrinsics: Any, size: Any) -> Render:
        raise NotImplementedError

    def rerender(self) -> Render:
        return Render(world().frames, torch.ones(NUM_FRAMES, *SIZE))


@pytest.mark.parametrize("kind", [PSNRReward, NormalisedPSNRReward, ReconstructionReward])
def test_a_reconstruction_without_a_gradient_is_an_error_and_no_score(kind: Any) -> None:
    scene = Opaque(**_common(None))
    with pytest.raises(UserError, match=r"Opaque has no gradient.*direct or auto"):
        graded(kind(), world().frames, [scene])


@pytest.mark.parametrize("reconstructor", [DirectReconstructor, AutoReconstructor])
def test_frame_scorer_with_a_reconstructor(reconstructor: Any) -> None:
    """As the objective `reward-gradient` does it; a grey clip cannot be reconstructed."""
    rewards = {"psnr": PSNRReward(), "reconstruction": ReconstructionReward()}
    weighted = [WeightedReward(name, 1.0, reward) for name, reward in rewards.items()]
    scorer = FrameScorer(ScoringComponents(weighted, reconstructor(), None))
    grey = torch.full_like(world().frames, 0.5)
    frames = torch.stack([world().frames, grey]).requires_grad_()
    clips = [clip_of(part) for part in frames.detach()]
    values = scorer(frames, clips)
    scene = reconstructor().reconstruct(clips[0])
    for name, reward in rewards.items():
        assert values[name].isnan().tolist() == [False, True]
        assert float(values[name][0].detach()) == pytest.approx(
            reward.score(clips[0], RewardInputs(scene)).value, rel=1e-5
        )
    [gradient] = torch.autograd.grad(sum(value.nansum() for value in values.values()), frames)
    assert gradient.isfinite().all()
    assert gradient.flatten(1).any(1).tolist() == [True, False]
