"""PSNR and SSIM of the re-render, compared with torchmetrics."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from worldr1_core.clip import Clip
from worldr1_core.reconstructor import Render
from worldr1_core.reward import RewardInputs
from worldr1_core.video import Video
from worldr1_rewards.probes.world import render_world
from worldr1_rewards.rewards.rerender_psnr import PSNRReward
from worldr1_rewards.rewards.rerender_similarity import SSIMReward
from worlds.truth import TrueReconstruction, true_reconstruction

BORDER = 5
"""Pixels from the border within which a window of SSIM is incomplete."""


class Covered(TrueReconstruction):
    """A re-render without holes: published code compares whole frames."""

    def rerender(self) -> Render:
        render = super().rerender()
        coverage = render.coverage[:, None]
        shown = coverage * render.frames + (1 - coverage) * self.frames
        return replace(render, frames=shown, coverage=torch.ones_like(render.coverage))


@pytest.fixture(scope="module")
def covered():
    """Clip, inputs and re-render."""
    world = render_world("rich", "move right", size=(48, 48), num_frames=5)
    truth = true_reconstruction(world)
    full = Covered(**{name: getattr(truth, name) for name in TrueReconstruction.__dataclass_fields__})
    return Clip(Video(world.frames)), RewardInputs(full), full.rerender().frames


def test_psnr_equals_torchmetrics(covered):
    image = pytest.importorskip("torchmetrics.functional.image")
    clip, inputs, shown = covered
    pairs = zip(shown, clip.video.frames, strict=True)
    expected = [float(image.peak_signal_noise_ratio(a[None], b[None], data_range=1.0)) for a, b in pairs]
    assert PSNRReward().score(clip, inputs).value == pytest.approx(sum(expected) / len(expected), abs=1e-4)


def test_ssim_equals_torchmetrics_where_windows_are_whole(covered):
    """torchmetrics also averages over windows that reach beyond the border, which it fills by reflection."""
    image = pytest.importorskip("torchmetrics.functional.image")
    clip, inputs, shown = covered
    _, found = image.structural_similarity_index_measure(
        shown, clip.video.frames, data_range=1.0, return_full_image=True
    )
    expected = float(found[..., BORDER:-BORDER, BORDER:-BORDER].mean())
    assert SSIMReward().score(clip, inputs).value == pytest.approx(expected, abs=1e-5)
