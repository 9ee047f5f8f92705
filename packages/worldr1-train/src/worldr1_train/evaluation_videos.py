"""Generation of the videos of an evaluation, with the same prompts and seeds for every model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from worldr1_core.clip import Clip
from worldr1_core.noise import NoiseConditioner
from worldr1_core.pipeline import VideoPipeline, VideoRequest
from worldr1_core.seeding import derive_seed


@dataclass(frozen=True, slots=True)
class EvaluationVideos:
    """Generates the videos of an evaluation with the deterministic sampler of the policy.

    Attributes:
        pipeline: Pipeline that generates the videos.
        prompts: One prompt per video; a prompt may occur several times.
        seed: Seed of the run, from which the seed of each video is derived.
    """

    pipeline: VideoPipeline
    prompts: Sequence[str]
    seed: int

    def __len__(self) -> int:
        return len(self.prompts)

    def with_noise(self, conditioner: NoiseConditioner) -> EvaluationVideos:
        """Return the same videos with another noise conditioner."""
        return replace(self, pipeline=self.pipeline.with_noise(conditioner))

    def generate(self, indices: Sequence[int]) -> list[Clip]:
        """Generate videos by number, in one batch, with the current policy."""
        requests = [VideoRequest(self.prompts[index], derive_seed(self.seed, "evaluation", index)) for index in indices]
        made = self.pipeline.generate(requests, batch_size=len(requests))
        return [video.as_clip(f"test video {index}") for index, video in zip(indices, made, strict=True)]


def even_share(count: int, rank: int, num_processes: int) -> list[int]:
    """Return the numbers below `count` for a process, equally many on every process; 0 is repeated as padding.

    All processes gather sharded weights together, so all must call the denoisers equally often.

    Example:
        >>> [even_share(3, rank, num_processes=2) for rank in (0, 1)]
        [[0, 2], [1, 0]]
    """
    own = list(range(rank, count, num_processes))
    return own + [0] * (-(-count // num_processes) - len(own))
