"""How warped noise enters: against the formulas of the method and of the authors' release."""

from __future__ import annotations

import itertools

import pytest
import torch
from scipy import ndimage

from noise.clips import SMALL, drawn, geometry, transported
from worldr1_backbones.noise import GaussianNoise
from worldr1_backbones.noise.injection import mix, replace_low_frequencies
from worldr1_core.noise import NoiseRequest
from worldr1_core.policy import PolicyRun

PROMPT = "Camera push in."


def _gaussian(seed: int = 0) -> torch.Tensor:
    return GaussianNoise().initial_noise(NoiseRequest(SMALL, PROMPT, seed)).latents


def test_no_degradation_and_replacement_is_the_warped_noise_alone():
    assert torch.equal(drawn(PROMPT, injection="replace", degradation=0.0).latents, transported(prompt=PROMPT))


def test_degradation_mixes_in_fresh_noise():
    warped, mixed = transported(prompt=PROMPT), drawn(PROMPT, injection="replace", degradation=0.35).latents
    fresh = (mixed * (0.35**2 + 0.65**2) ** 0.5 - 0.65 * warped) / 0.35
    assert float(fresh.std()) == pytest.approx(1, abs=0.03)
    assert abs(float((fresh * warped).mean())) < 0.05
    assert abs(float((fresh[:, 0] * fresh[:, 1]).mean())) < 0.1


def test_full_degradation_leaves_nothing_of_the_motion():
    still = drawn("Camera fixed.", injection="replace", degradation=1.0).latents
    assert abs(float((still[:, 0] * still[:, 1]).mean())) < 0.1


def test_blending_goes_from_the_gaussian_noise_to_the_warped_noise():
    options = {"injection": "blend", "degradation": 0.0}
    assert torch.equal(drawn(PROMPT, strength=0.0, **options).latents, _gaussian())
    warped = drawn(PROMPT, strength=1.0, **options).latents
    torch.testing.assert_close(warped, transported(prompt=PROMPT))
    half = drawn(PROMPT, strength=0.5, **options).latents
    torch.testing.assert_close(half, (_gaussian() + warped) / 2**0.5)


@pytest.mark.parametrize("size", [1, 5, 9])
def test_the_released_lowpass_delta(size):
    """base + s B (warped - base), mean 0 and std 1; the box filter is SciPy's."""
    options = {"degradation": 0.0, "strength": 0.4, "filter_size": size}
    base, warped = _gaussian(), transported(prompt=PROMPT)
    delta = ndimage.uniform_filter((warped - base).numpy(), size=(1, 1, size, size), mode="constant")
    expected = base + 0.4 * torch.from_numpy(delta)
    expected = (expected - expected.mean()) / expected.std()
    given = drawn(PROMPT, injection="lowpass-delta", renormalise="latent", **options).latents
    torch.testing.assert_close(given, expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("size", [(15, 26), (8, 7), (3, 3)])
def test_lowpass_by_frequency_is_the_filter_with_its_power_restored(size):
    """Against the periodic filter as SciPy has it, applied in pixels and whitened in frequencies."""
    generator = torch.Generator().manual_seed(3)
    base, warped = torch.randn(2, 3, 2, *size, generator=generator)
    impulse = torch.zeros(*size, dtype=torch.float64)
    impulse[0, 0] = 1
    response = torch.fft.fft2(torch.from_numpy(ndimage.uniform_filter(impulse.numpy(), size=9, mode="wrap"))).real
    low = ndimage.uniform_filter((warped - base).double().numpy(), size=(1, 1, 9, 9), mode="wrap")
    plain = base + 0.7 * torch.from_numpy(low)
    power = (1 - 0.7 * response) ** 2 + (0.7 * response) ** 2
    expected = torch.fft.ifft2(torch.fft.fft2(plain) / power.sqrt()).real
    given = replace_low_frequencies(base, warped, 0.7, 9)
    torch.testing.assert_close(given, expected.float(), atol=1e-5, rtol=1e-4)


def test_lowpass_takes_low_frequencies_from_the_warped_noise():
    base = _gaussian()
    given = drawn(PROMPT, injection="lowpass-delta", strength=0.5, degradation=0.0).latents
    warped = transported(prompt=PROMPT)
    assert float((given.mean((-1, -2)) * warped.mean((-1, -2))).sum()) > 0
    torch.testing.assert_close(given.mean((-1, -2)), (base + warped).mean((-1, -2)) / 2**0.5, atol=1e-5, rtol=1e-3)


def test_stepwise_injection_leaves_the_latent_and_hands_on_the_delta():
    noise = drawn(PROMPT, injection="stepwise-delta", degradation=0.0, filter_size=5)
    assert torch.equal(noise.latents, _gaussian())
    delta = ndimage.uniform_filter(
        (transported(prompt=PROMPT) - _gaussian()).numpy(), size=(1, 1, 5, 5), mode="constant"
    )
    expected = torch.from_numpy(delta) / torch.from_numpy(delta).std()
    torch.testing.assert_close(noise.step_delta, expected, atol=1e-5, rtol=1e-4)


def test_stepwise_weights_fall_evenly_to_a_tenth_and_add_up_to_the_strength():
    weights = drawn(PROMPT).step_weights
    assert len(weights) == 8
    assert sum(weights) == pytest.approx(0.35)
    assert weights[7] / weights[0] == pytest.approx(0.1)
    falls = [a - b for a, b in itertools.pairwise(weights)]
    assert max(falls) == pytest.approx(min(falls))


def test_the_sampler_carries_the_delta_into_the_sample():
    noise = drawn(PROMPT)
    sample = torch.randn(1, *SMALL.shape, generator=torch.Generator().manual_seed(1)) * 2 + 3
    run = PolicyRun(step_delta=noise.step_delta[None], step_weights=noise.step_weights)
    moved = run.inject(0, sample)
    torch.testing.assert_close(moved.mean(), sample.mean())
    torch.testing.assert_close(moved.std(), sample.std())
    assert float(((moved - sample) * noise.step_delta).mean()) > 0
    assert run.inject(8, sample) is sample


def test_padding_frames_are_fresh_and_get_no_delta():
    padded = geometry()
    padded = type(padded)(4, 5, 15, 26, 17, 120, 208, 4, 8, leading_padding=1)
    noise = drawn(PROMPT, sizes=padded)
    assert noise.latents.shape == (4, 6, 15, 26)
    assert torch.equal(noise.latents[:, 1:], drawn(PROMPT).latents)
    assert float(noise.step_delta[:, 0].abs().max()) == 0
    assert float(noise.latents[:, 0].std()) == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize("weight", [0.0, 0.35, 0.5, 1.0])
def test_mixing_keeps_the_variance(weight):
    first, second = torch.randn(2, 200_000, generator=torch.Generator().manual_seed(0))
    assert float(mix(first, second, weight).std()) == pytest.approx(1, abs=0.01)
