"""Small heads on image models that are published as files at an address, kept in torch's hub cache."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from urllib.parse import urlparse

import torch

from worldr1_core.weights_source import WeightsSource
from worldr1_rewards.pretrained import LOADING_ERRORS

LAION_HEAD = "https://github.com/LAION-AI/aesthetic-predictor/raw/main/sa_0_4_vit_l_14_linear.pth"
"""Head of LAION's aesthetic predictor for CLIP ViT-L/14 (MIT licence)."""


def find_head(address: str, *, local_files_only: bool = False) -> tuple[Path, WeightsSource]:
    """Return the file of a head, which is downloaded into torch's hub cache on first use.

    Args:
        address: Address or file.
        local_files_only: Never ask the network.

    Raises:
        WeightsError: There is no such file, or it cannot be downloaded.
    """
    what, source = "the aesthetic head", WeightsSource(address, local_files_only=local_files_only)
    if not address.startswith(("https://", "http://")):
        if not source.path.is_file():
            raise source.fail(what, "there is no such file")
        return source.path, source
    path = Path(torch.hub.get_dir()) / "checkpoints" / Path(urlparse(address).path).name
    if path.is_file():
        return path, source
    fix = f"place the file in {str(path.parent)!r} or name it in the option `head`"
    if local_files_only:
        raise source.fail(what, f"it is not in the cache; {fix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.redirect_stdout(sys.stderr):
            torch.hub.download_url_to_file(address, str(path), progress=False)
    except LOADING_ERRORS as error:
        raise source.fail(what, f"{error}; {fix}") from error
    return path, source
