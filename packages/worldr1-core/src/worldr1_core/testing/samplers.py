"""The conformance kit for samplers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from worldr1_core.testing.report import Check, Report, bind, report_on
from worldr1_core.testing.sampler_contracts import SAMPLER_CONTRACTS
from worldr1_core.testing.sampler_subject import SamplerSubject


def sampler_checks(
    sampler: Any,
    *,
    base: Any,
    options: Mapping[str, Any] | None = None,
    schedule: Mapping[str, Any] | None = None,
    skip: Mapping[str, str] | None = None,
    device: str = "cuda",
) -> list[Check[SamplerSubject]]:
    """List the checks of a sampler, for `@pytest.mark.parametrize("check", …, ids=str)`.

    Args:
        sampler: `Sampler` class, instance, or function without arguments that returns an instance.
        base: The scheduler of a pipeline that the sampler is for, or a function that makes one.
        options: Fields of its `Config`, where a class is given.
        schedule: What its pipeline passes to `set_timesteps` beside the number of steps, e.g. `{"mu": 1.0}`.
        skip: Check name -> why it does not hold for this sampler.
        device: A second device, beside the CPU.

    Raises:
        UserError: An argument is not of this form.
    """
    subject = SamplerSubject(sampler, base, options, schedule, device)
    return bind(SAMPLER_CONTRACTS, lambda: subject, skip)


def check_sampler(sampler: Any, **arguments: Any) -> Report:
    """Run every check of a sampler.

    Args:
        sampler: `Sampler` class, instance, or function without arguments that returns an instance.
        **arguments: See `sampler_checks`; `base` is needed.

    Returns:
        What passed and what was skipped, with the reasons.

    Raises:
        ConformanceError: A check failed; the message lists each with what was seen, why it matters and how to fix it.
    """
    return report_on(sampler, sampler_checks(sampler, **arguments))
