"""Every contract of `worldr1_core.noise.NoiseConditioner`, as checks on what it draws."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from worldr1_core.backbone import LatentGeometry
from worldr1_core.camera.trajectory import CameraTrajectory
from worldr1_core.camera.vocabulary import Move, trajectory_from_prompt
from worldr1_core.errors import TrajectoryError, describe_exception
from worldr1_core.noise import InitialNoise, NoiseConditioner, NoiseRequest
from worldr1_core.testing import isolation
from worldr1_core.testing.failures import CallFailed, CheckFailed, CheckSkipped, checking
from worldr1_core.testing.report import Contract
from worldr1_core.testing.subject import COMPONENT_CONTRACTS, Subject

STANDARD = LatentGeometry(4, 3, 14, 18, 9, 56, 72, 4, 4)
GEOMETRIES = (
    STANDARD,
    LatentGeometry(1, 1, 5, 3, 1, 40, 24, 4, 8),
    LatentGeometry(3, 2, 8, 8, 5, 64, 64, 4, 8, leading_padding=1),
    LatentGeometry(2, 4, 6, 9, 4, 24, 36, 1, 4),
)
"""One frame, odd sides, upright, padded in front, no temporal stride."""
PROMPTS = ("A quiet harbour.", "Camera push in, then pan left. A quiet harbour.", "Camera fixed. A quiet harbour.")
NUM_SEEDS = 24
REACH = 2
"""Largest spatial lag of the whiteness check, in latent pixels."""
MAX_Z = 5.5
"""Standard errors that a statistic may be off: 4 in 100 million for one, once in some ten thousand runs of the
check."""
MAX_KS = 2.7
"""Kolmogorov-Smirnov distance times root n: exceeded once in a million."""


class NoiseSubject(Subject[NoiseConditioner]):
    """A noise conditioner, and its noise for many seeds."""

    def __init__(self, given: Any, options: Mapping[str, Any] | None) -> None:
        super().__init__(given, NoiseConditioner, options, "cpu")

    def draw(
        self, prompt: str = PROMPTS[1], seed: int = 0, geometry: LatentGeometry = STANDARD, **motion: Any
    ) -> InitialNoise:
        """One answer.

        Raises:
            CallFailed: It is no `InitialNoise`.
        """
        noise: object = self.component.initial_noise(NoiseRequest(geometry, prompt, seed, **motion))
        if not isinstance(noise, InitialNoise):
            raise CallFailed(
                f"initial_noise returned {type(noise).__name__}", fix="return an InitialNoise from initial_noise"
            )
        return noise

    @functools.cached_property
    def many(self) -> dict[str, Tensor]:
        """Prompt -> latents `(S, C, T, H, W)` of `NUM_SEEDS` seeds."""
        return {
            prompt: torch.stack([self.draw(prompt, seed).latents for seed in range(NUM_SEEDS)]) for prompt in PROMPTS
        }

    @property
    def follows_prompts(self) -> bool:
        """True if camera words change the noise."""
        first, second = self.draw(PROMPTS[0]), self.draw(PROMPTS[1])
        return not torch.equal(first.latents, second.latents) or second.step_delta is not None


def _shape_and_type(subject: NoiseSubject) -> None:
    subject.draw()  # an exception here is not about the shape of the latent
    for geometry in GEOMETRIES:
        prompt = PROMPTS[1] if geometry.video_frames > 2 else PROMPTS[2] if geometry.video_frames > 1 else PROMPTS[0]
        with checking(f"a latent of {geometry.shape}"):
            noise = subject.draw(prompt, geometry=geometry)
        for name, value in (("latents", noise.latents), ("step_delta", noise.step_delta)):
            if value is None and name == "step_delta":
                continue
            if not isinstance(value, Tensor) or tuple(value.shape) != geometry.shape:
                received = tuple(value.shape) if isinstance(value, Tensor) else value
                raise CheckFailed(f"{name} is {received!r}; the latent is {geometry.shape} (C, padding + T, H, W)")
            if value.dtype != torch.float32 or value.device.type != "cpu":
                raise CheckFailed(f"{name} is {value.dtype} on {value.device}; it must be float32 on the CPU")
            if not bool(value.isfinite().all()):
                raise CheckFailed(f"{name} holds NaN or infinite values at {geometry}")


def _standard_normal(subject: NoiseSubject) -> None:
    for prompt, latents in subject.many.items():
        for frame in range(latents.shape[2]):
            distance = _ks_distance(latents[:, :, frame])
            if distance > MAX_KS:
                values = latents[:, :, frame]
                raise CheckFailed(
                    f"{prompt!r}: frame {frame} over {NUM_SEEDS} seeds has mean {float(values.mean()):.4f}, std "
                    f"{float(values.std()):.4f}; its Kolmogorov-Smirnov distance from N(0, 1) is {distance:.1f} / root "
                    f"n, allowed {MAX_KS}"
                )


def _ks_distance(values: Tensor) -> float:
    """Largest distance between the values' distribution and N(0, 1), times the root of their number."""
    ordered = values.flatten().double().sort().values
    count = len(ordered)
    cdf = torch.special.ndtr(ordered)
    steps = torch.arange(count + 1, dtype=torch.float64) / count
    return float(torch.maximum(steps[1:] - cdf, cdf - steps[:-1]).max()) * math.sqrt(count)


def _white(subject: NoiseSubject) -> None:
    for prompt, latents in subject.many.items():
        for frame in range(latents.shape[2]):
            fields = latents[:, :, frame]
            for down, right, score in _lag_scores(fields):
                _judge(score, f"{prompt!r}: in frame {frame}, pixels {down} rows and {right} columns apart")


def _lag_scores(fields: Tensor) -> list[tuple[int, int, float]]:
    """(rows, columns, mean product in standard errors) of all lags up to `REACH`; `fields` is `(..., H, W)`."""
    height, width = fields.shape[-2:]
    scores = []
    for down in range(min(REACH, height - 1) + 1):
        for right in range(-REACH if down else 1, REACH + 1):
            first = fields[..., : height - down, max(0, -right) : width - max(0, right)]
            second = fields[..., down:, max(0, right) : width - max(0, -right)]
            scores.append((down, right, float((first * second).sum()) / math.sqrt(first.numel())))
    return scores


def _channels_independent(subject: NoiseSubject) -> None:
    for prompt, latents in subject.many.items():
        for one in range(latents.shape[1]):
            for other in range(one + 1, latents.shape[1]):
                for frame in range(latents.shape[2]):
                    first, second = latents[:, one, frame], latents[:, other, frame]
                    score = float((first * second).sum()) / math.sqrt(first.numel())
                    _judge(score, f"{prompt!r}: in frame {frame}, channels {one} and {other}")


def _judge(score: float, what: str) -> None:
    if not abs(score) <= MAX_Z:
        raise CheckFailed(f"{what} are correlated: {score:.1f} standard errors from 0, allowed {MAX_Z}")


def _seeds_reproduce(subject: NoiseSubject) -> None:
    fresh = subject.fresh()
    for seed, prompt in enumerate(PROMPTS):
        first = subject.draw(prompt, seed)
        subject.draw(PROMPTS[1], 99)
        with isolation.seeded(5):
            again = [subject.draw(prompt, seed), fresh.initial_noise(NoiseRequest(STANDARD, prompt, seed))]
        for other in again:
            if not torch.equal(first.latents, other.latents) or not _same(first.step_delta, other.step_delta):
                raise CheckFailed(f"{prompt!r}: seed {seed} gave other noise the second time")


def _same(first: Tensor | None, second: Tensor | None) -> bool:
    if first is None or second is None:
        return first is second
    return torch.equal(first, second)


def _seeds_differ(subject: NoiseSubject) -> None:
    for prompt, latents in subject.many.items():
        for one in range(4):
            for other in range(one + 1, 4):
                first, second = latents[one], latents[other]
                for frame in range(first.shape[1]):
                    score = float((first[:, frame] * second[:, frame]).sum()) / math.sqrt(first[:, frame].numel())
                    _judge(score, f"{prompt!r}: seeds {one} and {other} in frame {frame}")


def _step_injection(subject: NoiseSubject) -> None:
    for prompt in PROMPTS:
        noise = subject.draw(prompt)
        weights: object = noise.step_weights
        if not isinstance(weights, tuple) or not all(isinstance(w, float) and math.isfinite(w) for w in weights):
            raise CheckFailed(f"step_weights is {weights!r}; it must be a tuple of finite floats")
        if (noise.step_delta is None) != (not weights):
            delta = "no step_delta" if noise.step_delta is None else "a step_delta"
            raise CheckFailed(f"{prompt!r}: {delta} goes with step_weights {weights!r}")


def _returns_path(subject: NoiseSubject) -> None:
    if not subject.follows_prompts:
        raise CheckSkipped("the noise does not depend on camera words")
    for move in Move:
        prompt = f"Camera {move.phrase}. A quiet harbour."
        path: object = subject.draw(prompt).trajectory
        if not isinstance(path, CameraTrajectory):
            raise CheckFailed(f"{prompt!r} changes the noise, and the trajectory is {path!r}")
        if path.num_frames != STANDARD.video_frames:
            raise CheckFailed(
                f"{prompt!r}: the trajectory has {path.num_frames} poses, the video {STANDARD.video_frames}"
            )


def _path_length(subject: NoiseSubject) -> None:
    if not subject.follows_prompts:
        raise CheckSkipped("the noise does not depend on camera words")
    path = _path(STANDARD.video_frames + 4)
    try:
        subject.draw(trajectory=path)
    except TrajectoryError:
        return
    except Exception as error:
        raise CheckFailed(f"a trajectory of {path.num_frames} poses raised {describe_exception(error)}") from error
    raise CheckFailed(
        f"a trajectory of {path.num_frames} poses was accepted for a video of {STANDARD.video_frames} frames"
    )


def _path(num_frames: int) -> CameraTrajectory:
    path = trajectory_from_prompt(PROMPTS[1], num_frames, (STANDARD.video_height, STANDARD.video_width))
    if path is None:
        raise AssertionError("the prompt holds camera words")
    return path


def _input_unchanged(subject: NoiseSubject) -> None:
    frame = (STANDARD.video_height, STANDARD.video_width)
    path = _path(STANDARD.video_frames)
    flow, depth = torch.full((STANDARD.video_frames - 1, 2, *frame), 0.5), torch.full((9, *frame), 1000.0)
    isolation.check_unchanged({"trajectory.c2w": path.c2w}, lambda: subject.draw(trajectory=path))
    isolation.check_unchanged({"flow": flow}, lambda: subject.draw(flow=flow))
    isolation.check_unchanged({"depth": depth}, lambda: subject.draw(depth=depth))


def _draw_all(subject: NoiseSubject) -> None:
    for prompt in PROMPTS:
        subject.draw(prompt)


NOISE_CONTRACTS: list[Contract[NoiseSubject]] = [
    *COMPONENT_CONTRACTS,
    Contract(
        "shape-and-type",
        "the pipeline is given the latents as they are",
        "draw (C, num_frames, H, W) float32 on the CPU; the base class adds frames that only pad",
        _shape_and_type,
    ),
    Contract(
        "standard-normal",
        "the model was trained on N(0, 1); another distribution gives washed-out or burnt videos",
        "divide sums by the root of their number; mix as (a x + b y) / sqrt(a^2 + b^2)",
        _standard_normal,
    ),
    Contract(
        "white",
        "neighbouring pixels that agree are seen by the model as blobs and blur",
        "let no source pixel enter two pixels of one frame; never interpolate noise",
        _white,
    ),
    Contract(
        "channels-independent",
        "correlated channels shift colours and contrast",
        "draw every channel on its own",
        _channels_independent,
    ),
    Contract(
        "seeds-reproduce",
        "the same command must make the same video",
        "draw from the generator that is handed over, and keep no state between requests",
        _seeds_reproduce,
    ),
    Contract(
        "seeds-differ",
        "two seeds that share noise make two similar videos",
        "draw from the generator that is handed over",
        _seeds_differ,
    ),
    Contract(
        "step-injection",
        "the sampler adds step_delta with step_weights; one without the other is lost in silence",
        "return both or neither",
        _step_injection,
    ),
    Contract(
        "returns-path",
        "rewards and the JSON beside a video need the path that was commanded",
        "return the trajectory of the video's frames in InitialNoise",
        _returns_path,
    ),
    Contract(
        "path-length",
        "a path that is cut or stretched in silence is another path",
        "raise TrajectoryError where a trajectory has another length than the video",
        _path_length,
    ),
    Contract(
        "input-unchanged",
        "one path serves many requests",
        "work on copies; avoid in-place operations",
        _input_unchanged,
    ),
    Contract(
        "leaves-random-state",
        "noise is drawn within a training loop; moving the global generator changes everything after it",
        "use the generator that is handed over",
        lambda subject: isolation.check_leaves_random_state(lambda: _draw_all(subject)),
    ),
    Contract(
        "prints-nothing",
        "stdout holds JSON lines that other programs read",
        "log with worldr1_core.log.get_logger",
        lambda subject: isolation.check_prints_nothing(lambda: _draw_all(subject)),
    ),
]
"""All contracts of a noise conditioner."""
