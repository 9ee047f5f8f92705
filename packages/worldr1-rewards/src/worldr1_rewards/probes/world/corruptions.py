"""Typical defects of generated videos, and reward hacks of a policy, made on purpose so that the answer is known.

A *corruption* breaks the 3D world or the commanded path; a *hack* collects reward without showing a world in motion.
Corruptions of the scene and of the path act while rendering; those of the image act on rendered frames.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional

from worldr1_rewards.probes.world.raycaster import surfaces
from worldr1_rewards.probes.world.scenes import NUM_ROOM_SURFACES, Scene

CORRUPTIONS = ("morph", "bend", "swim", "vanish", "flicker", "jitter", "wrong_direction", "wrong_speed")
"""The higher the severity, the worse; the world is broken by the first five, the commanded path by the others."""
HACKS = (
    "frozen",
    "frozen_noise",
    "repeated",
    "zoom2d",
    "slide2d",
    "blur",
    "grey_fade",
    "pure_noise",
    "scene_cut",
    "unrelated",
)
"""Ways to collect reward without showing a world in motion."""
MOTIONS = ("moving_object", "moving_objects")
"""Honest motion: rigid objects travel through the scene; the static world around them is sound."""
MORPHING_OBJECT = "morphing_object"
"""Corruption of scenes in which something moves: one object swells, shrinks and wanders instead of moving rigidly."""
STILL_HACKS = ("frozen", "frozen_noise", "repeated", "zoom2d", "slide2d")
"""Hacks whose camera stays at rest; for a prompt that commands no move they are not hacks, or have no meaning."""
MOVED_DISTANCE, MOVED_YAW = 0.9, 0.3
"""Distance in world units (the scene is about five deep) and turn in radians of an object that moves, at severity 1."""
SLOWEST = 0.4
"""Share of the commanded move that the `wrong_speed` corruption makes at severity 1."""


def seeded_generator(seed: int, name: str) -> torch.Generator:
    """Random numbers of one corruption of one clip, independent of those of the clip's other corruptions."""
    return torch.Generator().manual_seed(1_000_003 * (seed + 1) + sum(map(ord, name)))


def most_visible_solid(scene: Scene, c2w: Tensor, K: Tensor, size: tuple[int, int]) -> int:
    """Index of the solid that covers most of a view."""
    return visible_solids(scene, c2w, K, size)[0]


def visible_solids(scene: Scene, c2w: Tensor, K: Tensor, size: tuple[int, int]) -> list[int]:
    """Indices of the solids from the one that covers most of a view on."""
    surface = surfaces(scene, c2w, K, size)
    counts = [int((surface == NUM_ROOM_SURFACES + index).sum()) for index in range(len(scene.solids))]
    return sorted(range(len(counts)), key=lambda index: -counts[index])


def _waves(generator: torch.Generator, count: int) -> tuple[Tensor, Tensor]:
    return 0.7 + 0.8 * torch.rand(count, 3, generator=generator), 2 * math.pi * torch.rand(
        count, 3, generator=generator
    )


def morphed(scene: Scene, time: float, severity: float, generator: torch.Generator) -> Scene:
    """Objects swell, shrink and wander; `time` in [0, 1]; the first frame is the undisturbed scene."""
    speed, phase = _waves(generator, len(scene.solids))
    solids = []
    for index, solid in enumerate(scene.solids):
        wave = torch.sin(2 * math.pi * speed[index] * time + phase[index]) - torch.sin(phase[index])
        drift = torch.cos(2 * math.pi * speed[index] * time + phase[index]) - torch.cos(phase[index])
        half = solid.half * (1 + 0.4 * severity * wave).clamp(min=0.25)
        solids.append(replace(solid, half=half, centre=solid.centre + 0.12 * severity * drift))
    return scene.with_solids(solids)


def moved(scene: Scene, time: float, severity: float, targets: Sequence[int]) -> Scene:
    """Solids travel towards the middle of the view, rise, and turn about their vertical axis, each as one piece.

    They rise because an object that travels along the epipolar lines of a moving camera looks static.

    Args:
        scene: Undisturbed scene, which is that of time 0.
        time: In [0, 1].
        severity: Distance at time 1, in units of `MOVED_DISTANCE`.
        targets: Numbers of the solids.
    """
    solids = list(scene.solids)
    for target in targets:
        solid = solids[target]
        way = -1.0 if float(solid.centre[0]) > 0 else 1.0
        step = MOVED_DISTANCE * severity * time * torch.tensor([0.8 * way, -0.6, 0.0])
        solids[target] = replace(solid, centre=solid.centre + step, yaw=solid.yaw + MOVED_YAW * severity * time)
    return scene.with_solids(solids)


def morphed_alone(scene: Scene, time: float, severity: float, generator: torch.Generator, target: int) -> Scene:
    """One solid swells, shrinks and wanders as in `morphed`; the others stay as they are."""
    changed = morphed(scene, time, severity, generator)
    solids = list(scene.solids)
    solids[target] = changed.solids[target]
    return scene.with_solids(solids)


def swum(scene: Scene, time: float, severity: float, generator: torch.Generator) -> Scene:
    """Every texture slides along its surface, each in its own direction."""
    heading = functional.normalize(torch.randn(scene.uv_offset.shape, generator=generator), dim=-1)
    world_slide = 0.35 * severity * time
    return scene.with_offset(heading * world_slide / scene.tile_size[:, None])


def vanished(scene: Scene, time: float, severity: float, target: int) -> Scene:
    """Solid number `target` disappears half-way; below severity 1 it shrinks instead."""
    if time < 0.5:
        return scene
    solids = list(scene.solids)
    solid = solids[target]
    keep = 1 - severity
    if keep < 1e-3:
        solids[target] = replace(solid, centre=torch.tensor([0.0, 1e4, -1e4]))
    else:
        solids[target] = replace(solid, half=solid.half * keep)
    return scene.with_solids(solids)


def shaken(c2w: Tensor, scene_depth: float, severity: float, generator: torch.Generator) -> Tensor:
    """Independent shake of every pose but the first: 1.5° and 2 % of the scene depth, standard deviations."""
    angles = math.radians(1.5) * severity * torch.randn(len(c2w), 3, generator=generator, dtype=torch.float64)
    steps = 0.02 * scene_depth * severity * torch.randn(len(c2w), 3, generator=generator, dtype=torch.float64)
    shake = torch.eye(4, dtype=torch.float64).repeat(len(c2w), 1, 1)
    zero = torch.zeros(len(c2w), dtype=torch.float64)
    x, y, z = angles.unbind(-1)
    skew = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], dim=-1).reshape(-1, 3, 3)
    shake[:, :3, :3] = torch.linalg.matrix_exp(skew)
    shake[:, :3, 3] = steps
    shake[0] = torch.eye(4, dtype=torch.float64)
    return c2w @ shake


def resample(frames: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Sample `(T, 3, H, W)` at pixel coordinates `(T, h, w)`, centres at +0.5; the border is repeated outwards."""
    height, width = frames.shape[-2:]
    grid = torch.stack([2 * x / width - 1, 2 * y / height - 1], dim=-1)
    return functional.grid_sample(frames, grid, mode="bicubic", padding_mode="border", align_corners=False).clamp(0, 1)


def pixel_grid(size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Pixel centres `x, y`, each `(H, W)`, of frames of size (H, W)."""
    y, x = torch.meshgrid(torch.arange(size[0]) + 0.5, torch.arange(size[1]) + 0.5, indexing="ij")
    return x, y


def bent(frames: Tensor, severity: float, generator: torch.Generator) -> Tensor:
    """A smooth warp of the image that changes over time: straight walls bend. 3 % of the width at most."""
    num_frames, _, height, width = frames.shape
    time = torch.linspace(0, 1, num_frames)[:, None, None, None]
    waves = functional.interpolate(
        torch.randn(2, 2, 4, 4, generator=generator), (height, width), mode="bicubic", align_corners=True
    )
    phase = 2 * math.pi * torch.rand(2, generator=generator)
    parts = [
        waves[k] * (torch.sin(2 * math.pi * 0.8 * (k + 1) * time + phase[k]) - torch.sin(phase[k])) for k in range(2)
    ]
    swing = parts[0] + parts[1]
    offset = 0.012 * severity * width * swing
    x, y = pixel_grid((height, width))
    return resample(frames, x + offset[:, 0], y + offset[:, 1])


def flickered(frames: Tensor, severity: float, generator: torch.Generator) -> Tensor:
    """Exposure and white balance jump from frame to frame: ±15 % gain a channel, ±6 % offset."""
    gain = 1 + 0.3 * severity * (torch.rand(len(frames), 3, 1, 1, generator=generator) - 0.5)
    offset = 0.12 * severity * (torch.rand(len(frames), 1, 1, 1, generator=generator) - 0.5)
    return (frames * gain + offset).clamp(0, 1)


def flat_motion(wide: Tensor, size: tuple[int, int], scales: Tensor, shifts: Tensor) -> Tensor:
    """2D zoom and slide over one wide image `(3, H', W')`, whose centre is the first frame's centre.

    Args:
        wide: Image larger than the frames.
        size: (H, W) of the frames.
        scales: `(T,)` crop factor; below 1 zooms in.
        shifts: `(T,)` slide of the crop to the right, in pixels.
    """
    x, y = pixel_grid(size)
    x, y = x - size[1] / 2, y - size[0] / 2
    columns = wide.shape[2] / 2 + shifts[:, None, None] + scales[:, None, None] * x
    rows = wide.shape[1] / 2 + scales[:, None, None] * y
    return resample(wide[None].expand(len(scales), -1, -1, -1), columns, rows)


def blurred(frames: Tensor, severity: float) -> Tensor:
    """Gaussian blur of 5 % of the width."""
    sigma = 0.05 * severity * frames.shape[-1]
    reach = max(1, int(2.5 * sigma))
    kernel = torch.exp(-0.5 * (torch.arange(-reach, reach + 1) / sigma) ** 2)
    kernel = (kernel / kernel.sum()).expand(3, 1, -1)
    padded = functional.pad(frames, (reach, reach, reach, reach), mode="replicate")
    return functional.conv2d(functional.conv2d(padded, kernel[:, :, None, :], groups=3), kernel[..., None], groups=3)


def faded(frames: Tensor, severity: float) -> Tensor:
    """Every frame is a little greyer than the one before; the last is flat at severity 1."""
    share = severity * torch.linspace(0, 1, len(frames))[:, None, None, None]
    return frames * (1 - share) + 0.5 * share


def with_noise(frames: Tensor, severity: float, generator: torch.Generator) -> Tensor:
    """Fresh Gaussian noise of standard deviation 0.03 in every frame."""
    return (frames + 0.03 * severity * torch.randn(frames.shape, generator=generator)).clamp(0, 1)


def drowned(frames: Tensor, severity: float, generator: torch.Generator) -> Tensor:
    """Uniform noise in place of the picture; below severity 1 the picture shines through."""
    noise = torch.rand(frames.shape, generator=generator)
    return frames * (1 - severity) + noise * severity
