"""A view of the reconstruction from off the camera's path, where a flat scene shows that it is flat."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from worldr1_core.errors import ScoreUnavailable, UserError
from worldr1_core.log import get_logger
from worldr1_core.reconstructor import Reconstruction
from worldr1_core.scoring import ClipScores
from worldr1_rewards.report.pictures import with_holes
from worldr1_rewards.report.views import MIN_COVERAGE
from worldr1_rewards.rewards.viewpoints import Viewpoint, rank_viewpoints, square_intrinsics

log = get_logger(__name__)

SIDE = 320
"""Side of the picture in pixels at most."""
MAX_ANGLE, LEAST_COVERAGE = 12.0, 0.4
"""Limits of the view that is drawn if the `meta-view` reward has chosen none: degrees of arc, and least coverage."""
_KEYS = ("c2w", "frame", "direction", "angle", "distance", "coverage")


@dataclass(frozen=True, slots=True)
class OffPathView:
    """A view off the path.

    Attributes:
        picture: `(3, S, S)` RGB in [0, 1], with a grey chequerboard where the reconstruction shows nothing.
        viewpoint: Where it was taken from.
        is_graded: Whether the `meta-view` reward has shown this view to its judge.
    """

    picture: Tensor
    viewpoint: Viewpoint
    is_graded: bool

    @property
    def words(self) -> str:
        """Viewpoint in words."""
        side = "above" if self.viewpoint.direction == "up" else f"to the {self.viewpoint.direction} of"
        graded = ", as the judge of meta-view saw it" if self.is_graded else ""
        return f"{self.viewpoint.angle:g}° {side} frame {self.viewpoint.frame}{graded}"


def off_path_view(result: ClipScores) -> OffPathView:
    """Draw the view that the `meta-view` reward has graded, or else the most revealing one.

    Args:
        result: From `worldr1_rewards.scoring.Scorer.score`.

    Raises:
        ScoreUnavailable: There is no reconstruction or no parallax, no view shows enough, or the renderer fails; the
            message says which.
        UserError: The reconstruction cannot render for any clip (absent weights or extra).
    """
    reconstruction = result.reconstruction
    if reconstruction is None:
        raise ScoreUnavailable("there is no reconstruction of this clip")
    if not reconstruction.has_parallax:
        raise ScoreUnavailable("the camera does not travel, so that there is no other side to look at")
    try:
        return _view(result, reconstruction)
    except (UserError, ScoreUnavailable):
        raise
    except Exception as error:
        log.warning("view off the path failed", clip=result.clip.name, exc_info=True)
        raise ScoreUnavailable(f"the renderer failed: {type(error).__name__}: {error}") from error


def _view(result: ClipScores, reconstruction: Reconstruction) -> OffPathView:
    size = result.clip.video.size
    graded = _graded_viewpoint(result)
    viewpoint = graded or _best_viewpoint(reconstruction, size)
    side = min(SIDE, max(size))
    intrinsics = square_intrinsics(reconstruction, size, side)
    render = reconstruction.render(viewpoint.c2w[None], intrinsics, (side, side))
    coverage = torch.nan_to_num(render.coverage.detach().cpu().float()).clamp(0, 1)
    picture = torch.nan_to_num(render.frames.detach().cpu().float()).clamp(0, 1)
    return OffPathView(with_holes(picture, coverage < MIN_COVERAGE)[0], viewpoint, graded is not None)


def _best_viewpoint(reconstruction: Reconstruction, size: tuple[int, int]) -> Viewpoint:
    return rank_viewpoints(reconstruction, size, max_angle=MAX_ANGLE, min_coverage=LEAST_COVERAGE)[0]


def _graded_viewpoint(result: ClipScores) -> Viewpoint | None:
    """The viewpoint in the details of a `meta-view` score, if there is one."""
    for score in result.scores.values():
        details: dict[str, Any] = dict(score.details)
        if all(key in details for key in _KEYS) and _is_pose(details["c2w"]):
            c2w = torch.tensor(details["c2w"], dtype=torch.float64)
            return Viewpoint(c2w, *(details[key] for key in _KEYS[1:]))
    return None


def _is_pose(value: object) -> bool:
    if not isinstance(value, list) or len(value) != 4:
        return False
    rows = [row for row in value if isinstance(row, list) and len(row) == 4]
    return len(rows) == 4 and all(isinstance(x, float | int) and math.isfinite(x) for row in rows for x in row)
