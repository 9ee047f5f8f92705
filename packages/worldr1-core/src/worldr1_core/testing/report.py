"""Conformance checks, and the report of a run: each failure with its reason and fix."""

from __future__ import annotations

import unittest
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, Protocol, TypeVar

from worldr1_core.errors import UserError, describe_exception, shorten, suggest
from worldr1_core.testing.failures import (
    UNAVAILABLE,
    CallFailed,
    CheckFailed,
    CheckSkipped,
    NotConstructed,
    causes,
    innermost_place,
    place_in,
)


class Checked(Protocol):
    """What a check needs to know of its subject."""

    @property
    def modules(self) -> Sequence[str]:
        """Modules with the code under test, see `worldr1_core.testing.failures.place_in`."""


S = TypeVar("S", bound=Checked)
Status = Literal["passed", "failed", "skipped"]


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
            If the component raises an exception, the message is that exception, with the place in the component's code.
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
        subject = self._subject()
        try:
            self.contract.test(subject)
        except UNAVAILABLE as error:
            raise CheckSkipped(f"what the component needs is not here: {error}") from error
        except unittest.SkipTest:
            raise
        except Exception as error:
            raise Failure(error, self.contract, subject.modules) from error


class Failure(CheckFailed):
    """A failed check with its explanation.

    Args:
        error: What the check raised: a `CheckFailed`, or an exception of the component.
        contract: The contract that was checked.
        modules: See `Checked.modules`.

    Attributes:
        key: The same for two failures of one cause, or `None` for a cause that no other check can share.
        is_constructed: False if the component could not be constructed.
    """

    key: Hashable

    def __init__(self, error: Exception, contract: Contract[Any], modules: Sequence[str]) -> None:
        chain = causes(error)
        found = error if isinstance(error, CheckFailed) else CallFailed(describe_exception(error))
        found = next((part for part in chain if isinstance(part, NotConstructed)), found)
        self.is_constructed = not isinstance(found, NotConstructed)
        cause, is_shared = chain[-1], isinstance(found, CallFailed)
        place = place_in(cause, modules)
        if place is None and is_shared and not isinstance(cause, CheckFailed):
            place = innermost_place(cause)
        lines = {
            "Raised at": place,
            "Why": found.why if is_shared else found.why or contract.why,
            "Fix": found.fix if is_shared else found.fix or contract.fix,
        }
        super().__init__("\n".join([str(found), *(f"  {name}: {text}" for name, text in lines.items() if text)]))
        self.key = None
        if place is not None and not isinstance(cause, CheckFailed):
            self.key = (describe_exception(cause), place)
        elif is_shared:
            self.key = str(self)


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
        UserError: `skip` is not a mapping, names a check that does not exist, or gives no reason.
    """
    contracts = list(contracts)
    names = [contract.name for contract in contracts]
    listed = [name for name in names if isinstance(skip, list | tuple | set | str) and name in skip]
    example = f"skip={{{(listed or names)[0]!r}: 'why this check does not apply'}}"
    skip = as_mapping("skip", skip, "the name of a check to the reason for leaving it out", example)
    for name, reason in skip.items():
        if name not in names:
            raise UserError(f"Unknown check {name!r} in skip. Checks: {names}.{suggest(name, names)}")
        if not isinstance(reason, str) or not reason.strip():
            raise UserError(f"skip[{name!r}] must say why the check is left out, received {reason!r}.")
    return [Check(contract, subject, skip.get(contract.name)) for contract in contracts]


def as_mapping(argument: str, value: Any, what: str, example: str) -> dict[str, Any]:
    """An argument of a kit as a dictionary, which is empty for `None`.

    Args:
        argument: Name of the argument.
        value: What was received.
        what: What it maps to what.
        example: A valid argument.

    Raises:
        UserError: It is not a mapping.
    """
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise UserError(f"{argument} must map {what}, received {shorten(value)}. For example: {example}")
    return dict(value)


def report_on(component: Any, checks: Iterable[Check[Any]]) -> Report:
    """Run every check of a component, whatever the others do.

    A cause that fails several checks is reported in full once. If the component cannot be constructed, one check fails
    and the others are skipped.

    Args:
        component: The component, or the name that reports call it.
        checks: From `bind`.

    Raises:
        ConformanceError: A check failed.
    """
    name = component if isinstance(component, str) else getattr(component, "__name__", type(component).__name__)
    first: dict[Hashable, str] = {}
    report = Report(name, [_run(check, first) for check in checks])
    report.raise_if_failed()
    return report


def _run(check: Check[Any], first: dict[Hashable, str]) -> Outcome:
    """Run a check; `first` maps the cause of a failure to the first check that it failed."""
    try:
        check()
    except unittest.SkipTest as error:
        return Outcome(check.name, "skipped", str(error))
    except Failure as error:
        known = None if error.key is None else first.setdefault(error.key, check.name)
        if known in (None, check.name):
            return Outcome(check.name, "failed", str(error))
        if not error.is_constructed:
            return Outcome(check.name, "skipped", f"the component could not be constructed, see {known!r}")
        return Outcome(check.name, "failed", f"the same failure as in {known!r}: {str(error).splitlines()[0]}")
    return Outcome(check.name, "passed")
