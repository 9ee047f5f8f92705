"""The conformance kit for objectives."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from worldr1_core.testing.objective_contracts import OBJECTIVE_CONTRACTS
from worldr1_core.testing.objective_subject import ObjectiveSubject
from worldr1_core.testing.report import Check, Report, bind, report_on


def objective_checks(
    objective: Any,
    *,
    options: Mapping[str, Any] | None = None,
    num_steps: int = 6,
    window: int = 2,
    skip: Mapping[str, str] | None = None,
) -> list[Check[ObjectiveSubject]]:
    """List the checks of an objective, for `@pytest.mark.parametrize("check", …, ids=str)`.

    They run on the CPU, on a model of a few hundred parameters and videos of a few pixels. Micro-batches hold a whole
    group of four videos. Those of an objective with `compares_videos` are checked with one to three groups too: a loss
    may depend on the videos of its own group alone.

    Args:
        objective: `Objective` class, instance, or function without arguments that returns a new instance. The check of
            the state needs a class or a function.
        options: Fields of its `Config`, where a class is given.
        num_steps: Steps of the sampler, above `window`.
        window: Stochastic steps, for plans of a window.
        skip: Check name -> why it does not hold for this objective.

    Raises:
        UserError: An argument is not of this form.
    """
    subject = ObjectiveSubject(objective, options, num_steps, window)
    return bind(OBJECTIVE_CONTRACTS, lambda: subject, skip)


def check_objective(objective: Any, **arguments: Any) -> Report:
    """Run every check of an objective.

    Args:
        objective: `Objective` class, instance, or function without arguments that returns a new instance.
        **arguments: See `objective_checks`.

    Returns:
        What passed and what was skipped, with the reasons.

    Raises:
        ConformanceError: A check failed; the message lists each with what was seen, why it matters and how to fix it.
    """
    return report_on(objective, objective_checks(objective, **arguments))
