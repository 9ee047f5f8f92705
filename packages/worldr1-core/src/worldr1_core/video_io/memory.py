"""Memory available for a clip, and the error for a clip that would not fit.

Linux grants more memory than it has and ends the process when the pages are touched, so that an allocation that
succeeds proves nothing. The size of a clip is therefore compared with what is available before it is decoded.
"""

from __future__ import annotations

import os
from pathlib import Path

from worldr1_core.errors import VideoError

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

_GIB = 2**30
_BYTES_PER_PIXEL = 3 * 4
# A decoder keeps reference frames and frames of other threads, and one frame is converted at a time.
_WORKING_BYTES_PER_PIXEL = 64
_NO_LIMIT = 2**60


def check_fits(source: Path, num_frames: int, size: tuple[int, int], full_size: tuple[int, int]) -> None:
    """Compare the memory that a clip needs with what is available; no check where the system does not tell.

    Args:
        source: File or folder, for the message.
        num_frames: Frames to keep.
        size: `(H, W)` of the frames that are kept.
        full_size: `(H, W)` of the frames while they are decoded.

    Raises:
        VideoError: The clip does not fit.
    """
    available = available_bytes()
    if available is None:
        return
    working = _WORKING_BYTES_PER_PIXEL * full_size[0] * full_size[1]
    needed = num_frames * _BYTES_PER_PIXEL * size[0] * size[1] + working
    if needed > available:
        raise too_large(source, num_frames, size, needed, available - working)


def check_bytes(source: Path, needed: int) -> None:
    """Compare the memory that an array of a file takes with what is available.

    Raises:
        VideoError: It does not fit.
    """
    available = available_bytes()
    if available is not None and needed > available:
        raise VideoError(
            f"{source}: does not fit into memory: its array takes {needed / _GIB:.1f} GiB, {available / _GIB:.1f} GiB "
            "of memory are available. Store it as .npy or .safetensors, which are read frame by frame, or shorten it."
        )


def too_large(
    source: Path, num_frames: int, size: tuple[int, int], needed: int | None = None, left: int | None = None
) -> VideoError:
    """The error for a clip that does not fit.

    Args:
        source: File or folder.
        num_frames: Frames to keep.
        size: `(H, W)` of the frames that are kept.
        needed: Bytes that the clip takes; computed from the frames when left out.
        left: Bytes that are left for frames, to propose a size that fits.
    """
    kept = num_frames * _BYTES_PER_PIXEL * size[0] * size[1]
    available = available_bytes()
    state = "memory ran out" if available is None else f"{available / _GIB:.1f} GiB of memory are available"
    share = min(1.0, (kept / 4 if left is None else left / 2) / max(kept, 1))  # half of it: scoring needs memory too
    side = int(max(size) * share**0.5) if share > 0 else 0
    proposal = f", e.g. {side}," if side >= 16 else ""
    return VideoError(
        f"{source}: does not fit into memory: {num_frames} frames of {size[1]}x{size[0]} pixels need "
        f"{(needed or kept) / _GIB:.1f} GiB, {state}. Scale the video down, read it smaller (`read_video` with "
        f"max_side{proposal}), shorten it, or use a machine with more memory."
    )


def available_bytes() -> int | None:
    """Bytes that this process can still take without swapping, or `None` where the system does not tell.

    The smallest of: free memory of the machine, what is left of the control group (containers, batch jobs), and what is
    left of the limit on address space (`ulimit -v`).
    """
    amounts = (_machine(), _control_groups(), _address_space())
    known = [amount for amount in amounts if amount is not None]
    return max(min(known), 0) if known else None


def _machine() -> int | None:
    kib = _table(Path("/proc/meminfo")).get("MemAvailable:")
    return None if kib is None else kib * 1024


def _control_groups() -> int | None:
    """The least that any of the groups around this process has left; version 2 and version 1 of the interface."""
    left = []
    for line in _lines(Path("/proc/self/cgroup")):
        _, controllers, path = line.split(":", 2)
        if controllers in ("", "memory"):
            root = Path("/sys/fs/cgroup/memory" if controllers else "/sys/fs/cgroup")
            folder = root / path.lstrip("/")
            # Inside a container the path may be that of the host; the mounted root is then the container's own group.
            left += [_left_of_group(group) for group in (folder, *folder.parents) if group.is_relative_to(root)]
    known = [amount for amount in left if amount is not None]
    return min(known) if known else None


def _left_of_group(folder: Path) -> int | None:
    for limit_name, usage_name, cache_name in (
        ("memory.max", "memory.current", "inactive_file"),
        ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    ):
        limit, usage = _number(folder / limit_name), _number(folder / usage_name)
        if limit is not None and usage is not None and limit < _NO_LIMIT:
            cache = _table(folder / "memory.stat").get(cache_name, 0)  # given back by the kernel when needed
            return limit - usage + cache
    return None


def _address_space() -> int | None:
    if resource is None:
        return None
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    lines = _lines(Path("/proc/self/statm"))
    if limit == resource.RLIM_INFINITY or not lines:
        return None
    return limit - int(lines[0].split()[0]) * os.sysconf("SC_PAGE_SIZE")


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except OSError:
        return []


def _table(path: Path) -> dict[str, int]:
    """The first two columns of a file of the kernel's, where the second is a number."""
    rows = [line.split() for line in _lines(path)]
    return {row[0]: int(row[1]) for row in rows if len(row) > 1 and row[1].isdigit()}


def _number(path: Path) -> int | None:
    lines = _lines(path)
    return int(lines[0]) if lines and lines[0].strip().isdigit() else None
