"""The rewards `path-rerender` and `camera-move-likelihood`: plane sweeps along the commanded path, no estimate.

They are the cheap stand-ins of `reconstruction` and `trajectory` for small models: no camera is estimated, so that they
grade clips that are too incoherent for any reconstructor, where training has to begin. Many clips are swept at once.
Both look at a reduced size; `worldr1_rewards.rewards.plane_sweep` is the geometry.
"""

from __future__ import annotations

import abc
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from worldr1_core.camera.trajectory import CameraTrajectory
from worldr1_core.camera.vocabulary import Move
from worldr1_core.clip import Clip
from worldr1_core.component import ComponentConfig
from worldr1_core.errors import ScoreNotApplicable, ScoreUnavailable, TrajectoryError
from worldr1_core.reward import BatchReward, RewardInputs, Score
from worldr1_rewards.rewards.camera_accuracy import check_sweepable
from worldr1_rewards.rewards.path_agreement import check_pose_count, require_target
from worldr1_rewards.rewards.plane_sweep import (
    WINDOW,
    fast_box_mean,
    normalise_local_contrast,
    sweep_error_maps,
    to_psnr,
)
from worldr1_rewards.rewards.single_moves import path_key, tried_paths
from worldr1_rewards.rewards.sweep_gradient import (
    Warps,
    bounded_power,
    choose_best_warps,
    choose_warps,
    join_warps,
    warped_errors,
)
from worldr1_rewards.rewards.sweep_grids import horizontal_shares

CELLS = 8
"""Places along the shorter side of the picture that are scored one by one."""


class _SweptReward(BatchReward):
    """A reward that grades clips of one size together, from their frames and commanded paths alone."""

    class Config(ComponentConfig):
        """Options that both have."""

        side: int = Field(64, ge=16, le=256, description="Shorter side in pixels at which clips are swept, at most.")
        contrast: Literal["any-direction", "along-path"] = Field(
            "any-direction",
            description="Structure that counts as contrast: all of it, or only what the commanded path displaces.",
        )

    config: Config

    @abc.abstractmethod
    def _grade(self, frames: Tensor, targets: Sequence[CameraTrajectory]) -> list[Score]:
        """Grade clips `(B, T, 3, H, W)` in [0, 1] whose B paths have the same intrinsics."""

    @abc.abstractmethod
    def _grade_frames(self, frames: Tensor, videos: Tensor, targets: Sequence[CameraTrajectory]) -> Tensor:
        """Values `(B,)` of the same, with a gradient in `frames`; depths are chosen on `videos`, of the same shape."""

    def score_batch(self, clips: Sequence[Clip], inputs: Sequence[RewardInputs]) -> list[Score | float | Exception]:
        """Score many clips, those of equal frames and intrinsics at once.

        A clip's entry is `ScoreNotApplicable` where no path is commanded, `ScoreUnavailable` where it is too short, too
        small, or shows nothing, and `TrajectoryError` where the path has another number of poses than it has frames.
        """
        results: dict[int, Score | Exception] = {}
        targets, failures = _targets(clips)
        results |= failures
        for indices in _group(clips, targets):
            frames = _shrink(self._stack_videos(clips, indices), self.config.side)
            scores = self._grade(frames, [targets[index] for index in indices])
            results |= zip(indices, scores, strict=True)
        return [results[index] for index in range(len(clips))]

    def score_frames(self, frames: Tensor, clips: Sequence[Clip], inputs: Sequence[RewardInputs]) -> Tensor:
        """Score many clips with a gradient in their frames; see `Reward.score_frames`.

        Raises:
            TrajectoryError: A path has another number of poses than its clip has frames.
        """
        targets, failures = _targets(clips)
        for failure in failures.values():
            if not isinstance(failure, ScoreUnavailable):
                raise failure
        scores = frames.new_full((len(clips),), math.nan)
        for indices in _group(clips, targets):
            own = _shrink(frames[indices].to(self.device), self.config.side)
            videos = _shrink(self._stack_videos(clips, indices), self.config.side)
            values = self._grade_frames(own, videos, [targets[index] for index in indices])
            scores[indices] = values.to(frames.device)
        return scores

    def _horizontal_share(self, frames: Tensor, targets: Sequence[CameraTrajectory]) -> Tensor | None:
        """`horizontal_share` of `normalise_local_contrast`; see the option `contrast`."""
        if self.config.contrast == "any-direction":
            return None
        size = frames.shape[-2], frames.shape[-1]
        return torch.stack([horizontal_shares(path, size) for path in targets])

    def _stack_videos(self, clips: Sequence[Clip], indices: Sequence[int]) -> Tensor:
        return torch.stack([clips[index].video.frames for index in indices]).float().to(self.device)


class PathRerenderReward(_SweptReward):
    """Agreement of the clip with a static scene seen along the commanded path, in [0, 1], higher is better.

    score = quality x gain. The quality is the mean of e0 / (e0 + e) over two errors of the re-render: the plain squared
    error of RGB in [0, 1], and that of pixels without local mean and contrast, which neither blur nor fading lowers.
    The gain, for a path that moves, is sqrt(1 - e / e_still), at least 0, where e_still is the error of a camera that
    rests: the correlation that belongs to the share of the change that the path explains. Depth is free, so a slower
    clip is explained as well, by a world that is farther away; but there is less change to explain, so it earns less,
    and a clip that stands still nothing.
    """

    class Config(_SweptReward.Config):
        """Options of `path-rerender`."""

        plain_error: float = Field(0.005, gt=0, le=1, description="Squared error of RGB that earns half.")
        normalised_error: float = Field(0.3, gt=0, le=10, description="Squared error of normalised pixels that does.")
        gain_power: float = Field(0.5, ge=0, le=1, description="Power of the explained share in the gain; 0: no gain.")

    config: Config

    def _grade(self, frames: Tensor, targets: Sequence[CameraTrajectory]) -> list[Score]:
        normal = normalise_local_contrast(frames, horizontal_share=self._horizontal_share(frames, targets))
        rests = _tried_beside(targets[0])[Move.FIXED] if self.config.gain_power else ()
        plain = _errors(frames, [[path] for path in targets])
        own = _errors(normal, [[path, *rests] for path in targets])
        scores = []
        for index, path in enumerate(targets):
            whole = self._parts(path, plain.whole[index, 0], *own.whole[index])
            quality, gain = self._parts(path, plain.maps[index, 0], *own.maps[index])
            details = {
                "plain_error": float(plain.whole[index, 0]),
                "normalised_error": float(own.whole[index, 0]),
                "gain": float(whole[1]),
            }
            scores.append(Score(float(whole[0] * whole[1]), details=details, spatial_map=quality * gain))
        return scores

    def _grade_frames(self, frames: Tensor, videos: Tensor, targets: Sequence[CameraTrajectory]) -> Tensor:
        share = self._horizontal_share(frames, targets)
        normal, normal_videos = (
            normalise_local_contrast(part, horizontal_share=share, box=fast_box_mean) for part in (frames, videos)
        )
        plain = warped_errors(frames, choose_warps(videos, targets))[:, 0]
        own = warped_errors(normal, choose_warps(normal_videos, targets))[:, 0]
        quality = self._quality(plain, own)
        moving = [index for index, path in enumerate(targets) if not path.rests]
        if not self.config.gain_power or not moving:
            return quality
        [rest] = _tried_beside(targets[0])[Move.FIXED]
        still = warped_errors(normal[moving], choose_warps(normal_videos[moving], [rest] * len(moving)))[:, 0]
        share = 1 - own[moving] / still.clamp(min=1e-9)
        return quality.index_put(
            (torch.tensor(moving),), quality[moving] * bounded_power(share, self.config.gain_power)
        )

    def _quality(self, plain: Tensor, own: Tensor) -> Tensor:
        return (
            self.config.plain_error / (self.config.plain_error + plain)
            + self.config.normalised_error / (self.config.normalised_error + own)
        ) / 2

    def _parts(
        self, path: CameraTrajectory, plain: Tensor, own: Tensor, still: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Quality and gain: of the plain error, the normalised one, and the normalised one of a camera that rests."""
        quality = self._quality(plain, own)
        if still is None or path.rests:
            return quality, torch.ones_like(own)
        return quality, (1 - own / still.clamp(min=1e-9)).clamp(min=0) ** self.config.gain_power


class CameraMoveLikelihoodReward(_SweptReward):
    """Likelihood of the commanded path against the nine single moves, in [0, 1].

    Every path is tried by plane sweep; the score is the logarithm of the commanded one's share in a softmax of their
    PSNR, scaled from [`lowest_log`, 0] to [0, 1]: 1 where no rival comes near, about 0.83 by default against one that
    explains the clip as well. Depth takes up how far a camera travels, but not how far it turns: a pan, commanded or a
    rival, counts as the one of several angles that explains the clip best. It is smooth where the metric
    `camera-accuracy` is yes or no.
    """

    class Config(_SweptReward.Config):
        """Options of `camera-move-likelihood`."""

        side: int = Field(32, ge=16, le=256, description="Shorter side in pixels at which clips are swept, at most.")
        temperature: float = Field(
            0.5, gt=0, le=20, description="Difference in dB that makes a rival e times less likely."
        )
        lowest_log: float = Field(
            -4.0, ge=-50, lt=0, description="Logarithm of the share that scores 0; below it there is no gradient."
        )

    config: Config

    def _grade(self, frames: Tensor, targets: Sequence[CameraTrajectory]) -> list[Score]:
        tried = _tried_beside(targets[0])
        moves = {path_key(path): move for move, paths in tried.items() for path in paths}
        candidates = []
        for path in targets:
            move = moves.get(path_key(path))
            own = (path,) if move is None else tried[move]
            candidates.append([own, *(paths for other, paths in tried.items() if other != move)])
        normal = normalise_local_contrast(frames, horizontal_share=self._horizontal_share(frames, targets))
        errors = _least_errors(normal, candidates)  # NaN beyond a clip's own candidates
        psnr = to_psnr(errors.whole)
        shares = self._log_shares(psnr)
        rival = psnr[:, 1:].nan_to_num(nan=-torch.inf).amax(1)
        return [
            Score(
                1 - max(self.config.lowest_log, float(share)) / self.config.lowest_log,
                details={"log_share": float(share), "margin": float(own - other)},
                spatial_map=map_,
            )
            for share, own, other, map_ in zip(
                shares[:, 0], psnr[:, 0], rival, self._contributions(errors, shares.exp()), strict=True
            )
        ]

    def _grade_frames(self, frames: Tensor, videos: Tensor, targets: Sequence[CameraTrajectory]) -> Tensor:
        tried = _tried_beside(targets[0])
        share = self._horizontal_share(frames, targets)
        normal, normal_videos = (
            normalise_local_contrast(part, horizontal_share=share, box=fast_box_mean) for part in (frames, videos)
        )
        moves = {path_key(path): rank for rank, paths in enumerate(tried.values()) for path in paths}
        own = [moves.get(path_key(path), len(tried)) for path in targets]
        warps = [choose_best_warps(normal_videos, paths) for paths in tried.values()]
        if len(tried) in own:
            warps.append(self._warps_of_others(normal_videos, targets, [rank == len(tried) for rank in own]))
        psnr = to_psnr(warped_errors(normal, join_warps(warps)))
        logits = psnr.nan_to_num(nan=-torch.inf) / self.config.temperature
        chosen = logits.log_softmax(1)[range(len(own)), own]
        return 1 - chosen.clamp(min=self.config.lowest_log) / self.config.lowest_log

    def _warps_of_others(self, images: Tensor, targets: Sequence[CameraTrajectory], other: Sequence[bool]) -> Warps:
        """Warps of the commanded paths that are none of the nine single moves; nothing is inside for the rest."""
        warps = choose_warps(images, targets)
        return Warps(warps.grid, warps.inside & torch.tensor(other, device=images.device).view(-1, 1, 1, 1, 1))

    def _log_shares(self, psnr: Tensor) -> Tensor:
        """Logarithms `(B, M)` of the candidates' shares, NaN where the commanded path is not known."""
        shares = (psnr.nan_to_num(nan=-torch.inf) / self.config.temperature).log_softmax(1)
        return torch.where(psnr[:, :1].isnan(), torch.nan, shares)

    def _contributions(self, errors: _Errors, shares: Tensor) -> Tensor:
        """What each place adds to the score or takes from it `(B, h, w)`, to first order: its mean is about 0.

        A place alone cannot tell a turn from a slide; but the difference that its errors make to those of the whole
        picture can be told.
        """
        relative = errors.maps / errors.whole[..., None, None]  # of each candidate's error
        rivals = (shares[..., None, None] * relative.nan_to_num(nan=1.0)).sum(1)
        return (rivals - relative[:, 0]) * (10 / math.log(10) / self.config.temperature / -self.config.lowest_log)


def _targets(clips: Sequence[Clip]) -> tuple[dict[int, CameraTrajectory], dict[int, Exception]]:
    """Commanded paths of the clips that can be swept, and why the others cannot, by the clips' indices."""
    targets: dict[int, CameraTrajectory] = {}
    failures: dict[int, Exception] = {}
    for index, clip in enumerate(clips):
        try:
            targets[index] = _target(clip)
        except (ScoreNotApplicable, ScoreUnavailable, TrajectoryError) as error:
            failures[index] = error
    return targets, failures


def _group(clips: Sequence[Clip], targets: Mapping[int, CameraTrajectory]) -> list[list[int]]:
    """Indices of clips with equal frames and intrinsics."""
    groups: dict[object, list[int]] = defaultdict(list)
    for index, target in targets.items():
        groups[tuple(clips[index].video.frames.shape), _intrinsics_key(target)].append(index)
    return list(groups.values())


def _target(clip: Clip) -> CameraTrajectory:
    """The commanded path with intrinsics, of a clip that can be swept."""
    target = require_target(clip)
    check_pose_count(target, clip.video.num_frames)
    check_sweepable(clip)
    if clip.intrinsics is not None:
        return replace(target, intrinsics=clip.intrinsics, image_size=clip.video.size)
    return target


def _tried_beside(path: CameraTrajectory) -> Mapping[Move, tuple[CameraTrajectory, ...]]:
    """What is tried beside a path: as many frames, the same intrinsics."""
    return tried_paths(path.num_frames, path.intrinsics, path.image_size)


def _shrink(frames: Tensor, side: int) -> Tensor:
    """Frames whose shorter side is at most `side`; areas are averaged."""
    height, width = frames.shape[-2:]
    ratio = side / min(height, width)
    if ratio >= 1:
        return frames
    size = max(WINDOW, round(height * ratio)), max(WINDOW, round(width * ratio))
    return functional.adaptive_avg_pool2d(frames.flatten(0, 1), size).unflatten(0, frames.shape[:2])


@dataclass(frozen=True, slots=True)
class _Errors:
    """Errors of B clips under at most M candidate paths, NaN where a clip has fewer or nothing is seen.

    Attributes:
        whole: `(B, M)` of the whole picture.
        maps: `(B, M, h, w)` of its places, `CELLS` along the shorter side, each averaged with its neighbours.
    """

    whole: Tensor
    maps: Tensor


def _errors(images: Tensor, candidates: Sequence[Sequence[CameraTrajectory]]) -> _Errors:
    """Errors of every clip under each of its own candidates; each path is swept once."""
    where: dict[bytes, list[tuple[int, int]]] = defaultdict(list)
    paths: dict[bytes, CameraTrajectory] = {}
    for index, own in enumerate(candidates):
        for rank, path in enumerate(own):
            key = path_key(path)
            paths[key] = path
            where[key].append((index, rank))
    shape = len(candidates), max(map(len, candidates))
    cell = min(images.shape[-2:]) / CELLS
    size = round(images.shape[-2] / cell), round(images.shape[-1] / cell)
    whole, maps = torch.full(shape, torch.nan), torch.full((*shape, *size), torch.nan)
    for key, entries in where.items():
        index, rank = torch.tensor(entries).T
        total, count = sweep_error_maps(images[index.to(images.device)], paths[key])
        whole[index, rank] = _mean(total.sum((1, 2)), count.sum((1, 2)))
        maps[index, rank] = _mean(_around(total, size), _around(count, size))
    return _Errors(whole, maps)


def _least_errors(images: Tensor, candidates: Sequence[Sequence[Sequence[CameraTrajectory]]]) -> _Errors:
    """Errors of every clip under the best path of each of its own candidates, as the whole picture has it."""
    tried = _errors(images, [[path for paths in own for path in paths] for own in candidates])
    shape = len(candidates), max(map(len, candidates))
    whole = torch.full(shape, torch.nan)
    maps = torch.full((*shape, *tried.maps.shape[2:]), torch.nan)
    for index, own in enumerate(candidates):
        sizes = [len(paths) for paths in own]
        parts = tried.whole[index, : sum(sizes)].nan_to_num(nan=torch.inf).split(sizes)
        best = [start + int(part.argmin()) for start, part in zip(accumulate(sizes, initial=0), parts, strict=False)]
        whole[index, : len(own)] = tried.whole[index, best]
        maps[index, : len(own)] = tried.maps[index, best]
    return _Errors(whole, maps)


def _mean(total: Tensor, count: Tensor) -> Tensor:
    return torch.where(count > 0, total / count.clamp(min=1e-9), torch.nan).float().cpu()


def _around(values: Tensor, size: tuple[int, int]) -> Tensor:
    """Means `(B, h, w)` of `(B, H, W)` over cells and the eight around them."""
    cells = functional.adaptive_avg_pool2d(values[:, None], size)
    return functional.avg_pool2d(cells, 3, 1, 1, count_include_pad=False)[:, 0]


def _intrinsics_key(path: CameraTrajectory) -> object:
    return None if path.intrinsics is None else (tuple(path.intrinsics.flatten().tolist()), path.image_size)
