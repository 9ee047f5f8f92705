"""Noise is noise: N(0, 1) in every frame, white, independent across channels, whatever moves it."""

from __future__ import annotations

import functools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from noise.clips import SMALL, drawn, geometry, path_of, transported, wall_depth
from noise.measures import goodness_of_fit, lag_scores
from worldr1_core.camera import CameraTrajectory, Move
from worldr1_core.camera.flow import plane_flow
from worldr1_core.camera.geometry import pose, rotation_y

SEEDS = 20
WORDS = [move.phrase for move in Move]
TWO_MOVES = ["push in, then pan left", "orbit right, then pull out"]
FRAME = (SMALL.video_height, SMALL.video_width)


def _moving_object() -> torch.Tensor:
    """A block that slides right by 2 pixels a frame over a still ground, and loses its lower rows from sight."""
    flow = torch.zeros(SMALL.video_frames - 1, 2, *FRAME)
    for step in flow:
        step[0, 30:90, 40:120] = 2.0
        step[:, 80:90, 40:120] = torch.nan
    return flow


def _whirl() -> torch.Tensor:
    """Expansion in one place, contraction in another, rotation everywhere."""
    y, x = torch.meshgrid(torch.linspace(-1, 1, FRAME[0]), torch.linspace(-1, 1, FRAME[1]), indexing="ij")
    step = torch.stack([6 * x * (x + 0.3) - 3 * y, 5 * y * x + 3 * x])
    return step.expand(SMALL.video_frames - 1, -1, -1, -1)


CASES = {
    **{words: {"prompt": words} for words in WORDS + TWO_MOVES},
    "flow of a push": {"flow": plane_flow(path_of("push in"), FRAME)},
    "flow of a pull": {"flow": plane_flow(path_of("pull out, then pan right"), FRAME)},
    "flow of an object": {"flow": _moving_object()},
    "flow of a whirl": {"flow": _whirl()},
    "depth of a wall": {"prompt": "push in", "depth": wall_depth(path_of("push in"))},
    "depth of a column": {
        "prompt": "move left, then move right",
        "depth": wall_depth(path_of("move left, then move right"), column=True),
    },
}


@functools.cache
def _noise(case: str) -> torch.Tensor:
    """`(SEEDS, C, T, H, W)`."""
    return torch.stack([transported(seed=seed, **CASES[case]) for seed in range(SEEDS)])


@pytest.mark.parametrize("case", CASES)
def test_every_frame_is_standard_normal(case):
    noise = _noise(case)
    for frame in range(noise.shape[2]):
        assert goodness_of_fit(noise[:, :, frame]) > 1e-4


@pytest.mark.parametrize("case", CASES)
def test_every_frame_is_white_and_channels_are_independent(case):
    noise = _noise(case)
    for frame in range(noise.shape[2]):
        fields = noise[:, :, frame]
        scores = lag_scores(fields.flatten(0, 1), reach=3)
        assert scores.abs().max() < 4.7
        assert 0.25 < float(scores.square().mean()) < 2.5  # 24 squares of N(0, 1)
        channels = torch.einsum("scyx,sdyx->cd", fields, fields) / fields[:, 0].numel() ** 0.5
        assert channels.fill_diagonal_(0).abs().max() < 4.7


@pytest.mark.parametrize("case", ["push in", "flow of a whirl", "depth of a column"])
def test_variance_is_one_at_every_place(case):
    """Over seeds and channels: borders, seams and disoccluded pixels are no exception."""
    noise = _noise(case)
    variance = noise.square().mean(dim=(0, 1))
    count = noise.shape[0] * noise.shape[1]
    assert ((variance - 1) / (2 / count) ** 0.5).abs().max() < 6.5  # chi-squared with 80 degrees has a heavy right tail
    assert abs(float(variance.mean()) - 1) < 0.02


INJECTIONS = [
    {"injection": "replace"},
    {"injection": "blend", "strength": 0.5},
    {"injection": "lowpass-delta", "strength": 0.8},
    {"injection": "stepwise-delta"},
]


@pytest.mark.parametrize("options", INJECTIONS, ids=lambda o: o["injection"])
def test_every_injection_starts_from_white_noise(options):
    sizes = geometry(4, 5, (18, 30))
    noise = torch.stack([drawn("orbit left", seed, sizes, **options).latents for seed in range(60)])
    for frame in range(noise.shape[2]):
        assert goodness_of_fit(noise[:, :, frame]) > 1e-4
        assert lag_scores(noise[:, :, frame].flatten(0, 1), reach=5).abs().max() < 4.7


def test_the_released_lowpass_is_not_white_and_the_check_sees_it():
    sizes = geometry(4, 5, (18, 30))
    options = {"injection": "lowpass-delta", "strength": 0.8, "renormalise": "latent", "filter_size": 5}
    noise = torch.stack([drawn("orbit left", seed, sizes, **options).latents for seed in range(60)])
    assert lag_scores(noise[:, :, 1].flatten(0, 1), reach=3).abs().max() > 8


@st.composite
def _paths(draw):
    steps = SMALL.video_frames
    yaw = torch.linspace(0, draw(st.floats(-200, 200)), steps, dtype=torch.float64)
    end = torch.tensor([draw(st.floats(-3000, 3000)) for _ in range(3)], dtype=torch.float64)
    sway = draw(st.floats(0, 300)) * torch.sin(torch.arange(steps, dtype=torch.float64) * draw(st.floats(0, 3)))
    positions = torch.linspace(0, 1, steps, dtype=torch.float64)[:, None] * end
    positions[:, 0] += sway
    return CameraTrajectory(pose(rotation_y(yaw), positions), scene_depth=draw(st.floats(50, 5000)))


@settings(max_examples=25, deadline=None, derandomize=True)
@given(path=_paths(), seed=st.integers(0, 2**40))
def test_any_path_gives_white_noise(path, seed):
    noise = transported(geometry(8, 17, (10, 16)), trajectory=path, seed=seed)
    assert bool(noise.isfinite().all())
    for frame in range(noise.shape[1]):
        assert goodness_of_fit(noise[:, frame]) > 1e-5
        assert lag_scores(noise[:, frame], reach=2).abs().max() < 5.2
