"""Reconstructions in an interactive viewer: viser, in a browser, or rerun, in a window of its own.

Both show what the HTML report shows, with more points: the point cloud, the commanded and the estimated cameras, and
the frames on their image planes.
"""

from __future__ import annotations

import math
import re
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from worldr1_core.camera.geometry import quaternion_from_matrix
from worldr1_core.errors import UserError, require, suggest
from worldr1_core.frame_grid import pick_frames
from worldr1_core.log import get_logger
from worldr1_core.pages.encoding import resize
from worldr1_core.pages.scene import PointCloud, Scene, ScenePath
from worldr1_core.scoring import ClipScores
from worldr1_rewards.report.scene_data import clip_scene
from worldr1_rewards.report.summary import short_name

EXTRA = "worldr1-rewards[viewer]"
NUM_POINTS = 60_000
"""Points of a clip in a viewer."""
MAX_CLIPS = 20
"""Clips that a viewer shows; later ones are left out."""
_FRAME_SIDE = 160
_NUM_FRUSTA = 17
_POINT_SIZE, _FRUSTUM_SIZE = 0.008, 0.08
"""Sizes in scene depths."""
_COLOURS = {"commanded": (0, 114, 178), "estimated": (213, 94, 0)}
_HOST = "127.0.0.1"
"""A viewer has no password, so that it listens to this machine alone."""

log = get_logger(__name__)

Bytes = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class ViewedClip:
    """What a viewer shows of a clip.

    Attributes:
        name: Its name, unique among the clips of a viewer.
        scene: Points and camera paths.
        frames: `(T, h, w, 3)` uint8, shrunk.
    """

    name: str
    scene: Scene
    frames: Bytes


def viewed_clip(result: ClipScores, index: int = 0) -> ViewedClip:
    """Reduce a result to what a viewer shows, so that its frames and reconstruction can be freed.

    Args:
        result: From `worldr1_rewards.scoring.Scorer.score`.
        index: Number of the clip in the viewer.
    """
    scene, reason = clip_scene(result, num_points=NUM_POINTS)
    if reason is not None:
        log.warning("no points to view", clip=result.clip.name, reason=reason)
    frames = result.clip.video.frames.detach().cpu()
    scale = min(1.0, _FRAME_SIDE / max(frames.shape[-2:]))
    size = (max(1, round(frames.shape[-2] * scale)), max(1, round(frames.shape[-1] * scale)))
    pixels = (resize(frames, size).clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1)
    # Viewers take names as paths, in which other characters have a meaning.
    name = f"{index:03d}-" + re.sub(r"[^\w.-]", "_", short_name(result.clip.name))
    return ViewedClip(name, scene, pixels.contiguous().numpy())


class Viewer:
    """Collects clips while they are scored, and shows them at the end.

    Args:
        name: `"viser"`, which serves a page until it is interrupted, or `"rerun"`, which opens a window.

    Raises:
        UserError: The viewer is unknown.
        MissingExtraError: It is not installed.
    """

    def __init__(self, name: str) -> None:
        if name not in _VIEWERS:
            raise UserError(f"Unknown viewer {name!r}. Allowed: {list(_VIEWERS)}.{suggest(name, _VIEWERS)}")
        require(name, extra=EXTRA)
        self.name = name
        self.clips: list[ViewedClip] = []
        self._num_left_out = 0

    def add(self, result: ClipScores) -> None:
        """Take a clip, up to `MAX_CLIPS` of them."""
        if len(self.clips) < MAX_CLIPS:
            self.clips.append(viewed_clip(result, len(self.clips)))
        else:
            self._num_left_out += 1

    def open(self) -> None:
        """Show the clips, and wait until the viewer is interrupted if it is served by this process."""
        if self._num_left_out:
            log.warning("clips left out of the viewer", shown=len(self.clips), left_out=self._num_left_out)
        if self.clips:
            _VIEWERS[self.name](self.clips)


def _open_viser(clips: Sequence[ViewedClip]) -> None:
    server = require("viser", extra=EXTRA).ViserServer(host=_HOST, label="World-R1", verbose=False)
    show_in_viser(server, clips)
    log.info("viewer is open until it is interrupted with Ctrl-C", address=f"http://{_HOST}:{server.get_port()}")
    try:
        threading.Event().wait()
    except KeyboardInterrupt:
        server.stop()


def show_in_viser(server: Any, clips: Sequence[ViewedClip]) -> None:
    """Add clips to a `viser.ViserServer`; the first is shown, the others can be switched on in the scene tree."""
    server.scene.set_up_direction("-y")
    for index, clip in enumerate(clips):
        root = f"/{clip.name}"
        server.scene.add_frame(root, show_axes=False, visible=index == 0)
        if clip.scene.points is not None:
            positions, colours = _points(clip.scene.points)
            server.scene.add_point_cloud(f"{root}/points", positions, colours, point_size=_POINT_SIZE)
        for path in clip.scene.paths:
            for frame in pick_frames(len(path.c2w), _NUM_FRUSTA):
                is_clip = path.name == "estimated" and frame < len(clip.frames)
                server.scene.add_camera_frustum(
                    f"{root}/{path.name}/{frame:04d}",
                    fov=2 * math.atan(math.tan(path.half_angle) * path.aspect),
                    aspect=1 / path.aspect,
                    scale=_FRUSTUM_SIZE,
                    color=_COLOURS[path.name],
                    image=clip.frames[frame] if is_clip else None,
                    wxyz=_quaternion(path, frame)[[3, 0, 1, 2]],
                    position=path.c2w[frame, :3, 3].numpy(),
                )


def _open_rerun(clips: Sequence[ViewedClip]) -> None:
    rerun = require("rerun", extra=EXTRA)
    recording = rerun.RecordingStream("worldr1")
    recording.spawn()
    show_in_rerun(recording, clips)
    recording.flush()


def show_in_rerun(recording: Any, clips: Sequence[ViewedClip]) -> None:
    """Log clips to a `rerun.RecordingStream`, with the frames on the timeline `frame`."""
    rerun = require("rerun", extra=EXTRA)
    for clip in clips:
        recording.log(clip.name, rerun.ViewCoordinates.RIGHT_HAND_Y_DOWN, static=True)
        if clip.scene.points is not None:
            positions, colours = _points(clip.scene.points)
            points = rerun.Points3D(positions, colors=colours, radii=_POINT_SIZE / 2)
            recording.log(f"{clip.name}/points", points, static=True)
        for path in clip.scene.paths:
            strip = rerun.LineStrips3D([path.c2w[:, :3, 3].numpy()], colors=[_COLOURS[path.name]])
            recording.log(f"{clip.name}/{path.name}", strip, static=True)
            _log_cameras(rerun, recording, clip, path)


def _log_cameras(rerun: Any, recording: Any, clip: ViewedClip, path: ScenePath) -> None:
    height, width = clip.frames.shape[1:3]
    camera = f"{clip.name}/{path.name}/camera"
    focal = width / 2 / math.tan(path.half_angle)
    pinhole = rerun.Pinhole(focal_length=focal, width=width, height=height, image_plane_distance=_FRUSTUM_SIZE)
    recording.log(camera, pinhole, static=True)
    for frame in range(len(path.c2w)):
        recording.set_time("frame", sequence=frame)
        turn = rerun.Quaternion(xyzw=_quaternion(path, frame))
        recording.log(camera, rerun.Transform3D(translation=path.c2w[frame, :3, 3].numpy(), quaternion=turn))
        if path.name == "estimated" and frame < len(clip.frames):
            recording.log(camera, rerun.Image(clip.frames[frame]))


def _points(points: PointCloud) -> tuple[NDArray[np.float32], Bytes]:
    colours = (points.colours.clamp(0, 1) * 255).round().to(torch.uint8)
    return points.positions.float().numpy(), colours.numpy()


def _quaternion(path: ScenePath, frame: int) -> NDArray[np.float64]:
    """Orientation of a camera as `(x, y, z, w)`."""
    quaternion: NDArray[np.float64] = quaternion_from_matrix(path.c2w[frame, :3, :3].double()).numpy()
    return quaternion


_VIEWERS: Mapping[str, Callable[[Sequence[ViewedClip]], None]] = {"viser": _open_viser, "rerun": _open_rerun}
"""Name of a viewer -> function that opens it."""
