"""Any registered reconstructor can give its cameras to one that fits a scene; what stands in the way is said."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from worldr1_core.clip import Clip
from worldr1_core.errors import MissingExtraError, PluginError, ScoreUnavailable, UnknownNameError, UserError
from worldr1_core.reconstructor import Reconstruction, Reconstructor
from worldr1_core.testing import make_clip
from worldr1_core.testing.clips import true_reconstruction
from worldr1_rewards.reconstructors.camera_source import estimate
from worldr1_rewards.reconstructors.nerfstudio import NerfstudioReconstructor
from worldr1_rewards.reconstructors.visibility import seen_share

SIZE, FRAMES = (32, 40), 5


class Fixed(Reconstructor):
    """Answers what it was given."""

    answer: Reconstruction

    def reconstruct(self, clip: Clip) -> Reconstruction:
        return self.answer


def test_an_unknown_source_of_cameras_is_told_at_once():
    with pytest.raises(UnknownNameError, match=r"Did you mean 'direct'"):
        NerfstudioReconstructor(cameras="dirct")


def test_cameras_cannot_come_from_the_one_that_asks():
    with pytest.raises(UserError, match="from itself"):
        NerfstudioReconstructor(cameras="nerfstudio")


def test_splatfacto_is_refused_where_it_cannot_draw():
    with pytest.raises(UserError, match="CUDA"):
        NerfstudioReconstructor(method="splatfacto")


def test_without_the_extra_the_message_names_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "nerfstudio", None)
    with pytest.raises(MissingExtraError, match=r"worldr1-rewards\[nerfstudio\]"):
        NerfstudioReconstructor().reconstruct(make_clip(size=SIZE, num_frames=FRAMES))


def test_nothing_of_nerfstudio_is_imported_to_load_the_component():
    code = (
        "from worldr1_core.plugins import installed; import sys;"
        "installed().registry.load('reconstructor', 'nerfstudio')(); print('nerfstudio' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_a_source_must_give_a_pose_a_frame():
    source = Fixed()
    source.answer = true_reconstruction("arc", FRAMES, SIZE)
    clip = make_clip("arc", size=SIZE, num_frames=FRAMES)
    assert estimate(source, clip) is source.answer
    with pytest.raises(PluginError, match="one pose per frame"):
        estimate(source, make_clip("arc", size=SIZE, num_frames=FRAMES + 1))


def test_a_refusal_keeps_its_reason():
    noise = torch.rand(9, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    from worldr1_core.video import Video
    from worldr1_rewards.reconstructors.direct import DirectReconstructor

    with pytest.raises(ScoreUnavailable, match="do not show the same scene"):
        estimate(DirectReconstructor(), Clip(Video(noise)))


def test_what_a_camera_saw_is_covered_and_what_it_did_not_is_not():
    scene = true_reconstruction("arc", FRAMES, SIZE)
    path, K = scene.trajectory, scene.trajectory.intrinsics
    own = seen_share(path.c2w[2], K, scene.depth[2], path.c2w, K, scene.depth)
    assert float(own.mean()) > 0.99
    behind = torch.eye(4, dtype=torch.float64)
    behind[0, 0] = behind[2, 2] = -1.0
    assert float(seen_share(behind, K, scene.depth[0], path.c2w, K, scene.depth).mean()) == 0.0
    hidden = seen_share(path.c2w[0], K, 2 * scene.depth[0], path.c2w[:1], K, scene.depth[:1])
    assert float(hidden.mean()) == 0.0
