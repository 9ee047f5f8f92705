"""Names from outside (prompts, file names, ids, members of archives) never become a path outside the chosen folder."""

from __future__ import annotations

import json
import zipfile
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from worldr1_backbones.generated_files import file_stem
from worldr1_core.clip import Clip
from worldr1_core.commands.new_plugin import check_name
from worldr1_core.errors import UserError
from worldr1_core.testing import make_clip
from worldr1_core.video import Video
from worldr1_core.video_io import read_video, write_video
from worldr1_rewards.inputs import collect_requests, output_names
from worldr1_train.callbacks import SampleVideos

HOSTILE = [
    "../../etc/passwd",
    "/etc/passwd",
    "..",
    "a/../../b",
    "..\\..\\windows",
    "C:\\windows",
    "~/.ssh/id",
    "line\nbreak",
    "nul\x00byte",
    "$(touch x)",
    "%2e%2e%2f",
    "．．／ﬀ",
    "-rf",
    "x" * 10_000,
]


@pytest.mark.parametrize("prompt", HOSTILE)
def test_a_prompt_names_a_video_in_its_folder(prompt):
    stem = file_stem(prompt, seed=3, index=0)
    assert set(stem) <= set("abcdefghijklmnopqrstuvwxyz0123456789-")
    assert stem.startswith("000-")
    assert len(stem) < 100


@pytest.mark.parametrize("name", HOSTILE)
def test_a_clip_names_a_sample_in_its_folder(tmp_path, name):
    clip = Clip(Video(torch.rand(2, 3, 16, 16)), prompt=name, name=name[:200])
    batch = SimpleNamespace(clips=[clip], scores=[])
    trainer = SimpleNamespace(last_rollout_batch=batch, callback_handler=SimpleNamespace(callbacks=[]))
    state = SimpleNamespace(is_world_process_zero=True, global_step=1)
    SampleVideos(trainer, tmp_path / "run").on_step_end(SimpleNamespace(report_to=[]), state, None)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) == 2
    assert {path.parent for path in files} == {tmp_path / "run" / "samples"}
    record = next(path for path in files if path.suffix == ".json")
    assert json.loads(record.read_text())["prompt"] == name


@pytest.mark.parametrize("name", ["...mp4", "..mp4", "....mp4", "a..mp4"])
def test_a_video_names_a_folder_inside_the_output(tmp_path, name):
    (tmp_path / "videos").mkdir()
    write_video(make_clip("arc", size=(16, 16), num_frames=2).video, tmp_path / "videos" / "one.mp4")
    (tmp_path / "videos" / "one.mp4").rename(tmp_path / "videos" / name)
    requests = collect_requests([tmp_path / "videos" / name], prompt="")
    (folder,) = output_names(requests, tmp_path / "out")
    assert (tmp_path / "out" / folder).resolve().parent == tmp_path / "out"


@pytest.mark.parametrize("name", ["../evil", "/tmp/evil", "..", "a/b", "a b", "a;b"])
def test_a_plugin_name_is_no_path(name):
    with pytest.raises(UserError):
        check_name(name, "reward")


def test_members_of_an_archive_are_never_written(tmp_path):
    folder = tmp_path / "inner"
    folder.mkdir()
    np.savez(folder / "clip.npz", frames=np.zeros((2, 3, 16, 16), np.float32))
    with zipfile.ZipFile(folder / "clip.npz", "a") as archive:
        archive.writestr("../evil.npy", b"evil")
        archive.writestr("/tmp/evil.npy", b"evil")
    assert read_video(folder / "clip.npz").num_frames == 2
    assert {path.name for path in tmp_path.rglob("*")} == {"inner", "clip.npz"}
