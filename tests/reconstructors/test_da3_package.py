"""Depth Anything 3 itself, small and with random weights in the released layout. Needs the extra `da3`.

`uv run --isolated --no-group hps --group da3 pytest tests/reconstructors/test_da3_package.py`
"""

from __future__ import annotations

import pytest
import torch

pytest.importorskip(
    "depth_anything_3", reason="the extra `da3` has its own environment: docs/reference/reconstruction.md"
)

from reconstruction import write_random_da3

from worldr1_core.errors import ScoreUnavailable, WeightsError
from worldr1_core.testing import make_clip
from worldr1_core.weights_source import WeightsSource
from worldr1_rewards.reconstructors.da3 import DA3Reconstructor
from worldr1_rewards.reconstructors.da3_model import load_model, predict

SIZE, FRAMES, PROCESS_RES = (48, 64), 4, 56
WORKED = (42, 56)


def random_model(folder, *, angle_of_view: float):
    write_random_da3("da3-small", folder, angle_of_view)
    return folder


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return random_model(tmp_path_factory.mktemp("da3"), angle_of_view=0.8)


def test_a_clip_goes_through_the_package_and_back(checkpoint, capsys):
    clip = make_clip("arc", size=SIZE, num_frames=FRAMES)
    reconstructor = DA3Reconstructor(model=str(checkpoint), process_res=PROCESS_RES)
    before = torch.get_rng_state()
    found = reconstructor.reconstruct(clip)
    assert torch.equal(before, torch.get_rng_state())
    assert capsys.readouterr().out == ""
    raw = predict(reconstructor._model, clip.video.frames, PROCESS_RES, "cpu")
    assert raw.depth.shape == raw.confidence.shape == (FRAMES, *WORKED)

    # The convention: a point of frame 0, taken to frame t by the package's own world-to-camera matrices.
    bottom = torch.tensor([[0.0, 0.0, 0.0, 1.0]], dtype=torch.float64).repeat(FRAMES, 1, 1)
    w2c = torch.cat([raw.w2c, bottom], 1)
    expected = w2c[0] @ torch.linalg.inv(w2c)
    torch.testing.assert_close(found.trajectory.rotations, expected[:, :3, :3], atol=1e-4, rtol=0)
    unit = float(expected[1:, :3, 3].norm() / found.trajectory.positions[1:].norm())
    torch.testing.assert_close(found.trajectory.positions * unit, expected[:, :3, 3], atol=1e-4, rtol=0)
    assert unit == pytest.approx(float(raw.depth[0].median()), rel=0.05)
    assert found.depth.shape == (FRAMES, *SIZE)
    assert float(found.depth[0].median()) == pytest.approx(1, abs=1e-4)
    assert found.rerender().frames.shape == clip.video.frames.shape
    again = DA3Reconstructor(model=str(checkpoint), process_res=PROCESS_RES).reconstruct(clip)
    torch.testing.assert_close(again.trajectory.c2w, found.trajectory.c2w, atol=1e-6, rtol=0)


def test_the_commanded_path_does_not_reach_the_package(checkpoint):
    reconstructor = DA3Reconstructor(model=str(checkpoint), process_res=PROCESS_RES)
    found, without = (
        reconstructor.reconstruct(make_clip("arc", size=SIZE, num_frames=FRAMES, with_target=given))
        for given in (True, False)
    )
    torch.testing.assert_close(found.trajectory.c2w, without.trajectory.c2w, atol=0, rtol=0)


def test_a_camera_without_a_view_is_refused(tmp_path):
    """Of random weights many give an angle of zero, which the package turns into a focal length of millions."""
    folder = random_model(tmp_path, angle_of_view=0.0)
    with pytest.raises(ScoreUnavailable, match="times the width"):
        DA3Reconstructor(model=str(folder), process_res=PROCESS_RES).reconstruct(
            make_clip("arc", size=SIZE, num_frames=FRAMES)
        )


def test_weights_that_a_file_lacks_are_an_error(checkpoint, tmp_path):
    from safetensors.torch import load_file, save_file

    state = load_file(checkpoint / "model.safetensors")
    del state["model.cam_dec.fc_t.weight"]
    save_file(state, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text((checkpoint / "config.json").read_text())
    with pytest.raises(WeightsError, match=r"lacks \['model\.cam_dec\.fc_t\.weight'\]"):
        load_model(WeightsSource(str(tmp_path)), "cpu")
