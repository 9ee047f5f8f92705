"""Videos of the tiny world's model and of a wider one, from the same noise."""

from __future__ import annotations

import statistics
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests"))

from diffusers import WanTransformer3DModel

from backbones.tiny_checkpoints import make_wan
from devices.measures import at_most, peak_gib, reset_peak, timed
from worldr1_backbones.wan import TinyWanBackbone, WanBackbone
from worldr1_core.seeding import generator

PROMPT = "Camera push in. A red box and a blue ball in a green room with checker walls."


def save_wan(folder: Path, width: int, layers: int) -> dict[str, Any]:
    """A random Wan in the layout of the released checkpoints; the options of a backbone that loads it."""
    pipeline = make_wan("2.1")
    sizes = {"num_attention_heads": width // 64, "attention_head_dim": 64, "ffn_dim": 4 * width, "num_layers": layers}
    channels = {"in_channels": 16, "out_channels": 16, "text_dim": 16, "freq_dim": 256, "rope_max_seq_len": 64}
    pipeline.transformer = WanTransformer3DModel(**sizes, **channels)
    pipeline.save_pretrained(folder)
    return {"path": str(folder), "max_sequence_length": 32, "guidance_scale": 2.0}


def sampler(kind: Any, options: dict[str, Any], count: int, steps: int, repeats: int) -> Callable[..., dict[str, Any]]:
    """What makes the same videos with a model on some device: latents, seconds of a video, and memory."""

    def measure(device: str, dtype: str) -> dict[str, Any]:
        backbone = kind(**options, device=device, dtype=dtype)
        noise = torch.stack([torch.randn(backbone.geometry.shape, generator=generator(0, i)) for i in range(count)])
        reset_peak(device)

        def run() -> torch.Tensor:
            latents = backbone.sample(backbone.encode([PROMPT] * count), noise, num_inference_steps=steps).latents
            backbone.decode(latents)
            return latents

        runs = [timed(device, run) for _ in range(repeats + 1)][1:]
        seconds = statistics.median(seconds for seconds, _ in runs) / count
        return {"latents": runs[-1][1].cpu(), "seconds": seconds, "peak_gib": peak_gib(device)}

    return measure


def compare_samples(measure: Callable[..., dict[str, Any]], device: str) -> tuple[dict[str, Any], float]:
    """Figures of a model on both devices, and the largest difference of latents in exact float32."""
    rows = {"cpu_float32": measure("cpu", "float32"), "device_float32": measure(device, "float32")}
    rows["device_bfloat16"] = measure(device, "bfloat16")
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        exact = measure(device, "float32")["latents"]
    truth = rows["cpu_float32"].pop("latents")
    figures: dict[str, Any] = {"videos_per_second": {}, "latents_apart": {}, "speedup": {}, "peak_gib": {}}
    for name, row in rows.items():
        figures["videos_per_second"][name] = 1 / row["seconds"]
        figures["peak_gib"][name] = row["peak_gib"]
        if name != "cpu_float32":
            figures["speedup"][name] = rows["cpu_float32"]["seconds"] / row["seconds"]
            figures["latents_apart"][name] = float((row["latents"] - truth).abs().max())
    figures["latents_apart"]["device_float32_without_tf32"] = apart = float((exact - truth).abs().max())
    return figures, apart


def sample(device: str, quick: bool) -> dict[str, Any]:
    """Videos of the tiny world's model, and of a wider one."""
    found, bars = {}, {}
    with tempfile.TemporaryDirectory() as folder:
        height, width, frames = (64, 64, 9) if quick else (256, 448, 17)
        size = {"height": height, "width": width, "num_frames": frames}
        wide = save_wan(Path(folder), *((128, 2) if quick else (1024, 8))) | size
        repeats = 1 if quick else 3
        measures = {
            "tiny-wan": sampler(TinyWanBackbone, {}, *((1, 2) if quick else (8, 10)), repeats),
            "wide": sampler(WanBackbone, wide, 1, 2 if quick else 4, repeats),
        }
        for name, measure in measures.items():
            found[name], apart = compare_samples(measure, device)
            bars[f"{name}_latents"] = at_most(apart, 1e-2)
    return {**found, "bars": bars}
