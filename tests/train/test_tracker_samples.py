"""Sample videos reach the trackers: TensorBoard's files are read back, wandb and trackio are stood in for."""

from __future__ import annotations

import math
import sys
from types import SimpleNamespace

import pytest
import torch

from train.runs import make_trainer
from worldr1_core.video import Video
from worldr1_core.video_io import write_video
from worldr1_train.callbacks import SampleVideos
from worldr1_train.tracker_samples import SampleVideo, log_samples


@pytest.fixture
def sample(tmp_path):
    frames = torch.linspace(0, 1, 3).view(3, 1, 1, 1).expand(3, 3, 16, 16)
    write_video(Video(frames), tmp_path / "clip.mp4")
    scores = {"total": 0.5, "brightness": math.nan}
    return SampleVideo("samples/0", tmp_path / "clip.mp4", frames, "a cat (reward 0.500)", "a cat", scores)


def read_images(folder):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder), size_guidance={"images": 0})
    events.Reload()
    return {tag: events.Images(tag) for tag in events.Tags()["images"]}


def test_tensorboard_shows_a_strip_of_frames(sample, tmp_path):
    from torch.utils.tensorboard import SummaryWriter

    writer = SummaryWriter(tmp_path / "logs")
    log_samples(["tensorboard"], [SimpleNamespace(), SimpleNamespace(tb_writer=writer)], [sample], 7)
    writer.close()
    [image] = read_images(tmp_path / "logs")["samples/0"]
    assert (image.step, image.height, image.width) == (7, 16, 3 * 16 + 2 * 2)


@pytest.mark.parametrize("name", ["wandb", "trackio"])
def test_the_others_get_the_video_file_its_caption_and_a_table(name, sample, monkeypatch):
    logged = []
    fake = SimpleNamespace(
        run=object(),
        log=logged.append,
        Video=lambda path, **options: (path, options),
        Table=lambda columns, data: (columns, data),
    )
    monkeypatch.setitem(sys.modules, name, fake)
    log_samples([name], [], [sample], 7)
    video = (str(sample.path), {"caption": "a cat (reward 0.500)", "format": "mp4"})
    heads = ["sample", "prompt", "total", "brightness", "video"]
    assert logged == [
        {
            "samples/0": video,
            "samples/table": (heads, [["samples/0", "a cat", 0.5, None, video]]),
            "train/global_step": 7,
        }
    ]


def test_wandb_without_a_run_gets_nothing(sample, monkeypatch):
    logged = []
    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(run=None, log=logged.append))
    log_samples(["wandb"], [], [sample], 7)
    assert not logged


def test_a_run_that_reports_to_tensorboard_has_curves_and_samples(tmp_path, monkeypatch):
    monkeypatch.setenv("TENSORBOARD_LOGGING_DIR", str(tmp_path / "logs"))
    options = {"report_to": ["tensorboard"], "num_sample_videos": 1, "sample_videos_every": 2}
    trainer = make_trainer(tmp_path / "run", **options)
    trainer.add_callback(SampleVideos(trainer, tmp_path / "run"))
    trainer.train()
    [folder] = {path.parent for path in (tmp_path / "logs").rglob("events.out.tfevents.*")}
    assert [image.step for image in read_images(folder)["samples/0"]] == [1, 3]
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder))
    events.Reload()
    assert len(events.Scalars("train/reward")) == 4
