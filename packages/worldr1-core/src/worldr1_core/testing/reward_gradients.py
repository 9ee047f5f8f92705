"""Contracts of `Reward.score_frames`: the value of `score`, and a gradient that agrees with finite differences.

The frames are moved beside the clips, whose videos stay. A reward that makes its choices on the clips' videos is then a
smooth function of the frames, so that central differences are those of the part that has a gradient.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional

from worldr1_core.errors import describe_exception
from worldr1_core.reward import Score
from worldr1_core.testing.clips import TrueReconstruction, flat_clip
from worldr1_core.testing.failures import UNAVAILABLE, CallFailed, CheckFailed, CheckSkipped
from worldr1_core.testing.isolation import with_frames
from worldr1_core.testing.report import Contract

if TYPE_CHECKING:
    from worldr1_core.testing.reward_contracts import RewardSubject, Sample

VALUE_TOLERANCE = 1e-5
"""Least relative or absolute difference from `score` that is allowed: sums in float32 depend on their order."""
STEP, FAR_STEP = 3e-4, 1.2e-3
"""Largest change of a pixel in finite differences; the change of the slope between both steps bounds its error."""
CLOSE_STEP = 3e-5
"""Step that decides where a gradient differs from the slope of `STEP`: kinks of the score lie beyond it, mostly."""
NUM_RANDOM_DIRECTIONS = 2
SLOPE_TOLERANCE = 0.1
"""Relative difference of slopes that is allowed: far below a missing term, far above kinks of absolute values."""
SETTLED = 0.3
"""Relative difference between the slopes of both steps above which a direction says nothing."""
ROUNDING = 8 * torch.finfo(torch.float32).eps
_GRAIN = 0.03
_PATCH = 8


def _require_gradient(subject: RewardSubject) -> None:
    if not subject.component.has_gradient:
        raise CheckSkipped("the reward has no gradient: it does not implement score_frames")


def _groups(samples: Sequence[Sample]) -> list[list[Sample]]:
    """Samples whose frames can be stacked."""
    groups: dict[object, list[Sample]] = defaultdict(list)
    for sample in samples:
        groups[tuple(sample.clip.video.frames.shape)].append(sample)
    return list(groups.values())


def _with_failing(samples: Sequence[Sample]) -> list[Sample]:
    """The samples, and the first one without a command, without words, and without anything to see."""
    first = samples[0]
    others = [replace(first.clip, target=None, prompt="", reference=None)]
    if isinstance(first.reconstruction, TrueReconstruction | None):
        # Other reconstructions hold the colours of the clip that they were made of, and would contradict the flat one.
        frames = flat_clip(num_frames=first.clip.video.num_frames, size=first.clip.video.size).video.frames
        others.append(with_frames(first.clip, frames))
    return [*samples, *(replace(first, clip=clip) for clip in others)]


def _stack(samples: Sequence[Sample]) -> Tensor:
    return torch.stack([sample.clip.video.frames for sample in samples]).clone()


def _evaluate(subject: RewardSubject, frames: Tensor, samples: Sequence[Sample]) -> Tensor:
    """Values `(B,)` of `score_frames`, held to its form."""
    clips, inputs = [sample.clip for sample in samples], [sample.inputs(subject.requires) for sample in samples]
    try:
        values = subject.component.score_frames(frames, clips, inputs)
    except UNAVAILABLE:
        raise
    except Exception as error:
        raise CallFailed(f"score_frames raised {describe_exception(error)}") from error
    if not isinstance(values, Tensor) or values.shape != (len(samples),) or values.dtype != torch.float32:
        form = f"{tuple(values.shape)} {values.dtype}" if isinstance(values, Tensor) else repr(values)
        raise CallFailed(
            f"score_frames returned {form} for {len(samples)} clips; expected ({len(samples)},) float32",
            why="an objective weighs the values by position",
            fix="return one float32 value per clip, in order; NaN where score raises ScoreUnavailable",
        )
    return values


def _value(subject: RewardSubject) -> None:
    _require_gradient(subject)
    for samples in _groups(_with_failing(subject.samples)):
        frames = _stack(samples)
        before = frames.clone()
        values = _evaluate(subject, frames, samples).detach()
        if not torch.equal(frames, before):
            raise CheckFailed("score_frames wrote into the frames")
        for sample, value in zip(samples, values.tolist(), strict=True):
            expected = subject.score(sample)
            if not _agree(expected, value, max(subject.tolerance, VALUE_TOLERANCE)):
                shown = f"{expected.value} ({expected.reason})" if expected.reason else f"{expected.value}"
                raise CheckFailed(f"{sample.clip.name!r}: score gives {shown}, score_frames {value}")


def _agree(expected: Score, value: float, tolerance: float) -> bool:
    if expected.reason is not None or value != value:
        return expected.reason is not None and value != value
    return abs(expected.value - value) <= tolerance * max(1.0, abs(expected.value))


def _finite(subject: RewardSubject) -> None:
    _require_gradient(subject)
    steepest = 0.0
    for samples in _groups(_with_failing(subject.samples)):
        frames = _stack(samples).requires_grad_()
        values = _evaluate(subject, frames, samples)
        known = (~values.isnan()).nonzero().flatten().tolist()
        if not known:
            continue
        _require_dependence(values, frames)
        gradient = _gradient(values.nansum(), frames)
        alone = _gradient(values[known[-1]], frames)
        for index, sample in enumerate(samples):
            if not bool(torch.isfinite(gradient[index]).all()):
                raise CheckFailed(f"the gradient of {sample.clip.name!r} holds values that are not finite")
            if index not in known and bool(gradient[index].any()):
                raise CheckFailed(f"{sample.clip.name!r} has no score, but a gradient")
            if index != known[-1] and bool(alone[index].any()):
                raise CheckFailed(f"the score of {samples[known[-1]].clip.name!r} changes with {sample.clip.name!r}")
        steepest = max(steepest, float(gradient.abs().max()))
    if steepest == 0:
        raise CheckFailed("the gradient is 0 on every clip")


def _require_dependence(values: Tensor, frames: Tensor) -> None:
    if not values.requires_grad:
        seen = (
            "the result of score_frames has no gradient (requires_grad is False): it was detached, or computed under "
            "torch.no_grad or from numpy values"
        )
    elif torch.autograd.grad(values.nansum(), frames, retain_graph=True, allow_unused=True)[0] is None:
        seen = (
            "the result of score_frames has a gradient, but none in its argument `frames`: they were detached on the "
            "way, or clip.video.frames were read in their place"
        )
    else:
        return
    raise CheckFailed(
        seen,
        why="objectives that differentiate the rewards would learn nothing from it",
        fix="compute the score from the argument `frames` with torch operations alone: no detach(), item(), numpy() or "
        "torch.no_grad on the way to the result",
    )


def _gradient(value: Tensor, frames: Tensor) -> Tensor:
    [gradient] = torch.autograd.grad(value, frames, retain_graph=True, allow_unused=True)
    return torch.zeros_like(frames) if gradient is None else gradient


def _differences(subject: RewardSubject) -> None:
    _require_gradient(subject)
    for samples in _groups([_grainy(sample, seed) for seed, sample in enumerate(subject.samples)]):
        frames = _stack(samples).requires_grad_()
        values = _evaluate(subject, frames, samples)
        if not values.requires_grad or bool(values.isnan().all()):
            continue  # judged by other checks
        gradient = _gradient(values.nansum(), frames)
        directions = [_largest_is_one(gradient), *_random_directions(frames)]
        settled = [
            _compare_slopes(subject, samples, frames.detach(), direction, gradient, values.detach())
            for direction in directions
        ]
        if not any(settled):
            raise CheckFailed("finite differences depend on the step in every direction: the score jumps")


def _grainy(sample: Sample, seed: int) -> Sample:
    """The sample off the bounds of [0, 1], with grain, so that no score is at its own bound by perfection."""
    frames = sample.clip.video.frames
    grain = torch.randn(frames.shape, generator=torch.Generator().manual_seed(seed))
    return replace(sample, clip=with_frames(sample.clip, (0.1 + 0.8 * frames + _GRAIN * grain).clamp(0.02, 0.98)))


def _random_directions(frames: Tensor) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    batch, num_frames, channels, height, width = frames.shape
    coarse = [max(2, round(side / _PATCH)) for side in (height, width)]
    directions = []
    for _ in range(NUM_RANDOM_DIRECTIONS):
        drawn = torch.randn(batch * num_frames, channels, *coarse, generator=generator)
        smooth = functional.interpolate(drawn, (height, width), mode="bilinear", align_corners=True)
        directions.append(_largest_is_one(smooth.view(frames.shape)))
    return directions


def _largest_is_one(direction: Tensor) -> Tensor:
    """Clip by clip, a direction scaled to a largest change of 1."""
    return direction / direction.abs().amax((1, 2, 3, 4), keepdim=True).clamp(min=1e-30)


def _compare_slopes(
    subject: RewardSubject, samples: Sequence[Sample], frames: Tensor, direction: Tensor, gradient: Tensor, at: Tensor
) -> bool:
    """Compare the slopes along a direction with those of both steps; whether any clip's slope is settled.

    Raises:
        CheckFailed: A settled slope differs from that of the gradient.
    """
    claimed = (gradient * direction).sum((1, 2, 3, 4))
    near, far = (_slopes(subject, samples, frames, direction, step) for step in (STEP, FAR_STEP))
    noise = ROUNDING * at.abs().clamp(min=1e-3) / STEP
    size = torch.maximum(near.abs(), claimed.abs())
    change = (far - near).abs()
    settled = change <= SETTLED * near.abs() + noise
    wrong = settled & ((near - claimed).abs() > SLOPE_TOLERANCE * size + change + noise)
    if bool(wrong.any()):  # or the score has a kink within the step, where another frame or pixel becomes the largest
        close, rounding = _slopes(subject, samples, frames, direction, CLOSE_STEP), noise * STEP / CLOSE_STEP
        tolerance = SLOPE_TOLERANCE * torch.maximum(close.abs(), claimed.abs())
        wrong = wrong & ((rounding > tolerance) | ((close - claimed).abs() > tolerance + rounding))
    if bool(wrong.any()):
        index = int(wrong.nonzero()[0])
        raise CheckFailed(
            f"{samples[index].clip.name!r}: the gradient gives a slope of {float(claimed[index]):.4g}, "
            f"finite differences give {float(near[index]):.4g}"
        )
    return bool(settled.any())


@torch.no_grad()
def _slopes(
    subject: RewardSubject, samples: Sequence[Sample], frames: Tensor, direction: Tensor, step: float
) -> Tensor:
    up, down = (_evaluate(subject, frames + sign * step * direction, samples) for sign in (1, -1))
    return (up - down) / (2 * step)


GRADIENT_CONTRACTS: list[Contract[RewardSubject]] = [
    Contract(
        "gradient-value",
        "training would raise another number than the one that is reported",
        "compute what score computes; return NaN where it raises ScoreUnavailable, see worldr1_core.reward.score_each",
        _value,
    ),
    Contract(
        "gradient-finite",
        "one NaN in a gradient destroys the weights, and a gradient of 0 teaches nothing",
        "keep roots, divisions and logarithms away from 0 before torch.where; let no clip influence another; pass "
        "clips=[…] on which the score changes with the frames",
        _finite,
    ),
    Contract(
        "gradient-differences",
        "a gradient that points elsewhere lowers the score that it should raise",
        "detach nothing that the score depends on, except choices; make these on the clips' own videos",
        _differences,
    ),
]
"""What is promised of a reward with `has_gradient`."""
