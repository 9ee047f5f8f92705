"""Statistics of evaluations, compared with independent computations."""

from __future__ import annotations

import math

import numpy as np
import pytest

from worldr1_rewards.evaluation.statistics import compare_pairs, estimate_mean
from worldr1_rewards.probes.rank_statistics import kendall_tau


def test_interval_covers_the_truth_at_its_rate():
    """Videos of one prompt share a large common part: resampling videos would give intervals that are far too short."""
    draws = np.random.default_rng(0)
    hits = 0
    for _ in range(150):
        shared = draws.normal(0, 1, 25)
        values = (shared[:, None] + 0.1 * draws.normal(0, 1, (25, 4))).ravel()
        found = estimate_mean(values.tolist(), np.repeat(np.arange(25), 4).tolist())
        hits += found.low <= 0 <= found.high
        assert (found.num_videos, found.num_prompts) == (100, 25)
    assert 0.88 <= hits / 150 <= 0.99


def test_interval_is_that_of_an_independent_bootstrap():
    values = np.random.default_rng(1).exponential(1, 40)
    found = estimate_mean(values.tolist(), list(range(40)))
    resampled = values[np.random.default_rng(2).integers(0, 40, (20000, 40))].mean(1)
    assert found.low == pytest.approx(np.quantile(resampled, 0.025), abs=0.02)
    assert found.high == pytest.approx(np.quantile(resampled, 0.975), abs=0.02)


def test_few_prompts_have_no_interval():
    found = estimate_mean([1.0, 2.0, 3.0], [0, 0, 1])
    assert found.mean == 2.0
    assert math.isnan(found.low)
    assert math.isnan(found.high)


def test_comparison_of_pairs():
    draws = np.random.default_rng(3)
    base = draws.normal(20, 3, 30)
    own = base + 0.5 + 0.1 * draws.normal(0, 1, 30)
    found = compare_pairs(own.tolist(), base.tolist(), list(range(30)))
    assert found.difference.mean == pytest.approx((own - base).mean())
    assert found.is_clear
    assert found.needed_prompts is None
    assert found.win_rate.mean == 1.0
    pooled = math.sqrt((np.var(own, ddof=1) + np.var(base, ddof=1)) / 2)
    assert found.cohens_d == pytest.approx((own.mean() - base.mean()) / pooled)
    worse = compare_pairs(own.tolist(), base.tolist(), list(range(30)), higher_is_better=False)
    assert worse.win_rate.mean == 0.0
    assert worse.cohens_d == pytest.approx(-found.cohens_d)


def test_ties_count_half():
    found = compare_pairs([1.0, 2.0, 3.0, 0.0], [1.0, 1.0, 3.0, 1.0], [0, 1, 2, 3])
    assert found.win_rate.mean == 0.5


def test_unclear_difference_says_how_many_prompts_it_needs():
    """With as many prompts as it asks for, an interval excludes 0 about half of the time, not never or always."""
    draws = np.random.default_rng(4)
    values = draws.normal(0.1, 1, 10)
    found = compare_pairs(values.tolist(), [0.0] * 10, list(range(10)))
    assert not found.is_clear
    needed = found.needed_prompts
    assert needed == math.ceil((1.959964 * values.std(ddof=1) / values.mean()) ** 2)


def test_kendall_tau_counts_concordant_pairs():
    first, second = [1.0, 2.0, 3.0, 4.0, math.nan], [1.0, 3.0, 2.0, 4.0, 0.0]
    assert kendall_tau(first, second) == pytest.approx((5 - 1) / 6)
    assert math.isnan(kendall_tau([1.0, 1.0, 1.0], [1.0, 2.0, 3.0]))
