"""Float frames to bytes and back without loss, where frames came from a video of 8 bits.

NumPy works on blocks that stay in the cache: one pass over memory each way, without temporaries. Large videos are
shared among threads, since NumPy releases the lock of the interpreter.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor

_WHITE = np.float32(255)
_TO_LEVEL = np.float32(255.5)
"""A value k / 255 times this lies between k and k + 0.51, so that k is left when the fraction is cut off."""
_BLOCK = 2**16
"""Values per block: 256 KiB as float32."""
_VALUES_PER_THREAD = 2**22
_MAX_THREADS = 8


def encode_frames(frames: Tensor) -> Tensor:
    """Return frames as uint8 if that loses nothing, as for videos read from files, and as float32 otherwise.

    Args:
        frames: `(T, 3, H, W)` float32.

    Returns:
        `(T, 3, H, W)` uint8 or float32 on the CPU.
    """
    frames = frames.detach().cpu().contiguous()
    values = frames.numpy().reshape(-1)
    levels = np.empty(values.shape, np.uint8)

    def encode(start: int, stop: int) -> bool:
        decoded = np.empty(_BLOCK, np.float32)
        with np.errstate(invalid="ignore"):  # of values that are no levels, which the comparison finds
            for own in _blocks(start, stop):
                block, buffer = values[own], decoded[: own.stop - own.start]
                np.multiply(block, _TO_LEVEL, out=levels[own], dtype=np.float32, casting="unsafe")
                np.divide(levels[own], _WHITE, out=buffer, dtype=np.float32)
                if not _same_bits(buffer, block):
                    return False
        return True

    lossless = all(_in_threads(encode, values.size))
    return torch.from_numpy(levels).view(frames.shape) if lossless else frames


def decode_frames(sent: Tensor) -> Tensor:
    """Return the float32 frames that `encode_frames` received; those that were sent as float32 are not copied."""
    if sent.dtype == torch.float32:
        return sent
    levels = sent.contiguous().numpy().reshape(-1)
    values = np.empty(levels.shape, np.float32)

    def decode(start: int, stop: int) -> None:
        for own in _blocks(start, stop):
            np.divide(levels[own], _WHITE, out=values[own], dtype=np.float32)

    list(_in_threads(decode, levels.size))
    return torch.from_numpy(values).view(sent.shape)


def _same_bits(first: np.ndarray, second: np.ndarray) -> bool:
    """Compare bits, not numbers, because -0.0 equals 0.0; two values at once where the count is even."""
    kind = np.int64 if first.size % 2 == 0 else np.int32
    return not (first.view(kind) != second.view(kind)).any()


def _blocks(start: int, stop: int) -> Iterator[slice]:
    return (slice(begin, min(begin + _BLOCK, stop)) for begin in range(start, stop, _BLOCK))


def _in_threads(work: Callable[[int, int], bool | None], count: int) -> Iterable[bool | None]:
    """Call `work(start, stop)` for shares of `range(count)`, each in a thread of its own."""
    shares = min(_MAX_THREADS, os.cpu_count() or 1, max(1, count // _VALUES_PER_THREAD))
    if shares == 1:
        return [work(0, count)]
    bounds = [count * share // shares for share in range(shares + 1)]
    with ThreadPoolExecutor(shares) as pool:
        return list(pool.map(work, bounds[:-1], bounds[1:]))
