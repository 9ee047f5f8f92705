"""Public names of a package that are imported on first use, so that importing the package stays cheap (PEP 562)."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping
from typing import Any


def lazy_exports(package: str, exports: Mapping[str, str]) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Make the `__getattr__` and `__dir__` of a package whose public names live in its modules.

    Type checkers do not run this: repeat the imports under `if TYPE_CHECKING:`.

    Args:
        package: `__name__` of the package.
        exports: Public name -> module that defines it.

    Example:
        ```python
        __getattr__, __dir__ = lazy_exports(__name__, {"Scorer": "worldr1_rewards.scoring"})
        ```
    """

    def load(name: str) -> Any:
        if name not in exports:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = getattr(importlib.import_module(exports[name]), name)
        setattr(sys.modules[package], name, value)
        return value

    def names() -> list[str]:
        return sorted({*vars(sys.modules[package]), *exports})

    return load, names
