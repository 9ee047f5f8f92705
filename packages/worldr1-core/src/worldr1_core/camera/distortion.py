"""Lens distortion and fisheye models in camera files: refused, since every camera here is a pinhole."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch

from worldr1_core.camera.trajectory import as_float64
from worldr1_core.errors import TrajectoryError

_COEFFICIENT = re.compile(r"k[1-6]|p[1-4]|s[1-4]|tau[xy]|omega|xi")
_LISTS = frozenset(
    {"d", "dist", "distortion", "dist_coeffs", "dist_coeff", "distortion_coeffs", "distortion_coefficients"}
    | {"distortion_params", "distortion_parameters", "radial_distortion", "tangential_distortion"}
)
_MODELS = ("camera_model", "camera_type", "model", "distortion_model", "projection")
_NOT_PINHOLE = re.compile(r"fisheye|equi|spher|panoram|omni|mei\b|kannala|ucm|eucm|double|fov|ortho|vr180|360")
_NEGLIGIBLE = 1e-6
_MOST_COEFFICIENTS = 14  # of OpenCV's distortion models


def is_distortion_key(key: str) -> bool:
    """Return True if a field of a camera file describes the lens (`k1`, `distortion`, `camera_model`, ...)."""
    name = key.lower()
    return bool(_COEFFICIENT.fullmatch(name)) or name in _LISTS or name in _MODELS or name == "is_fisheye"


def refuse_distortion(fields: Mapping[str, Any], where: str = "the camera") -> None:
    """Check that the fields of a camera describe a pinhole; other fields are ignored.

    Args:
        fields: Coefficients by name (`k1`, `p2`, ...), as lists (`distortion`), and the name of a camera model.
        where: How messages call the camera.

    Raises:
        TrajectoryError: A coefficient is not zero, or the model is not a perspective one.
    """
    for key, value in fields.items():
        name = key.lower()
        fisheye = name in _MODELS and isinstance(value, str) and _NOT_PINHOLE.search(value.lower())
        if fisheye or (name == "is_fisheye" and value):
            coefficients = _nonzero(fields)
            listed = f", coefficients {coefficients!r}" if coefficients else ""
            raise TrajectoryError(f"{where} is no pinhole: {key} is {value!r}{listed}. {_UNDISTORT_FISHEYE}")
    coefficients = _nonzero(fields)
    if coefficients:
        raise TrajectoryError(f"{where} has lens distortion: {coefficients!r}. {_UNDISTORT}")


def _nonzero(fields: Mapping[str, Any]) -> dict[str, Any]:
    found = {}
    for key, value in fields.items():
        name = key.lower()
        if (_COEFFICIENT.fullmatch(name) or name in _LISTS) and value is not None:
            numbers = as_float64(list(value.values()) if isinstance(value, Mapping) else value, key)
            # A longer array of that name is something else, e.g. `D` for depth.
            if numbers.numel() <= _MOST_COEFFICIENTS and bool(
                (~torch.isfinite(numbers) | (numbers.abs() > _NEGLIGIBLE)).any()
            ):
                found[key] = value
    return found


_THEN = (
    "give the intrinsics of the undistorted frames. If the clip is undistorted already, state its pinhole intrinsics: "
    "coefficients 0, and no fisheye model."
)
_UNDISTORT = (
    "Rewards take every camera for a pinhole. Undistort the frames (cv2.undistort, or 'colmap image_undistorter') and "
    + _THEN
)
_UNDISTORT_FISHEYE = (
    "Rewards take every camera for a pinhole. Undistort the frames (cv2.fisheye.undistortImage, or "
    "'colmap image_undistorter') and " + _THEN
)
