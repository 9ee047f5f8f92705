"""Small sets of videos, and metrics that a worker process can set up."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import torch

from worldr1_core.registry import Registry
from worldr1_core.video import Video
from worldr1_core.video_io import write_video
from worldr1_rewards.evaluation.jobs import VideoJob
from worldr1_rewards.evaluation.measure import VideoMeasurer
from worldr1_rewards.evaluation.records import VideoRecord
from worldr1_rewards.evaluation.runner import MeasurerSpec

CHEAP = ("contrast", "mean-gradient")
"""Metrics of the frames alone."""


def write_set(
    folder: Path, prompts: list[str], *, contrast: float, seeds: int = 1, size: int = 16, num_frames: int = 3
) -> Path:
    """One noisy video per prompt and seed, with the naming of VBench."""
    for index, prompt in enumerate(prompts):
        for seed in range(seeds):
            draws = torch.Generator().manual_seed(10 * index + seed)
            frames = (0.5 + contrast * (torch.rand(num_frames, 3, size, size, generator=draws) - 0.5)).clamp(0, 1)
            write_video(Video(frames), folder / f"{prompt}-{seed}.safetensors")
    return folder


class Fatal(VideoMeasurer):
    """Ends its process at the video whose name holds `fatal`."""

    def measure(self, job: VideoJob, fingerprint: str) -> VideoRecord:
        if "fatal" in job.name:
            os._exit(9)
        return super().measure(job, fingerprint)


@dataclass(frozen=True, slots=True)
class FatalSpec(MeasurerSpec):
    """Sets up `Fatal`."""

    def build(self, registry: Registry) -> VideoMeasurer:
        return Fatal(MeasurerSpec.build(self, registry).engine)
