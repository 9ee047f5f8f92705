"""Random clips and scores for property tests of the wire format."""

from __future__ import annotations

import math

import torch
from hypothesis import strategies as st

from worldr1_core.camera.geometry import matrix_from_quaternion, pose
from worldr1_core.camera.trajectory import CameraTrajectory
from worldr1_core.camera.vocabulary import Move
from worldr1_core.clip import Clip
from worldr1_core.reward import Score
from worldr1_core.video import Video

seeds = st.integers(0, 2**31)
texts = st.text(max_size=40)
depths = st.floats(1e-3, 1e4)


@st.composite
def videos(draw, num_frames: int | None = None) -> Video:
    generator = torch.Generator().manual_seed(draw(seeds))
    count = num_frames or draw(st.integers(1, 4))
    shape = (count, 3, draw(st.integers(1, 7)), draw(st.integers(1, 7)))
    if draw(st.booleans()):
        frames = torch.randint(0, 256, shape, generator=generator).to(torch.float32) / 255
    else:
        frames = torch.rand(shape, generator=generator) * (1 + 1e-4) - 5e-5
    if draw(st.booleans()):
        frames.view(-1)[0] = draw(st.sampled_from([-0.0, 0.0, 1.0, 1e-42, 0.5]))
    return Video(
        frames,
        fps=draw(st.floats(0.1, 240)),
        source=draw(st.none() | texts),
        full_size=draw(st.none() | st.tuples(st.integers(1, 9999), st.integers(1, 9999))),
    )


@st.composite
def paths(draw, num_frames: int) -> CameraTrajectory:
    generator = torch.Generator().manual_seed(draw(seeds))
    quaternions = torch.randn(num_frames, 4, generator=generator, dtype=torch.float64)
    quaternions = quaternions / quaternions.norm(dim=-1, keepdim=True)
    centres = torch.randn(num_frames, 3, generator=generator, dtype=torch.float64)
    focal = draw(st.floats(1, 1e4))
    intrinsics = torch.tensor([[focal, 0, 31.7], [0, focal * 1.1, 15.3], [0, 0, 1]], dtype=torch.float64)
    return CameraTrajectory(
        pose(matrix_from_quaternion(quaternions), centres),
        draw(st.sampled_from([None, intrinsics])),
        draw(st.none() | st.tuples(st.integers(1, 999), st.integers(1, 999))),
        draw(st.none() | depths),
    )


@st.composite
def clips(draw) -> Clip:
    video = draw(videos())
    matrix = torch.tensor(
        [[50.3, 0, 3.2], [0, 51.1, 2.7], [0, 0, 1]], dtype=draw(st.sampled_from([torch.float32, torch.float64]))
    )
    return Clip(
        video=video,
        prompt=draw(texts),
        target=draw(st.none() | paths(video.num_frames)),
        intrinsics=draw(st.sampled_from([None, matrix])),
        name=draw(texts),
        reference=draw(st.none() | videos()),
        moves=tuple(draw(st.lists(st.sampled_from(list(Move)), max_size=3))),
    )


plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)


@st.composite
def scores(draw) -> Score:
    details = draw(st.dictionaries(texts, plain, max_size=3))
    spatial_map = None
    if draw(st.booleans()):
        generator = torch.Generator().manual_seed(draw(seeds))
        spatial_map = torch.randn(draw(st.integers(0, 4)), draw(st.integers(1, 4)), generator=generator)
        spatial_map = spatial_map.to(
            draw(st.sampled_from([torch.float32, torch.float64, torch.float16, torch.bfloat16]))
        )
        if spatial_map.numel():
            spatial_map[0, 0] = math.nan
    if draw(st.booleans()):
        return Score(draw(st.floats(allow_nan=False, allow_infinity=False)), details=details, spatial_map=spatial_map)
    return Score(math.nan, draw(texts), draw(st.booleans()), details, spatial_map)
