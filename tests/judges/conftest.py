"""Tiny models, built once a session, and a network that is switched off."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from judges.tiny_vlm import build_vlm
from worldr1_core.judge import JudgeRequest


@pytest.fixture(scope="session")
def vlm_folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Folder of a tiny model of the given architecture."""
    built: dict[str, Path] = {}

    def folder(architecture: str) -> Path:
        if architecture not in built:
            built[architecture] = build_vlm(architecture, tmp_path_factory.mktemp(architecture))
        return built[architecture]

    return folder


@pytest.fixture
def requests() -> list[JudgeRequest]:
    """Four questions that differ in text length, number of images and image size."""
    rng = torch.Generator().manual_seed(7)
    return [
        JudgeRequest(torch.rand(1, 3, 40, 56, generator=rng), "Grade it."),
        JudgeRequest(
            torch.rand(2, 3, 40, 56, generator=rng), "Grade the second picture by how well it fits, from 0 to 9."
        ),
        JudgeRequest(torch.rand(1, 3, 64, 64, generator=rng), "Is it sharp?"),
        JudgeRequest(torch.rand(3, 3, 32, 48, generator=rng), "Which?"),
    ]
