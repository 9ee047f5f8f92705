"""Conformance checks, and the report of a run: each failure with its reason and fix."""

from __future__ import annotations

import traceback
import unittest
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, TypeVar

from worldr1_core.errors import MissingExtraError, UserError, WeightsError, suggest

S = TypeVar("S")
Status = Literal["passed", "failed", "skipped"]


class CheckFailed(AssertionError):
    """A component broke a contract; the message says what was seen."""


class CheckSkipped(unittest.SkipTest):
    """A check could not be made; the message says why. Test runners show it as a skipped test with that reason."""


class ConformanceError(AssertionError):
    """At least one check failed; `report` holds every outcome."""

    def __init__(self, report: Report) -> None:
        super().__init__(str(report))
        self.report = report


@dataclass(frozen=True, slots=True)
class Contract(Generic[S]):
    """One contract of an interface.

    Attributes:
        name: How reports and `skip` call it.
        why: Consequence of breaking the contract.
        fix: What a plugin author does about it.
        test: Raises `CheckFailed` or `CheckSkipped`.
    """

    name: str
    why: str
    fix: str
    test: Callable[[S], None]


class Check(Generic[S]):
    """A contract bound to the component under test; call it to run it. Its text form is its name.

    Raises:
        CheckFailed: When called, if the contract is broken; the message says what was seen, why it matters and the fix.
        CheckSkipped: When called, if it cannot be tested; the message says why.
    """

    def __init__(self, contract: Contract[S], subject: Callable[[], S], skip_reason: str | None = None) -> None:
        self.contract = contract
        self.name = contract.name
        self._subject = subject
        self._skip_reason = skip_reason

    def __str__(self) -> str:
        return self.name

    __repr__ = __str__

    def __call__(self) -> None:
        """Run the check."""
        if self._skip_reason is not None:
            raise CheckSkipped(self._skip_reason)
        try:
            self.contract.test(self._subject())
        except (MissingExtraError, WeightsError) as error:
            raise CheckSkipped(f"what the component needs is not here: {error}") from error
        except CheckFailed as error:
            raise CheckFailed(f"{error}\n  Why: {self.contract.why}\n  Fix: {self.contract.fix}") from error


@dataclass(frozen=True, slots=True)
class Outcome:
    """One check's result; `message` is empty where it passed."""

    name: str
    status: Status
    message: str = ""


@dataclass(frozen=True, slots=True)
class Report:
    """Every check of a component.

    Attributes:
        component: What was checked.
        outcomes: One entry a check, in order.
    """

    component: str
    outcomes: list[Outcome] = field(default_factory=list)

    @property
    def passed(self) -> list[str]:
        """Names of the checks that hold."""
        return [o.name for o in self.outcomes if o.status == "passed"]

    @property
    def failed(self) -> dict[str, str]:
        """Check -> what was seen, why it matters, how to fix it."""
        return {o.name: o.message for o in self.outcomes if o.status == "failed"}

    @property
    def skipped(self) -> dict[str, str]:
        """Check -> why it could not be made."""
        return {o.name: o.message for o in self.outcomes if o.status == "skipped"}

    def __str__(self) -> str:
        counts = f"{len(self.passed)} passed, {len(self.failed)} failed, {len(self.skipped)} skipped"
        lines = [f"{self.component}: {counts}"]
        for status in ("failed", "skipped"):
            lines += [f"{status.upper()} {o.name}: {o.message}" for o in self.outcomes if o.status == status]
        return "\n".join(lines)

    def raise_if_failed(self) -> None:
        """Raise the report if a check failed.

        Raises:
            ConformanceError: One did.
        """
        if self.failed:
            raise ConformanceError(self)


def bind(
    contracts: Iterable[Contract[S]], subject: Callable[[], S], skip: Mapping[str, str] | None = None
) -> list[Check[S]]:
    """Contracts as checks of one subject.

    Args:
        contracts: What to check.
        subject: Gives the component under test.
        skip: Check name -> why it does not hold for this component.

    Raises:
        UserError: `skip` names a check that does not exist, or gives no reason.
    """
    contracts, skip = list(contracts), dict(skip or {})
    names = [contract.name for contract in contracts]
    for name, reason in skip.items():
        if name not in names:
            raise UserError(f"Unknown check {name!r} in skip. Checks: {names}.{suggest(name, names)}")
        if not isinstance(reason, str) or not reason.strip():
            raise UserError(f"skip[{name!r}] must say why the check is left out, received {reason!r}.")
    return [Check(contract, subject, skip.get(contract.name)) for contract in contracts]


def report_on(component: Any, checks: Iterable[Check[Any]]) -> Report:
    """Run every check of a component, whatever the others do.

    Args:
        component: The component, or the name that reports call it.
        checks: From `bind`.

    Raises:
        ConformanceError: A check failed.
    """
    name = component if isinstance(component, str) else getattr(component, "__name__", type(component).__name__)
    report = Report(name, [_run(check) for check in checks])
    report.raise_if_failed()
    return report


def _run(check: Check[Any]) -> Outcome:
    try:
        check()
    except unittest.SkipTest as error:
        return Outcome(check.name, "skipped", str(error))
    except CheckFailed as error:
        return Outcome(check.name, "failed", str(error))
    except Exception as error:  # noqa: BLE001 - reported as a failure, with the place it comes from
        place = traceback.extract_tb(error.__traceback__)[-1]
        return Outcome(
            check.name,
            "failed",
            f"{type(error).__name__}: {error} (at {place.filename}:{place.lineno})\n"
            f"  Why: {check.contract.why}\n  Fix: {check.contract.fix}",
        )
    return Outcome(check.name, "passed")
