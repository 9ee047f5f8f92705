"""Diversity over seeds: the mean distance between videos of one prompt."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from worldr1_core.pipeline import VideoRequest
from worldr1_core.seeding import derive_seed
from worldr1_train.evaluation_videos import EvaluationVideos, even_share
from worldr1_train.held_out_section import DIVERSITY

_LEAST_SQUARE = 1e-12
"""Mean squared distance below which two videos count as equal."""


def seed_diversity(videos: Sequence[Tensor]) -> float:
    """Compute the mean root-mean-square distance between two different videos.

    The mean is taken over all pairs, so its expectation does not depend on the number of videos.

    Args:
        videos: At least two videos `(T, 3, H, W)` of the same shape, RGB in [0, 1].

    Returns:
        Distance in [0, 1]; 0 if all videos are identical.

    Example:
        >>> import torch
        >>> black, white = torch.zeros(2, 3, 4, 4), torch.ones(2, 3, 4, 4)
        >>> seed_diversity([black, white]), seed_diversity([black, black])
        (1.0, 0.0)
    """
    pairs = list(itertools.combinations(videos, 2))
    return sum(float((first - second).square().mean().sqrt()) for first, second in pairs) / len(pairs)


def distances_within_groups(videos: Tensor, groups: Sequence[object]) -> Tensor:
    """Compute each video's mean root-mean-square distance to the other videos of its group, with gradients.

    Args:
        videos: `(B, T, 3, H, W)` RGB in [0, 1].
        groups: Group of each video, e.g. its prompt.

    Returns:
        `(B,)` distances in [0, 1]; NaN for a video that is alone in its group. Their mean over a group is its
        `seed_diversity`.
    """
    values = videos.new_full((len(videos),), torch.nan)
    for group in dict.fromkeys(groups):
        rows = [row for row, own in enumerate(groups) if own == group]
        if len(rows) > 1:
            differences = videos[rows, None] - videos[None, rows]
            squares = differences.square().flatten(2).mean(2)
            distances = squares.clamp(min=_LEAST_SQUARE).sqrt()  # the slope of a square root at 0 is infinite
            others = ~torch.eye(len(rows), dtype=torch.bool, device=videos.device)
            mean = torch.where(others, distances, torch.zeros_like(distances)).sum(1) / (len(rows) - 1)
            values = values.index_put((torch.tensor(rows, device=videos.device),), mean)
    return values


@dataclass(frozen=True, slots=True)
class Diversity:
    """Diversity over seeds, one value per prompt, on additional videos with fixed seeds.

    Attributes:
        num_prompts: Number of distinct prompts, taken from the start of the evaluation prompts.
        num_seeds: Videos per prompt, at least 2.
        batch_size: Videos generated together.
    """

    name: ClassVar[str] = DIVERSITY
    num_prompts: int
    num_seeds: int
    batch_size: int

    def labels(self, videos: EvaluationVideos) -> list[str]:
        """Return the prompts."""
        return list(dict.fromkeys(videos.prompts))[: self.num_prompts]

    def measure(self, videos: EvaluationVideos, *, rank: int, num_processes: int) -> dict[int, float]:
        """Measure the prompts of this process; every process generates equally many videos."""
        prompts = self.labels(videos)
        own = even_share(len(prompts), rank, num_processes)
        requests = [
            VideoRequest(prompts[index], derive_seed(videos.seed, self.name, index, number))
            for index in own
            for number in range(self.num_seeds)
        ]
        made = videos.pipeline.generate(requests, batch_size=self.batch_size)
        return {
            index: seed_diversity([generated.video.frames for generated in itertools.islice(made, self.num_seeds)])
            for index in own
        }
