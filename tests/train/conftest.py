"""The tiny random checkpoints of the backbones' tests."""

from __future__ import annotations

import pytest

from backbones.conftest import Checkpoints


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory) -> Checkpoints:
    return Checkpoints(tmp_path_factory.mktemp("checkpoints"))
