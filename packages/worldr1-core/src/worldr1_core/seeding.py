"""Random streams named by keys, so that draws depend neither on batching nor on the number of processes."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import torch
from torch import Generator, Tensor


def derive_seed(seed: int, *keys: int | str) -> int:
    """A seed for one named stream: the first 63 bits of SHA-256 over the seed and the keys.

    Args:
        seed: Seed of the run.
        *keys: Purpose of the stream, e.g. `"rollout", step, sample_index`.

    Returns:
        An integer in [0, 2**63).
    """
    # Plain integers, because numpy's print otherwise and would name another stream.
    plain = tuple(key if isinstance(key, str) else int(key) for key in (seed, *keys))
    digest = hashlib.sha256(repr(plain).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def generator(seed: int, *keys: int | str) -> Generator:
    """A CPU generator for one named stream; see `derive_seed`.

    torch's CPU generator starts from the low 32 bits of a seed, so that among n streams about n^2 / 2^33 pairs agree.
    """
    return torch.Generator().manual_seed(derive_seed(seed, *keys))


def draw_normal(generators: Sequence[Generator], like: Tensor) -> Tensor:
    """Standard normal noise `(B, ...)` in float32, one generator per sample.

    It is drawn on the CPU whatever the device of `like`, so that a seed gives the same noise everywhere.

    Args:
        generators: B generators; each advances.
        like: Tensor whose shape and device are taken.

    Raises:
        ValueError: There are not B generators.
    """
    if len(generators) != like.shape[0]:
        raise ValueError(f"Expected one generator per sample, {like.shape[0]}; received {len(generators)}.")
    noise = torch.stack([torch.randn(like.shape[1:], generator=g, dtype=torch.float32) for g in generators])
    return noise.to(like.device)
