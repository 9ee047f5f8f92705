"""Components of an imaginary plugin, named by the manifests of the tests."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from worldr1_core.backbone import Backbone
from worldr1_core.component import ComponentConfig
from worldr1_core.errors import require
from worldr1_core.judge import Judge
from worldr1_core.manifest import ComponentSpec
from worldr1_core.reconstructor import Reconstructor
from worldr1_core.reward import Requirement, Reward


class Sharpness(Reward):
    """Mean gradient of the frames."""

    class Config(ComponentConfig):
        radius: float = Field(1.0, gt=0, le=8, description="Pixels.")
        passes: int = Field(1, ge=1, le=9, description="How often.")
        mode: Literal["fast", "exact"] = Field("fast", description="Algorithm.")
        strict: bool = Field(False, description="Whether to be strict.")
        bands: list[float] = Field(default_factory=list, max_length=3, description="Weights of the bands.")

    def score(self, clip, inputs):
        return self.config.radius


class Window(BaseModel):
    """A window in time."""

    model_config = ConfigDict(extra="forbid")

    start: int = Field(ge=0, description="First frame.")
    length: int = Field(4, ge=1, description="Frames.")


class Scene(Reward):
    """Reads the scene."""

    requires = frozenset({Requirement.RECONSTRUCTION})

    class Config(ComponentConfig):
        window: Window | None = Field(None, description="Part of the clip.")

    def score(self, clip, inputs):
        return 1.0


class Opinion(Reward):
    """Reads the judge."""

    requires = frozenset({Requirement.JUDGE})

    class Config(ComponentConfig):
        question: str = Field(min_length=1, description="What to ask.")

    def score(self, clip, inputs):
        return 0.5


class Steps(Reconstructor):
    """Two options that must agree."""

    class Config(ComponentConfig):
        coarse: int = Field(2, ge=1, description="Coarse steps.")
        fine: int = Field(4, ge=1, description="Fine steps.")

        @model_validator(mode="after")
        def _ordered(self):
            if self.fine < self.coarse:
                raise ValueError("fine must not be below coarse")
            return self

    def reconstruct(self, clip):
        raise NotImplementedError


class BrokenValidator(Judge):
    """A Config whose validator has a bug."""

    class Config(ComponentConfig):
        @model_validator(mode="before")
        @classmethod
        def _bug(cls, data):
            return data["absent"]

    def grade(self, questions):
        return []


class Grader(Judge):
    """A judge without options."""

    def grade(self, questions):
        return []


class Unfinished(Reward):
    """Misses `score`."""


class BreaksOnSetUp(Reward):
    """Fails in its constructor."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        raise KeyError("weights")

    def score(self, clip, inputs):
        return 0.0


class NeedsExtra(Reward):
    """Needs what is not installed."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        require("absent_package", extra="acme-rewards[gpu]")

    def score(self, clip, inputs):
        return 0.0


class Tree(Backbone):
    """A Config that contains itself."""

    class Config(ComponentConfig):
        depth: int = Field(1, ge=1, description="Levels.")
        child: Tree.Config | None = Field(None, description="The level below.")


Tree.Config.model_rebuild(_types_namespace={"Tree": Tree})


class Callback(Backbone):
    """A Config that JSON cannot hold."""

    class Config(ComponentConfig):
        model_config = ConfigDict(arbitrary_types_allowed=True)
        function: type(lambda: 0) = None


class MeasureSpec(ComponentSpec):
    """A reward by name, with its share in the lessons."""

    kind = "reward"
    share: float = Field(1.0, gt=0, le=9, description="Share.")


class Lesson(BaseModel):
    """A part of the training."""

    model_config = ConfigDict(extra="forbid")

    measures: list[MeasureSpec] = Field(default_factory=list, description="What is looked at.")


class TrainSection(BaseModel):
    """Training."""

    model_config = ConfigDict(extra="forbid")

    steps: int = Field(10, ge=1, description="Updates.")
    window: Window | None = Field(None, description="Part of the schedule.")
    measure: MeasureSpec | None = Field(None, description="What is looked at, unless a lesson says otherwise.")
    lessons: dict[str, Lesson] = Field(default_factory=dict, description="Lessons by name.")


HERE = __name__
COMPONENTS = {
    "reward": {"sharpness": f"{HERE}:Sharpness", "scene": f"{HERE}:Scene", "opinion": f"{HERE}:Opinion"},
    "reconstructor": {"steps": f"{HERE}:Steps"},
    "judge": {"grader": f"{HERE}:Grader"},
    "backbone": {"tree/of ~life": f"{HERE}:Tree"},
    "manifest section": {"schooling": f"{HERE}:TrainSection"},
}
