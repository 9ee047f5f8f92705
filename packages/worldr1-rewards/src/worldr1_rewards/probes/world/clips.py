"""Clips with exact truth: a scene, a path, and one corruption or hack at a chosen severity."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from worldr1_rewards.probes.world import corruptions
from worldr1_rewards.probes.world.corruptions import seeded_generator
from worldr1_rewards.probes.world.paths import camera_path, prompt_of
from worldr1_rewards.probes.world.raycaster import intrinsics, render_depth, render_frame
from worldr1_rewards.probes.world.scenes import Scene, build_scene

_OTHER_SEED = 5000
"""Distance to the seeds of the scenes that a clip is cut to."""
_WIDE = 1.8


@dataclass(frozen=True)
class WorldClip:
    """A rendered clip with its ground truth.

    Attributes:
        frames: `(T, 3, H, W)` float32 RGB in [0, 1].
        depth: `(T, H, W)` z-depth at pixel centres, of the scene as each frame shows it; for corruptions of the image
            and for hacks without a moving camera it is the depth of the scene behind them.
        c2w: `(T, 4, 4)` float64, true camera path; frame 0 is the identity.
        commanded: `(T, 4, 4)` float64, path that the prompt commands, with this clip's amounts.
        intrinsics: `(3, 3)` float64 in pixels.
        scene_depth: Median depth of the first frame; unit of the amounts.
        prompt: Words that command the moves.
        family, moves, seed, corruption, severity: Arguments of `render_world`.
    """

    frames: Tensor
    depth: Tensor
    c2w: Tensor
    commanded: Tensor
    intrinsics: Tensor
    scene_depth: float
    prompt: str
    family: str
    moves: tuple[str, ...]
    seed: int
    corruption: str
    severity: float


def _walked(commanded: Tensor, corruption: str, severity: float, moves: tuple[str, ...], scene_depth: float,
            amounts: Mapping[str, float] | None, seed: int) -> Tensor:  # fmt: skip
    """The path that the camera takes."""
    if corruption in ("frozen", "frozen_noise", "repeated", "zoom2d", "slide2d"):
        return commanded[:1].expand_as(commanded).clone()
    if corruption == "wrong_direction":
        return camera_path(moves, len(commanded), scene_depth=scene_depth, amounts=amounts, astray=180 * severity)
    if corruption == "wrong_speed":
        share = 1 - (1 - corruptions.SLOWEST) * severity
        return camera_path(moves, len(commanded), scene_depth=scene_depth, amounts=amounts, scale=share)
    if corruption == "jitter":
        return corruptions.shaken(commanded, scene_depth, severity, seeded_generator(seed, "jitter"))
    return commanded


def _scenes(
    scene: Scene,
    family: str,
    corruption: str,
    severity: float,
    seed: int,
    c2w: Tensor,
    K: Tensor,
    size: tuple[int, int],
) -> list[Scene]:
    """Return the scene in front of the camera for every frame."""
    times = torch.linspace(0, 1, len(c2w)).tolist()
    if corruption == "morph":
        return [corruptions.morphed(scene, time, severity, seeded_generator(seed, "morph")) for time in times]
    if corruption == "swim":
        return [corruptions.swum(scene, time, severity, seeded_generator(seed, "swim")) for time in times]
    if corruption == "vanish":
        target = corruptions.most_visible_solid(scene, c2w[len(c2w) // 2], K, size)
        return [corruptions.vanished(scene, time, severity, target) for time in times]
    if corruption in (*corruptions.MOTIONS, corruptions.MORPHING_OBJECT):
        order = corruptions.visible_solids(scene, c2w[len(c2w) // 2], K, size)
        if corruption == corruptions.MORPHING_OBJECT:
            return [
                corruptions.morphed_alone(scene, time, severity, seeded_generator(seed, "morph"), order[0])
                for time in times
            ]
        targets = order[: 1 if corruption == "moving_object" else 2]
        return [corruptions.moved(scene, time, severity, targets) for time in times]
    if corruption == "scene_cut":
        return [scene if time < 0.5 else build_scene(family, seed + _OTHER_SEED) for time in times]
    if corruption == "unrelated":
        others = (build_scene(family, seed + _OTHER_SEED + index) for index in range(1, len(times)))
        return [scene, *others]
    return [scene] * len(times)


def _flat(scene: Scene, commanded: Tensor, K: Tensor, size: tuple[int, int], scene_depth: float, kind: str,
          severity: float) -> Tensor:  # fmt: skip
    """Frames of a 2D zoom or slide over one image that imitates the commanded move."""
    height, width = size
    wide_size = (round(height * _WIDE / 2) * 2, round(width * _WIDE / 2) * 2)
    wide_K = K.clone()
    wide_K[0, 2] += (wide_size[1] - width) / 2
    wide_K[1, 2] += (wide_size[0] - height) / 2
    wide = render_frame(scene, commanded[0], wide_K, wide_size)
    forward, sideways = commanded[:, 2, 3] / scene_depth, commanded[:, 0, 3] / scene_depth
    turn = torch.where(sideways.abs() > 1e-6, torch.zeros_like(sideways), commanded[:, 0, 2] / commanded[:, 2, 2])
    if kind == "zoom2d":
        progress = torch.linspace(0, 1, len(commanded), dtype=torch.float64)
        scales = 1 - severity * torch.where(forward.abs().amax() > 0.05, forward, 0.25 * progress)
        shifts = torch.zeros_like(scales)
    else:
        scales = torch.ones_like(forward)
        shifts = severity * (sideways + turn) * K[0, 0]
    return corruptions.flat_motion(wide, size, scales.float(), shifts.float())


def _on_image(frames: Tensor, corruption: str, severity: float, seed: int) -> Tensor:
    """Corruptions that act on rendered frames."""
    generator = seeded_generator(seed, corruption)
    if corruption == "bend":
        return corruptions.bent(frames, severity, generator)
    if corruption == "flicker":
        return corruptions.flickered(frames, severity, generator)
    if corruption == "blur":
        return corruptions.blurred(frames, severity)
    if corruption == "grey_fade":
        return corruptions.faded(frames, severity)
    if corruption == "frozen_noise":
        return corruptions.with_noise(frames, severity, generator)
    if corruption == "pure_noise":
        return corruptions.drowned(frames, severity, generator)
    return frames


def render_world(
    family: str = "rich",
    moves: str | Sequence[str] = "push in",
    *,
    seed: int = 0,
    size: tuple[int, int] = (128, 128),
    num_frames: int = 17,
    focal: float | None = None,
    fov: float | None = None,
    corruption: str = "clean",
    severity: float = 1.0,
    amounts: Mapping[str, float] | None = None,
    samples: int = 2,
) -> WorldClip:
    """Render a clip; equal arguments give equal clips.

    Args:
        family: Texture family, one of `FAMILIES`.
        moves: One of `MOVES`, or a sequence of them.
        seed: Of the scene and of the corruption's randomness.
        size: (H, W).
        num_frames: T.
        focal: Focal length in pixels; by default 1.2 × width, the product's default guess.
        fov: Horizontal field of view in degrees, instead of `focal`.
        corruption: `"clean"`, or one of `CORRUPTIONS`, `HACKS` and `MOTIONS`, or `MORPHING_OBJECT`.
        severity: In (0, 1].
        amounts: Overrides of `paths.AMOUNTS`.
        samples: Rays a pixel along each axis.
    """
    extra = (*corruptions.MOTIONS, corruptions.MORPHING_OBJECT)
    if corruption not in ("clean", *corruptions.CORRUPTIONS, *corruptions.HACKS, *extra):
        raise ValueError(f"Unknown corruption {corruption!r}.")
    if not 0 < severity <= 1:
        raise ValueError(f"severity must lie in (0, 1], received {severity!r}.")
    words = (moves,) if isinstance(moves, str) else tuple(moves)
    scene = build_scene(family, seed)
    K = intrinsics(size, focal=focal, fov=fov)
    start = torch.eye(4, dtype=torch.float64)
    scene_depth = render_depth(scene, start, K, size).median().item()
    commanded = camera_path(words, num_frames, scene_depth=scene_depth, amounts=amounts)
    c2w = _walked(commanded, corruption, severity, words, scene_depth, amounts, seed)
    shown = _scenes(scene, family, corruption, severity, seed, c2w, K, size)
    if corruption in ("frozen", "frozen_noise", "repeated"):
        frames = render_frame(scene, start, K, size, samples)[None].repeat(num_frames, 1, 1, 1)
    elif corruption in ("zoom2d", "slide2d"):
        frames = _flat(scene, commanded, K, size, scene_depth, corruption, severity)
    else:
        frames = torch.stack([render_frame(s, pose, K, size, samples) for s, pose in zip(shown, c2w, strict=True)])
    depth = torch.stack([render_depth(s, pose, K, size) for s, pose in zip(shown, c2w, strict=True)])
    frames = _on_image(frames, corruption, severity, seed)
    if scene.sensor_noise and corruption != "pure_noise":
        generator = seeded_generator(seed, "sensor")
        count = 1 if corruption == "repeated" else num_frames
        noise = torch.randn(count, *frames.shape[1:], generator=generator)
        frames = (frames + scene.sensor_noise * noise).clamp(0, 1)
    return WorldClip(
        frames, depth, c2w, commanded, K, scene_depth, prompt_of(words), family, words, seed, corruption, severity
    )
