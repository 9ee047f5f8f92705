"""A reconstructor that knows the kit's clips by heart, and for every check one that breaks it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from worldr1_core.errors import ScoreUnavailable, UserError
from worldr1_core.reconstructor import Reconstructor, Render
from worldr1_core.testing.clips import MOVES, TrueReconstruction, make_clip, true_reconstruction

KEPT = []


def _alike(first, second):
    return torch.allclose(first, second, atol=1e-3)


class Good(Reconstructor):
    """Finds the clip among those of the kit and returns its truth."""

    def reconstruct(self, clip):
        frames = clip.video.frames
        if clip.video.num_frames < 2 or float(frames.std()) < 0.01:
            raise ScoreUnavailable("one frame, or no texture")
        for move in MOVES:
            if _alike(make_clip(move, num_frames=len(frames), size=clip.video.size).video.frames, frames):
                scene = true_reconstruction(move, len(frames), clip.video.size)
                known = scene.trajectory.intrinsics if clip.intrinsics is None else clip.intrinsics
                return replace(scene, trajectory=replace(scene.trajectory, intrinsics=known))
        raise ScoreUnavailable("an unknown clip")


def _of(**changes):
    """A reconstructor whose answers are changed: `name=function of the scene` for each field."""

    class Changed(Good):
        """Changes the truth."""

        def reconstruct(self, clip):
            scene = super().reconstruct(clip)
            return replace(scene, **{name: change(scene) for name, change in changes.items()})

        def __reduce__(self):
            return Good, ()

    return Changed


def _path(change):
    return _of(trajectory=lambda scene: replace(scene.trajectory, c2w=change(scene.trajectory.c2w)))


def _scene(cls):
    """A reconstructor whose scenes are of another class."""

    class Changed(Good):
        """Changes how scenes are rendered."""

        def reconstruct(self, clip):
            scene = super().reconstruct(clip)
            return cls(**{name: getattr(scene, name) for name in scene.__dataclass_fields__})

        def __reduce__(self):
            return Good, ()

    return Changed


def _turned(c2w):
    turn = torch.eye(4, dtype=c2w.dtype)
    turn[:3, :3] = torch.tensor([[0.0, 0, 1], [0, 1, 0], [-1, 0, 0]])
    return turn @ c2w


@dataclass(frozen=True, kw_only=True)
class BytesScene(TrueReconstruction):
    def render(self, c2w, intrinsics, size):
        view = super().render(c2w, intrinsics, size)
        return replace(view, frames=(view.frames * 255).to(torch.uint8))


@dataclass(frozen=True, kw_only=True)
class BrightScene(TrueReconstruction):
    def render(self, c2w, intrinsics, size):
        view = super().render(c2w, intrinsics, size)
        return view if size[0] % 2 == 0 else replace(view, frames=view.frames * 255)


@dataclass(frozen=True, kw_only=True)
class NanDepthScene(TrueReconstruction):
    def render(self, c2w, intrinsics, size):
        view = super().render(c2w, intrinsics, size)
        return replace(view, depth=view.depth * float("nan"))


@dataclass(frozen=True, kw_only=True)
class GreyScene(TrueReconstruction):
    def render(self, c2w, intrinsics, size):
        view = super().render(c2w, intrinsics, size)
        return replace(view, frames=view.frames * 0 + 0.5)

    def rerender(self):
        return TrueReconstruction.render(self, self.trajectory.c2w, self.trajectory.intrinsics, self.size)


@dataclass(frozen=True, kw_only=True)
class EmptyScene(TrueReconstruction):
    def rerender(self):
        view = super().rerender()
        return Render(view.frames, view.coverage * 0)


@dataclass(frozen=True, kw_only=True)
class BackwardsScene(TrueReconstruction):
    def rerender(self):
        view = super().rerender()
        return Render(view.frames.flip(0), view.coverage.flip(0))


@dataclass(frozen=True, kw_only=True)
class FadedScene(TrueReconstruction):
    def rerender_frames(self, frames):
        view = self.rerender()
        return Render(view.frames * 0.9, view.coverage)


@dataclass(frozen=True, kw_only=True)
class ColourCoverageScene(TrueReconstruction):
    def rerender_frames(self, frames):
        view = self.rerender()
        return Render(view.frames, view.coverage * (frames.mean(1) < 0.8))


@dataclass(frozen=True, kw_only=True)
class NanGradientScene(TrueReconstruction):
    def rerender_frames(self, frames):
        view = self.rerender()
        return Render(view.frames + (frames * 0).sqrt(), view.coverage)


class NoReconstruction(Good):
    """Returns the poses alone."""

    def reconstruct(self, clip):
        return super().reconstruct(clip).trajectory


class RefusesAll(Good):
    """Refuses every clip."""

    def reconstruct(self, clip):
        raise ScoreUnavailable("not today")


class IgnoresIntrinsics(Good):
    """Uses its own guess."""

    def reconstruct(self, clip):
        return super().reconstruct(replace(clip, intrinsics=None))


class AcceptsBlank(Good):
    """Takes blank frames for a fixed camera."""

    def reconstruct(self, clip):
        if float(clip.video.frames.std()) < 0.01:
            return true_reconstruction("fixed", clip.video.num_frames, clip.video.size)
        return super().reconstruct(clip)


class CrashesOnShort(Good):
    """Needs a second frame."""

    def reconstruct(self, clip):
        clip.video.frames[1]
        return super().reconstruct(clip)


class UserErrorOnShort(Good):
    """Blames the user for a short clip."""

    def reconstruct(self, clip):
        if clip.video.num_frames < 3:
            raise UserError("too short")
        return super().reconstruct(clip)


class NoReason(Good):
    """Refuses short clips without a word."""

    def reconstruct(self, clip):
        if clip.video.num_frames < 3:
            raise ScoreUnavailable("")
        return super().reconstruct(clip)


class WrongSize(Good):
    """Forgets the sides of odd videos."""

    def reconstruct(self, clip):
        scene = super().reconstruct(clip)
        height, width = clip.video.size
        return replace(scene, trajectory=replace(scene.trajectory, image_size=(height // 2 * 2, width // 2 * 2)))


class StartsFromTarget(Good):
    """Is pulled to the commanded path."""

    def reconstruct(self, clip):
        scene = super().reconstruct(clip)
        if clip.target is None:
            return scene
        c2w = scene.trajectory.c2w.clone()
        c2w[:, :3, 3] += 0.01 * clip.target.c2w[:, :3, 3]
        return replace(scene, trajectory=replace(scene.trajectory, c2w=c2w))


class ReadsPrompt(Good):
    """Believes the prompt."""

    def reconstruct(self, clip):
        scene = super().reconstruct(clip)
        return replace(scene, trajectory=scene.trajectory.scaled(1.001)) if "pull" in clip.prompt else scene


class Noisy(Good):
    """Draws its answer."""

    def reconstruct(self, clip):
        scene = super().reconstruct(clip)
        return replace(scene, trajectory=scene.trajectory.scaled(1 + float(torch.rand(()))))


class Writes(Good):
    """Works in place."""

    def reconstruct(self, clip):
        scene = super().reconstruct(clip)
        clip.video.frames[0, 0, 0, 0] += 1e-6 if clip.video.num_frames == 4 else 0
        return scene


class Keeps(Good):
    """Keeps what it saw."""

    def reconstruct(self, clip):
        KEPT.append(clip)
        return super().reconstruct(clip)


class Seeds(Good):
    """Seeds the global generator."""

    def reconstruct(self, clip):
        torch.manual_seed(0)
        return super().reconstruct(clip)


class Prints(Good):
    """Tells the world."""

    def reconstruct(self, clip):
        print("reconstructing")  # noqa: T201
        return super().reconstruct(clip)


class OtherDevice(Good):
    """Is another one elsewhere."""

    def reconstruct(self, clip):
        scene = super().reconstruct(clip)
        return scene if self.device == "cpu" else replace(scene, trajectory=scene.trajectory.scaled(2.0))


MUTANTS = {
    "depth of another size": ("form", _of(depth=lambda scene: scene.depth[:, 1:])),
    "negative depth": ("form", _of(depth=lambda scene: -scene.depth)),
    "infinite depth": ("form", _of(depth=lambda scene: scene.depth / 0)),
    "a frame too few": ("form", _path(lambda c2w: c2w[:-1])),
    "no intrinsics": ("form", _of(trajectory=lambda s: replace(s.trajectory, intrinsics=None))),
    "no reconstruction": ("form", NoReconstruction),
    "refuses all": ("form", RefusesAll),
    "frame 0 turned": ("first-frame", _path(_turned)),
    "another unit": ("unit", _of(depth=lambda scene: scene.depth * 2)),
    "own intrinsics": ("known-intrinsics", IgnoresIntrinsics),
    "world-to-camera": ("finds-the-path", _path(torch.linalg.inv)),
    "never turns": (
        "finds-the-path",
        _path(lambda c2w: torch.cat([torch.eye(4)[:, :3].expand(len(c2w), 4, 3), c2w[..., 3:]], -1)),
    ),
    "8-bit renders": ("render-form", _scene(BytesScene)),
    "renders up to 255": ("render-form", _scene(BrightScene)),
    "NaN depth in renders": ("render-form", _scene(NanDepthScene)),
    "grey renders": ("renders-the-clip", _scene(GreyScene)),
    "backwards": ("rerenders-the-clip", _scene(BackwardsScene)),
    "covers nothing": ("rerenders-the-clip", _scene(EmptyScene)),
    "fades in other colours": ("rerenders-in-other-colours", _scene(FadedScene)),
    "covers by colour": ("rerenders-in-other-colours", _scene(ColourCoverageScene)),
    "NaN gradient": ("rerenders-in-other-colours", _scene(NanGradientScene)),
    "always parallax": ("still-camera", _of(has_parallax=lambda scene: True)),
    "never parallax": ("moving-camera", _of(has_parallax=lambda scene: False)),
    "accepts blank frames": ("no-texture", AcceptsBlank),
    "crashes on one frame": ("any-size", CrashesOnShort),
    "blames the user": ("any-size", UserErrorOnShort),
    "gives no reason": ("any-size", NoReason),
    "forgets odd sides": ("any-size", WrongSize),
    "starts from the target": ("ignores-target", StartsFromTarget),
    "reads the prompt": ("ignores-words", ReadsPrompt),
    "noisy": ("deterministic", Noisy),
    "writes": ("input-unchanged", Writes),
    "keeps clips": ("frees-clips", Keeps),
    "seeds": ("leaves-random-state", Seeds),
    "prints": ("prints-nothing", Prints),
    "other device": ("device", OtherDevice),
}
"""What is wrong -> (check, the reconstructor that breaks it)."""

RERENDERS = {"rerenders-the-clip", "rerenders-in-other-colours"}
"""Checks of both re-renders: what breaks `render` breaks them in the stand-in."""

ALSO_FAIL = {
    "a frame too few": {"*"},
    "no intrinsics": {"*"},
    "no reconstruction": {"*"},
    "refuses all": {"*"},
    "infinite depth": {"any-size", "unit"},
    "depth of another size": {"any-size", "unit"},
    "negative depth": {"any-size", "unit"},
    "frame 0 turned": {"finds-the-path", "renders-the-clip", *RERENDERS},
    "world-to-camera": {"renders-the-clip", *RERENDERS},
    "never turns": {"renders-the-clip", *RERENDERS},
    "8-bit renders": {"renders-the-clip", *RERENDERS},
    "NaN depth in renders": {"renders-the-clip", *RERENDERS},
    "noisy": {
        "unit",
        "renders-the-clip",
        *RERENDERS,
        "ignores-target",
        "ignores-words",
        "leaves-random-state",
        "device",
    },
}
"""What else such a reconstructor cannot help breaking; `*` is anything. Everything else must hold."""
