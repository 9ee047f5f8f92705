"""The front doors: public names of the packages are all there, and importing a package loads nothing heavy."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGES = ("worldr1_core", "worldr1_rewards", "worldr1_backbones")
HEAVY = {"torch", "numpy", "transformers", "diffusers", "pydantic", "structlog", "av", "PIL", "scipy", "trl"}


@pytest.mark.parametrize("package", PACKAGES)
def test_importing_a_package_loads_nothing_heavy(package):
    code = f"import sys, {package}; dir({package}); print(*{{name.partition('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not HEAVY & set(done.stdout.split())


def test_registering_a_component_loads_no_torch():
    code = (
        "import sys, worldr1_core\n"
        "class Bright(worldr1_core.Reward):\n"
        "    def score(self, clip, inputs): return 0.0\n"
        "worldr1_core.register('reward', 'bright', Bright)\n"
        "print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


@pytest.mark.parametrize("package", PACKAGES)
def test_every_public_name_can_be_imported(package):
    module = importlib.import_module(package)
    for name in module.__all__:
        assert getattr(module, name) is not None
    assert set(module.__all__) <= set(dir(module))


@pytest.mark.parametrize("package", PACKAGES)
def test_type_checkers_see_every_public_name(package):
    """The imports under TYPE_CHECKING and the lazy table name the same modules."""
    module = importlib.import_module(package)
    tree = ast.parse(Path(module.__file__).read_text(encoding="utf-8"))
    (checked,) = (node for node in tree.body if isinstance(node, ast.If))
    seen = {alias.name: statement.module for statement in checked.body for alias in statement.names}
    assert seen == dict(module._EXPORTS)
    assert {*seen, "hookimpl", "__version__"} >= set(module.__all__) >= seen.keys()


@pytest.mark.parametrize("package", PACKAGES)
def test_absent_name_is_an_attribute_error(package):
    module = importlib.import_module(package)
    with pytest.raises(AttributeError, match=f"module '{package}' has no attribute 'Scoer'"):
        _ = module.Scoer
