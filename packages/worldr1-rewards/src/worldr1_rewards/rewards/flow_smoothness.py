"""The metric `flow-smoothness`: how well every second frame follows from its neighbours by optical flow.

It stands in for VBench's motion smoothness, whose interpolation model (AMT) is licensed for noncommercial use and has
no package. The idea is the same, the figures are not: the neighbours are warped half-way along their optical flow
(RAFT, Teed and Deng, 2020, from torchvision) and averaged. VBench's own figure can be computed by the vbench package in
its own environment.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from worldr1_core.clip import Clip
from worldr1_core.errors import ScoreUnavailable
from worldr1_core.reward import Reward, RewardInputs, Score
from worldr1_core.weights_source import WeightsSource
from worldr1_rewards.evaluation.columns import STILLNESS, Column
from worldr1_rewards.pretrained import LOADING_ERRORS

MIN_SIDE = 128
"""Smallest side that RAFT accepts; smaller frames are enlarged for the flow."""

Flow = Callable[[Tensor, Tensor], Tensor]
"""Optical flow `(N, 2, H, W)` in pixels from the first images to the second ones, `(N, 3, H, W)` in [0, 1]."""


def interpolate_middle(before: Tensor, after: Tensor, flow: Flow) -> Tensor:
    """Predict the frames half-way between others.

    Args:
        before: `(N, 3, H, W)` RGB in [0, 1].
        after: The same shape.
        flow: Optical flow.

    Returns:
        `(N, 3, H, W)`: mean of both sides, each warped half-way.
    """
    forward, backward = flow(before, after), flow(after, before)
    # A pixel in the middle came from half the motion before it, and goes to half the motion after it.
    return (_warp(before, 0.5 * backward) + _warp(after, 0.5 * forward)) / 2


class FlowSmoothnessReward(Reward):
    """1 - mean absolute error of every second frame predicted from its neighbours, in [0, 1], higher is better.

    It prefers stillness and blur. Needs torchvision's RAFT weights, which are downloaded on first use.
    """

    columns: ClassVar[tuple[Column, ...]] = (
        Column("flow_smoothness", "Flow smoothness", unit="%", scale=100, digits=2, blind_to=STILLNESS),
    )
    _loaded: Flow | None = None

    def score(self, clip: Clip, inputs: RewardInputs) -> Score:
        """Score one clip.

        Raises:
            ScoreUnavailable: The clip has fewer than three frames.
            WeightsError: The weights are missing.
        """
        frames = clip.video.frames
        if len(frames) < 3:
            raise ScoreUnavailable(f"needs 3 frames, received {len(frames)}: no frame lies between others")
        flow = self._flow()
        errors = []
        with torch.inference_mode():
            for middle in range(1, len(frames) - 1, 2):
                before, target, after = (frames[i, None].to(self.device) for i in (middle - 1, middle, middle + 1))
                predicted = interpolate_middle(before, after, flow)
                errors.append(float((predicted - target).abs().double().mean()))
        return Score(1 - sum(errors) / len(errors))

    def _flow(self) -> Flow:
        if self._loaded is None:
            self._loaded = _raft(self.device)
        return self._loaded


def _raft(device: str) -> Flow:
    """RAFT (small) of torchvision.

    Raises:
        WeightsError: The weights are missing.
    """
    from torchvision.models.optical_flow import Raft_Small_Weights, raft_small

    weights = Raft_Small_Weights.C_T_V2
    try:
        with contextlib.redirect_stdout(sys.stderr):
            model: Any = raft_small(weights=weights, progress=False).eval().to(device)
    except LOADING_ERRORS as error:
        raise WeightsSource(weights.url).fail("torchvision's RAFT", error) from error

    def flow(first: Tensor, second: Tensor) -> Tensor:
        height, width = first.shape[-2:]
        size = [max(MIN_SIDE, -(-length // 8) * 8) for length in (height, width)]
        pair = [
            2 * functional.interpolate(images, size=size, mode="bilinear", align_corners=False) - 1
            for images in (first, second)
        ]
        found = model(*pair)[-1]
        scaled = functional.interpolate(found, size=(height, width), mode="bilinear", align_corners=False)
        return scaled * scaled.new_tensor([width / size[1], height / size[0]])[:, None, None]

    return flow


def _warp(images: Tensor, flow: Tensor) -> Tensor:
    """Images looked up at every pixel plus the flow."""
    height, width = images.shape[-2:]
    y, x = torch.meshgrid(
        torch.arange(height, device=images.device) + 0.5, torch.arange(width, device=images.device) + 0.5, indexing="ij"
    )
    grid = torch.stack([2 * (x + flow[:, 0]) / width - 1, 2 * (y + flow[:, 1]) / height - 1], dim=-1)
    return functional.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)
