"""Files of several streams: the one that players show is the clip."""

from pathlib import Path

import av
import numpy as np
import pytest
from av.stream import Disposition

from core.video_files import pictures
from worldr1_core.video_io import read_video

RED, BLUE = (220, 30, 30), (30, 30, 220)


def flat(colour: tuple[int, int, int], height: int, width: int) -> np.ndarray:
    return np.broadcast_to(np.array(colour, np.uint8), (height, width, 3)).copy()


def write_streams(
    path: Path, *streams: tuple[tuple[int, int, int], tuple[int, int], int], num_frames: int = 4, empty: int = -1
) -> Path:
    """Streams of one colour each: colour, size, disposition; `empty` names one without any frame."""
    with av.open(str(path), "w") as container:
        outputs = []
        for colour, (height, width), disposition in streams:
            output = container.add_stream("libx264rgb", rate=16, options={"crf": "0"})
            output.height, output.width, output.pix_fmt = height, width, "rgb24"
            output.disposition = disposition
            outputs.append((output, flat(colour, height, width)))
        for _ in range(num_frames):
            for index, (output, image) in enumerate(outputs):
                if index != empty:
                    container.mux(output.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        for index, (output, _) in enumerate(outputs):
            if index != empty:
                container.mux(output.encode(None))
    return path


def shown(path: Path) -> list[int]:
    return (read_video(path).frames.mean(dim=(0, 2, 3)) * 255).round().int().tolist()


@pytest.mark.parametrize("suffix", [".mkv", ".mp4"])
def test_the_default_stream_is_the_clip(suffix, tmp_path):
    streams = ((RED, (32, 32), 0), (BLUE, (32, 32), Disposition.default))
    assert shown(write_streams(tmp_path / f"clip{suffix}", *streams)) == list(BLUE)


def test_the_default_stream_is_the_clip_even_if_it_is_smaller(tmp_path):
    streams = ((RED, (64, 64), 0), (BLUE, (32, 32), Disposition.default))
    assert shown(write_streams(tmp_path / "clip.mkv", *streams)) == list(BLUE)


@pytest.mark.parametrize("disposition", [0, Disposition.default])
def test_of_equal_streams_the_largest_is_the_clip(disposition, tmp_path):
    streams = ((RED, (32, 32), disposition), (BLUE, (64, 64), disposition))
    assert shown(write_streams(tmp_path / "clip.mkv", *streams)) == list(BLUE)


def test_of_streams_alike_the_first_is_the_clip(tmp_path):
    streams = ((RED, (32, 32), 0), (BLUE, (32, 32), 0))
    assert shown(write_streams(tmp_path / "clip.mkv", *streams)) == list(RED)


def test_a_default_stream_without_frames_is_passed_over(tmp_path):
    streams = ((RED, (32, 32), 0), (BLUE, (32, 32), Disposition.default))
    assert shown(write_streams(tmp_path / "clip.mkv", *streams, empty=1)) == list(RED)


@pytest.mark.parametrize("position", ["before", "behind"])
def test_a_cover_picture_beside_a_video_is_passed_over(position, tmp_path):
    """However large it is."""
    path = tmp_path / "clip.mp4"
    with av.open(str(path), "w") as container:
        names = ("cover", "film") if position == "before" else ("film", "cover")
        outputs = {name: container.add_stream("mjpeg" if name == "cover" else "libx264", rate=16) for name in names}
        for name, output in outputs.items():
            output.height = output.width = 128 if name == "cover" else 32
            output.pix_fmt = "yuvj420p" if name == "cover" else "yuv420p"
        outputs["cover"].disposition = Disposition.attached_pic
        for output, count, colour in ((outputs["film"], 5, BLUE), (outputs["cover"], 1, RED)):
            for _ in range(count):
                image = flat(colour, output.height, output.width)
                container.mux(output.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
            container.mux(output.encode(None))
    video = read_video(path)
    assert (video.num_frames, video.size) == (5, (32, 32))


def test_sound_before_the_picture_is_passed_over(tmp_path):
    path = tmp_path / "clip.mkv"
    with av.open(str(path), "w") as container:
        sound = container.add_stream("aac", rate=16000, layout="mono")
        film = container.add_stream("libx264rgb", rate=16, options={"crf": "0"})
        film.height, film.width, film.pix_fmt = 48, 64, "rgb24"
        for image in pictures(3):
            container.mux(film.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(film.encode(None))
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 16000
        container.mux(sound.encode(frame))
        container.mux(sound.encode(None))
    assert read_video(path).num_frames == 3
