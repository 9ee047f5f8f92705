"""Cameras of a clip from any registered reconstructor, for methods that fit a scene and need the poses given."""

from __future__ import annotations

from worldr1_core.clip import Clip
from worldr1_core.component import load_component
from worldr1_core.errors import PluginError, ScoreUnavailable, UserError
from worldr1_core.plugins import installed
from worldr1_core.reconstructor import Reconstruction, Reconstructor


def build_camera_source(name: str, *, asked_by: Reconstructor) -> Reconstructor:
    """The registered reconstructor `name` with its default options, on the device of the one that asks.

    Args:
        name: As `worldr1 plugins` lists it.
        asked_by: The reconstructor that uses its cameras.

    Raises:
        UnknownNameError: Nothing installed registers the name.
        UserError: It cannot be loaded, or it is the class that asks.
    """
    registry = installed().registry
    component = load_component(registry, "reconstructor", name)
    if isinstance(asked_by, component):
        others = [other for other in registry.names("reconstructor") if other != name]
        raise UserError(f"'cameras': {name!r} would take its cameras from itself. Name another one of {others}.")
    source = component(device=asked_by.device)
    assert isinstance(source, Reconstructor)
    return source


def estimate(source: Reconstructor, clip: Clip) -> Reconstruction:
    """Return the cameras that `source` finds in a clip, in units of the scene depth.

    Raises:
        ScoreUnavailable: The source's own reason, or its camera has skew, which other programs cannot hold.
        PluginError: It returned no camera a frame.
    """
    scene = source.reconstruct(clip)
    path = scene.trajectory
    if path.num_frames != clip.video.num_frames or path.intrinsics is None:
        raise PluginError(
            f"{type(source).__name__} gave {path.num_frames} poses and intrinsics {path.intrinsics!r} for "
            f"{clip.video.num_frames} frames. A source of cameras must give one pose per frame, and intrinsics."
        )
    if float(path.intrinsics[0, 1]) != 0:
        raise ScoreUnavailable(
            f"{clip.name}: the camera has skew {float(path.intrinsics[0, 1])!r}, only 0 is possible."
        )
    return scene
