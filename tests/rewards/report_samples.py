"""Scored clips with a scene that is known in advance, and a strict reader of the pages made from them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import Any

import torch
from torch import Tensor

from worldr1_core.camera import CameraTrajectory, default_intrinsics, trajectory_from_moves
from worldr1_core.clip import Clip
from worldr1_core.reconstructor import Reconstruction, Render
from worldr1_core.reward import Score
from worldr1_core.scoring import ClipScores
from worldr1_core.video import Video

VOID = {"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr"}


@dataclass(frozen=True, kw_only=True)
class Recorded(Reconstruction):
    """A reconstruction that shows what it is given, and noise from elsewhere; an exception as render is raised."""

    shown: Render | Exception

    def render(self, c2w: Tensor, intrinsics: Tensor, size: tuple[int, int]) -> Render:
        generator = torch.Generator().manual_seed(1)
        return Render(torch.rand(len(c2w), 3, *size, generator=generator), torch.ones(len(c2w), *size))

    def rerender(self) -> Render:
        if isinstance(self.shown, Exception):
            raise self.shown
        return self.shown


def smooth_frames(num_frames: int, height: int, width: int, seed: int = 0) -> Tensor:
    """Soft coloured noise that drifts to the left, `(T, 3, H, W)`."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(1, 3, 6, 10, generator=generator)
    wide = torch.nn.functional.interpolate(coarse, size=(height, 2 * width), mode="bicubic").clamp(0, 1)[0]
    return torch.stack([wide[:, :, frame : frame + width] for frame in range(num_frames)])


def reconstruction_of(frames: Tensor, *, shown: Render | Exception | None = None, **changes: Any) -> Recorded:
    """A reconstruction that shows the frames themselves, fully covered, with depth from 1 (left) to 2 (right)."""
    num_frames, _, height, width = frames.shape
    depth = torch.linspace(1, 2, width).expand(num_frames, height, width)
    path = trajectory_from_moves(["push_in"], num_frames, (height, width)).scaled(1 / 1000)
    fields: dict[str, Any] = {
        "trajectory": path,
        "depth": depth,
        "diagnostics": {"residual": 0.0125, "start": "push in"},
        "shown": Render(frames, torch.ones(num_frames, height, width)) if shown is None else shown,
    }
    return Recorded(**{**fields, **changes})


def scored(
    name: str = "videos/room.mp4",
    prompt: str = "Camera push in. A quiet room.",
    *,
    frames: Tensor | None = None,
    reconstruction: Reconstruction | str | None = "perfect",
    scores: Mapping[str, Score] | None = None,
    reasons: Mapping[str, str] | None = None,
    target: CameraTrajectory | str | None = "push_in",
    total: float | None = None,
    intrinsics: Tensor | None = None,
) -> ClipScores:
    """A scored clip of five small frames; every part can be replaced."""
    frames = smooth_frames(5, 24, 40) if frames is None else frames
    size = (frames.shape[2], frames.shape[3])
    if reconstruction == "perfect":
        reconstruction = reconstruction_of(frames)
    if isinstance(target, str):
        target = trajectory_from_moves([target], len(frames), size)
    if scores is None:
        scores = {"reconstruction": Score(0.75, details={"psnr": 31.25}), "trajectory": Score(0.5)}
    known = [score.value for score in scores.values() if score.reason is None]
    total = sum(known) if total is None else total
    clip = Clip(Video(frames, fps=8.0), prompt, target, intrinsics, name)
    timings = {"reconstructor": 0.5, "total": 1.25}
    missing = {key: score.reason for key, score in scores.items() if score.reason is not None}
    assert not isinstance(reconstruction, str)
    return ClipScores(clip, scores, total, {**missing, **(reasons or {})}, timings, reconstruction)


def failed(reason: str = "the frames hold too little texture", name: str = "videos/wall.mp4") -> ClipScores:
    """A clip that could not be reconstructed."""
    scores = {key: Score.unavailable(reason) for key in ("reconstruction", "trajectory")}
    total_reason = {"total": "no score of reconstruction, trajectory"}
    return scored(name, reconstruction=None, scores=scores, reasons=total_reason, total=math.nan)


def default_camera(frames: Tensor) -> Tensor:
    """The default guess for frames `(T, 3, H, W)`."""
    return default_intrinsics(frames.shape[2], frames.shape[3])


@dataclass
class Element:
    """A tag with its attributes and everything written inside it."""

    tag: str
    attributes: dict[str, str | None]
    text: str = ""
    inside: list[Element] = field(default_factory=list)

    def find(self, tag: str, **attributes: str) -> list[Element]:
        """Descendants of a tag whose attributes hold these values (`class_` is matched as a word)."""
        found = []
        for element in self.inside:
            if element.tag == tag and element.has(attributes):
                found.append(element)
            found += element.find(tag, **attributes)
        return found

    def has(self, attributes: Mapping[str, str]) -> bool:
        for name, value in attributes.items():
            own = self.attributes.get(name.rstrip("_")) or ""
            if (value not in own.split()) if name == "class_" else own != value:
                return False
        return True

    def all(self) -> list[Element]:
        """Every descendant."""
        return [descendant for child in self.inside for descendant in (child, *child.all())]


class _Strict(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.root = Element("root", {})
        self.open = [self.root]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = [name for name, _ in attrs]
        assert len(set(names)) == len(names), f"<{tag}> repeats an attribute: {names}"
        element = Element(tag, dict(attrs))
        self.open[-1].inside.append(element)
        if tag not in VOID:
            self.open.append(element)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.open[-1].inside.append(Element(tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open[-1].tag == tag, f"</{tag}> closes <{self.open[-1].tag}>"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        for element in self.open:
            element.text += data


def parse(page: str) -> Element:
    """A page as a tree; fails if an element is not closed, or closed twice."""
    reader = _Strict()
    reader.feed(page)
    reader.close()
    assert len(reader.open) == 1, f"<{reader.open[-1].tag}> is not closed"
    return reader.root
