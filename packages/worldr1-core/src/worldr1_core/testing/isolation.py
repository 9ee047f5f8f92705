"""Checks for side effects of a call: random state, standard output, tensors changed or kept alive."""

from __future__ import annotations

import contextlib
import gc
import io
import random
import weakref
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from worldr1_core.clip import Clip
from worldr1_core.testing.failures import CheckFailed
from worldr1_core.video import Video


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Every global random generator starts at `seed` inside and is put back afterwards."""
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])


def check_leaves_random_state(call: Callable[[], object]) -> None:
    """Run `call` and compare the global generators of `random`, numpy and torch before and after.

    Raises:
        CheckFailed: One of them moved.
    """
    with seeded(1234):
        before = _random_state()
        call()
        moved = [name for name, state in _random_state().items() if state != before[name]]
    if moved:
        raise CheckFailed(f"the call drew from or seeded the global generator of {', '.join(moved)}")


def _random_state() -> dict[str, object]:
    numpy_state = np.random.get_state(legacy=False)
    return {
        "random": random.getstate(),
        "numpy": repr(numpy_state),
        "torch": torch.get_rng_state().numpy().tobytes(),
    }


def check_prints_nothing(call: Callable[[], object]) -> None:
    """Run `call` and look at standard output.

    Raises:
        CheckFailed: Something was written to it.
    """
    stream = io.StringIO()
    with contextlib.redirect_stdout(stream):
        call()
    if text := stream.getvalue():
        raise CheckFailed(f"the call printed {text[:80]!r}")


def check_unchanged(tensors: dict[str, Tensor], call: Callable[[], object]) -> None:
    """Run `call` and compare tensors before and after.

    Raises:
        CheckFailed: One changed.
    """
    before = {name: tensor.clone() for name, tensor in tensors.items()}
    call()
    changed = [name for name, tensor in tensors.items() if not torch.equal(before[name], tensor)]
    if changed:
        raise CheckFailed(f"the call changed {', '.join(changed)} in place")


def check_frees(values: Tensor, use: Callable[[Tensor], object]) -> None:
    """Hand `use` a copy of a tensor and see whether its memory is free again afterwards.

    The copy lies in a numpy array, which every tensor that shares its storage keeps alive: views count too.

    Args:
        values: What is copied, on the CPU.
        use: What may keep it; its answer is dropped before the memory is looked at.

    Raises:
        CheckFailed: The memory is still held.
    """
    array = values.numpy().copy()
    held = weakref.ref(array)
    use(torch.from_numpy(array))
    del array
    if held() is not None:  # perhaps only a reference cycle
        gc.collect()
    if held() is not None:
        raise CheckFailed("the memory of the frames is still held after the answer was dropped")


def clip_tensors(clip: Clip) -> dict[str, Tensor]:
    """Every tensor of a clip, by the name that messages use."""
    tensors = {"clip.video.frames": clip.video.frames}
    if clip.intrinsics is not None:
        tensors["clip.intrinsics"] = clip.intrinsics
    if clip.target is not None:
        tensors["clip.target.c2w"] = clip.target.c2w
    return tensors


def with_frames(clip: Clip, frames: Tensor) -> Clip:
    """The same clip around other frames."""
    return replace(clip, video=Video(frames, clip.video.fps, clip.video.source))
