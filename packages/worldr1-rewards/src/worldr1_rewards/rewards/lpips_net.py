"""LPIPS with its AlexNet (Zhang et al., 2018), loaded once a device and never with random weights.

The `lpips` package ships the linear heads; the backbone is torchvision's ImageNet AlexNet, from torch's hub cache
(`$TORCH_HOME/hub/checkpoints`) or downloaded into it.
"""

from __future__ import annotations

import contextlib
import hashlib
import pickle
import sys
import threading
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from worldr1_core.errors import VideoError, WeightsError
from worldr1_core.log import get_logger

log = get_logger(__name__)

MIN_SIDE = 32
"""Frames whose shorter side is smaller are enlarged to it: AlexNet's last layers vanish at 24 pixels and below."""
WEIGHTS_FREE = "metric: photometric"

_nets: dict[str, Any] = {}
_lock = threading.Lock()


def lpips_distance(prediction: Tensor, target: Tensor, *, device: str = "cpu", batch_size: int = 16) -> Tensor:
    """LPIPS between images, with a gradient in those that require one.

    Args:
        prediction: `(N, 3, H, W)` RGB in [0, 1].
        target: The same shape.
        device: Where the network works.
        batch_size: Images compared at once.

    Returns:
        `(N,)` on the CPU, >= 0; 0 for identical images, lower is more alike.

    Raises:
        VideoError: The shapes differ.
        WeightsError: The backbone's weights are missing.
    """
    if prediction.ndim != 4 or prediction.shape[1] != 3 or prediction.shape != target.shape:
        raise VideoError(
            f"LPIPS compares two (N, 3, H, W) tensors, received {tuple(prediction.shape)!r} and "
            f"{tuple(target.shape)!r}."
        )
    net = lpips_net(device)
    distances = []
    differentiable = torch.is_grad_enabled() and (prediction.requires_grad or target.requires_grad)
    with contextlib.nullcontext() if differentiable else torch.inference_mode():
        for first, second in zip(prediction.split(batch_size), target.split(batch_size), strict=True):
            pair = [_enlarge(images.to(device)) for images in (first, second)]
            distances.append(net(*pair, normalize=True).flatten().cpu())
    return torch.cat(distances)


def lpips_net(device: str = "cpu") -> Any:
    """The network on a device, shared by everything in the process.

    Raises:
        WeightsError: The backbone's weights are neither cached nor to be downloaded, or are damaged.
    """
    with _lock:
        if device not in _nets:
            with torch.inference_mode(False):  # inference tensors could not be saved for a gradient
                _nets[device] = _build().to(device)
        return _nets[device]


def _enlarge(images: Tensor) -> Tensor:
    height, width = images.shape[-2:]
    if min(height, width) >= MIN_SIDE:
        return images
    scale = MIN_SIDE / min(height, width)
    size = (max(MIN_SIDE, round(height * scale)), max(MIN_SIDE, round(width * scale)))
    return functional.interpolate(images, size=size, mode="bilinear", align_corners=False)


def _build() -> Any:
    """LPIPS with the linear heads of the package and the backbone filled strictly."""
    import lpips

    state = _backbone_state()
    net = lpips.LPIPS(net="alex", pnet_rand=True, verbose=False).eval().requires_grad_(False)
    # lpips files layer i of torchvision's `features` under slice<k>.<i>.
    renamed = {f"features.{key.split('.', 1)[1]}": parameter for key, parameter in net.net.state_dict().items()}
    for name, parameter in renamed.items():
        given = state.get(name)
        if given is None or given.shape != parameter.shape:
            received = "nothing" if given is None else tuple(given.shape)
            raise WeightsError(
                f"The cached AlexNet weights do not fit: {name!r} should be {tuple(parameter.shape)!r}, found "
                f"{received!r}. Delete {str(_cache_file())!r} and run again to download them, or choose "
                f"`{WEIGHTS_FREE}`."
            )
        parameter.copy_(given)
    return net


def _backbone_state() -> dict[str, Tensor]:
    """Torchvision's AlexNet checkpoint, from the hub cache or the network."""
    from torchvision.models import AlexNet_Weights

    path = _cache_file()
    try:
        # The hub announces a download on stdout, which belongs to scores.
        with contextlib.redirect_stdout(sys.stderr):
            state = torch.hub.load_state_dict_from_url(
                AlexNet_Weights.IMAGENET1K_V1.url,
                map_location="cpu",
                progress=False,
                check_hash=True,
                weights_only=True,
            )
    except (OSError, RuntimeError, ValueError, EOFError, pickle.UnpicklingError) as error:
        raise WeightsError(
            f"The reward 'reconstruction' with `metric: lpips` needs torchvision's AlexNet weights, which cannot be "
            f"loaded: {type(error).__name__}: {error}. Fix: place {path.name!r} in {str(path.parent)!r} (fetched on a "
            f"machine with a network; TORCH_HOME moves the cache), or choose `{WEIGHTS_FREE}` in the manifest, which "
            "needs no weights."
        ) from error
    _verify(path)
    if not isinstance(state, dict):
        raise WeightsError(
            f"{str(path)!r} holds a {type(state).__name__}, not AlexNet's parameters. Delete it and run again."
        )
    return state


def _verify(path: Path) -> None:
    """Warn about a cached file that is not the published one: the hub checks downloads, not what is already there."""
    published = path.stem.rsplit("-", 1)[1]
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if not digest.startswith(published):
        log.warning("LPIPS uses AlexNet weights that are not the published ones", file=str(path), sha256=digest[:16])


def _cache_file() -> Path:
    from torchvision.models import AlexNet_Weights

    return Path(torch.hub.get_dir()) / "checkpoints" / AlexNet_Weights.IMAGENET1K_V1.url.rsplit("/", 1)[1]
