"""The meta-view reward: appearance of the recovered scene from viewpoints off the camera's path.

A video can look flawless while the scene it implies is a row of flat cards, because its own camera hides that. So the
reconstruction is drawn from a viewpoint off the path, and a vision-language model grades what it sees for fidelity to
the prompt and for soundness as structure (World-R1, arXiv 2604.24764, section 3: S_meta, a grade from 0 to 9, divided
by 9).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from worldr1_core.camera.vocabulary import strip_moves
from worldr1_core.clip import Clip
from worldr1_core.component import ComponentConfig
from worldr1_core.errors import PluginError, ScoreNotApplicable, ScoreUnavailable, UserError
from worldr1_core.judge import Judge, JudgeRequest, JudgeResult
from worldr1_core.reconstructor import Reconstruction
from worldr1_core.reward import Requirement, Reward, RewardInputs, Score
from worldr1_rewards.evaluation.columns import Column
from worldr1_rewards.judges.images import limit_pixels
from worldr1_rewards.judges.prompts import meta_view_question
from worldr1_rewards.rewards.path_agreement import translates
from worldr1_rewards.rewards.viewpoints import Viewpoint, rank_viewpoints, square_intrinsics

CHECKER_GREYS = (0.45, 0.55)


class MetaViewReward(Reward):
    """Grade of a view off the camera's path, in [0, 1], higher is better.

    A clip without parallax has no third dimension to look at. If its prompt commands the camera to travel, the score is
    exactly 0, so that a frozen camera does not avoid this reward. If the command is a pan or to stand still, or there
    is none, no parallax is expected, and the reward does not apply: a total leaves it out.

    A clip that shows the same few frames again and again has as much parallax as these have, and is graded by it.
    """

    requires: ClassVar[frozenset[Requirement]] = frozenset({Requirement.RECONSTRUCTION, Requirement.JUDGE})
    columns: ClassVar[tuple[Column, ...]] = (Column("meta_view", blind_to=("repeated",)),)

    class Config(ComponentConfig):
        """Options of the `meta-view` reward."""

        size: int = Field(
            512,
            ge=32,
            le=2048,
            description="Side of the square view in pixels; at most the clip's longer side is used.",
        )
        max_angle: float = Field(
            12.0, gt=0, le=90, description="Farthest viewpoint, in degrees of arc around the scene."
        )
        min_coverage: float = Field(
            0.6, gt=0, le=1, description="Least share of the view that the reconstruction accounts for."
        )

    config: Config

    def score(self, clip: Clip, inputs: RewardInputs) -> Score:
        """Score one clip; see `Reward.score`.

        Raises:
            ScoreUnavailable: No viewpoint is covered well enough, or the judge gave no grade.
            ScoreNotApplicable: The clip has no parallax, and no move that would cause it is commanded.
            UserError: No judge is configured.
        """
        (answer,) = self.score_batch([clip], [inputs])
        if isinstance(answer, Exception):
            raise answer
        assert isinstance(answer, Score)
        return answer

    def score_batch(self, clips: Sequence[Clip], inputs: Sequence[RewardInputs]) -> list[Score | float | Exception]:
        """Render every view, then ask the judge about all of them at once; see `Reward.score_batch`."""
        results: list[Score | float | Exception | None] = []
        views: dict[int, _View] = {}
        for index, (clip, given) in enumerate(zip(clips, inputs, strict=True)):
            try:
                prepared = self._prepare(clip, given)
            except Exception as error:  # noqa: BLE001 - returned to the scorer, which turns it into NaN with its reason
                results.append(error)
                continue
            results.append(prepared if isinstance(prepared, Score) else None)
            if isinstance(prepared, _View):
                views[index] = prepared
        for index, answer in _ask(views).items():
            results[index] = views[index].to_score(answer) if isinstance(answer, JudgeResult) else answer
        return [result for result in results if result is not None]

    def _prepare(self, clip: Clip, inputs: RewardInputs) -> _View | Score:
        """The view to grade, or the score where there is nothing to look at."""
        reconstruction, judge = _required(inputs)
        if not reconstruction.has_parallax:
            if clip.target is not None and translates(clip.target):
                return Score(
                    0.0, details={"earned": "a travelling camera was commanded, but the clip shows no parallax"}
                )
            raise ScoreNotApplicable(
                "The clip shows no parallax and no travelling camera is commanded, so there is no structure to look at."
            )
        size = clip.video.size
        ranked = rank_viewpoints(
            reconstruction, size, max_angle=self.config.max_angle, min_coverage=self.config.min_coverage
        )
        side = min(self.config.size, max(size))
        intrinsics = square_intrinsics(reconstruction, size, side)
        for viewpoint in ranked:
            picture, coverage = _draw(reconstruction, viewpoint, intrinsics, side)
            if coverage >= self.config.min_coverage:
                frame = clip.video.frames[viewpoint.frame]
                request = JudgeRequest(_side_by_side(frame, picture), meta_view_question(strip_moves(clip.prompt)))
                return _View(judge, request, viewpoint, coverage)
        raise ScoreUnavailable(
            f"No viewpoint off the camera's path is covered to {self.config.min_coverage:.0%} at {side}×{side} pixels."
        )


@dataclass(frozen=True, slots=True)
class _View:
    """Request to the judge about one clip."""

    judge: Judge
    request: JudgeRequest
    viewpoint: Viewpoint
    coverage: float

    def to_score(self, result: JudgeResult) -> Score:
        details: dict[str, Any] = {
            "c2w": self.viewpoint.c2w.tolist(),
            "frame": self.viewpoint.frame,
            "direction": self.viewpoint.direction,
            "angle": self.viewpoint.angle,
            "distance": self.viewpoint.distance,
            "coverage": self.coverage,
            "grade": result.score * 9,
            "mass": result.mass,
            "source": result.source,
        }
        return Score(result.score, details=details)


def _required(inputs: RewardInputs) -> tuple[Reconstruction, Judge]:
    if inputs.judge is None:
        raise UserError(
            "The meta-view reward needs a judge. Name one in the manifest, e.g. `judge: {name: transformers}`."
        )
    if inputs.reconstruction is None:
        raise UserError(
            "The meta-view reward needs a reconstruction. Name a reconstructor in the manifest, e.g. "
            "`reconstructor: {name: auto}`."
        )
    return inputs.reconstruction, inputs.judge


def _ask(views: dict[int, _View]) -> dict[int, JudgeResult | Exception]:
    """Grades by clip; clips that share a judge are asked about together."""
    answers: dict[int, JudgeResult | Exception] = {}
    judges = {id(view.judge): view.judge for view in views.values()}
    for judge in judges.values():
        indices = [index for index, view in views.items() if view.judge is judge]
        graded = judge.grade([views[index].request for index in indices])
        if len(graded) != len(indices):
            raise PluginError(
                f"Judge {type(judge).__name__} returned {len(graded)} results for {len(indices)} requests. "
                "grade must return one entry a question, in order."
            )
        answers.update(zip(indices, graded, strict=True))
    return answers


def _draw(reconstruction: Reconstruction, viewpoint: Viewpoint, intrinsics: Tensor, side: int) -> tuple[Tensor, float]:
    """The view `(3, side, side)` over a checkerboard where nothing is known, and its coverage in [0, 1]."""
    render = reconstruction.render(viewpoint.c2w[None], intrinsics, (side, side))
    coverage = torch.nan_to_num(render.coverage[0].float()).clamp(0, 1)
    picture = torch.where(coverage > 0, torch.nan_to_num(render.frames[0].float()).clamp(0, 1), 0.0)
    return picture * coverage + checkerboard(side).to(picture) * (1 - coverage), float(coverage.mean())


def checkerboard(side: int, squares: int = 32) -> Tensor:
    """Grey checkerboard `(3, side, side)` of `squares` squares a side: visibly no part of a scene."""
    index = torch.arange(side) * squares // side
    odd = (index[:, None] + index[None, :]) % 2 == 1
    dark, light = CHECKER_GREYS
    return torch.where(odd, light, dark).expand(3, side, side).clone()


def _side_by_side(frame: Tensor, picture: Tensor) -> Tensor:
    """Frame and view as one tensor `(2, 3, S, S)`: the frame is scaled to fit and centred on mid-grey."""
    side = picture.shape[-1]
    height, width = frame.shape[-2:]
    longest = max(height, width)
    fitted = (
        limit_pixels(frame[None], max(1, int(height * width * (side / longest) ** 2)))[0] if longest > side else frame
    )
    canvas = torch.full_like(picture, 0.5)
    top, left = (side - fitted.shape[-2]) // 2, (side - fitted.shape[-1]) // 2
    canvas[:, top : top + fitted.shape[-2], left : left + fitted.shape[-1]] = fitted.clamp(0, 1).to(picture)
    return torch.stack([canvas, picture])
