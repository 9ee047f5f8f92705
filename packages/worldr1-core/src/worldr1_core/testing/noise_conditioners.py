"""The conformance kit for noise conditioners."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from worldr1_core.testing.noise_contracts import NOISE_CONTRACTS, NoiseSubject
from worldr1_core.testing.report import Check, Report, bind, report_on


def noise_checks(
    conditioner: Any, *, options: Mapping[str, Any] | None = None, skip: Mapping[str, str] | None = None
) -> list[Check[NoiseSubject]]:
    """List the checks of a noise conditioner, for `@pytest.mark.parametrize("check", …, ids=str)`.

    Args:
        conditioner: `NoiseConditioner` class, instance, or function without arguments that returns an instance.
        options: Fields of its `Config`, where a class is given.
        skip: Check name -> why it does not hold for this conditioner.

    Raises:
        UserError: An argument is not of this form.
    """
    subject = NoiseSubject(conditioner, options)
    return bind(NOISE_CONTRACTS, lambda: subject, skip)


def check_noise_conditioner(conditioner: Any, **arguments: Any) -> Report:
    """Run every check of a noise conditioner.

    Args:
        conditioner: `NoiseConditioner` class, instance, or function without arguments that returns an instance.
        **arguments: See `noise_checks`.

    Returns:
        What passed and what was skipped, with the reasons.

    Raises:
        ConformanceError: A check failed; the message lists each with what was seen, why it matters and how to fix it.
    """
    return report_on(conditioner, noise_checks(conditioner, **arguments))
