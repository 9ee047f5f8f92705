"""Which parts of a clip move by themselves, with exact cameras; and what leaving them out does to the scores."""

from __future__ import annotations

import pytest
import torch

from worldr1_core.errors import ScoreUnavailable
from worldr1_core.reconstructor import Render
from worldr1_core.reward import RewardInputs
from worldr1_rewards.probes.plan import to_clip
from worldr1_rewards.probes.world import build_scene, render_world
from worldr1_rewards.probes.world.corruptions import moved, visible_solids
from worldr1_rewards.probes.world.raycaster import surfaces
from worldr1_rewards.probes.world.scenes import NUM_ROOM_SURFACES
from worldr1_rewards.rewards import moving_parts
from worldr1_rewards.rewards.consistency import ConsistencyReward
from worldr1_rewards.rewards.moving_parts import find_moving_parts, rigid_render
from worldr1_rewards.rewards.reconstruction import ReconstructionReward
from worldr1_rewards.rewards.rerender_psnr import PSNRReward
from worldr1_rewards.rewards.rerender_similarity import SSIMReward
from worlds.truth import true_reconstruction

SIZE = (64, 64)


def render(corruption):
    return render_world("rich", "push in", seed=0, size=SIZE, num_frames=9, corruption=corruption)


@pytest.fixture(scope="module")
def worlds():
    """Kind -> rendered clip, reconstruction that is right, and clip, made when they are first asked for."""

    class Worlds(dict):
        def __missing__(self, kind):
            world = render(kind)
            self[kind] = world, true_reconstruction(world), to_clip(world, kind)
            return self[kind]

    return Worlds()


def pixels_of_the_object(world):
    scene = build_scene(world.family, world.seed)
    target = visible_solids(scene, world.c2w[len(world.c2w) // 2], world.intrinsics, SIZE)[0]
    times = torch.linspace(0, 1, len(world.c2w)).tolist()
    shown = [moved(scene, time, 1.0, [target]) for time in times]
    found = [surfaces(one, pose, world.intrinsics, SIZE) for one, pose in zip(shown, world.c2w, strict=True)]
    return torch.stack(found) == NUM_ROOM_SURFACES + target


def score(reward, known):
    _, reconstruction, clip = known
    return reward.score(clip, RewardInputs(reconstruction))


def find(known):
    _, reconstruction, clip = known
    return find_moving_parts(clip.video.frames, reconstruction)


def test_the_object_that_moves_is_found(worlds):
    truth = pixels_of_the_object(worlds["moving_object"][0])
    found = find(worlds["moving_object"])
    assert (found.mask & truth).sum() > 0.6 * truth.sum()
    assert (found.mask & truth).sum() > 0.5 * found.mask.sum()
    assert found.share == pytest.approx(float(found.mask.float().mean()))


@pytest.mark.parametrize("kind", ["clean", pytest.param("flicker", marks=pytest.mark.slow)])
def test_static_scenes_and_flicker_are_not_motion(worlds, kind):
    assert find(worlds[kind]).share < 0.02


@pytest.mark.slow
def test_honest_motion_costs_little_where_it_is_masked(worlds):
    bare = {"gate": "none"}
    rewards = [(ReconstructionReward, bare), (ConsistencyReward, bare), (PSNRReward, {}), (SSIMReward, {})]
    masked = {}
    for kind in ("clean", "moving_object"):  # the parts that move are found once per clip
        masked[kind] = [score(reward(moving="mask", **options), worlds[kind]) for reward, options in rewards]
    for (reward, options), clean, moving in zip(rewards, masked["clean"], masked["moving_object"], strict=True):
        counted = score(reward(**options), worlds["moving_object"]).value
        assert counted < moving.value, reward
        assert clean.value - moving.value < 0.6 * (clean.value - counted), reward
        assert moving.details["moving_share"] > 0


@pytest.mark.slow
def test_an_object_that_morphs_costs_where_honest_motion_does_not(worlds):
    reward = ReconstructionReward(moving="mask", gate="none")
    honest, morphing = (score(reward, worlds[kind]).value for kind in ("moving_object", "morphing_object"))
    assert morphing < 0.5 * honest


def test_almost_everything_moves(worlds, monkeypatch):
    world, reconstruction, _ = worlds["clean"]
    whole = moving_parts.MovingParts(torch.ones(len(world.frames), *SIZE, dtype=torch.bool), 1.0)
    monkeypatch.setattr(moving_parts, "find_moving_parts", lambda frames, reconstruction: whole)
    render = Render(world.frames, torch.ones(len(world.frames), *SIZE))
    with pytest.raises(ScoreUnavailable, match="100% of the clip moves by itself"):
        rigid_render(render, world.frames, reconstruction)
