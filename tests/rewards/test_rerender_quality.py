"""Agreement and bursts: what they forgive, and what they see."""

from __future__ import annotations

import pytest
import torch

from worldr1_rewards.probes.world import render_world
from worldr1_rewards.rewards.rerender_quality import agreement, error_burst


@pytest.fixture(scope="module")
def frames():
    return render_world("rich", "move left", seed=3, size=(64, 112), num_frames=9).frames


def covered(frames):
    return torch.ones(len(frames), *frames.shape[-2:])


def test_equal_pictures_agree_fully(frames):
    assert torch.allclose(agreement(frames, frames, covered(frames)), torch.ones(len(frames)))
    assert error_burst(frames, frames, covered(frames)) == 0


def test_half_the_tolerated_noise_costs_little_and_five_times_much(frames):
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(frames.shape, generator=generator)
    little = float(agreement(frames + 0.005 * noise, frames, covered(frames)).mean())
    much = float(agreement(frames + 0.15 * noise, frames, covered(frames)).mean())
    assert little > 0.95
    assert much < 0.5


def test_displacement_costs_nearly_alike_at_three_quarters_of_the_contrast(frames):
    def shifted(images):
        return agreement(images.roll(1, -1), images, covered(images)).mean()

    faint = 0.5 + 0.75 * (frames - 0.5)
    assert float(shifted(faint)) == pytest.approx(float(shifted(frames)), abs=0.1)


def test_pixels_that_are_not_covered_do_not_count(frames):
    broken, coverage = frames.clone(), covered(frames)
    broken[..., :40] = 0.0
    coverage[..., :44] = 0.0
    assert float(agreement(broken, frames, coverage).min()) > 0.97
    assert error_burst(broken, frames, coverage) < 1e-4


def test_one_broken_frame_is_a_burst_and_equal_errors_are_none(frames):
    darker = (frames - 0.2).clamp(-1, 1)  # wrong by as much in every frame
    steady = error_burst(darker, frames, covered(frames))
    single = frames.clone()
    single[4, ..., 20:40, 20:40] = 0.0
    assert error_burst(single, frames, covered(frames)) > 0.002
    assert steady < 0.25 * error_burst(single, frames, covered(frames))


def test_a_burst_is_as_large_at_half_the_contrast(frames):
    def burst(images):
        single = images.clone()
        single[4, ..., 20:40, 20:40] = images.mean()
        return float(error_burst(single, images, covered(images)))

    assert burst(0.5 + 0.5 * (frames - 0.5)) == pytest.approx(burst(frames), rel=0.02)


def test_a_broken_border_is_no_burst(frames):
    broken = frames.clone()
    broken[4, ..., :2, :] = 0.0
    broken[4, ..., -2:] = 1.0
    assert error_burst(broken, frames, covered(frames)) == 0


def test_the_rim_of_a_hole_is_no_burst(frames):
    broken, coverage = frames.clone(), covered(frames)
    coverage[4, 20:40, 40:60] = 0.0
    broken[4, :, 18:42, 38:62] = 0.0
    assert error_burst(broken, frames, coverage) == 0


def test_nothing_covered_is_no_number(frames):
    assert bool(agreement(frames, frames, 0 * covered(frames)).isnan().all())
    assert error_burst(frames, frames, 0 * covered(frames)) == 0
