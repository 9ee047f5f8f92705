"""What the `da3` reconstructor makes of Depth Anything 3's answers, on a stand-in that answers exactly."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import pytest
import torch

from reconstructors import fake_da3
from worldr1_core.camera.geometry import default_intrinsics
from worldr1_core.clip import Clip
from worldr1_core.errors import MissingExtraError, ScoreUnavailable, UserError, WeightsError
from worldr1_core.plugins import installed
from worldr1_core.testing import make_clip, reconstructor_checks
from worldr1_core.testing.clips import flat_clip, true_reconstruction
from worldr1_rewards.reconstructors.da3 import DA3Reconstructor

SIZE, FRAMES = (48, 64), 5
FOLDERS: list[str] = []


@pytest.fixture(scope="module", autouse=True)
def checkpoint(tmp_path_factory):
    FOLDERS.append(str(fake_da3.write_checkpoint(tmp_path_factory.mktemp("da3"))))
    yield FOLDERS[0]
    FOLDERS.clear()


@pytest.fixture(autouse=True)
def model_class(monkeypatch):
    made = fake_da3.modules()
    for name, module in made.items():
        monkeypatch.setitem(sys.modules, name, module)
    return made["depth_anything_3.api"].DepthAnything3


def build(**options) -> DA3Reconstructor:
    return DA3Reconstructor(**{"model": FOLDERS[0], "process_res": 112, **options})


def clip(move="arc", **options) -> Clip:
    return make_clip(move, **{"size": SIZE, "num_frames": FRAMES, **options})


@pytest.mark.parametrize("check", reconstructor_checks(build, num_frames=FRAMES, min_psnr=24.0), ids=str)
def test_contract(check):
    check()


@pytest.mark.parametrize("process_res", [56, 112])
def test_poses_depth_and_intrinsics_are_those_of_the_scene(process_res):
    truth = true_reconstruction("arc", FRAMES, SIZE)
    found = build(process_res=process_res).reconstruct(clip())
    torch.testing.assert_close(found.trajectory.c2w, truth.trajectory.c2w, atol=0.01, rtol=0)
    torch.testing.assert_close(found.trajectory.c2w[0], torch.eye(4, dtype=torch.float64), atol=0, rtol=0)
    torch.testing.assert_close(found.trajectory.intrinsics, default_intrinsics(*SIZE), atol=1e-4, rtol=0)
    assert float(((found.depth - truth.depth).abs() / truth.depth).median()) < 0.01
    assert float(found.depth[0].median()) == pytest.approx(1, abs=1e-5)
    assert found.confidence.shape == (FRAMES, *fake_da3.worked_size(SIZE, process_res))
    assert found.diagnostics["motion"] == "moving"
    assert found.diagnostics["confidence_mean"] == 2.0


def test_a_new_view_is_that_of_the_scene_and_open_where_nothing_was_seen():
    truth = true_reconstruction("arc", FRAMES, SIZE)
    found = build().reconstruct(clip())
    aside = truth.trajectory.c2w[[2]].clone()
    aside[0, 0, 3] += 0.05
    view, exact = (scene.render(aside, truth.trajectory.intrinsics, SIZE) for scene in (found, truth))
    seen = view.coverage > 0
    assert 0.8 < float(view.coverage.mean()) < 1
    assert float((view.frames - exact.frames).abs().mean(1)[seen].mean()) < 0.02
    assert float(((view.depth - exact.depth).abs() / exact.depth)[seen].median()) < 0.01


def test_the_model_sees_frames_alone(model_class):
    reconstructor = build(process_res=70)
    given = replace(clip(), intrinsics=default_intrinsics(*SIZE))
    assert given.target is not None
    reconstructor.reconstruct(given)
    assert reconstructor._model.calls == [{"process_res": 70}]


def test_the_default_resolution_is_the_papers():
    assert DA3Reconstructor.Config().process_res == 504


@pytest.mark.parametrize(("move", "motion"), [("fixed", "resting"), ("pan right", "turning")])
def test_a_camera_that_stays_has_no_translation(move, motion, model_class):
    def shake(answer):
        answer.extrinsics[1:, :, 3] += 1e-3

    model_class.change = staticmethod(shake)
    found = build().reconstruct(clip(move))
    assert not found.has_parallax
    assert found.diagnostics["motion"] == motion
    assert 0 < found.diagnostics["parallax_share"] < 0.01
    assert found.trajectory.extent == 0


def test_known_intrinsics_are_kept_and_the_gap_is_reported():
    given = default_intrinsics(*SIZE)
    given[:2] *= torch.tensor([[1.25], [1.25]], dtype=torch.float64)
    given[:2, 2] /= 1.25
    found = build().reconstruct(replace(clip(), intrinsics=given))
    torch.testing.assert_close(found.trajectory.intrinsics, given, atol=0, rtol=0)
    assert found.diagnostics["focal_estimated_over_used"] == pytest.approx(0.8, abs=1e-4)


def test_no_confidence_is_no_number(model_class):
    def forget(answer):
        answer.conf = None

    model_class.change = staticmethod(forget)
    found = build().reconstruct(clip())
    assert found.confidence is None
    assert found.diagnostics["confidence_mean"] is None


def _set(field, index, value):
    def change(answer):
        getattr(answer, field)[index] = value

    return change


def _scale(field, index, factor):
    def change(answer):
        getattr(answer, field)[index] *= factor

    return change


def _drop_frame(answer):
    answer.depth = answer.depth[1:]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (_set("depth", (2, 3, 3), float("nan")), "depth that are not finite in 1 of 5 frames"),
        (_set("depth", (2, 3, 3), float("inf")), "depth that are not finite"),
        (_set("extrinsics", (4, 0, 3), float("nan")), "poses that are not finite in 1 of 5"),
        (_set("intrinsics", (slice(None), 0, 0), float("inf")), "intrinsics that are not finite in 5 of 5"),
        (_set("depth", (2, 3, 3), 0.0), "depth from 0 to"),
        (_set("depth", (2, 3, 3), -1.0), "depth from -1 to"),
        (_set("depth", (0, 0, 0), 1e9), "factor of at most"),
        (_scale("extrinsics", (1, slice(0, 3), slice(0, 3)), 1.1), "unusable cameras: c2w of frame 1 is not rigid"),
        (_scale("extrinsics", (3, 0, slice(0, 3)), -1), "unusable cameras: c2w of frame 3 is a reflection"),
        (_set("intrinsics", (slice(None), 1, 1), 2e7), "times the width, allowed are"),
        (_scale("intrinsics", (4, 0, 0), 2.5), "changes by a factor of 2.50"),
        (_drop_frame, "depth of shape \\(4,\\) for 5 frames"),
    ],
)
def test_degenerate_answers_are_refused_with_the_reason(change, reason, model_class):
    model_class.change = staticmethod(change)
    with pytest.raises(ScoreUnavailable, match=reason):
        build().reconstruct(clip())


def test_poses_of_another_focal_length_are_refused():
    given = default_intrinsics(*SIZE)
    given[0, 0] *= 3
    given[1, 1] *= 3
    with pytest.raises(ScoreUnavailable, match=r"0\.33 times the known one"):
        build().reconstruct(replace(clip(), intrinsics=given))


@pytest.mark.parametrize(
    ("unfit", "reason"),
    [
        (clip(num_frames=2), "2 frame"),
        (clip(size=(20, 64)), "24 pixels"),
        (flat_clip(num_frames=FRAMES, size=SIZE), "no texture"),
    ],
    ids=["short", "small", "flat"],
)
def test_clips_that_show_nothing_are_refused(unfit, reason):
    with pytest.raises(ScoreUnavailable, match=reason):
        build().reconstruct(unfit)


def test_a_model_without_cameras_is_an_error_of_the_configuration(model_class):
    def forget(answer):
        answer.extrinsics = None

    model_class.change = staticmethod(forget)
    with pytest.raises(UserError, match=r"no cameras.*DA3-BASE") as raised:
        build().reconstruct(clip())
    assert not isinstance(raised.value, ScoreUnavailable)


def test_weights_are_those_of_the_file_and_shared_ones_need_one_copy():
    reconstructor = build()
    reconstructor.reconstruct(clip())
    assert reconstructor._model.shared.tolist() == [1.0, 2.0]
    assert not reconstructor._model.weight.requires_grad


@pytest.mark.parametrize(
    ("written", "reason"),
    [
        ({"model_name": "da3-colossal"}, "'da3-colossal', known are \\['da3-fake'\\]"),
        ({"keys": ("other",)}, "does not fill da3-fake: it lacks \\['shared', 'weight'\\]"),
    ],
)
def test_a_checkpoint_that_does_not_fit_is_refused(written, reason, tmp_path):
    with pytest.raises(WeightsError, match=reason):
        build(model=str(fake_da3.write_checkpoint(tmp_path / "model", **written))).reconstruct(clip())


def test_a_folder_without_weights_is_refused(tmp_path):
    folder = fake_da3.write_checkpoint(tmp_path / "model")
    (folder / "config.json").write_text("{")
    with pytest.raises(WeightsError, match="Cannot load Depth Anything 3"):
        build(model=str(folder)).reconstruct(clip())
    (folder / "config.json").unlink()
    with pytest.raises(WeightsError, match=r"config\.json"):
        build(model=str(folder)).reconstruct(clip())


def test_without_the_extra_the_message_names_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "depth_anything_3", None)
    monkeypatch.delitem(sys.modules, "depth_anything_3.api")
    with pytest.raises(MissingExtraError, match=r"pip install 'worldr1-rewards\[da3\]'"):
        build().reconstruct(clip())


@pytest.mark.parametrize("options", [{"process_res": 10}, {"key_frames": 1}, {"min_parallax": -1}, {"extrinsics": 1}])
def test_options_out_of_range_are_refused(options):
    with pytest.raises(UserError, match=next(iter(options))):
        DA3Reconstructor(**options)


def test_it_is_registered_and_loading_it_imports_nothing_of_the_package():
    assert "da3" in installed().registry.names("reconstructor")
    code = (
        "from worldr1_core.plugins import installed; import sys;"
        "installed().registry.load('reconstructor', 'da3')(); print('depth_anything_3' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
