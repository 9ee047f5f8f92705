"""Sparse features of a clip and their matches, through pycolmap, and the models that explain them.

Frames go through a temporary folder and database, as COLMAP wants them. SIFT, sequential matching and geometric
verification run once; the focal length, the rotation-only test and the incremental mapper read the same matches.
"""

from __future__ import annotations

import contextlib
import math
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from worldr1_rewards.reconstructors.colmap_package import import_pycolmap
from worldr1_rewards.reconstructors.pyramid import luma
from worldr1_rewards.reconstructors.rigid import rays_through

pycolmap = import_pycolmap()

SEED = 0
SMALL_SIDE = 640
"""Longest side in pixels up to which features are sought at twice the size, unless the frames hold plenty."""
PLENTY = 300
"""Features of one frame at its own size that make the search at twice the size unnecessary."""
MAX_FEATURES = 1024
NUM_OCTAVES = 3
OCTAVE_STEPS, OCTAVE_STEPS_ENLARGED = 3, 2
"""Scales of features: between the frames of a clip they hardly change."""
GROWTH = 1.5
"""Growth of the model after which the mapper adjusts all of it again; the last adjustment is ours."""
OVERLAP = 3
"""Every frame is matched with as many neighbours, and with frames 2, 4, 8, … ahead."""
MIN_PAIR_MATCHES = 15
NUM_FOCAL_PAIRS = 8
"""Pairs, those farthest apart, by which a turning camera's focal length is judged."""
MIN_INIT_INLIERS = 40
MIN_INIT_ANGLE = 4.0
"""Degrees by which rays must cross, at the median, in the pair that the mapper starts from."""


@dataclass(frozen=True, slots=True)
class PairMatches:
    """Verified matches of two frames.

    Attributes:
        first, second: Frame indices.
        start, end: `(m, 2)` float64 pixel positions in either.
    """

    first: int
    second: int
    start: Tensor
    end: Tensor


@dataclass(frozen=True, slots=True)
class MappedModel:
    """A model of the incremental mapper.

    Attributes:
        poses: `{frame: (4, 4) float64 world-to-camera}` of the frames that it placed.
        points: `(N, 3)` float64.
        observed: `(T, N, 2)` float64 pixel positions, NaN where a frame does not observe the point.
    """

    poses: dict[int, Tensor]
    points: Tensor
    observed: Tensor


@contextlib.contextmanager
def quiet_colmap() -> Iterator[None]:
    """Silence COLMAP's log within the block; failures are reported as reasons."""
    level, pycolmap.logging.minloglevel = pycolmap.logging.minloglevel, 3
    try:
        yield
    finally:
        pycolmap.logging.minloglevel = level


class FeatureMatches:
    """Features of a clip's frames and their verified matches, in a temporary database.

    Args:
        folder: Empty folder.
        frames: `(T, 3, H, W)` RGB in [0, 1].
        focal: Known focal length in pixels, or `None`.
        centre: Principal point in pixels, (x, y).
    """

    def __init__(self, folder: Path, frames: Tensor, focal: float | None, centre: tuple[float, float]) -> None:
        self.folder, self.num_frames = folder, len(frames)
        self.database, self.images = folder / "database.db", folder / "images"
        self.size = int(frames.shape[-2]), int(frames.shape[-1])
        self.focal_known = focal is not None
        self.focal, self.centre = focal or 1.2 * self.size[1], centre
        pictures = (255 * luma(frames.detach().cpu())[:, 0]).round().to(torch.uint8).numpy()
        self.enlarged = max(self.size) <= SMALL_SIDE and _count_features(pictures[len(pictures) // 2]) < PLENTY
        _write_pictures(pictures, self.images)
        self._extract()
        self._match()
        self.pairs = self._read_pairs()

    def _extract(self) -> None:
        pycolmap.set_random_seed(SEED)
        options = _extraction_options(self.enlarged)
        reader = pycolmap.ImageReaderOptions()
        reader.camera_model = "SIMPLE_PINHOLE"
        if self.focal_known:
            reader.camera_params = ",".join(map(repr, (float(self.focal), *self.centre)))
        pycolmap.extract_features(
            self.database,
            self.images,
            camera_mode=pycolmap.CameraMode.SINGLE,
            reader_options=reader,
            extraction_options=options,
            device=pycolmap.Device.cpu,
        )

    def _match(self) -> None:
        matching = pycolmap.FeatureMatchingOptions()
        matching.num_threads, matching.use_gpu = 1, False
        verification = pycolmap.TwoViewGeometryOptions()
        verification.ransac.random_seed = SEED
        pairing = pycolmap.SequentialPairingOptions()
        pairing.overlap, pairing.quadratic_overlap, pairing.num_threads = OVERLAP, True, 1
        pycolmap.match_sequential(
            self.database,
            matching_options=matching,
            pairing_options=pairing,
            verification_options=verification,
            device=pycolmap.Device.cpu,
        )

    def _read_pairs(self) -> list[PairMatches]:
        with pycolmap.Database.open(self.database) as database:
            images = database.read_all_images()
            self.names = {frame_number(image.name): image.name for image in images}
            frames = {image.image_id: frame_number(image.name) for image in images}
            keypoints = {
                identity: torch.from_numpy(database.read_keypoints(identity)[:, :2]).double() for identity in frames
            }
            pairs = []
            ids, geometries = database.read_two_view_geometries()
            for pair_id, geometry in zip(ids, geometries, strict=True):
                matches = torch.from_numpy(geometry.inlier_matches.astype("int64"))
                if len(matches) < MIN_PAIR_MATCHES:
                    continue
                first, second = pycolmap.pair_id_to_image_pair(pair_id)
                start, end = keypoints[first][matches[:, 0]], keypoints[second][matches[:, 1]]
                pairs.append(PairMatches(frames[first], frames[second], start, end))
        return [pair if pair.first < pair.second else _swapped(pair) for pair in pairs]

    def connected(self) -> bool:
        """True if every frame is connected to every other by matches."""
        reached, grown = {0}, True
        while grown:
            more = {
                frame
                for pair in self.pairs
                if (pair.first in reached) != (pair.second in reached)
                for frame in (pair.first, pair.second)
            }
            grown = not more <= reached
            reached |= more
        return len(reached) == self.num_frames

    def set_focal(self, focal: float) -> None:
        """Hold the camera's focal length at `focal` pixels from now on."""
        self.focal = focal
        with pycolmap.Database.open(self.database) as database:
            camera = database.read_all_cameras()[0]
            camera.params = [focal, *self.centre]
            camera.has_prior_focal_length = True
            database.update_camera(camera)

    def map(self, frames: list[int] | None = None) -> MappedModel | None:
        """The model of the incremental mapper with the present focal length; `None` where there is none.

        Args:
            frames: Frames that may take part; all by default.
        """
        options = pycolmap.IncrementalPipelineOptions()
        options.num_threads, options.random_seed, options.multiple_models = 1, SEED, False
        options.min_model_size, options.extract_colors = 3, False
        options.ba_refine_focal_length = options.ba_refine_extra_params = False
        options.ba_global_max_num_iterations, options.ba_local_max_num_iterations = 15, 8
        options.ba_global_max_refinements = options.ba_local_max_refinements = 1
        options.ba_global_frames_ratio = options.ba_global_points_ratio = GROWTH
        options.mapper.init_min_num_inliers = MIN_INIT_INLIERS
        options.mapper.init_min_tri_angle = MIN_INIT_ANGLE
        options.mapper.abs_pose_min_num_inliers = MIN_PAIR_MATCHES
        if frames is not None:
            options.image_names = [self.names[frame] for frame in frames]
        output = self.folder / "models"
        output.mkdir(exist_ok=True)
        pycolmap.set_random_seed(SEED)
        models = pycolmap.incremental_mapping(self.database, self.images, output, options=options)
        largest = max(models.values(), key=lambda model: model.num_reg_images(), default=None)
        return None if largest is None else read_model(largest, self.num_frames)


def _extraction_options(enlarged: bool) -> Any:
    """SIFT with upright features: cameras hardly roll between the frames of a clip."""
    options = pycolmap.FeatureExtractionOptions()
    options.num_threads, options.use_gpu = 1, False
    options.sift.max_num_features = MAX_FEATURES
    options.sift.upright = True
    options.sift.first_octave = -1 if enlarged else 0
    options.sift.num_octaves = NUM_OCTAVES
    options.sift.octave_resolution = OCTAVE_STEPS_ENLARGED if enlarged else OCTAVE_STEPS
    return options


def _count_features(picture: NDArray[np.uint8]) -> int:
    """Features of a grey picture `(H, W)` at its own size."""
    extractor = pycolmap.FeatureExtractor.create(_extraction_options(enlarged=False), pycolmap.Device.cpu)
    keypoints, _ = extractor.extract_from_uint8_array(picture)
    return len(keypoints)


def _write_pictures(pictures: NDArray[np.uint8], folder: Path) -> None:
    """Grey pictures `(T, H, W)` without loss, hardly compressed: they are read once."""
    folder.mkdir()
    for index, picture in enumerate(pictures):
        Image.fromarray(picture).save(folder / f"frame_{index:05d}.png", compress_level=1)


def frame_number(name: str) -> int:
    """Index of the frame in the name of a picture in its folder."""
    return int(Path(name).stem.rpartition("_")[2])


def _swapped(pair: PairMatches) -> PairMatches:
    return PairMatches(pair.second, pair.first, pair.end, pair.start)


def read_model(model: Any, num_frames: int) -> MappedModel:
    """Poses, points and observations of a `pycolmap.Reconstruction`."""
    ids = sorted(model.points3D)
    columns = {identity: column for column, identity in enumerate(ids)}
    poses: dict[int, Tensor] = {}
    observed = torch.full((num_frames, len(ids), 2), torch.nan, dtype=torch.float64)
    for image in model.images.values():
        if not image.has_pose:
            continue
        frame = frame_number(image.name)
        pose = torch.eye(4, dtype=torch.float64)
        pose[:3] = torch.from_numpy(image.cam_from_world().matrix())
        poses[frame] = pose
        for point in image.points2D:
            if point.has_point3D() and point.point3D_id in columns:
                observed[frame, columns[point.point3D_id]] = torch.from_numpy(point.xy)
    points = torch.tensor([model.points3D[identity].xyz.tolist() for identity in ids], dtype=torch.float64)
    return MappedModel(poses, points.reshape(-1, 3), observed)


@contextlib.contextmanager
def match_features(frames: Tensor, focal: float | None, centre: tuple[float, float]) -> Iterator[FeatureMatches]:
    """Provide features and matches of a clip within the block; see `FeatureMatches`."""
    with quiet_colmap(), tempfile.TemporaryDirectory(prefix="worldr1-") as folder:
        yield FeatureMatches(Path(folder), frames, focal, centre)


def fit_rotation(first: Tensor, second: Tensor, num_iterations: int = 8) -> tuple[Tensor, Tensor]:
    """The rotation that carries rays of one camera to those of another, robustly.

    Args:
        first: `(m, 3)` unit rays.
        second: `(m, 3)` unit rays of the same points.
        num_iterations: Rounds of reweighting.

    Returns:
        `(3, 3)` with `second ≈ first @ rotation.T`, and the residual angles `(m,)` in radians.
    """
    weight = torch.ones(len(first), dtype=first.dtype)
    rotation, residual = torch.eye(3, dtype=first.dtype), weight
    for _ in range(num_iterations):
        left, _, right = torch.linalg.svd((weight[:, None] * second).T @ first)
        flip = torch.diag(first.new_tensor([1.0, 1.0, float(torch.linalg.det(left @ right).sign())]))
        rotation = left @ flip @ right
        residual = (first @ rotation.T - second).norm(dim=-1)
        scale = residual.median().clamp(min=1e-6)
        weight = 1 / (1 + (residual / (2 * scale)).square()).square()
    return rotation, residual


def rotation_residual(pairs: list[PairMatches], intrinsics: Tensor) -> float:
    """Largest median distance in pixels, over the pairs, that no turn on the spot explains."""
    worst = 0.0
    for pair in pairs:
        first, second = (unit_rays(points, intrinsics) for points in (pair.start, pair.end))
        worst = max(worst, float(fit_rotation(first, second)[1].median() * intrinsics[0, 0]))
    return worst


def unit_rays(points: Tensor, intrinsics: Tensor) -> Tensor:
    """Unit directions `(m, 3)` through pixel positions `(m, 2)`."""
    return torch.nn.functional.normalize(rays_through(points, intrinsics), dim=-1)


def chain_rotations(pairs: list[PairMatches], intrinsics: Tensor, num_frames: int) -> Tensor:
    """`(T, 4, 4)` world-to-camera poses of a camera that only turns, along the shortest chain of matched pairs."""
    poses = {0: torch.eye(4, dtype=torch.float64)}
    remaining = sorted(pairs, key=lambda pair: pair.second - pair.first)
    while len(poses) < num_frames:
        pair = next((p for p in remaining if (p.first in poses) != (p.second in poses)), None)
        if pair is None:
            break
        step = torch.eye(4, dtype=torch.float64)
        step[:3, :3], _ = fit_rotation(unit_rays(pair.start, intrinsics), unit_rays(pair.end, intrinsics))
        if pair.first in poses:
            poses[pair.second] = step @ poses[pair.first]
        else:
            poses[pair.first] = step.T @ poses[pair.second]
    known = sorted(poses)
    return torch.stack([poses[min(known, key=lambda frame: abs(frame - t))] for t in range(num_frames)])


def focal_from_turn(pairs: list[PairMatches], start: float, centre: tuple[float, float]) -> tuple[float, float]:
    """Focal length at which turns on the spot explain the matches best.

    Args:
        pairs: Matches of frames between which the camera only turns.
        start: Focal length in pixels around which a factor of three either way is searched.
        centre: Principal point in pixels.

    Returns:
        Focal length in pixels, and the standard deviation of its logarithm, from how the error grows beside it.
    """
    scales = torch.linspace(-math.log(3), math.log(3), 25, dtype=torch.float64)
    chosen = sorted(pairs, key=lambda pair: pair.first - pair.second)[:NUM_FOCAL_PAIRS]
    costs = []
    for scale in scales:
        focal = start * float(scale.exp())
        matrix = torch.tensor([[focal, 0, centre[0]], [0, focal, centre[1]], [0, 0, 1]], dtype=torch.float64)
        total = 0.0
        for pair in chosen:
            residual = fit_rotation(unit_rays(pair.start, matrix), unit_rays(pair.end, matrix), 4)[1] * focal
            total += float((residual.square() / (residual.square() + 1)).sum())
        costs.append(total)
    values = torch.tensor(costs, dtype=torch.float64)
    best = int(values.argmin().clamp(1, len(scales) - 2))
    step = float(scales[1] - scales[0])
    low, middle, high = values[best - 1 : best + 2].tolist()
    bend = max(low - 2 * middle + high, 1e-9)
    offset = max(-1.0, min(1.0, 0.5 * (low - high) / bend))
    count = sum(len(pair.start) for pair in chosen)
    noise = max(middle / max(count, 1), 1e-4)
    deviation = math.sqrt(noise * step**2 / bend)
    return start * math.exp(float(scales[best]) + offset * step), deviation
