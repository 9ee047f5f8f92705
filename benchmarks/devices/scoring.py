"""Reconstruction, re-render and default rewards of a rendered clip."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests"))

from devices.measures import at_most, peak_gib, reset_peak, timed
from reconstructors.camera_errors import rotation_errors
from worldr1_core.camera import CameraTrajectory
from worldr1_core.clip import Clip
from worldr1_core.video import Video
from worldr1_rewards import Scorer, metrics
from worldr1_rewards.probes.world import render_world


def rendered_clip(quick: bool) -> tuple[Any, Any]:
    """A world with exact truth, and its frames as a clip that states camera and commanded path."""
    size = (160, 160) if quick else (256, 456)
    world = render_world("rich", "orbit left", seed=3, size=size, num_frames=6 if quick else 16)
    path = CameraTrajectory(world.c2w, world.intrinsics, size, world.scene_depth)
    return world, Clip(Video(world.frames), "Camera orbit left. A room.", path, intrinsics=world.intrinsics)


def reconstruct(device: str, quick: bool) -> dict[str, Any]:
    """Reconstruction and re-render on both devices."""
    world, clip = rendered_clip(quick)
    rows, paths = [], []
    for where in ("cpu", device):
        reconstructor = Scorer(device=where).components.reconstructor
        reset_peak(where)

        def run(reconstructor: Any = reconstructor) -> tuple[Any, Any]:
            result = reconstructor.reconstruct(clip)
            return result, result.rerender()

        first, _ = timed(where, run)
        seconds, (result, render) = timed(where, run)
        coverage = render.coverage.cpu()
        rotation = rotation_errors(result.trajectory.c2w, world.c2w)
        paths.append(result.trajectory.c2w)
        rows.append(
            {
                "seconds": seconds,
                "first_seconds": first,
                "peak_gib": peak_gib(where),
                "rotation_worst": float(rotation.max()),
                "psnr": float(metrics.psnr(render.frames.cpu(), world.frames, coverage).nanmean()),
                "coverage": float(coverage.mean()),
                "cameras_from": result.diagnostics["cameras_from"],
            }
        )
    cpu, other = rows
    apart = float(rotation_errors(paths[1], paths[0]).max())
    return {
        "cpu": cpu,
        "device": other,
        "speedup": cpu["seconds"] / other["seconds"],
        "poses_apart_degrees": apart,
        "bars": {
            "rotation_cpu": at_most(cpu["rotation_worst"], 0.5),
            "rotation_device": at_most(other["rotation_worst"], 0.5),
            "psnr_apart": at_most(abs(cpu["psnr"] - other["psnr"]), 0.3),
        },
    }


def score(device: str, quick: bool) -> dict[str, Any]:
    """Rewards of the default manifest on both devices."""
    _, clip = rendered_clip(quick)
    cpu, other = (Scorer(device=where)(clip)["scores"] for where in ("cpu", device))
    bars = {}
    for name, value in cpu.items():
        if value is None or other[name] is None:
            bars[name] = {"value": None, "bar": "a score on both devices", "passed": False}
        else:
            bars[name] = at_most(abs(value - other[name]), 0.02)
    return {"cpu": cpu, "device": other, "bars": bars}
