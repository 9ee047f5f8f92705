"""A camera path and its files, built with NumPy and SciPy alone."""

import json
from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation

OPENGL = np.diag([1.0, -1.0, -1.0, 1.0])


def truth(num_frames: int = 5, seed: int = 0) -> np.ndarray:
    """Camera-to-world `(T, 4, 4)`, OpenCV axes: random walk and random rotation."""
    rng = np.random.default_rng(seed)
    c2w = np.tile(np.eye(4), (num_frames, 1, 1))
    c2w[:, :3, :3] = Rotation.random(num_frames, random_state=seed).as_matrix()
    c2w[:, :3, 3] = rng.normal(size=(num_frames, 3)).cumsum(axis=0)
    return c2w


def inverse(poses: np.ndarray) -> np.ndarray:
    return np.linalg.inv(poses)


def quaternions(poses: np.ndarray, *, scalar_first: bool = False) -> np.ndarray:
    xyzw = Rotation.from_matrix(poses[:, :3, :3]).as_quat()
    return np.roll(xyzw, 1, axis=1) if scalar_first else xyzw


def write_json(path: Path, document: object) -> Path:
    path.write_text(json.dumps(document))
    return path


def write_text(path: Path, text: str, encoding: str = "utf-8") -> Path:
    path.write_bytes(text.encode(encoding))
    return path


def table(rows: np.ndarray, separator: str = " ") -> str:
    return "\n".join(separator.join(repr(float(value)) for value in row) for row in rows) + "\n"
