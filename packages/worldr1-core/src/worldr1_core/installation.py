"""State of the installation: requirements and extras of the packages, devices, disks and settings of libraries."""

from __future__ import annotations

import os
import platform
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.version import InvalidVersion

GIB = 1024**3
LOW_DISK = 5.0
"""GiB below which a disk is reported as nearly full: less than one checkpoint of a small video model."""
SETTINGS = (
    "OMP_NUM_THREADS",
    "CUDA_VISIBLE_DEVICES",
    "HF_HOME",
    "HF_HUB_OFFLINE",
    "HF_HUB_CACHE",
    "TORCH_HOME",
    "PYTORCH_CUDA_ALLOC_CONF",
    "RAY_ADDRESS",
    "WORLDR1_CACHE_DIR",
    "OTEL_EXPORTER_OTLP_ENDPOINT",
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
)
"""Environment variables that change how fast, where or whether something runs."""


def unmet(requirement: Requirement) -> str | None:
    """Return what is wrong with an installed distribution, or `None`.

    Args:
        requirement: Its marker must already apply.
    """
    try:
        version = metadata.version(requirement.name)
    except metadata.PackageNotFoundError:
        return f"{requirement.name} is not installed"
    try:
        fits = requirement.specifier.contains(version, prereleases=True)
    except InvalidVersion:
        fits = False
    return None if fits else f"{requirement.name} {version} is installed, {requirement.specifier} is needed"


def all_requirements_of(distribution: str) -> list[Requirement]:
    """Requirements of a distribution, those of its extras included."""
    return [Requirement(text) for text in metadata.requires(distribution) or []]


def requirements_of(distribution: str, extra: str = "") -> Iterator[Requirement]:
    """Requirements of a distribution that apply here.

    Args:
        distribution: Installed.
        extra: Those that this extra adds; without it, those of the bare distribution.
    """
    for requirement in all_requirements_of(distribution):
        bare = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
        if not extra:
            if bare:
                yield requirement
        elif not bare and requirement.marker is not None and requirement.marker.evaluate({"extra": extra}):
            yield requirement


def extras_of(distribution: str) -> list[dict[str, Any]]:
    """Extras of a distribution: `extra` (`name[extra]`), `installed`, and what is `missing`."""
    rows = []
    for extra in sorted(metadata.metadata(distribution).get_all("Provides-Extra") or []):
        missing = [problem for r in requirements_of(distribution, extra) if (problem := unmet(r)) is not None]
        rows.append({"extra": f"{distribution}[{extra}]", "installed": not missing, "missing": missing})
    return rows


def devices() -> list[dict[str, Any]]:
    """Accelerators that torch can use, and the CPU: `device`, `name`, `memory_gib` (`None` where it is not known)."""
    import torch  # not at the top: the command's module is imported for `worldr1 --help`

    found = []
    for index in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(index)
        memory = round(properties.total_memory / GIB, 1)
        found.append({"device": f"cuda:{index}", "name": properties.name, "memory_gib": memory})
    if torch.backends.mps.is_available():
        found.append({"device": "mps", "name": platform.processor(), "memory_gib": None})
    threads = f"{torch.get_num_threads()} threads of {os.cpu_count()} cores, {torch.backends.cpu.get_cpu_capability()}"
    return [*found, {"device": "cpu", "name": threads, "memory_gib": _memory()}]


def _memory() -> float | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / GIB, 1)
    except (AttributeError, ValueError, OSError):  # Windows, or a system that does not tell
        return None


def disks() -> list[dict[str, Any]]:
    """Free space where files are written: `use`, `path`, `free_gib`."""
    home = Path(os.environ.get("HF_HOME") or Path.home() / ".cache" / "huggingface")
    cache = Path(os.environ.get("HF_HUB_CACHE") or home / "hub")
    places = (
        ("working directory", Path.cwd()),
        ("temporary files", Path(tempfile.gettempdir())),
        ("downloaded models", cache),
        ("environments of workers", Path(os.environ.get("WORLDR1_CACHE_DIR") or Path.home() / ".cache" / "worldr1")),
    )
    rows = []
    for use, path in places:
        existing = next(p for p in (path.absolute(), *path.absolute().parents) if p.exists())
        rows.append({"use": use, "path": str(path), "free_gib": round(shutil.disk_usage(existing).free / GIB, 1)})
    return rows


def settings() -> dict[str, str]:
    """Those of `SETTINGS` that are set."""
    return {name: os.environ[name] for name in SETTINGS if name in os.environ}


def broken_requirements(distributions: Sequence[str]) -> list[str]:
    """Requirements that are not met, such as `"worldr1-core: av 12.0 is installed, >=18.0 is needed"`."""
    return [
        f"{name}: {problem}"
        for name in distributions
        for requirement in requirements_of(name)
        if (problem := unmet(requirement)) is not None
    ]
