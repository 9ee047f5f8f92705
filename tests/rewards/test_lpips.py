"""LPIPS equals the lpips package's own network, and never runs on weights that nobody gave."""

from __future__ import annotations

import urllib.error
from pathlib import Path

import lpips
import pytest
import torch
import torchvision

from worldr1_core.errors import VideoError, WeightsError
from worldr1_rewards.rewards import lpips_net

FILE = "alexnet-owt-7be5be79.pth"


@pytest.fixture
def torch_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty hub cache, no network, and no network kept from other tests."""

    def offline(*_: object, **__: object) -> None:
        raise urllib.error.URLError("no network")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", offline)
    monkeypatch.setattr(lpips_net, "_nets", {})
    (tmp_path / "hub" / "checkpoints").mkdir(parents=True)
    return tmp_path / "hub" / "checkpoints"


def fake_weights() -> dict[str, torch.Tensor]:
    """A complete AlexNet checkpoint; its classifier, which LPIPS does not use, takes no space."""
    torch.manual_seed(0)
    with torch.device("meta"):
        shapes = {name: value.shape for name, value in torchvision.models.alexnet().state_dict().items()}
    return {
        name: 0.05 * torch.randn(shape) if name.startswith("features") else torch.zeros(1).expand(shape)
        for name, shape in shapes.items()
    }


@pytest.fixture
def cached(torch_home: Path) -> Path:
    torch.save(fake_weights(), torch_home / FILE)
    return torch_home / FILE


def pair(size: int = 64, count: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    target = torch.rand(count, 3, size, size, generator=generator)
    return (target + 0.2 * torch.randn(target.shape, generator=generator)).clamp(0, 1), target


def test_distance_equals_the_packages_own(cached: Path) -> None:
    prediction, target = pair()
    reference = lpips.LPIPS(net="alex", verbose=False)
    expected = reference(prediction, target, normalize=True).flatten().detach()
    torch.testing.assert_close(lpips_net.lpips_distance(prediction, target), expected)
    assert float(expected.min()) > 1e-4


def test_gradient_equals_the_packages_own(cached: Path) -> None:
    prediction, target = (images.requires_grad_() for images in pair())
    expected = torch.autograd.grad(
        lpips.LPIPS(net="alex", verbose=False)(prediction, target, normalize=True).sum(), [prediction, target]
    )
    with torch.inference_mode():
        lpips_net.lpips_net()
    found = torch.autograd.grad(lpips_net.lpips_distance(prediction, target, batch_size=2).sum(), [prediction, target])
    torch.testing.assert_close(found, expected)
    assert float(found[0].abs().max()) > 0


def test_gradient_of_black_images_is_finite(cached: Path) -> None:
    prediction, target = pair()
    prediction[0], target[0], target[1] = 0, 0, 0
    prediction.requires_grad_()
    [gradient] = torch.autograd.grad(lpips_net.lpips_distance(prediction, target).sum(), prediction)
    assert gradient.isfinite().all()
    assert not bool(gradient[0].any())


def test_batches_do_not_matter(cached: Path) -> None:
    prediction, target = pair(count=5)
    whole = lpips_net.lpips_distance(prediction, target, batch_size=5)
    torch.testing.assert_close(lpips_net.lpips_distance(prediction, target, batch_size=2), whole)


def test_identical_images_have_no_distance(cached: Path) -> None:
    _, target = pair()
    assert lpips_net.lpips_distance(target, target).tolist() == [0, 0, 0]


@pytest.mark.parametrize("size", [(8, 8), (24, 24), (16, 40)])
def test_small_frames_are_enlarged(cached: Path, size: tuple[int, int]) -> None:
    prediction, target = torch.rand(2, 2, 3, *size, generator=torch.Generator().manual_seed(2))
    distance = lpips_net.lpips_distance(prediction, target)
    assert distance.isfinite().all()
    assert (distance > 0).all()


def test_network_is_loaded_once(cached: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = lpips_net.lpips_net()
    cached.unlink()
    assert lpips_net.lpips_net() is first


def test_absent_weights_are_an_error_that_names_the_ways_out(torch_home: Path) -> None:
    with pytest.raises(WeightsError) as caught:
        lpips_net.lpips_distance(*pair())
    message = str(caught.value)
    assert FILE in message
    assert str(torch_home) in message
    assert "metric: photometric" in message
    assert "no network" in message
    assert caught.value.exit_code == 2


def test_nothing_is_remembered_after_a_failure(torch_home: Path) -> None:
    with pytest.raises(WeightsError):
        lpips_net.lpips_net()
    torch.save(fake_weights(), torch_home / FILE)
    assert lpips_net.lpips_distance(*pair()).shape == (3,)


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04 cut short"])
def test_damaged_weights_are_an_error(torch_home: Path, content: bytes) -> None:
    (torch_home / FILE).write_bytes(content)
    with pytest.raises(WeightsError, match="cannot be loaded"):
        lpips_net.lpips_net()


def test_checkpoint_of_another_network_is_an_error(cached: Path) -> None:
    weights = fake_weights()
    del weights["features.6.bias"]
    torch.save(weights, cached)
    with pytest.raises(WeightsError, match=r"features\.6\.bias"):
        lpips_net.lpips_net()
    torch.save([1, 2], cached)
    with pytest.raises(WeightsError, match="list"):
        lpips_net.lpips_net()


def test_weights_that_are_not_the_published_ones_are_reported(cached: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from structlog.testing import capture_logs

    with capture_logs() as logs:
        lpips_net.lpips_net()
    assert any("not the published" in entry["event"] for entry in logs)
    assert capsys.readouterr().out == ""


def test_download_is_not_announced_on_stdout(torch_home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(WeightsError):
        lpips_net.lpips_net()
    assert capsys.readouterr().out == ""


def test_different_shapes_are_refused() -> None:
    prediction, target = pair()
    with pytest.raises(VideoError, match="LPIPS compares"):
        lpips_net.lpips_distance(prediction[:1], target)
