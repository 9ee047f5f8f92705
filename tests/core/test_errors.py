"""Errors: exit codes, suggestions, short values, missing extras."""

from __future__ import annotations

import inspect

import pytest

from worldr1_core import errors
from worldr1_core.errors import (
    MissingExtraError,
    UserError,
    WorldR1Error,
    describe_exception,
    require,
    shorten,
    suggest,
)

ALL = [cls for _, cls in inspect.getmembers(errors, inspect.isclass) if issubclass(cls, WorldR1Error)]


@pytest.mark.parametrize("cls", ALL, ids=lambda cls: cls.__name__)
def test_exit_code_is_2_exactly_for_the_users_mistakes(cls):
    assert cls("x").exit_code == (2 if issubclass(cls, UserError) else 1)


def test_no_score_is_not_the_users_mistake():
    assert not issubclass(errors.ScoreUnavailable, UserError)
    assert issubclass(errors.ScoreNotApplicable, errors.ScoreUnavailable)


def test_suggest_names_the_closest():
    assert suggest("trajectroy", ["reconstruction", "trajectory"]) == " Did you mean 'trajectory'?"


@pytest.mark.parametrize(("name", "allowed"), [("zzz", ["trajectory"]), ("a", []), ("", ["trajectory"])])
def test_suggest_is_silent_where_nothing_is_close(name, allowed):
    assert suggest(name, allowed) == ""


def test_require_returns_the_module():
    assert require("collections", extra="x") is __import__("collections")


@pytest.mark.parametrize("module", ["absent_package", "absent_package.sub.module"])
def test_require_names_the_install_command(module):
    with pytest.raises(MissingExtraError) as caught:
        require(module, extra="worldr1-rewards[hps]")
    assert f"Python package {module!r} is not installed" in str(caught.value)
    assert "pip install 'worldr1-rewards[hps]'" in str(caught.value)


def test_require_does_not_blame_the_extra_for_a_broken_package(site):
    site.add("broken-package", "import another_absent_package")
    with pytest.raises(ModuleNotFoundError, match="another_absent_package"):
        require("broken_package", extra="x")


def test_require_does_not_blame_the_extra_for_an_import_error(site):
    site.add("broken-package", "from collections import no_such_name")
    with pytest.raises(ImportError, match="no_such_name"):
        require("broken_package", extra="x")


@pytest.mark.parametrize(("value", "text"), [("abc", "'abc'"), (3, "3"), (None, "None"), ([1, 2], "[1, 2]")])
def test_shorten_is_repr_for_small_values(value, text):
    assert shorten(value) == text


def nested(levels: int) -> list:
    value: list = ["x"] * 10
    for _ in range(levels):
        value = [value] * 10
    return value


@pytest.mark.parametrize("value", ["x" * 10**6, list(range(10**6)), {i: i for i in range(10**5)}, nested(30), 10**4000])
def test_shorten_bounds_large_values(value):
    assert len(shorten(value)) < 2500


class Mute(Exception):
    def __str__(self):
        raise RuntimeError


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ValueError("no"), "ValueError: no"),
        (KeyError(), "KeyError"),
        (MemoryError(), "out of memory; take a smaller or shorter clip"),
        (SystemExit(2), "SystemExit: 2"),
        (Mute(), "Mute: (its message cannot be shown)"),
    ],
)
def test_describe_exception(error, text):
    assert describe_exception(error) == text
