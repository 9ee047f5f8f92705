"""Areas under the curve and rank correlations against pairs counted by hand and closed forms."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest

from worldr1_rewards.probes.rank_statistics import auc, mean, spearman

NAN = math.nan


@pytest.mark.parametrize("seed", range(4))
def test_auc_is_the_share_of_pairs_in_the_right_order_with_half_of_the_ties(seed: int) -> None:
    generator = np.random.default_rng(seed)
    high, low = generator.integers(0, 6, 9), generator.integers(0, 5, 7)
    order = np.sign(high[:, None] - low)
    assert auc(high.tolist(), low.tolist()) == pytest.approx((order.mean() + 1) / 2)


@pytest.mark.parametrize("seed", range(4))
def test_spearman_without_ties_has_a_closed_form(seed: int) -> None:
    ranks = np.random.default_rng(seed).permutation(8)
    distance = ((ranks - np.arange(8)) ** 2).sum()
    found = spearman(list(range(8)), np.exp(ranks).tolist())
    assert found == pytest.approx(1 - 6 * distance / (8 * 63))


def test_equal_values_share_the_mean_of_their_ranks() -> None:
    found = spearman([5.0, 1.0, 1.0, 7.0, 9.0], [2.0, 3.0, 8.0, 8.0, 8.0])
    assert found == pytest.approx(np.corrcoef([3.0, 1.5, 1.5, 4.0, 5.0], [1.0, 2.0, 4.0, 4.0, 4.0])[0, 1])


def test_single_values_are_compared_without_a_warning() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert [auc([1.0], [0.0]), auc([1.0], [1.0]), auc([0.0], [1.0])] == [1.0, 0.5, 0.0]
        assert spearman([0.0, 0.5, 1.0], [9.0, 4.0, 1.0]) == pytest.approx(-1.0)


def test_what_has_no_score_is_left_out_and_never_a_number() -> None:
    assert auc([3.0, NAN], [1.0, NAN, 2.0]) == 1.0
    assert math.isnan(auc([NAN], [1.0]))
    assert math.isnan(auc([1.0], []))
    assert spearman([0.0, 1.0, 2.0, 3.0], [4.0, NAN, 2.0, 1.0]) == pytest.approx(-1.0)
    assert math.isnan(spearman([0.0, 1.0, 2.0], [4.0, NAN, 2.0]))
    assert math.isnan(spearman([0.0, 1.0, 2.0], [4.0, 4.0, 4.0]))
    assert mean([1.0, NAN, 3.0]) == 2.0
    assert math.isnan(mean([NAN]))
