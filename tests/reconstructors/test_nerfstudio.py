"""nerfacto really fitted on the CPU, small. Needs the extra `nerfstudio`: see `.ci/run` for the command."""

from __future__ import annotations

import pytest
import torch

pytest.importorskip("nerfstudio", reason="the extra `nerfstudio` has an environment of its own (.ci/run)")

from worldr1_core.clip import Clip
from worldr1_core.errors import ScoreUnavailable
from worldr1_core.testing import make_clip, reconstructor_checks
from worldr1_core.testing.clips import true_reconstruction
from worldr1_core.video import Video
from worldr1_rewards.nerfstudio_export import export_nerfstudio
from worldr1_rewards.reconstructors.nerfstudio import NerfstudioReconstructor

SIZE, FRAMES = (32, 40), 5
SMALL = {"iterations": 100, "rays": 128}
MIN_PSNR = 14.0
"""Of a fit this short; the default options reach 26 dB on the kit's clip."""


@pytest.mark.parametrize(
    "check",
    reconstructor_checks(
        NerfstudioReconstructor, options=SMALL, size=SIZE, num_frames=FRAMES, min_psnr=MIN_PSNR, max_path_error=0.3
    ),
    ids=str,
)
def test_contract(check):
    check()


@pytest.fixture(scope="module")
def clip() -> Clip:
    return make_clip("arc", size=SIZE, num_frames=FRAMES)


@pytest.fixture(scope="module")
def scene(clip):
    return NerfstudioReconstructor(**SMALL).reconstruct(clip)


def test_the_fit_repeats_itself(clip, scene):
    torch.manual_seed(3)
    again = NerfstudioReconstructor(**SMALL).reconstruct(clip)
    torch.testing.assert_close(again.own.frames, scene.own.frames, atol=1e-3, rtol=0)


def test_depth_is_that_of_the_scene(scene):
    truth = true_reconstruction("arc", FRAMES, SIZE).depth
    assert float(((scene.depth - truth).abs() / truth).median()) < 0.15


def test_what_the_clip_never_showed_is_not_covered(scene):
    aside = torch.eye(4, dtype=torch.float64)[None].clone()
    aside[0, 0, 3] = 3.0
    view = scene.render(aside, scene.trajectory.intrinsics, SIZE)
    assert float(view.coverage.mean()) < 0.5 < float(scene.rerender().coverage.mean())


def test_a_large_clip_is_fitted_small_and_described_at_its_size(clip):
    found = NerfstudioReconstructor(iterations=5, rays=64, max_side=24).reconstruct(clip)
    assert found.fitted_size == (19, 24)
    assert found.depth.shape == (FRAMES, *SIZE)
    assert found.rerender().frames.shape == clip.video.frames.shape


def test_more_steps_fit_better(clip, scene):
    short = NerfstudioReconstructor(iterations=5, rays=128).reconstruct(clip)
    errors = [float((s.rerender().frames - clip.video.frames).square().mean()) for s in (scene, short)]
    assert errors[0] < 0.8 * errors[1]


def test_what_the_cameras_refuse_is_refused_for_the_same_reason():
    flat = Clip(Video(torch.full((FRAMES, 3, *SIZE), 0.4)))
    with pytest.raises(ScoreUnavailable, match="no texture"):
        NerfstudioReconstructor(**SMALL).reconstruct(flat)


def test_colmap_gives_its_cameras_and_its_refusals():
    pytest.importorskip("pycolmap", reason="needs the extra `colmap`")
    from worldr1_rewards.probes.world import render_world

    moving, frozen = (
        Clip(Video(render_world("rich", "push in", seed=1, num_frames=5, corruption=kind).frames))
        for kind in ("clean", "frozen")
    )
    found = NerfstudioReconstructor(cameras="colmap", iterations=5, rays=64, max_side=32).reconstruct(moving)
    assert found.diagnostics["cameras"] == "colmap"
    assert found.trajectory.c2w[-1, 2, 3] > 0.1
    with pytest.raises(ScoreUnavailable, match="COLMAP placed 0 of 5 frames"):
        NerfstudioReconstructor(cameras="colmap").reconstruct(frozen)


def test_nerfstudio_opens_what_is_exported_and_draws_the_same(clip, scene, tmp_path, monkeypatch):
    import torchmetrics.image.lpip
    from nerfstudio.data.dataparsers.nerfstudio_dataparser import NerfstudioDataParserConfig
    from nerfstudio.utils.eval_utils import eval_setup

    transforms, config_file = export_nerfstudio(clip, scene, tmp_path)
    parsed = NerfstudioDataParserConfig(data=transforms.parent).setup().get_dataparser_outputs("train")
    assert len(parsed.image_filenames) == FRAMES
    # Its weights are a download; nothing here asks for the metric.
    monkeypatch.setattr(
        torchmetrics.image.lpip, "LearnedPerceptualImagePatchSimilarity", lambda **_: torch.nn.Identity()
    )
    config, pipeline, checkpoint, step = eval_setup(config_file, test_mode="inference")
    assert (config.method_name, step) == ("nerfacto", SMALL["iterations"] - 1)
    assert checkpoint.is_file()
    cameras = pipeline.datamanager.train_dataset.cameras
    assert len(cameras) == FRAMES
    with torch.no_grad():
        drawn = [pipeline.model.get_outputs_for_camera(cameras[i : i + 1])["rgb"] for i in range(FRAMES)]
    torch.testing.assert_close(torch.stack(drawn).permute(0, 3, 1, 2), scene.own.frames, atol=1e-3, rtol=0)
