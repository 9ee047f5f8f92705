"""Choice of the metrics of an evaluation: names of rewards, and names of sets of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from worldr1_core.errors import UnknownNameError, suggest
from worldr1_core.manifest import Manifest
from worldr1_core.registry import Registry

SETS: Mapping[str, tuple[str, ...]] = {
    "3d": ("psnr", "ssim", "lpips-similarity"),
    "camera": ("camera-errors", "camera-auc", "camera-accuracy"),
    "rewards": ("reconstruction", "trajectory", "consistency"),
    "vbench": (
        *("aesthetic-quality", "imaging-quality", "flow-smoothness"),
        *("subject-consistency", "background-consistency"),
    ),
    "default": (
        *("psnr", "psnr-normalised", "ssim", "reconstruction", "trajectory", "consistency"),
        *("camera-errors", "camera-auc", "camera-accuracy"),
    ),
}
"""Sets of metrics. `default` needs no weights."""


def choose_metrics(names: Sequence[str] | None, manifest: Manifest | None, registry: Registry) -> list[str]:
    """Return the names of the rewards that an evaluation measures, each once, in order.

    Args:
        names: Names of rewards and of `SETS`; by default the rewards of the manifest, or the set `default`.
        manifest: Manifest that was given, or `None`.
        registry: Where names are looked up.

    Raises:
        UnknownNameError: A name is neither registered nor a set.
    """
    if names is None:
        return [spec.name for spec in manifest.rewards] if manifest is not None else list(SETS["default"])
    chosen: list[str] = []
    for name in names:
        if name in SETS:
            chosen += SETS[name]
        elif registry.has("reward", name):
            chosen.append(registry.find("reward", name).name)
        else:
            allowed = [*SETS, *registry.names("reward")]
            raise UnknownNameError(f"Unknown metric {name!r}. Allowed: {allowed}.{suggest(name, allowed)}")
    return list(dict.fromkeys(chosen))
