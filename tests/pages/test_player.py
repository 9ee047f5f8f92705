"""Players: what the encoded video holds, and how large it may be."""

from __future__ import annotations

import base64
import json

import pytest
import torch
from torch import Tensor

from rewards.report_samples import Element, parse, smooth_frames
from worldr1_core.pages.encoding import video_uri
from worldr1_core.pages.player import MAX_FRAMES, Stream, player
from worldr1_core.pages.words import duration
from worldr1_core.video_io import read_video


def decoded(uri: str, tmp_path) -> Tensor:
    head, body = uri.split(",")
    assert head == "data:video/mp4;base64"
    (tmp_path / "video.mp4").write_bytes(base64.b64decode(body))
    return read_video(tmp_path / "video.mp4").frames


def made(streams: list[Tensor], **options) -> Element:
    named = [Stream(f"<{index}>", frames) for index, frames in enumerate(streams)]
    (found,) = parse(player(named, fps=8.0, label="<player>", **options)).find("div", class_="player")
    return found


def test_every_stream_is_a_tile_of_the_video(tmp_path) -> None:
    streams = [smooth_frames(4, 24, 32, seed) for seed in range(3)]
    element = made(streams)
    frames = decoded(str(element.find("video")[0].attributes["src"]), tmp_path)
    assert (element.attributes["data-columns"], element.attributes["data-rows"]) == ("2", "2")
    height, width = frames.shape[2] // 2, frames.shape[3] // 2
    for index, stream in enumerate(streams):
        row, column = divmod(index, 2)
        tile = frames[..., row * height : (row + 1) * height, column * width : (column + 1) * width]
        shown = torch.nn.functional.interpolate(tile, size=(24, 32), mode="area")
        assert float((shown - stream).abs().mean()) < 0.02
    assert [screen.text for screen in element.find("b")] == ["<0>", "<1>", "<2>"]


def test_long_videos_are_shown_with_evenly_spaced_frames_at_their_speed(tmp_path) -> None:
    element = made([torch.zeros(200, 3, 16, 16)])
    numbers = json.loads(str(element.attributes["data-frames"]))
    assert (len(numbers), numbers[0], numbers[-1]) == (MAX_FRAMES, 0, 199)
    assert float(str(element.attributes["data-fps"])) == pytest.approx(8 * MAX_FRAMES / 200)
    assert element.attributes["data-last"] == "199"


def test_frames_that_are_chosen_already_keep_their_numbers() -> None:
    element = made([torch.zeros(3, 3, 16, 16)], numbers=[0, 50, 99], num_frames=100)
    assert json.loads(str(element.attributes["data-frames"])) == [0, 50, 99]
    assert float(str(element.attributes["data-fps"])) == pytest.approx(0.24)


def test_a_video_that_does_not_compress_is_made_coarser_and_smaller(tmp_path) -> None:
    noise = torch.rand(4, 3, 128, 128, generator=torch.Generator().manual_seed(0))
    uri, size = video_uri(noise, 8.0, max_bytes=12_000)
    assert len(uri) <= 12_000 * 4 / 3 + 40
    assert size[0] == size[1] < 128
    assert decoded(uri, tmp_path).shape[2:] == size


def test_squeezing_ends_before_nothing_is_left() -> None:
    _, size = video_uri(torch.rand(2, 3, 64, 64), 8.0, max_bytes=1)
    assert min(size) >= 2


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.5, "500 ms"), (59.94, "59.9 s"), (60, "1 min"), (3661, "1 h 1 min"), (90000, "1 d 1 h")]
)
def test_durations_read_well(seconds: float, words: str) -> None:
    assert duration(seconds) == words
