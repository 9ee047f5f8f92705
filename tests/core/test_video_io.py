"""Video files: what goes in comes out, and whatever cannot be read whole is an error."""

import io
import struct
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from PIL import Image

from worldr1_core.errors import OutputError, VideoError
from worldr1_core.video import Video
from worldr1_core.video_io import read_video, write_video

LOSSY = [".mp4", ".mov", ".mkv", ".webm"]
FLOAT_FORMS = [".npy", ".npz", ".safetensors"]


def smooth(num_frames: int = 8, height: int = 48, width: int = 64, fps: float = 24.0) -> Video:
    """Slowly varying colours on the 8-bit grid."""
    t = torch.arange(num_frames)[:, None, None] / 8
    y = torch.arange(height)[:, None] / 48
    x = torch.arange(width)[None, :] / 64
    waves = [0.5 + 0.4 * torch.sin(3 * x + 2 * t + c) * torch.cos(2 * y - t + 2 * c) for c in range(3)]
    return Video(torch.stack(waves, 1).mul(255).round().div(255), fps)


def noise(num_frames: int = 5, height: int = 33, width: int = 47) -> Video:
    """Every 8-bit value, everywhere."""
    generator = torch.Generator().manual_seed(0)
    return Video(torch.randint(0, 256, (num_frames, 3, height, width), generator=generator).float() / 255, 24.0)


def save_images(folder: Path, video: Video, names: list[str]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for frame, name in zip(video.frames, names, strict=True):
        Image.fromarray((frame * 255).byte().permute(1, 2, 0).numpy()).save(folder / name)
    return folder


def encode(
    path: Path, images: list[np.ndarray], codec: str = "libx264", pixel_format: str = "yuv420p", **tags: int
) -> Path:
    """Encode with FFmpeg directly, so that readers are checked against files we did not write."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=16, options={"crf": "1"} if codec == "libx264" else {})
        stream.height, stream.width = images[0].shape[:2]
        stream.pix_fmt = pixel_format
        for name, value in tags.items():
            setattr(stream.codec_context, name, value)
        for image in images:
            channels = "rgb24" if image.ndim == 3 else pixel_format
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format=channels)))
        container.mux(stream.encode(None))
    return path


def cut(path: Path, fraction: float) -> Path:
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * fraction)])
    return path


# --- round trips ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [*LOSSY, ".gif"])
@pytest.mark.parametrize("size", [(48, 64), (33, 47), (34, 47), (33, 46)])
def test_size_and_number_of_frames_survive(suffix, size, tmp_path):
    video = smooth(6, *size)
    assert read_video(write_video(video, tmp_path / f"clip{suffix}")).frames.shape == video.frames.shape


@pytest.mark.parametrize("suffix", LOSSY)
@pytest.mark.parametrize("size", [(48, 64), (49, 65)])
def test_colours_survive_lossy_codecs(suffix, size, tmp_path):
    video = smooth(8, *size)
    error = (read_video(write_video(video, tmp_path / f"clip{suffix}", crf=4)).frames - video.frames) * 255
    assert float(error.abs().mean()) < 1.5
    assert error.mean(dim=(0, 2, 3)).abs().max() < 0.75, "no channel is shifted"


@pytest.mark.parametrize("colour", [(255, 255, 255), (0, 0, 0), (255, 0, 0), (0, 255, 0), (0, 0, 255), (200, 120, 40)])
@pytest.mark.parametrize("suffix", [".mp4", ".webm"])
def test_flat_colours_come_back_within_two_levels(colour, suffix, tmp_path):
    frames = torch.tensor(colour).float().div(255).view(1, 3, 1, 1).expand(3, 3, 32, 32).contiguous()
    error = read_video(write_video(Video(frames), tmp_path / f"clip{suffix}", crf=1)).frames - frames
    assert float(error.abs().max()) * 255 <= 2.01


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv", ".webm"])
@pytest.mark.parametrize("video", [noise(), smooth()], ids=["noise-odd", "smooth-even"])
def test_lossless_codecs_keep_every_bit(suffix, video, tmp_path):
    read = read_video(write_video(video, tmp_path / f"clip{suffix}", lossless=True))
    assert torch.equal(read.frames, video.frames)


def test_image_folders_keep_every_bit(tmp_path):
    video = noise(12)
    assert torch.equal(read_video(write_video(video, tmp_path / "clip")).frames, video.frames)


@pytest.mark.parametrize("suffix", FLOAT_FORMS)
def test_arrays_keep_every_float(suffix, tmp_path):
    frames = torch.rand(4, 3, 7, 9, generator=torch.Generator().manual_seed(0))
    assert torch.equal(read_video(write_video(Video(frames), tmp_path / f"clip{suffix}", lossless=True)).frames, frames)


@pytest.mark.parametrize("suffix", [*LOSSY, ".npz", ".safetensors"])
@pytest.mark.parametrize("fps", [8.0, 16.0, 24.0, 30000 / 1001])
def test_the_frame_rate_survives(suffix, fps, tmp_path):
    read = read_video(write_video(smooth(fps=fps), tmp_path / f"clip{suffix}"))
    assert read.fps == pytest.approx(fps, rel=2e-3 if suffix in (".mkv", ".webm") else 1e-6)


def test_another_frame_rate_can_be_stored(tmp_path):
    assert read_video(write_video(smooth(), tmp_path / "clip.mp4", fps=10)).fps == 10


def test_gif_colours_and_repeated_frames_survive(tmp_path):
    frames = smooth().frames[:1].expand(8, -1, -1, -1).contiguous()
    read = read_video(write_video(Video(frames, fps=10), tmp_path / "clip.gif"))
    assert (read.num_frames, read.fps) == (8, 10.0)
    assert float((read.frames - frames).abs().mean()) * 255 < 6


def test_one_frame_can_be_written_and_read(tmp_path):
    video = smooth(1)
    for suffix in (*LOSSY, ".gif", *FLOAT_FORMS, ""):
        assert read_video(write_video(video, tmp_path / f"clip{suffix}")).num_frames == 1


def test_smaller_crf_is_closer(tmp_path):
    video = noise(3, 32, 32)
    errors = [
        (read_video(write_video(video, tmp_path / f"{q}.mp4", crf=q)).frames - video.frames).abs().mean()
        for q in (5, 40)
    ]
    assert errors[0] < errors[1]


def test_slightly_out_of_range_values_are_clamped_not_wrapped(tmp_path):
    frames = torch.full((2, 3, 16, 16), 1 + 9e-5)
    frames[1] = -9e-5
    read = read_video(write_video(Video(frames), tmp_path / "clip.mp4", lossless=True))
    assert read.frames[0].unique().tolist() == [1.0]
    assert read.frames[1].unique().tolist() == [0.0]


def test_the_source_is_remembered(tmp_path):
    path = write_video(smooth(), tmp_path / "clip.mp4")
    assert read_video(str(path)).source == str(path)


@pytest.mark.parametrize("suffix", [*LOSSY, ".gif", *FLOAT_FORMS, ""])
def test_max_frames_reads_the_first_ones(suffix, tmp_path):
    path = write_video(smooth(), tmp_path / f"clip{suffix}")
    assert torch.equal(read_video(path, max_frames=3).frames, read_video(path).frames[:3])
    assert read_video(path, max_frames=99).num_frames == 8


def test_max_frames_must_be_positive(tmp_path):
    with pytest.raises(VideoError, match="max_frames must be at least 1"):
        read_video(write_video(smooth(), tmp_path / "clip.npy"), max_frames=0)


# --- files that others wrote ------------------------------------------------------------------------------------------


def yuv_planes(rgb: tuple[int, int, int], kr: float, kb: float, *, full: bool, size: int = 32) -> np.ndarray:
    """A flat 4:4:4 image by the definition of Y'CbCr (ITU-R BT.601/709, section 'signal format')."""
    r, g, b = (value / 255 for value in rgb)
    luma = kr * r + (1 - kr - kb) * g + kb * b
    blue, red = (b - luma) / (2 - 2 * kb), (r - luma) / (2 - 2 * kr)
    scales = (255, 255, 0) if full else (219, 224, 16)
    values = [scales[2] + scales[0] * luma, 128 + scales[1] * blue, 128 + scales[1] * red]
    return np.stack([np.full((size, size), round(value), np.uint8) for value in values])


@pytest.mark.parametrize(
    ("matrix", "kr", "kb"), [(1, 0.2126, 0.0722), (5, 0.299, 0.114), (6, 0.299, 0.114), (2, 0.299, 0.114)]
)
@pytest.mark.parametrize("full", [False, True])
def test_the_files_own_matrix_and_range_are_followed(matrix, kr, kb, full, tmp_path):
    colour = (200, 60, 30)
    planes = yuv_planes(colour, kr, kb, full=full)
    path = tmp_path / "clip.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=16, options={"crf": "1"})
        stream.height, stream.width, stream.pix_fmt = 32, 32, "yuv444p"
        stream.codec_context.colorspace = matrix
        stream.codec_context.color_range = 2 if full else 1
        for _ in range(2):
            frame = av.VideoFrame.from_ndarray(planes, format="yuv444p")
            frame.colorspace, frame.color_range = matrix, 2 if full else 1
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    decoded = read_video(path).frames.mean(dim=(0, 2, 3)) * 255
    np.testing.assert_allclose(decoded, colour, atol=2)


def test_avi_can_be_read(tmp_path):
    images = [np.full((32, 32, 3), 40 * index, np.uint8) for index in range(5)]
    video = read_video(encode(tmp_path / "clip.avi", images, "mpeg4"))
    np.testing.assert_allclose(video.frames.mean(dim=(1, 2, 3)) * 255, [0, 40, 80, 120, 160], atol=4)


@pytest.mark.parametrize(("clockwise", "matrix"), [(90, (0, 1, -1, 0)), (180, (-1, 0, 0, -1)), (270, (0, -1, 1, 0))])
def test_rotated_recordings_are_turned_upright(clockwise, matrix, tmp_path):
    """Phones store pixels as the sensor lies and a display matrix in the track header."""
    video = smooth(3, 32, 48)
    path = write_video(video, tmp_path / "clip.mp4", lossless=True)
    data = path.read_bytes()
    unit, w = 1 << 16, 1 << 30
    identity = struct.pack(">9i", unit, 0, 0, 0, unit, 0, 0, 0, w)
    a, b, c, d = (value * unit for value in matrix)
    start = data.index(identity, data.index(b"tkhd"))
    path.write_bytes(data[:start] + struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, w) + data[start + len(identity) :])
    upright = torch.rot90(video.frames, -clockwise // 90, dims=(2, 3))
    assert torch.equal(read_video(path).frames, upright)


def test_images_are_read_in_natural_order(tmp_path):
    video = noise(4)
    folder = save_images(tmp_path / "clip", video, ["f1.png", "f2.png", "f10.png", "F20.PNG"])
    (folder / "poses.json").write_text("{}")
    (folder / ".hidden.png").write_text("not an image")
    assert torch.equal(read_video(folder).frames, video.frames)


@pytest.mark.parametrize("suffix", [".jpg", ".jpeg", ".webp", ".bmp"])
def test_other_image_kinds_are_read(suffix, tmp_path):
    video = smooth(2)
    read = read_video(save_images(tmp_path / "clip", video, [f"0{suffix}", f"1{suffix}"]))
    assert float((read.frames - video.frames).abs().mean()) * 255 < 3


@pytest.mark.parametrize("mode", ["L", "RGBA", "P"])
def test_grey_transparent_and_palette_images_become_rgb(mode, tmp_path):
    image = Image.new("RGB", (8, 6), (90, 90, 90))
    image = image.quantize() if mode == "P" else image.convert(mode)
    image.save(tmp_path / "0.png")
    assert torch.allclose(read_video(tmp_path).frames, torch.tensor(90 / 255))


@pytest.mark.parametrize("layout", ["channels first", "channels last"])
@pytest.mark.parametrize("dtype", [np.uint8, np.float16, np.float32, np.float64])
def test_arrays_of_either_layout_and_any_depth_are_read(layout, dtype, tmp_path):
    video = noise(4, 6, 8)
    array = video.frames.numpy() if dtype != np.uint8 else (video.frames * 255).byte().numpy()
    array = array.astype(dtype)
    np.save(tmp_path / "clip.npy", array if layout == "channels first" else array.transpose(0, 2, 3, 1))
    tolerance = 5e-4 if dtype == np.float16 else 1e-7
    np.testing.assert_allclose(read_video(tmp_path / "clip.npy").frames, video.frames, atol=tolerance)


def test_the_only_array_of_an_npz_is_the_clip(tmp_path):
    np.savez(tmp_path / "clip.npz", video=np.zeros((2, 3, 4, 5), np.uint8))
    assert read_video(tmp_path / "clip.npz").size == (4, 5)


# --- mistakes ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [*LOSSY, ".m4v", ".avi", ".gif", *FLOAT_FORMS])
def test_an_empty_file(suffix, tmp_path):
    path = tmp_path / f"clip{suffix}"
    path.touch()
    with pytest.raises(VideoError, match="the file is empty"):
        read_video(path)


@pytest.mark.parametrize("suffix", [*LOSSY, ".m4v", ".avi", ".gif", *FLOAT_FORMS])
def test_a_text_file_that_is_called_a_video(suffix, tmp_path):
    path = tmp_path / f"clip{suffix}"
    path.write_text("This is no video, however it is called.\n" * 20)
    with pytest.raises(VideoError, match=r"cannot be decoded as video|damaged or no") as caught:
        read_video(path)
    assert str(path) in str(caught.value)


def test_no_such_file(tmp_path):
    with pytest.raises(VideoError, match="no such file"):
        read_video(tmp_path / "none.mp4")


def test_an_unknown_suffix_lists_the_allowed_ones(tmp_path):
    path = tmp_path / "clip.mp5"
    path.write_text("x")
    with pytest.raises(VideoError, match=r"unknown kind of file '.mp5'. Allowed: \['.mp4'.*Did you mean '.mp4'"):
        read_video(path)


def test_an_mp4_without_its_index(tmp_path):
    images = list((smooth(20).frames * 255).byte().permute(0, 2, 3, 1).contiguous().numpy())
    with pytest.raises(VideoError, match="cannot be decoded as video"):
        read_video(cut(encode(tmp_path / "clip.mp4", images), 0.6))


@pytest.mark.parametrize("suffix", [*LOSSY, ".gif"])
@pytest.mark.parametrize("fraction", [0.3, 0.6, 0.9, 0.98])
def test_a_file_cut_mid_stream(suffix, fraction, tmp_path):
    path = cut(write_video(noise(30, 32, 48), tmp_path / f"clip{suffix}"), fraction)
    with pytest.raises(VideoError, match=r"truncated|damaged"):
        read_video(path)


def test_an_mp4_cut_exactly_between_two_frames(tmp_path):
    path = write_video(noise(10, 32, 48), tmp_path / "clip.mp4")
    with av.open(str(path)) as container:
        last = max(packet.pos for packet in container.demux(video=0) if packet.size)
    path.write_bytes(path.read_bytes()[:last])
    with pytest.raises(VideoError, match="the header promises 10 frames, 9 frames can be decoded"):
        read_video(path)


def test_a_cut_behind_the_frames_that_are_asked_for_does_no_harm(tmp_path):
    video = noise(30, 32, 48)
    path = cut(write_video(video, tmp_path / "clip.mkv", lossless=True), 0.8)
    assert torch.equal(read_video(path, max_frames=5).frames, video.frames[:5])


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_damaged_frames_inside_a_file(suffix, tmp_path):
    path = write_video(smooth(30, 96, 128), tmp_path / f"clip{suffix}", crf=1)
    with av.open(str(path)) as container:
        packet = [packet for packet in container.demux(video=0) if packet.size][12]
        content = bytes(packet)
    data = path.read_bytes()
    start = data.index(content)
    path.write_bytes(data[: start + 20] + bytes(len(content) - 20) + data[start + len(content) :])
    with pytest.raises(VideoError, match="damaged"):
        read_video(path)


def test_a_header_without_any_frame(tmp_path):
    path = cut(write_video(noise(30, 32, 48), tmp_path / "clip.mkv", crf=1), 0.04)
    with pytest.raises(VideoError, match="no frame can be decoded"):
        read_video(path)


def jpeg(height: int, width: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (width, height), (50, 60, 70)).save(buffer, "JPEG")
    return buffer.getvalue()


def mux_jpegs(container: av.container.OutputContainer, stream: av.VideoStream, sizes: list[tuple[int, int]]) -> None:
    for index, size in enumerate(sizes):
        packet = av.Packet(jpeg(*size))
        packet.stream, packet.pts, packet.dts, packet.time_base = stream, index, index, Fraction(1, 16)
        container.mux(packet)


def test_frames_that_change_size(tmp_path):
    with av.open(str(tmp_path / "clip.avi"), "w") as container:
        stream = container.add_stream("mjpeg", rate=16)
        stream.height, stream.width, stream.pix_fmt = 32, 32, "yuvj420p"
        mux_jpegs(container, stream, [(32, 32), (32, 32), (32, 48)])
    with pytest.raises(VideoError, match=r"frame 2 changes size from \(32, 32\) to \(32, 48\)"):
        read_video(tmp_path / "clip.avi")


def test_a_cover_picture_is_no_video(tmp_path):
    with av.open(str(tmp_path / "song.mp4"), "w") as container:
        sound = container.add_stream("aac", rate=16000, layout="mono")
        cover = container.add_stream("mjpeg", rate=16)
        cover.height, cover.width, cover.pix_fmt = 32, 32, "yuvj420p"
        cover.disposition = av.stream.Disposition.attached_pic
        samples = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        samples.sample_rate = 16000
        container.mux(sound.encode(samples))
        container.mux(sound.encode(None))
        mux_jpegs(container, cover, [(32, 32)])
    with pytest.raises(VideoError, match="holds no video stream"):
        read_video(tmp_path / "song.mp4")


def test_a_matroska_file_of_another_writer_is_checked_by_its_overall_duration(tmp_path):
    path = write_video(noise(30, 32, 48), tmp_path / "clip.mkv")
    path.write_bytes(path.read_bytes().replace(b"DURATION", b"SOMETHIN"))
    assert read_video(path).num_frames == 30
    with av.open(str(path)) as container:
        last = max(packet.pos for packet in container.demux(video=0) if packet.size)
    path.write_bytes(path.read_bytes()[: last - 8])
    with pytest.raises(VideoError, match=r"is truncated"):
        read_video(path)


def test_a_live_recording_that_promises_nothing_is_read(tmp_path):
    path = tmp_path / "clip.mkv"
    with av.open(str(path), "w", options={"live": "1"}) as container:
        stream = container.add_stream("libx264", rate=16)
        stream.height, stream.width, stream.pix_fmt = 32, 32, "yuv420p"
        for index in range(8):
            image = av.VideoFrame.from_ndarray(np.full((32, 32, 3), 30 * index, np.uint8), format="rgb24")
            container.mux(stream.encode(image))
        container.mux(stream.encode(None))
    assert read_video(path).num_frames == 8


def test_sound_without_pictures(tmp_path):
    path = tmp_path / "sound.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=16000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 16000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with pytest.raises(VideoError, match=r"holds no video stream, received \['audio'\]"):
        read_video(path)


def test_sound_that_outlasts_the_picture_is_no_truncation(tmp_path):
    path = tmp_path / "clip.mkv"
    with av.open(str(path), "w") as container:
        picture = container.add_stream("libx264", rate=16)
        picture.height, picture.width, picture.pix_fmt = 32, 32, "yuv420p"
        sound = container.add_stream("aac", rate=16000, layout="mono")
        for index in range(8):
            image = av.VideoFrame.from_ndarray(np.full((32, 32, 3), 30 * index, np.uint8), format="rgb24")
            container.mux(picture.encode(image))
        container.mux(picture.encode(None))
        for index in range(60):
            samples = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
            samples.sample_rate, samples.pts, samples.time_base = 16000, 1024 * index, Fraction(1, 16000)
            container.mux(sound.encode(samples))
        container.mux(sound.encode(None))
    assert read_video(path).num_frames == 8


def test_a_folder_without_images(tmp_path):
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(VideoError, match="the folder holds no images"):
        read_video(tmp_path)


def test_a_folder_that_is_called_like_a_file(tmp_path):
    (tmp_path / "clip.mp4").mkdir()
    with pytest.raises(VideoError, match="the folder holds no images"):
        read_video(tmp_path / "clip.mp4")


def test_images_of_two_sizes_name_both_files(tmp_path):
    save_images(tmp_path, smooth(2, 8, 8), ["a.png", "b.png"])
    save_images(tmp_path, smooth(1, 8, 9), ["c.png"])
    with pytest.raises(VideoError, match=r"'a\.png' is 8x8, 'c\.png' is 8x9"):
        read_video(tmp_path)


@pytest.mark.parametrize("content", [b"", b"rubbish", "half"])
def test_one_damaged_image_is_named(content, tmp_path):
    save_images(tmp_path, noise(3), ["0.png", "1.png", "2.png"])
    if content == "half":
        cut(tmp_path / "1.png", 0.5)
    else:
        (tmp_path / "1.png").write_bytes(content)
    with pytest.raises(VideoError, match=r"1\.png: (is not an image|the image is damaged)"):
        read_video(tmp_path)


def test_sixteen_bit_images_are_refused_rather_than_clipped(tmp_path):
    Image.fromarray(np.full((4, 4), 3000, np.uint16)).save(tmp_path / "0.png")
    with pytest.raises(VideoError, match="8 bits a channel, received mode 'I;16'"):
        read_video(tmp_path)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.full((2, 3, 4, 4), np.nan, np.float32), "96 values are NaN or infinite"),
        (np.full((2, 3, 4, 4), np.inf, np.float32), "96 values are NaN or infinite"),
        (np.full((2, 3, 4, 4), 200.0, np.float32), "received a maximum of 200. Divide by 255"),
        (np.full((2, 3, 4, 4), -0.5, np.float32), r"must lie in \[0, 1\], received \[-0.5, -0.5\]"),
        (np.zeros((2, 4, 4), np.uint8), r"must be \(T, 3, H, W\) or \(T, H, W, 3\) .* received \(2, 4, 4\)"),
        (np.zeros((2, 4, 4, 4), np.uint8), r"received \(2, 4, 4, 4\)"),
        (np.zeros((0, 3, 4, 4), np.uint8), r"received \(0, 3, 4, 4\)"),
        (np.zeros((2, 3, 4, 3), np.uint8), r"can be read as \(T, 3, H, W\) and as \(T, H, W, 3\)"),
        (np.zeros((2, 3, 4, 4), np.int64), "must be uint8 or floating point, received torch.int64"),
        (np.zeros((2, 3, 4, 4), bool), "must be uint8 or floating point, received torch.bool"),
        (np.zeros((2, 3, 4, 4), "U3"), "must be uint8 or floating point, received <U3"),
        (np.array([{"a": 1}], dtype=object), "damaged or no NumPy file of plain numbers"),
    ],
)
def test_arrays_that_are_no_frames(array, message, tmp_path):
    np.save(tmp_path / "clip.npy", array, allow_pickle=True)
    with pytest.raises(VideoError, match=message) as caught:
        read_video(tmp_path / "clip.npy")
    assert "clip.npy" in str(caught.value)


def test_an_npz_of_several_arrays_needs_frames(tmp_path):
    np.savez(tmp_path / "clip.npz", a=np.zeros(3), b=np.zeros(3))
    with pytest.raises(VideoError, match=r"needs an array 'frames', received \['a', 'b'\]"):
        read_video(tmp_path / "clip.npz")


@pytest.mark.parametrize("fps", [0.0, -1.0, np.nan, np.inf, "fast"])
def test_a_frame_rate_that_is_none(fps, tmp_path):
    np.savez(tmp_path / "clip.npz", frames=np.zeros((2, 3, 4, 5), np.uint8), fps=fps)
    with pytest.raises(VideoError, match="fps must be a positive number"):
        read_video(tmp_path / "clip.npz")


def test_safetensors_without_frames(tmp_path):
    from safetensors.torch import save_file

    save_file({"video": torch.zeros(2, 3, 4, 5)}, tmp_path / "clip.safetensors")
    with pytest.raises(VideoError, match=r"needs a tensor 'frames', received \['video'\]"):
        read_video(tmp_path / "clip.safetensors")


@pytest.mark.parametrize("suffix", FLOAT_FORMS)
def test_arrays_cut_short(suffix, tmp_path):
    with pytest.raises(VideoError, match="damaged or no"):
        read_video(cut(write_video(noise(), tmp_path / f"clip{suffix}"), 0.7))


# --- writing ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [*LOSSY, ".gif", *FLOAT_FORMS, ""])
def test_an_unwritable_place(suffix, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError):
        write_video(smooth(), tmp_path / "file" / f"clip{suffix}")


@pytest.mark.parametrize("suffix", [".mp4", ".npy"])
def test_a_folder_in_the_place_of_the_file(suffix, tmp_path):
    (tmp_path / f"clip{suffix}").mkdir()
    with pytest.raises(OutputError, match="is a folder"):
        write_video(smooth(), tmp_path / f"clip{suffix}")


def test_image_folders_never_replace_files_or_full_folders(tmp_path):
    (tmp_path / "file").write_text("keep")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "keep.txt").write_text("keep")
    for name in ("file", "folder"):
        with pytest.raises(OutputError, match=r"is a file|is not empty"):
            write_video(smooth(), tmp_path / name)
    assert (tmp_path / "file").read_text() == (tmp_path / "folder" / "keep.txt").read_text() == "keep"


def test_an_empty_folder_is_filled(tmp_path):
    (tmp_path / "clip").mkdir()
    assert len(list(write_video(smooth(), tmp_path / "clip").iterdir())) == 8


@pytest.mark.parametrize("suffix", [".mp4", ".gif", ".npy", ".safetensors", ""])
def test_a_write_that_fails_half_way_leaves_nothing(suffix, tmp_path, monkeypatch):
    path = tmp_path / f"clip{suffix}"

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    for target in ("PIL.Image.Image.save", "numpy.save", "worldr1_core.video_io.arrays.save_file"):
        monkeypatch.setattr(target, full)
    monkeypatch.setattr("av.VideoFrame.from_ndarray", full, raising=False) if suffix in (".mp4", ".gif") else None
    with pytest.raises(OutputError, match="No space left"):
        write_video(smooth(), path)
    assert list(tmp_path.iterdir()) == []


def test_unknown_suffixes_and_options_are_refused(tmp_path):
    with pytest.raises(OutputError, match=r"cannot write '.mpeg'. Allowed: \['.mp4'"):
        write_video(smooth(), tmp_path / "clip.mpeg")
    with pytest.raises(OutputError, match="cannot be lossless"):
        write_video(smooth(), tmp_path / "clip.gif", lossless=True)
    with pytest.raises(OutputError, match=r"crf must lie in \[0, 51\], received 99"):
        write_video(smooth(), tmp_path / "clip.mp4", crf=99)
    with pytest.raises(OutputError, match="fps must be positive and finite, received 0"):
        write_video(smooth(), tmp_path / "clip.mp4", fps=0)


def test_an_existing_file_is_replaced(tmp_path):
    path = tmp_path / "clip.mp4"
    path.write_text("old")
    write_video(smooth(), path)
    assert read_video(path).num_frames == 8
    assert list(tmp_path.iterdir()) == [path]


def test_files_written_here_name_their_colours(tmp_path):
    with av.open(str(write_video(smooth(), tmp_path / "clip.mp4"))) as container:
        context = container.streams.video[0].codec_context
        assert (context.colorspace, context.color_primaries, context.color_trc, context.color_range) == (1, 1, 1, 1)
        assert context.pix_fmt == "yuv420p", "players everywhere can show it"


def test_mp4_starts_with_its_index(tmp_path):
    data = write_video(smooth(), tmp_path / "clip.mp4").read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")


def test_png_bytes_are_those_of_the_frames(tmp_path):
    folder = write_video(noise(2), tmp_path / "clip")
    image = Image.open(io.BytesIO((folder / "frame_00001.png").read_bytes()))
    np.testing.assert_array_equal(np.asarray(image), (noise(2).frames[1] * 255).round().permute(1, 2, 0).numpy())


@pytest.mark.parametrize("suffix", [".mp4", ".webm", ".gif"])
def test_the_same_clip_gives_the_same_bytes(tmp_path, suffix):
    """Noise makes every choice of the encoder a close one; small clips met random bytes in H.264 and WebM."""
    video = Video(torch.rand(9, 3, 64, 64, generator=torch.Generator().manual_seed(0)))
    files = [write_video(video, tmp_path / f"{index}{suffix}").read_bytes() for index in range(6)]
    assert all(file == files[0] for file in files)
