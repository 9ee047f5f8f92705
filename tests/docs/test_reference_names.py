"""The API pages list exactly the public names of each package, and every type that an objective is given."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest

REFERENCE = Path(__file__).parents[2] / "docs" / "reference"
PACKAGES = ("worldr1_core", "worldr1_rewards", "worldr1_backbones", "worldr1_train")


def _listed(package: str) -> list[str]:
    text = (REFERENCE / f"{package}.md").read_text(encoding="utf-8")
    return re.findall(rf"^::: {package}\.([\w.]+)$", text, re.MULTILINE)


@pytest.mark.parametrize("package", PACKAGES)
def test_the_page_lists_every_public_name_once(package):
    listed = [name for name in _listed(package) if "." not in name]
    assert sorted(listed) == sorted(set(importlib.import_module(package).__all__) - {"__version__"})


def test_the_page_lists_what_the_signatures_of_objectives_name():
    from worldr1_core import objective

    own = {name for name, value in vars(objective).items() if getattr(value, "__module__", "") == objective.__name__}
    assert own | {"PolicyStep", "SchedulePoint"} <= set(_listed("worldr1_core"))
