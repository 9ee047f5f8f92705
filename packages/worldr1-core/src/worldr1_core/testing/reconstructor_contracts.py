"""Every contract of `worldr1_core.reconstructor`, as checks on scenes with exact truth."""

from __future__ import annotations

import contextlib
import functools
import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from worldr1_core.camera.geometry import rotation_angle, scale_intrinsics
from worldr1_core.camera.trajectory import CameraTrajectory
from worldr1_core.clip import Clip
from worldr1_core.errors import ScoreUnavailable, UserError, describe_exception
from worldr1_core.reconstructor import Reconstruction, Reconstructor, Render
from worldr1_core.testing import isolation
from worldr1_core.testing.clips import camera_path, flat_clip, make_clip
from worldr1_core.testing.failures import UNAVAILABLE, CallFailed, CheckFailed, CheckSkipped, checking
from worldr1_core.testing.report import Contract
from worldr1_core.testing.subject import COMPONENT_CONTRACTS, Subject, device_contract

MOVE = "arc"
SHAPES = ((1, 48, 64), (2, 48, 64), (5, 33, 47))
"""(T, H, W) beside the standard clip: one frame, two, odd sides."""

REFUSAL = (
    "a clip that cannot be reconstructed is left out with a reason; a UserError stops the run",
    "return a Reconstruction, or raise ScoreUnavailable('why')",
)
"""Reason and fix for a call of `reconstruct` that does neither."""


class ReconstructorSubject(Subject[Reconstructor]):
    """A reconstructor, the standard clip, and its reconstruction."""

    def __init__(
        self,
        given: Any,
        options: Mapping[str, Any] | None,
        size: tuple[int, int],
        num_frames: int,
        max_rotation_error: float,
        max_path_error: float,
        min_psnr: float,
        device: str,
    ) -> None:
        super().__init__(given, Reconstructor, options, device)
        self.size, self.num_frames = size, num_frames
        self.max_rotation_error, self.max_path_error, self.min_psnr = max_rotation_error, max_path_error, min_psnr

    def clip(self, move: str = MOVE) -> Clip:
        """The standard clip, with known intrinsics and a commanded path that is far from the true one."""
        clip = make_clip(move, num_frames=self.num_frames, size=self.size)
        wrong = camera_path("push in" if move != "push in" else "move right", self.num_frames, self.size)
        return replace(clip, target=wrong, intrinsics=wrong.intrinsics)

    @functools.cached_property
    def standard(self) -> Clip:
        """The clip of most checks: it moves and turns."""
        return self.clip()

    @functools.cached_property
    def truth(self) -> CameraTrajectory:
        """The path of the standard clip."""
        return camera_path(MOVE, self.num_frames, self.size)

    @functools.cached_property
    def scene(self) -> Reconstruction:
        """The reconstruction of the standard clip."""
        with isolation.seeded(0):
            return self.must_reconstruct(self.standard)

    def must_reconstruct(self, clip: Clip, reconstructor: Reconstructor | None = None) -> Reconstruction:
        """Reconstruct a clip on which a failure is a failed check."""
        try:
            return self.reconstruct(clip, reconstructor)
        except ScoreUnavailable as error:
            raise CallFailed(
                f"an ordinary clip ({clip.name!r}) was refused: {error}",
                why="a reconstructor that refuses every clip would pass the checks of its refusals",
                fix="reconstruct clips with texture and a moving camera; pass size=… and num_frames=… if the clip is "
                "too small or too short",
            ) from error

    def reconstruct(self, clip: Clip, reconstructor: Reconstructor | None = None) -> Reconstruction:
        """Reconstruct; any error but `ScoreUnavailable` is a failed check."""
        why, fix = REFUSAL
        try:
            scene = (self.component if reconstructor is None else reconstructor).reconstruct(clip)
        except (ScoreUnavailable, *UNAVAILABLE) as error:
            if not str(error).strip():
                raise CallFailed(f"{type(error).__name__} was raised without a reason", why=why, fix=fix) from error
            raise
        except UserError as error:
            seen = f"one clip raised {type(error).__name__}, which stops the whole run: {error}"
            raise CallFailed(seen, why=why, fix=fix) from error
        except Exception as error:
            raise CallFailed(f"a clip raised {describe_exception(error)}") from error
        if not isinstance(scene, Reconstruction):
            raise CallFailed(f"reconstruct returned {scene!r}", why=why, fix=fix)
        return scene


def _check_form(scene: Reconstruction, clip: Clip) -> None:
    frames, size = clip.video.num_frames, clip.video.size
    path = scene.trajectory
    if not isinstance(path, CameraTrajectory) or path.num_frames != frames:
        raise CheckFailed(f"{frames} frames gave the trajectory {path!r}")
    if path.intrinsics is None or path.image_size != size:
        raise CheckFailed(
            f"the trajectory has intrinsics {path.intrinsics!r} for image size {path.image_size!r}, {size}"
        )
    if scene.depth is not None:
        _check_tensor("depth", scene.depth, (frames, *size))
        if not bool((scene.depth > 0).all()):
            raise CheckFailed(f"depth goes down to {float(scene.depth.min())}")


def _check_tensor(name: str, tensor: object, shape: tuple[int, ...]) -> None:
    if not isinstance(tensor, Tensor) or tuple(tensor.shape) != shape or tensor.dtype != torch.float32:
        received = f"{tuple(tensor.shape)} {tensor.dtype}" if isinstance(tensor, Tensor) else repr(tensor)
        raise CheckFailed(f"{name} is {received}, expected {shape} torch.float32")
    if not bool(torch.isfinite(tensor).all()):
        raise CheckFailed(f"{name} holds NaN or infinite values")


def _check_render(view: Render, shape: tuple[int, int, int]) -> None:
    count, height, width = shape
    _check_tensor("render.frames", view.frames, (count, 3, height, width))
    _check_tensor("render.coverage", view.coverage, shape)
    if view.depth is not None:
        _check_tensor("render.depth", torch.where(view.coverage > 0, view.depth, torch.ones_like(view.depth)), shape)
    for name, tensor in (("frames", view.frames), ("coverage", view.coverage)):
        low, high = float(tensor.min()), float(tensor.max())
        if low < -1e-4 or high > 1 + 1e-4:
            raise CheckFailed(f"render.{name} spans [{low:.4g}, {high:.4g}], allowed is [0, 1]")


def _check_resembles(view: Render, frames: Tensor, min_psnr: float, what: str) -> None:
    covered = float(view.coverage.mean())
    if covered < 0.5:
        raise CheckFailed(f"{what} covers {covered:.0%} of the frames")
    weight = view.coverage[:, None].expand_as(frames)
    error = float((weight * (view.frames - frames).square()).sum() / weight.sum())
    psnr = -10 * math.log10(max(error, 1e-10))
    if psnr < min_psnr:
        raise CheckFailed(f"{what} resembles the frames with a PSNR of {psnr:.1f} dB, expected {min_psnr:g} dB or more")


def _form(subject: ReconstructorSubject) -> None:
    _check_form(subject.scene, subject.standard)


def _first_frame(subject: ReconstructorSubject) -> None:
    first = subject.scene.trajectory.c2w[0]
    if not torch.allclose(first, torch.eye(4, dtype=first.dtype), atol=1e-6):
        raise CheckFailed(f"the pose of frame 0 is {first.tolist()}")


def _unit(subject: ReconstructorSubject) -> None:
    scene = subject.scene
    declared = scene.trajectory.scene_depth
    if scene.depth is None:
        return
    median, expected = float(scene.depth[0].median()), 1.0 if declared is None else declared
    if not math.isclose(median, expected, rel_tol=0.1):
        raise CheckFailed(f"the median depth of frame 0 is {median:.4g}; scene_depth says {declared!r}")


def _known_intrinsics(subject: ReconstructorSubject) -> None:
    wide = subject.standard.intrinsics
    assert wide is not None
    given = wide.clone()
    given[0, 0] *= 1.1
    given[1, 1] *= 1.1
    found = subject.must_reconstruct(replace(subject.standard, intrinsics=given)).trajectory.intrinsics
    if found is None or not torch.allclose(found, given, rtol=1e-3):
        raise CheckFailed(f"given {given.tolist()}, used {None if found is None else found.tolist()}")


def _finds_the_path(subject: ReconstructorSubject) -> None:
    found, truth = subject.scene.trajectory, subject.truth
    angles = torch.rad2deg(rotation_angle(truth.rotations.transpose(1, 2) @ found.rotations))
    if float(angles.max()) > subject.max_rotation_error:
        raise CheckFailed(
            f"rotations are off by up to {float(angles.max()):.2f}°, allowed {subject.max_rotation_error}°"
        )
    scale = float((found.positions * truth.positions).sum() / found.positions.square().sum().clamp(min=1e-12))
    error = float((scale * found.positions - truth.positions).norm(dim=-1).max()) / truth.extent
    if scale <= 0 or error > subject.max_path_error:
        raise CheckFailed(f"camera centres are off by {error:.0%} of the path, allowed {subject.max_path_error:.0%}")


def _render_form(subject: ReconstructorSubject) -> None:
    height, width = (n // 2 + 1 for n in subject.size)
    path = subject.scene.trajectory
    assert path.intrinsics is not None
    intrinsics = scale_intrinsics(path.intrinsics, subject.size, (height, width))
    _check_render(subject.scene.render(path.c2w[[0, -1]], intrinsics, (height, width)), (2, height, width))


def _renders_the_clip(subject: ReconstructorSubject) -> None:
    path = subject.scene.trajectory
    assert path.intrinsics is not None
    view = subject.scene.render(path.c2w, path.intrinsics, subject.size)
    _check_render(view, (subject.num_frames, *subject.size))
    _check_resembles(view, subject.standard.video.frames, subject.min_psnr, "the render at the estimated poses")


def _rerenders_the_clip(subject: ReconstructorSubject) -> None:
    view = subject.scene.rerender()
    _check_render(view, (subject.num_frames, *subject.size))
    _check_resembles(view, subject.standard.video.frames, subject.min_psnr, "rerender()")


def _rerenders_in_other_colours(subject: ReconstructorSubject) -> None:
    scene = subject.scene
    if type(scene).rerender_frames is Reconstruction.rerender_frames:
        raise CheckSkipped("rerender_frames is not implemented: rewards that read the re-render have no gradient")
    expected, own = scene.rerender(), subject.standard.video.frames.clone().requires_grad_()
    with torch.enable_grad():
        view = scene.rerender_frames(own)
    _check_render(replace(view, frames=view.frames.detach()), (subject.num_frames, *subject.size))
    for name, found, wanted in (
        ("frames", view.frames * view.coverage[:, None], expected.frames * expected.coverage[:, None]),
        ("coverage", view.coverage, expected.coverage),
        ("coverage in other colours", scene.rerender_frames(1 - own.detach()).coverage, expected.coverage),
    ):
        gap = float((found.detach() - wanted).abs().max())
        if gap > 1e-3:
            raise CheckFailed(f"{name} of rerender_frames() differ by {gap:.3g} from those of rerender()")
    if view.frames.requires_grad:
        [gradient] = torch.autograd.grad(view.frames.square().sum(), own)
        if not bool(torch.isfinite(gradient).all()):
            raise CheckFailed("the gradient of rerender_frames() holds NaN or infinite values")


def _still_camera(subject: ReconstructorSubject) -> None:
    for move in ("fixed", "pan right"):
        try:
            scene = subject.reconstruct(subject.clip(move))
        except ScoreUnavailable:
            continue
        if scene.has_parallax:
            raise CheckFailed(f"a camera that does not change its place ({move}) is said to have parallax")


def _moving_camera(subject: ReconstructorSubject) -> None:
    if not subject.scene.has_parallax:
        raise CheckFailed(f"a clip with parallax ({MOVE}) is said to have none")


def _no_texture(subject: ReconstructorSubject) -> None:
    clip = flat_clip(num_frames=subject.num_frames, size=subject.size)
    with checking("a clip of one grey"):
        try:
            scene = subject.reconstruct(clip)
        except ScoreUnavailable:
            return
    raise CheckFailed(f"a clip of one grey was reconstructed as {scene.trajectory.c2w[-1].tolist()}")


def _any_size(subject: ReconstructorSubject) -> None:
    for num_frames, height, width in SHAPES:
        clip = replace(make_clip(MOVE, num_frames=num_frames, size=(height, width)), target=None)
        with checking(f"video of {num_frames} frames, {height}x{width}"), contextlib.suppress(ScoreUnavailable):
            _check_form(subject.reconstruct(clip), clip)


def _check_same(first: Reconstruction, second: Reconstruction, what: str) -> None:
    gap = float((first.trajectory.c2w - second.trajectory.c2w).abs().max())
    if gap > 1e-4:
        raise CheckFailed(f"poses differ by {gap:.3g} {what}")


def _ignores_target(subject: ReconstructorSubject) -> None:
    clip = subject.standard
    for target in (None, camera_path("move right", subject.num_frames, subject.size)):
        other = subject.must_reconstruct(replace(clip, target=target))
        _check_same(subject.scene, other, "when the commanded path is another one or absent")


def _ignores_words(subject: ReconstructorSubject) -> None:
    clip = replace(subject.standard, name="another", prompt="Camera pull out. Something else.")
    _check_same(subject.scene, subject.must_reconstruct(clip), "when the prompt and the name are other ones")


def _deterministic(subject: ReconstructorSubject) -> None:
    with isolation.seeded(7):
        again = subject.must_reconstruct(subject.standard, subject.fresh())
    _check_same(subject.scene, again, "from one run to the next")


def _prints(subject: ReconstructorSubject) -> None:
    isolation.check_prints_nothing(lambda: subject.must_reconstruct(subject.standard).rerender())


def _input_unchanged(subject: ReconstructorSubject) -> None:
    tensors = isolation.clip_tensors(subject.standard)
    isolation.check_unchanged(tensors, lambda: subject.must_reconstruct(subject.standard).rerender())


def _random_state(subject: ReconstructorSubject) -> None:
    isolation.check_leaves_random_state(lambda: subject.must_reconstruct(subject.standard).rerender())


def _frees_clips(subject: ReconstructorSubject) -> None:
    isolation.check_frees(
        subject.standard.video.frames,
        lambda frames: subject.must_reconstruct(isolation.with_frames(subject.standard, frames)),
    )


def _same_on_device(subject: ReconstructorSubject, reconstructor: Reconstructor) -> None:
    there = subject.must_reconstruct(subject.standard, reconstructor)
    gap = float((subject.scene.trajectory.c2w - there.trajectory.c2w).abs().max())
    if gap > 0.05:
        raise CheckFailed(f"poses differ by {gap:.3g} from those on the CPU")
    if there.rerender().frames.device.type != "cpu":
        raise CheckFailed(f"a render stayed on {there.rerender().frames.device}")


RECONSTRUCTOR_CONTRACTS: list[Contract[ReconstructorSubject]] = [
    *COMPONENT_CONTRACTS,
    Contract(
        "form",
        "rewards and reports index poses and depth by frame and pixel",
        "return T poses with intrinsics and image_size, and finite positive float32 depth (T, H, W) or None",
        _form,
    ),
    Contract("first-frame", "paths are compared from frame 0", "return trajectory.relative()", _first_frame),
    Contract(
        "unit",
        "without a unit nobody can tell half a move from a whole one",
        "divide translations and depth by the median depth seen from frame 0, or set trajectory.scene_depth",
        _unit,
    ),
    Contract(
        "known-intrinsics",
        "a focal length that is known must not be estimated again",
        "use clip.intrinsics where it is given, and return it",
        _known_intrinsics,
    ),
    Contract(
        "finds-the-path",
        "a trajectory reward is only as good as the poses",
        "mind the convention: camera-to-world, x right, y down, z forward; pixel centres at +0.5",
        _finds_the_path,
    ),
    Contract(
        "render-form",
        "rewards render views of their own size",
        "return float32 frames (N, 3, H, W) and coverage (N, H, W) in [0, 1]",
        _render_form,
    ),
    Contract(
        "renders-the-clip",
        "a scene that does not look like the clip tells nothing about it",
        "check the direction of poses and the pixel convention in render()",
        _renders_the_clip,
    ),
    Contract(
        "rerenders-the-clip",
        "the reconstruction reward compares rerender() with the frames",
        "render all T frames at the clip's size, in order",
        _rerenders_the_clip,
    ),
    Contract(
        "rerenders-in-other-colours",
        "objectives that follow gradients draw the re-render anew in the colours of the trained video",
        "implement rerender_frames() with the cameras, depth and weights of rerender(), or leave it out",
        _rerenders_in_other_colours,
    ),
    Contract(
        "still-camera",
        "where the camera stays in place, depth is not determined and must not be graded",
        "set has_parallax=False where no translation explains the frames better than rotation alone",
        _still_camera,
    ),
    Contract(
        "moving-camera",
        "rewards that need depth would never apply",
        "set has_parallax=True where translation explains the frames better",
        _moving_camera,
    ),
    Contract(
        "no-texture",
        "blank frames agree with every camera path; a guess would be graded as an estimate",
        "raise ScoreUnavailable where the frames hold too little texture",
        _no_texture,
    ),
    Contract(
        "any-size",
        "videos come in every size and length",
        "raise ScoreUnavailable for what is too short or too small",
        _any_size,
    ),
    Contract(
        "ignores-target",
        "an estimate that starts from the commanded path is pulled to it: every clip would seem to obey",
        "never read clip.target",
        _ignores_target,
    ),
    Contract("ignores-words", "the estimate is of what is seen", "never read prompt or name", _ignores_words),
    Contract(
        "deterministic",
        "a score that changes by itself cannot be reproduced",
        "draw random numbers from a generator of your own with a fixed seed",
        _deterministic,
    ),
    Contract("input-unchanged", "rewards see the same clip", "avoid in-place operations", _input_unchanged),
    Contract(
        "frees-clips",
        "a run reconstructs thousands of clips; what is kept of each fills the memory",
        "keep frames in the Reconstruction alone, never on self or in caches",
        _frees_clips,
    ),
    Contract(
        "leaves-random-state",
        "reconstructors run between the draws of a training loop; moving the global generator changes the samples",
        "use a torch.Generator of your own",
        _random_state,
    ),
    Contract(
        "prints-nothing",
        "stdout holds JSON lines that other programs read",
        "log with worldr1_core.log.get_logger",
        _prints,
    ),
    device_contract(_same_on_device),
]
"""All contracts of a reconstructor."""
