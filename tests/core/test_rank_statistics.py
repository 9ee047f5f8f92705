from __future__ import annotations

import math

import pytest
import torch
from scipy import stats

from worldr1_core.rank_statistics import auc, mean, spearman

NAN = math.nan


@pytest.mark.parametrize("seed", range(4))
def test_auc_equals_the_normalised_mann_whitney_statistic(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    high = torch.randint(0, 6, (9,), generator=generator).double().tolist()
    low = torch.randint(0, 5, (7,), generator=generator).double().tolist()
    assert auc(high, low) == pytest.approx(stats.mannwhitneyu(high, low).statistic / 63)


@pytest.mark.parametrize("seed", range(4))
def test_spearman_equals_scipy_s_with_ties(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    first, second = (torch.randint(0, 4, (8,), generator=generator).double().tolist() for _ in range(2))
    assert spearman(first, second) == pytest.approx(stats.spearmanr(first, second).statistic)


def test_what_has_no_score_is_left_out_and_never_a_number() -> None:
    assert auc([3.0, NAN], [1.0, NAN, 2.0]) == 1.0
    assert math.isnan(auc([NAN], [1.0]))
    assert math.isnan(auc([1.0], []))
    assert spearman([0.0, 1.0, 2.0, 3.0], [4.0, NAN, 2.0, 1.0]) == -1.0
    assert math.isnan(spearman([0.0, 1.0, 2.0], [4.0, NAN, 2.0]))
    assert math.isnan(spearman([0.0, 1.0, 2.0], [4.0, 4.0, 4.0]))
    assert mean([1.0, NAN, 3.0]) == 2.0
    assert math.isnan(mean([NAN]))
