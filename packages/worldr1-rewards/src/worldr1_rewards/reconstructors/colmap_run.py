"""COLMAP on a clip through pycolmap: frames in a temporary folder in, camera poses and tracked points out."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from worldr1_core.errors import ScoreUnavailable
from worldr1_core.video import Video
from worldr1_core.video_io import write_video
from worldr1_rewards.reconstructors.colmap_package import import_pycolmap
from worldr1_rewards.reconstructors.features import quiet_colmap, read_model

SEED = 0


@dataclass(frozen=True, slots=True)
class SparseModel:
    """The largest model that COLMAP found.

    Attributes:
        poses: `(T, 4, 4)` float64 world-to-camera.
        points: `(N, 3)` float64 in the model's world.
        observed: `(T, N, 2)` pixel positions, NaN where a frame does not observe the point.
        reprojection_error: Mean distance in pixels.
    """

    poses: Tensor
    points: Tensor
    observed: Tensor
    reprojection_error: float


def run_colmap(name: str, frames: Tensor, intrinsics: Tensor, max_features: int) -> SparseModel:
    """SIFT, exhaustive matching and the global mapper, on one thread, from one seed, with the camera held fixed.

    Args:
        name: How messages call the clip.
        frames: `(T, 3, H, W)` RGB in [0, 1].
        intrinsics: `(3, 3)` in pixels, without skew.
        max_features: Most features a frame.

    Raises:
        ScoreUnavailable: There is no model of all frames; the reason counts what there is.
    """
    colmap = import_pycolmap()
    with quiet_colmap(), tempfile.TemporaryDirectory(prefix="worldr1-") as folder:
        models = _map(colmap, Path(folder), frames, intrinsics, max_features)
    largest = max(models, key=lambda model: model.num_reg_images(), default=None)
    registered = 0 if largest is None else largest.num_reg_images()
    if largest is None or registered < len(frames):
        raise ScoreUnavailable(
            f"{name}: COLMAP placed {registered} of {len(frames)} frames. It needs texture that stays in view and a "
            "camera that changes its place."
        )
    return _read(largest, len(frames))


def _map(colmap: Any, folder: Path, frames: Tensor, intrinsics: Tensor, max_features: int) -> list[Any]:
    images, database = folder / "images", folder / "database.db"
    write_video(Video(frames.detach().cpu()), images)
    (focal_x, _, centre_x), (_, focal_y, centre_y), _ = intrinsics.tolist()

    colmap.set_random_seed(SEED)
    reader = colmap.ImageReaderOptions()
    reader.camera_model = "PINHOLE"
    reader.camera_params = ",".join(map(repr, (focal_x, focal_y, centre_x, centre_y)))
    extraction = colmap.FeatureExtractionOptions()
    extraction.num_threads, extraction.use_gpu = 1, False
    extraction.sift.max_num_features = max_features
    colmap.extract_features(
        database,
        images,
        camera_mode=colmap.CameraMode.SINGLE,
        reader_options=reader,
        extraction_options=extraction,
        device=colmap.Device.cpu,
    )
    matching = colmap.FeatureMatchingOptions()
    matching.num_threads, matching.use_gpu = 1, False
    verification = colmap.TwoViewGeometryOptions()
    verification.ransac.random_seed = SEED
    colmap.match_exhaustive(
        database, matching_options=matching, verification_options=verification, device=colmap.Device.cpu
    )
    mapping = colmap.GlobalPipelineOptions()
    mapping.num_threads, mapping.random_seed = 1, SEED
    mapping.mapper.num_threads, mapping.mapper.random_seed = 1, SEED
    # Left free, the focal length of a short clip drifts by factors.
    mapping.mapper.bundle_adjustment.refine_focal_length = False
    (folder / "models").mkdir()
    return list(colmap.global_mapping(database, images, folder / "models", options=mapping).values())


def _read(model: Any, num_frames: int) -> SparseModel:
    found = read_model(model, num_frames)
    poses = torch.stack([found.poses[frame] for frame in range(num_frames)])
    return SparseModel(poses, found.points, found.observed, float(model.compute_mean_reprojection_error()))
