"""The metric `vbench-package`: VBench's own figures, computed by its package in an environment of its own.

The package pins old versions of torch's ecosystem, so that it cannot be installed beside World-R1.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from pydantic import Field

from worldr1_core.clip import Clip
from worldr1_core.component import ComponentConfig
from worldr1_core.errors import ScoreUnavailable, UserError
from worldr1_core.reward import Reward, RewardInputs, Score
from worldr1_core.video_io import write_video
from worldr1_rewards.evaluation.columns import STILLNESS, Column
from worldr1_rewards.evaluation.vbench_dimensions import (
    DIMENSIONS,
    PAPER_DIMENSIONS,
    STILLNESS_DIMENSIONS,
    Dimension,
    vbench_column,
)
from worldr1_rewards.rewards import vbench_process

LAST_LINES = 3
"""Lines of vbench's messages that a failure quotes."""


def _column(dimension: Dimension) -> Column:
    label = f"VBench {dimension.replace('_', ' ')}"
    blind_to = STILLNESS if dimension in STILLNESS_DIMENSIONS else ()
    return Column(vbench_column(dimension), label, unit="%", scale=100, digits=2, blind_to=blind_to)


class VBenchPackageReward(Reward):
    """Mean of the chosen dimensions as the package vbench computes them, about in [0, 1], higher is better.

    A column per dimension, `vbench_subject_consistency` and so on. `python` is the interpreter of an environment with
    vbench, which needs nothing of World-R1. The clip is written as an MP4 file of high quality, the form that vbench
    reads, and measured in a process of its own: vbench loads its models for every video, so this is slow. It downloads
    weights on first use.
    """

    class Config(ComponentConfig):
        """Options of `vbench-package`."""

        python: str | None = Field(
            default=None,
            min_length=1,
            description="Python of an environment in which vbench is installed; null for that of this process.",
        )
        dimensions: list[Dimension] = Field(
            default_factory=lambda: list(PAPER_DIMENSIONS),
            min_length=1,
            description="Dimensions of VBench, as the package names them.",
        )
        timeout: float = Field(default=3600.0, gt=0, le=86400, description="Seconds for a clip.")
        crf: int = Field(default=4, ge=0, le=51, description="Quality of the MP4 file: 0 is the best.")

    columns: tuple[Column, ...] = tuple(map(_column, DIMENSIONS))
    config: Config

    def __init__(self, config: ComponentConfig | None = None, *, device: str = "cpu", **options: Any) -> None:
        super().__init__(config, device=device, **options)
        self.columns = tuple(map(_column, self.config.dimensions))

    def score(self, clip: Clip, inputs: RewardInputs) -> Score:
        """Score one clip.

        Raises:
            UserError: There is no such Python, or vbench is not installed for it.
            ScoreUnavailable: vbench failed, took too long, or gave no number; the reason quotes its last messages.
        """
        with tempfile.TemporaryDirectory(prefix="worldr1-vbench-") as folder:
            video = write_video(clip.video, Path(folder) / "video.mp4", crf=self.config.crf)
            found = self._run(video, clip.prompt, Path(folder) / "out")
        details = {vbench_column(name): found[name] for name in self.config.dimensions}
        return Score(sum(details.values()) / len(details), details=details)

    def _run(self, video: Path, prompt: str, out: Path) -> dict[str, float]:
        out.mkdir()
        python = self.config.python or sys.executable
        kind, _, index = self.device.partition(":")  # vbench knows "cuda", not "cuda:1"
        arguments = [str(video), prompt, kind, str(out), *self.config.dimensions]
        try:
            done = subprocess.run(
                [python, vbench_process.__file__, *arguments],
                cwd=out,  # vbench and what it imports leave files where they run
                env=self._environment(index),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=self.config.timeout,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise ScoreUnavailable(f"vbench took longer than {self.config.timeout:g} s") from error
        except OSError as error:
            raise UserError(
                f"vbench-package.python: {python!r} cannot be run: {error}. Give the Python of an environment with "
                "vbench."
            ) from error
        said = " / ".join(done.stderr.strip().splitlines()[-LAST_LINES:])
        if done.returncode == vbench_process.NOT_INSTALLED:
            raise UserError(
                f"vbench cannot be imported by {python!r}: {said}. Install it in an environment of its own and name "
                "its Python: uv venv --python 3.10 vbench-env; uv pip install --python vbench-env vbench; python: "
                "vbench-env/bin/python"
            )
        if done.returncode != 0:
            raise ScoreUnavailable(f"vbench failed with exit code {done.returncode}: {said}")
        scores: dict[str, float] = json.loads((out / "scores.json").read_text(encoding="utf-8"))
        return scores

    def _environment(self, index: str) -> dict[str, str]:
        """Environment variables: those of this process, without the ones that name its own packages."""
        own = () if self.config.python is None else ("PYTHONPATH", "PYTHONHOME")
        chosen = {"CUDA_VISIBLE_DEVICES": index} if index else {}
        return {**chosen, **{name: value for name, value in os.environ.items() if name not in own}}
