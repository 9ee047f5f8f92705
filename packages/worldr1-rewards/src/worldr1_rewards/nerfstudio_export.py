"""Clip, cameras and fitted model as files that nerfstudio opens: `ns-train --data`, `ns-viewer --load-config`.

| file | holds |
|---|---|
| `transforms.json` | cameras in nerfstudio's axes; the world has z up and its origin one scene depth ahead of frame 0 |
| `images/frame_00000.png`, ... | the frames |
| `outputs/clip/METHOD/fit/config.yml` | the fitted model's configuration; its parser settings keep the world as it is |
| `outputs/clip/METHOD/fit/nerfstudio_models/step-*.ckpt` | its weights |
"""

from __future__ import annotations

import copy
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from worldr1_core.camera.formats import save_trajectory
from worldr1_core.camera.geometry import default_intrinsics
from worldr1_core.camera.trajectory import CameraTrajectory
from worldr1_core.clip import Clip
from worldr1_core.errors import OutputError, require
from worldr1_core.reconstructor import Reconstruction
from worldr1_core.video_io import write_video
from worldr1_rewards.reconstructors.foreign_code import quiet
from worldr1_rewards.reconstructors.nerfstudio import NerfstudioReconstruction
from worldr1_rewards.reconstructors.nerfstudio_models import EXTRA, TO_WORLD

EXPERIMENT, RUN = "clip", "fit"


def export_nerfstudio(clip: Clip, scene: Reconstruction, folder: str | os.PathLike[str]) -> list[Path]:
    """Write a clip and its reconstruction for nerfstudio; files of these names are replaced.

    Args:
        clip: Its frames become the images.
        scene: From any reconstructor. That of `nerfstudio` leaves its model too; of others the cameras are written.
        folder: Made if it does not exist. Configurations name it by its absolute path: export again after moving it.

    Returns:
        `transforms.json`, and the model's `config.yml` where there is a model.

    Raises:
        OutputError: The folder cannot be written.
        TrajectoryError: The camera has skew, which nerfstudio cannot hold.
        MissingExtraError: There is a model, and nerfstudio is not installed.
    """
    folder = Path(folder).resolve()
    written = [_write_dataset(clip, scene, folder)]
    if isinstance(scene, NerfstudioReconstruction):
        written.append(_write_model(scene, folder))
    return written


def nerfstudio_path(trajectory: CameraTrajectory, size: tuple[int, int]) -> CameraTrajectory:
    """The path in nerfstudio's world (z up), in units of the scene depth; camera axes stay OpenCV's."""
    path = trajectory.relative()
    path = path.scaled(1 / (path.scene_depth or 1.0))
    intrinsics = default_intrinsics(*size) if path.intrinsics is None else path.intrinsics
    return replace(path, c2w=TO_WORLD @ path.c2w, intrinsics=intrinsics, image_size=path.image_size or size)


def _write_dataset(clip: Clip, scene: Reconstruction, folder: Path) -> Path:
    path = nerfstudio_path(scene.trajectory, clip.video.size)
    write_video(clip.video, folder / "images")
    return save_trajectory(path, folder / "transforms.json")


def _write_model(scene: NerfstudioReconstruction, folder: Path) -> Path:
    with quiet():
        require("nerfstudio", extra=EXTRA)
        config = _trainer_config(scene, folder)
        base, checkpoints = config.get_base_dir(), config.get_checkpoint_dir()
        step = scene.fitted.plan.iterations - 1
        state = {f"_model.{name}": value.cpu() for name, value in scene.fitted.model.state_dict().items()}
        try:
            checkpoints.mkdir(parents=True, exist_ok=True)
            for stale in checkpoints.glob("step-*.ckpt"):
                stale.unlink()
            torch.save(
                {"step": step, "pipeline": state, "optimizers": {}, "schedulers": {}, "scalers": {}},
                checkpoints / f"step-{step:09d}.ckpt",
            )
            config.save_config()
        except OSError as error:
            raise OutputError(f"Cannot write to {str(folder)!r}: {error}. Choose a place you may write to.") from error
    return Path(base) / "config.yml"


def _trainer_config(scene: NerfstudioReconstruction, folder: Path) -> Any:
    from nerfstudio.configs.method_configs import method_configs
    from nerfstudio.data.dataparsers.nerfstudio_dataparser import NerfstudioDataParserConfig

    plan, model = scene.fitted.plan, scene.fitted.model
    config = copy.deepcopy(method_configs[plan.method])
    config.output_dir, config.experiment_name, config.timestamp = folder / "outputs", EXPERIMENT, RUN
    config.data, config.max_num_iterations = folder, plan.iterations
    config.machine.device_type = "cuda" if model.device.type == "cuda" else "cpu"
    config.pipeline.model = model.config
    config.pipeline.datamanager.data = folder
    # nerfstudio would turn, centre and scale the cameras anew, away from the world that the model was fitted in.
    config.pipeline.datamanager.dataparser = NerfstudioDataParserConfig(
        data=folder,
        orientation_method="none",
        center_method="none",
        auto_scale_poses=False,
        eval_mode="all",
        downscale_factor=1,
    )
    return config
