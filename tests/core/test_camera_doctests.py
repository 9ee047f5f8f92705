"""The examples in the documentation of camera words and natural order hold."""

import doctest
import importlib

import pytest


@pytest.mark.parametrize("module", ["worldr1_core.camera.vocabulary", "worldr1_core.natural_order"])
def test_examples_in_docstrings(module):
    result = doctest.testmod(importlib.import_module(module))
    assert result.attempted > 0
    assert result.failed == 0
