"""Image metrics against scikit-image and closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from worldr1_core.errors import VideoError
from worldr1_rewards import metrics


def images(count: int = 3, size: tuple[int, int] = (40, 52), seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    target = torch.rand(count, 3, *size, generator=generator)
    noise = 0.1 * torch.randn(target.shape, generator=generator)
    return (target + noise).clamp(0, 1), target


def test_psnr_equals_scikit_image() -> None:
    prediction, target = images()
    expected = [
        peak_signal_noise_ratio(t.numpy(), p.numpy(), data_range=1) for p, t in zip(prediction, target, strict=True)
    ]
    np.testing.assert_allclose(metrics.psnr(prediction, target).numpy(), expected, rtol=1e-5)


def test_ssim_equals_scikit_image() -> None:
    prediction, target = images()
    options = {
        "channel_axis": 0,
        "data_range": 1,
        "gaussian_weights": True,
        "sigma": 1.5,
        "use_sample_covariance": False,
    }
    expected = [structural_similarity(t.numpy(), p.numpy(), **options) for p, t in zip(prediction, target, strict=True)]
    np.testing.assert_allclose(metrics.ssim(prediction, target).numpy(), expected, atol=2e-5)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_ssim_does_not_depend_on_the_device() -> None:
    target = 0.5 + 0.02 * images()[1]  # smooth windows, whose variance TF32 would round away
    prediction = target + 0.002 * images(seed=1)[1]
    on_device = metrics.ssim(prediction.cuda(), target.cuda()).cpu()
    torch.testing.assert_close(on_device, metrics.ssim(prediction, target), rtol=0, atol=1e-4)


def test_identical_images_score_best() -> None:
    _, target = images()
    assert metrics.psnr(target, target).tolist() == [metrics.MAX_PSNR] * 3
    torch.testing.assert_close(metrics.ssim(target, target), torch.ones(3))
    assert float(metrics.unexplained_share(target, target).max()) <= 1e-9


@pytest.mark.parametrize("metric", [metrics.psnr, metrics.ssim, metrics.contrast_psnr, metrics.unexplained_share])
def test_uncovered_pixels_do_not_matter(metric) -> None:
    prediction, target = images()
    coverage = torch.ones(3, 40, 52)
    coverage[:, :, :20] = 0
    spoiled = prediction.clone()
    spoiled[..., :20] = 0
    torch.testing.assert_close(
        metric(spoiled, target, coverage), metric(prediction, target, coverage), rtol=1e-4, atol=1e-5
    )
    assert not torch.allclose(metric(spoiled, target), metric(prediction, target))


@pytest.mark.parametrize("metric", [metrics.psnr, metrics.ssim, metrics.contrast_psnr, metrics.unexplained_share])
def test_nothing_covered_is_no_number(metric) -> None:
    prediction, target = images()
    assert metric(prediction, target, torch.zeros(3, 40, 52)).isnan().all()


def test_ssim_ignores_windows_that_reach_uncovered_pixels() -> None:
    prediction, target = images(count=1)
    coverage = torch.ones(1, 40, 52)
    coverage[..., 30:] = 0
    left = metrics.ssim(prediction[..., :30], target[..., :30])
    torch.testing.assert_close(metrics.ssim(prediction, target, coverage), left)


def test_ssim_of_small_images_uses_a_smaller_window() -> None:
    prediction, target = images(size=(8, 9))
    value = metrics.ssim(prediction, target)
    assert value.shape == (3,)
    assert value.isfinite().all()


def test_contrast_psnr_measures_errors_in_units_of_contrast() -> None:
    generator = torch.Generator().manual_seed(1)
    pattern = torch.randn(1, 3, 64, 64, generator=generator)
    error = torch.randn(1, 3, 64, 64, generator=generator)
    for contrast in (0.05, 0.1):
        target = 0.5 + contrast * pattern
        value = metrics.contrast_psnr(target + 0.1 * contrast * error, target, floor=1e-9)
        assert float(value) == pytest.approx(20, abs=0.2)


def test_a_flat_prediction_explains_nothing() -> None:
    _, target = images(count=2)
    flat = target.mean((2, 3), keepdim=True).expand_as(target)
    share = metrics.unexplained_share(flat, target, floor=1e-9, side=64)
    torch.testing.assert_close(share, torch.ones(2), rtol=1e-3, atol=0)


def test_unexplained_share_is_blind_to_fine_noise_and_sees_a_missing_object() -> None:
    y, x = torch.meshgrid(torch.linspace(0, 6, 128), torch.linspace(0, 6, 128), indexing="ij")
    target = (0.5 + 0.25 * torch.sin(x) * torch.cos(y)).expand(1, 3, 128, 128)
    noise = 0.05 * torch.randn(target.shape, generator=torch.Generator().manual_seed(0))
    with_object = target.clone()
    with_object[..., 50:78, 50:78] = 0.9
    noisy = float(metrics.unexplained_share(target + noise, target))
    missing = float(metrics.unexplained_share(target, with_object))
    fine = float(metrics.unexplained_share(target + noise, target, side=128))
    assert noisy < 0.01 < missing
    assert fine > 10 * noisy


def test_shrink_averages_only_what_has_weight() -> None:
    picture = torch.arange(16.0).reshape(1, 1, 4, 4)
    weight = torch.ones(1, 4, 4)
    weight[0, 0, 0] = 0
    small, small_weight = metrics.shrink(picture, weight, 2)
    assert small[0, 0, 0, 0].item() == pytest.approx((1 + 4 + 5) / 3)
    assert small_weight[0].tolist() == [[0.75, 1.0], [1.0, 1.0]]


def test_masked_mean_of_equal_weights_is_the_mean() -> None:
    values = torch.rand(4, 5, 6, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(metrics.masked_mean(values), values.mean((1, 2)))
    torch.testing.assert_close(metrics.masked_mean(values, torch.full((4, 5, 6), 0.3)), values.mean((1, 2)))


def test_different_shapes_are_refused() -> None:
    prediction, target = images()
    with pytest.raises(VideoError, match=r"\(3, 3, 40, 52\)"):
        metrics.psnr(prediction[:2], target)
    with pytest.raises(VideoError, match="coverage"):
        metrics.ssim(prediction, target, torch.ones(3, 4, 4))


def test_psnr_of_a_known_error() -> None:
    target = torch.full((1, 3, 8, 8), 0.5)
    assert float(metrics.psnr(target + 0.01, target)) == pytest.approx(-20 * math.log10(0.01), rel=1e-4)


def ramp(width: int) -> torch.Tensor:
    """A vertical edge that takes `width` pixels from dark to bright, `(1, 3, 64, 64)`."""
    position = (torch.arange(64, dtype=torch.float32) - 32) / width
    return (0.2 + 0.6 * (position + 0.5).clamp(0, 1)).expand(1, 3, 64, 64)


def test_edge_sharpness_is_one_at_a_step_and_zero_on_a_ramp() -> None:
    step = (torch.arange(64) >= 32).float().expand(1, 3, 64, 64)
    assert float(metrics.edge_sharpness(step)) == pytest.approx(1.0)
    assert float(metrics.edge_sharpness(ramp(16))) == pytest.approx(0.0, abs=1e-3)
    widths = [float(metrics.edge_sharpness(ramp(width))) for width in (1, 2, 3, 4)]
    assert widths == sorted(widths, reverse=True)


def test_edge_sharpness_ignores_contrast_and_resolution() -> None:
    step = (torch.arange(64) >= 32).float().expand(1, 3, 64, 64)
    assert float(metrics.edge_sharpness(0.4 + 0.1 * step)) == pytest.approx(1.0)
    large = torch.nn.functional.interpolate(ramp(3), scale_factor=4, mode="nearest")
    torch.testing.assert_close(metrics.edge_sharpness(large), metrics.edge_sharpness(ramp(3)))


def test_an_image_without_contrast_has_no_sharpness() -> None:
    assert bool(metrics.edge_sharpness(torch.full((2, 3, 16, 16), 0.5)).isnan().all())
