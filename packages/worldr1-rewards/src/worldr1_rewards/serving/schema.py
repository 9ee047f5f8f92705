"""Version 1 of the wire format: the JSON that describes the tensors of a request and of an answer.

A request and an answer are safetensors files. The JSON stands in the metadata under `worldr1`; the modules `requests`
and `answers` name the tensors beside it.
"""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from worldr1_rewards.serving.wire_errors import ErrorCode

VERSION: Literal[1] = 1
KEY = "worldr1"
"""Name of the metadata entry that holds the JSON."""
MEDIA_TYPE = "application/vnd.worldr1.v1+safetensors"

Name = Annotated[str, Field(min_length=1, max_length=256)]
Size = Annotated[int, Field(ge=1, lt=2**31)]
Seconds = Annotated[float, Field(ge=0, lt=1e9, allow_inf_nan=False)]


def wire_text(text: str) -> str:
    """Write characters that UTF-8 cannot express (names of files that are no UTF-8) as escapes, as results do."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class VideoPart(_Part):
    """A video beside its frames."""

    fps: float = Field(gt=0, allow_inf_nan=False, description="Frames per second.")
    source: str | None = Field(
        default=None, max_length=4096, description="File that the frames came from, for messages."
    )
    full_size: list[Size] | None = Field(
        default=None, min_length=2, max_length=2, description="Height and width before the frames were read smaller."
    )


class TargetPart(_Part):
    """A commanded camera path beside its poses."""

    image_size: list[Size] | None = Field(default=None, min_length=2, max_length=2, description="Height and width.")
    scene_depth: float | None = Field(
        default=None, gt=0, allow_inf_nan=False, description="Depth in units of the path."
    )
    has_intrinsics: bool = Field(description="Whether the path has intrinsics of its own.")


class ClipPart(_Part):
    """One clip beside its tensors."""

    name: str = Field(max_length=4096, description="Name in messages.")
    prompt: str = Field(max_length=65536, description="Text that the video was generated from; may be empty.")
    moves: list[str] = Field(max_length=64, description="Camera words, if they alone command the path.")
    video: VideoPart
    target: TargetPart | None = Field(description="Commanded path; null if none is commanded.")
    has_intrinsics: bool = Field(description="Whether the intrinsics of the video are known.")
    reference: VideoPart | None = Field(description="Video of the model before training; null without one.")


class ScoreRequest(_Part):
    """Description of the tensors of a request."""

    version: Literal[1] = VERSION
    rewards: list[Name] = Field(min_length=1, max_length=256, description="Rewards to score with.")
    composition: str = Field(
        max_length=128, description="Digest of the composition that the client expects; empty for any."
    )
    clips: list[ClipPart] = Field(min_length=1)

    @property
    def size(self) -> int:
        """Number of clips."""
        return len(self.clips)

    @property
    def group(self) -> tuple[str, ...]:
        """Requests with the same rewards can be scored together."""
        return ("score", *self.rewards)


class QuestionPart(_Part):
    """One question to the judge beside its images."""

    text: str = Field(max_length=65536, description="The instruction, which asks for a single digit.")


class GradeRequest(_Part):
    """Description of the tensors of a request to the judge."""

    version: Literal[1] = VERSION
    composition: str = Field(
        max_length=128, description="Digest of the composition that the client expects; empty for any."
    )
    questions: list[QuestionPart] = Field(min_length=1)

    @property
    def size(self) -> int:
        """Number of questions."""
        return len(self.questions)

    @property
    def group(self) -> tuple[str, ...]:
        """All requests to the judge can be graded together."""
        return ("grade",)


class GradePart(_Part):
    """Grade of one question: a number, or null with its reason."""

    score: float | None = Field(ge=0, le=1, allow_inf_nan=False, description="Grade; null if there is none.")
    mass: float | None = Field(
        default=None, ge=0, le=1, allow_inf_nan=False, description="Probability of a digit; null if it is not known."
    )
    source: str = Field(default="", max_length=64, description="Where the grade comes from: `logprobs` or `text`.")
    reason: str | None = Field(default=None, description="Why there is no grade.")
    applicable: bool = Field(default=True, description="False if the question makes no sense for this clip.")

    @model_validator(mode="after")
    def _number_or_reason(self) -> Self:
        if (self.score is None) == (self.reason is None):
            raise ValueError("a grade is either a number, or null with a reason")
        return self


class GradeAnswer(_Part):
    """Grades of a request to the judge, in its order."""

    version: Literal[1] = VERSION
    grades: list[GradePart] = Field(min_length=1)


class ScorePart(_Part):
    """Score of one reward for one clip: a number, or null with its reason."""

    value: float | None = Field(allow_inf_nan=False, description="Higher is better; null if there is no score.")
    reason: str | None = Field(default=None, description="Why there is no score.")
    applicable: bool = Field(default=True, description="False if the reward makes no sense for this clip.")
    details: dict[str, Any] = Field(default_factory=dict, description="Plain values that explain the score.")
    has_map: bool = Field(default=False, description="Whether a spatial map comes with the score.")

    @model_validator(mode="after")
    def _number_or_reason(self) -> Self:
        if (self.value is None) == (self.reason is None):
            raise ValueError("a score is either a number, or null with a reason")
        if self.value is not None and not (math.isfinite(self.value) and self.applicable):
            raise ValueError("a number must be finite and applicable")
        return self


class ClipAnswer(_Part):
    """Scores of one clip."""

    scores: dict[Name, ScorePart]
    timings: dict[str, Seconds] = Field(description="Step -> seconds.")


class ScoreAnswer(_Part):
    """Description of the tensors of an answer."""

    version: Literal[1] = VERSION
    clips: list[ClipAnswer] = Field(min_length=1)


class ErrorAnswer(_Part):
    """JSON body of every answer without scores."""

    code: Annotated[ErrorCode, Field(strict=False)]
    message: str
