"""Advantages and loss against closed forms, numpy, and TRL's own loss on the same numbers."""

from __future__ import annotations

import math
from collections import defaultdict
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from worldr1_core.policy_step import Transition
from worldr1_train.advantages import (
    add_spatial_advantages,
    clipped_surrogate,
    gdpo_advantages,
    weighted_sum_advantages,
)

NAN = float("nan")


def test_advantages_are_standardised_within_each_group():
    rewards = torch.tensor([1.0, 2.0, 3.0, 4.0, 10.0, 10.0, 30.0, 30.0])
    got = weighted_sum_advantages(rewards, 4)
    groups = rewards.numpy().reshape(2, 4)
    expected = (groups - groups.mean(1, keepdims=True)) / (groups.std(1, keepdims=True) + 1e-4)
    np.testing.assert_allclose(got.values.numpy(), expected.ravel(), rtol=1e-5)
    np.testing.assert_allclose(got.group_std.numpy(), groups.std(1), rtol=1e-6)


def test_sample_without_reward_is_left_out_of_mean_and_std():
    with_gap = weighted_sum_advantages(torch.tensor([1.0, NAN, 2.0, 6.0]), 4)
    without = weighted_sum_advantages(torch.tensor([1.0, 2.0, 6.0]), 3)
    assert with_gap.valid.tolist() == [True, False, True, True]
    torch.testing.assert_close(with_gap.values[with_gap.valid], without.values)
    assert with_gap.values[1] == 0


@pytest.mark.parametrize("rewards", [[NAN, NAN, NAN], [NAN, 0.7, NAN]])
def test_group_with_fewer_than_two_rewards_is_skipped(rewards):
    got = weighted_sum_advantages(torch.tensor([*rewards, 1.0, 2.0, 3.0]), 3)
    assert got.num_skipped_groups == 1
    assert got.valid.tolist() == [False] * 3 + [True] * 3
    assert got.values[:3].tolist() == [0.0] * 3


def test_equal_rewards_give_zero_advantage():
    assert weighted_sum_advantages(torch.full((4,), 0.3), 4).values.abs().max() < 1e-3


def test_advantages_are_clipped():
    rewards = torch.zeros(64)
    rewards[0] = 1.0
    assert weighted_sum_advantages(rewards, 64).values.max() == 5.0
    assert weighted_sum_advantages(rewards, 64, clip=2.0).values.max() == 2.0


def test_gdpo_equals_its_definition():
    random = np.random.default_rng(0)
    rewards, weights = random.normal(size=(12, 3)) * [1, 10, 0.1], np.array([1.0, 0.5, 2.0])
    got = gdpo_advantages(torch.tensor(rewards), torch.zeros(12), torch.tensor(weights), 4)
    grouped = rewards.reshape(3, 4, 3)
    normalised = (grouped - grouped.mean(1, keepdims=True)) / (grouped.std(1, keepdims=True) + 1e-4)
    summed = (normalised * weights).sum(-1).ravel()
    np.testing.assert_allclose(got.values.numpy(), (summed - summed.mean()) / (summed.std() + 1e-4), rtol=1e-4)


def test_gdpo_tells_apart_what_a_sum_does_not():
    """The paper's case: (0, 1), (1, 0) have one sum whatever the rewards' spread in their groups."""
    components = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0], [0.0, 1.0]])
    totals = components.sum(1)
    summed = weighted_sum_advantages(totals, 4).values
    apart = gdpo_advantages(components, totals, torch.ones(2), 4).values
    assert summed[0] == summed[1]
    assert apart[0] > apart[1] + 0.1


def test_gdpo_leaves_out_a_reward_that_does_not_apply():
    components = torch.tensor([[1.0, NAN], [2.0, NAN], [3.0, NAN], [4.0, NAN]])
    got = gdpo_advantages(components, components[:, 0], torch.tensor([1.0, 5.0]), 4)
    alone = gdpo_advantages(components[:, :1], components[:, 0], torch.tensor([1.0]), 4)
    torch.testing.assert_close(got.values, alone.values)


def test_kl_is_that_of_two_gaussians():
    first, second = torch.randn(2, 3, 5), torch.randn(2, 3, 5)
    got = Transition(first, 0.4).kl(Transition(second, 0.4))
    normal = torch.distributions.Normal
    expected = torch.distributions.kl_divergence(normal(first, 0.4), normal(second, 0.4)).flatten(1).mean(1)
    torch.testing.assert_close(got, expected)


def trl_loss(log_probs, old, advantages, mask, epsilon):
    """`trl.GRPOTrainer._compute_loss` on a stub whose tokens are the window's steps."""
    from trl import GRPOTrainer

    stub = SimpleNamespace(
        _get_per_token_logps_and_entropies=lambda *_, **__: (log_probs, torch.zeros_like(log_probs), None),
        top_entropy_quantile=1.0,
        off_policy_mask_threshold=None,
        importance_sampling_level="token",
        beta=0.0,
        loss_type="bnpo",
        epsilon_low=epsilon,
        epsilon_high=epsilon,
        use_vllm=False,
        aux_loss_enabled=False,
        _entropy_bonus_enabled=False,
        current_gradient_accumulation_steps=1,
        model=SimpleNamespace(training=True),
        args=SimpleNamespace(delta=None, use_bias_correction_kl=False, steps_per_generation=1),
        accelerator=SimpleNamespace(gather=lambda x: x, reduce=lambda x, reduction: x, num_processes=1),
        _metrics={"train": defaultdict(list)},
    )
    tokens = torch.zeros(log_probs.shape, dtype=torch.long)
    inputs = {
        "prompt_ids": tokens,
        "prompt_mask": tokens,
        "completion_ids": tokens,
        "completion_mask": mask,
        "advantages": advantages,
        "old_per_token_logps": old,
    }
    return GRPOTrainer._compute_loss(stub, None, inputs)


def test_loss_and_gradient_equal_trls_own():
    random = torch.Generator().manual_seed(0)
    old = torch.randn(6, 2, generator=random)
    log_probs = (old + 0.02 * torch.randn(6, 2, generator=random)).requires_grad_()
    rewards = torch.randn(6, generator=random)
    rewards[4] = NAN
    got = weighted_sum_advantages(rewards, 3)
    mask = got.valid.unsqueeze(1).expand(6, 2).float()

    loss, ratio = clipped_surrogate(
        log_probs.flatten(),
        old.flatten(),
        got.values.repeat_interleave(2),
        clip_low=1e-2,
        clip_high=1e-2,
    )
    ours = (loss * mask.flatten()).sum() / mask.sum()
    theirs = trl_loss(log_probs, old, got.values, mask, 1e-2)
    assert ((ratio - 1).abs() > 1e-2).any(), "the case must clip something"
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-7)
    gradients = [torch.autograd.grad(value, log_probs, retain_graph=True)[0] for value in (ours, theirs)]
    torch.testing.assert_close(*gradients, rtol=0, atol=1e-7)


def test_ratio_clips_only_what_would_go_further():
    advantages = torch.tensor([1.0, 1.0, -1.0, -1.0])
    log_ratio = torch.tensor([0.5, -0.5, 0.5, -0.5])
    loss, _ = clipped_surrogate(log_ratio, torch.zeros(4), advantages, clip_low=0.1, clip_high=0.2)
    expected = [-1.2, -math.exp(-0.5), math.exp(0.5), 0.9]
    assert loss.tolist() == pytest.approx(expected)


def places_of(components, maps, group_size=4, weights=(1.0,), totals=None):
    weights = torch.tensor(weights)
    totals = (components.nan_to_num() * weights).sum(1) if totals is None else totals
    advantages = gdpo_advantages(components, totals, weights, group_size)
    return add_spatial_advantages(advantages, components, maps, (2, 3), weights, group_size)


def test_rewards_without_places_are_credited_everywhere_alike():
    components = torch.randn(8, 2)
    got = places_of(components, {}, weights=(1.0, 0.5))
    plain = gdpo_advantages(components, components[:, 0], torch.tensor([1.0, 0.5]), 4)
    assert got.values.shape == (8, 2, 3)
    torch.testing.assert_close(got.values, plain.values[:, None, None].expand(8, 2, 3), atol=1e-3, rtol=1e-3)


def test_a_place_is_credited_with_its_own_and_the_whole_with_half():
    components = torch.tensor([[0.0], [0.0], [1.0], [1.0]])
    maps = torch.zeros(4, 2, 3)
    maps[1, 0, 2] = 5.0
    values = places_of(components, {0: maps}).values
    assert values[1, 0, 2] == values[1].max() > values[0, 0, 2]
    assert (values[2:, 1] > 0).all(), "what was earned elsewhere counts too"
    others = torch.ones(2, 3, dtype=torch.bool)
    others[0, 2] = False
    torch.testing.assert_close(values[1][others], values[0][others])


def test_places_are_centred_in_each_group_and_on_one_scale():
    generator = torch.Generator().manual_seed(0)
    maps = torch.randn(8, 2, 3, generator=generator) + torch.randn(1, 2, 3, generator=generator) * 9
    maps[4:] *= 1000
    values = places_of(torch.zeros(8, 1), {0: maps}).values
    torch.testing.assert_close(values.view(2, 4, 2, 3).mean(1), torch.zeros(2, 2, 3), atol=1e-4, rtol=0)
    torch.testing.assert_close(values.square().mean(), torch.tensor(1.0), atol=1e-2, rtol=0)
    halves = values.view(2, -1).square().mean(1)
    torch.testing.assert_close(halves[0], halves[1], atol=1e-2, rtol=0)


def test_places_that_say_nothing_and_samples_that_do_not_count_get_nothing_of_them():
    components = torch.tensor([[0.2], [0.4], [NAN], [0.3]])
    totals = torch.tensor([0.2, 0.4, NAN, 0.3])
    maps = torch.randn(4, 2, 3, generator=torch.Generator().manual_seed(1))
    maps[:, 1, 1] = NAN
    got = places_of(components, {0: maps}, totals=totals)
    assert got.valid.tolist() == [True, True, False, True]
    assert torch.isfinite(got.values).all()
    assert (got.values[2] == 0).all()
    scalar = places_of(components, {0: torch.full((4, 2, 3), NAN)}, totals=totals).values[:, 0, 0]
    ratio = got.values[[0, 1], 1, 1] / scalar[[0, 1]]
    torch.testing.assert_close(ratio[0], ratio[1])


def test_log_density_map_averages_to_the_log_density():
    generator = torch.Generator().manual_seed(2)
    mean, value = (torch.randn(3, 5, 2, 4, 6, generator=generator) for _ in range(2))
    transition = Transition(mean, 0.7)
    per_place = transition.log_prob_map(value)
    assert per_place.shape == (3, 4, 6)
    torch.testing.assert_close(per_place.mean((1, 2)), transition.log_prob(value))


def test_the_surrogate_of_places_moves_each_place_by_its_own_advantage():
    log_prob = torch.zeros(2, 4, 6, requires_grad=True)
    advantages = torch.randn(2, 4, 6, generator=torch.Generator().manual_seed(3))
    loss, ratio = clipped_surrogate(log_prob, log_prob.detach(), advantages, clip_low=1e-3, clip_high=1e-3)
    assert (ratio == 1).all()
    loss.sum().backward()
    torch.testing.assert_close(log_prob.grad, -advantages)
