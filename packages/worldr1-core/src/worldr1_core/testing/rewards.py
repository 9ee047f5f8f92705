"""The conformance kit for rewards."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from worldr1_core.clip import Clip
from worldr1_core.reconstructor import Reconstruction
from worldr1_core.testing.report import Check, Report, bind, report_on
from worldr1_core.testing.reward_contracts import REWARD_CONTRACTS, RewardSubject, Sample
from worldr1_core.testing.reward_gradients import GRADIENT_CONTRACTS
from worldr1_core.testing.stand_ins import StubJudge


def reward_checks(
    reward: Any,
    *,
    options: Mapping[str, Any] | None = None,
    clips: Sequence[Clip] | None = None,
    reconstruct: Callable[[Clip], Reconstruction] | None = None,
    prefers: Sequence[tuple[Clip, Clip]] = (),
    skip: Mapping[str, str] | None = None,
    tolerance: float = 1e-5,
    device: str = "cuda",
) -> list[Check[RewardSubject]]:
    """List the checks of a reward, for `@pytest.mark.parametrize("check", …, ids=str)`.

    Args:
        reward: `Reward` class, instance, or function without arguments that returns an instance.
        options: Fields of its `Config`, where a class is given.
        clips: Clips on which it gives scores, instead of the kit's own.
        reconstruct: Gives the reconstruction of `clips` and `prefers`; needed if the reward reads one.
        prefers: Pairs of clips; the first must score higher.
        skip: Check name -> why it does not hold for this reward.
        tolerance: Largest relative or absolute difference between scores that count as equal.
        device: A second device, beside the CPU.

    Raises:
        UserError: An argument is not of this form.
    """
    sample = functools.partial(_given_sample, reconstruct=reconstruct)
    subject = RewardSubject(
        reward,
        options,
        None if clips is None else [sample(clip) for clip in clips],
        [(sample(better), sample(worse)) for better, worse in prefers],
        tolerance,
        device,
    )
    return bind([*REWARD_CONTRACTS, *GRADIENT_CONTRACTS], lambda: subject, skip)


def _given_sample(clip: Clip, reconstruct: Callable[[Clip], Reconstruction] | None) -> Sample:
    return Sample(clip, None if reconstruct is None else reconstruct(clip), StubJudge(0.5))


def check_reward(reward: Any, **arguments: Any) -> Report:
    """Run every check of a reward.

    Args:
        reward: `Reward` class, instance, or function without arguments that returns an instance.
        **arguments: See `reward_checks`.

    Returns:
        What passed and what was skipped, with the reasons.

    Raises:
        ConformanceError: A check failed; the message lists each with what was seen, why it matters and how to fix it.
    """
    return report_on(reward, reward_checks(reward, **arguments))
