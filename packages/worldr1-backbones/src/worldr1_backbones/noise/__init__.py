"""Noise conditioners: plain Gaussian noise, and noise that the commanded camera path carries along."""

from worldr1_backbones.noise.camera_warp import CameraWarpNoise
from worldr1_core.gaussian_noise import GaussianNoise

__all__ = ["CameraWarpNoise", "GaussianNoise"]
