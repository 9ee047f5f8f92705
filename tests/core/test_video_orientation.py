"""Display matrices and pixel shapes: frames are as players show them."""

from fractions import Fraction

import av
import numpy as np
import pytest
import torch

from core.video_files import encode_images, pictures, set_display_matrix
from worldr1_core.errors import VideoError
from worldr1_core.video_io import read_video
from worldr1_core.video_io.orientation import orientation, oriented

# (a, b, c, d) of the display matrix, and the same picture by NumPy's own words.
ORIENTATIONS = {
    "upright": ((1, 0, 0, 1), lambda image: image),
    "mirrored left to right": ((-1, 0, 0, 1), np.fliplr),
    "mirrored upside down": ((1, 0, 0, -1), np.flipud),
    "half turn": ((-1, 0, 0, -1), lambda image: np.rot90(image, 2)),
    "quarter turn clockwise": ((0, 1, -1, 0), lambda image: np.rot90(image, -1)),
    "quarter turn anticlockwise": ((0, -1, 1, 0), lambda image: np.rot90(image, 1)),
    "transposed": ((0, 1, 1, 0), lambda image: image.swapaxes(0, 1)),
    "transposed about the other diagonal": ((0, -1, -1, 0), lambda image: np.rot90(image, 2).swapaxes(0, 1)),
}


def as_bytes(path, **options):
    return (read_video(path, **options).frames * 255).round().byte().permute(0, 2, 3, 1).numpy()


@pytest.mark.parametrize(("matrix", "expected"), ORIENTATIONS.values(), ids=ORIENTATIONS)
def test_turns_and_mirrors_of_the_display_matrix(matrix, expected, tmp_path):
    images = pictures(3)
    path = set_display_matrix(encode_images(tmp_path / "clip.mp4", images), *matrix)
    np.testing.assert_array_equal(as_bytes(path), [expected(image) for image in images])


@pytest.mark.parametrize(("matrix", "expected"), ORIENTATIONS.values(), ids=ORIENTATIONS)
@pytest.mark.parametrize("scale", [0.5, 2])
def test_a_scale_of_the_display_matrix_changes_nothing(matrix, expected, scale, tmp_path):
    images = pictures(1)
    path = set_display_matrix(encode_images(tmp_path / "clip.mp4", images), *(scale * value for value in matrix))
    np.testing.assert_array_equal(as_bytes(path), [expected(image) for image in images])


@pytest.mark.parametrize(
    ("matrix", "filters"),
    [
        ((-1, 0, 0, 1), ["hflip"]),
        ((1, 0, 0, -1), ["vflip"]),
        ((-1, 0, 0, -1), ["hflip", "vflip"]),
        ((0, 1, -1, 0), ["transpose=clock"]),
        ((0, -1, 1, 0), ["transpose=cclock"]),
        ((0, 1, 1, 0), ["transpose=cclock_flip"]),
        ((0, -1, -1, 0), ["transpose=clock_flip"]),
    ],
)
def test_frames_are_those_of_ffmpegs_filters(matrix, filters, tmp_path):
    """The filters that FFmpeg's own programs insert for each matrix."""
    images = pictures(1)
    path = set_display_matrix(encode_images(tmp_path / "clip.mp4", images), *matrix)
    graph = av.filter.Graph()
    nodes = [graph.add_buffer(width=64, height=48, format="rgb24", time_base=Fraction(1, 16))]
    nodes += [graph.add(*text.split("=")) for text in filters] + [graph.add("buffersink")]
    graph.link_nodes(*nodes).configure()
    frame = av.VideoFrame.from_ndarray(images[0], format="rgb24")
    frame.pts, frame.time_base = 0, Fraction(1, 16)
    graph.push(frame)
    np.testing.assert_array_equal(as_bytes(path)[0], graph.pull().to_ndarray(format="rgb24"))


@pytest.mark.parametrize("suffix", [".mov", ".mkv"])
def test_mirrors_of_other_containers(suffix, tmp_path):
    images = pictures(2)
    path = tmp_path / f"clip{suffix}"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264rgb", rate=16, options={"crf": "0"})
        stream.height, stream.width, stream.pix_fmt = 48, 64, "rgb24"
        stream.set_display_rotation(90, hflip=True)
        for image in images:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode(None))
    with av.open(str(path)) as container:
        frame = next(container.decode(video=0))
        matrix = np.frombuffer(bytes(frame.side_data.get("DISPLAYMATRIX")), np.int32).reshape(3, 3)
    a, b, c, d = np.sign(matrix[:2, :2]).ravel()
    expected = next(turn for signs, turn in ORIENTATIONS.values() if signs == (a, b, c, d))
    np.testing.assert_array_equal(as_bytes(path), [expected(image) for image in images])


def test_a_picture_at_an_angle_is_refused(tmp_path):
    half = 0.5**0.5
    path = set_display_matrix(encode_images(tmp_path / "clip.mp4", pictures(1)), half, half, -half, half)
    with pytest.raises(VideoError, match=r"at an angle of 45\.0 degrees. Allowed: quarter turns and mirrors"):
        read_video(path)


def test_a_lean_of_less_than_a_degree_is_upright():
    assert orientation((65530, 600, 0, -600, 65530, 0, 0, 0, 1 << 30)) == (False, False, False)


def test_a_matrix_of_zeros_is_ignored():
    assert orientation((0,) * 9) == (False, False, False)


def test_orientations_keep_colours():
    image = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    assert oriented(image, (True, True, True)).shape == (4, 2, 3)


# --- pixels that are not square ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("aspect", "size"),
    [
        (Fraction(2), (48, 128)),
        (Fraction(1, 2), (48, 32)),
        (Fraction(4, 3), (48, 85)),
        (Fraction(64, 45), (48, 91)),
        (Fraction(1), (48, 64)),
        (Fraction(1000, 1001), (48, 64)),
    ],
)
@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_the_width_is_multiplied_by_the_aspect_ratio_of_pixels(aspect, size, suffix, tmp_path):
    path = encode_images(tmp_path / f"clip{suffix}", pictures(2), aspect=aspect)
    video = read_video(path)
    assert video.size == video.full_size == size


def test_square_pixels_keep_every_bit(tmp_path):
    images = pictures(2)
    np.testing.assert_array_equal(as_bytes(encode_images(tmp_path / "c.mp4", images, aspect=Fraction(1))), images)


@pytest.mark.parametrize("factor", [2, 3])
def test_a_picture_stored_narrow_is_shown_at_its_width(factor, tmp_path):
    """A smooth picture, averaged over columns and marked with the ratio, comes back as it was."""
    y, x = np.mgrid[:48, : 64 * factor]
    wave = (127 + 100 * np.sin(x / (9 * factor)) * np.cos(y / 11)).astype(np.uint8)
    wide = np.stack([wave] * 3, -1)
    narrow = wide.reshape(48, 64, factor, 3).mean(2).round().astype(np.uint8)
    path = encode_images(tmp_path / "clip.mp4", [narrow], aspect=Fraction(factor))
    assert np.abs(as_bytes(path)[0].astype(int) - wide).max() <= 4


def test_shrinking_is_antialiased(tmp_path):
    """Columns that alternate between black and white become grey, not a moiré."""
    columns = np.zeros((48, 64, 3), np.uint8)
    columns[:, ::2] = 255
    shown = as_bytes(encode_images(tmp_path / "clip.mp4", [columns], aspect=Fraction(1, 4)))[0]
    assert shown.shape == (48, 16, 3)
    assert np.abs(shown[:, 2:-2].astype(int) - 127).max() <= 12


@pytest.mark.parametrize(("matrix", "expected"), ORIENTATIONS.values(), ids=ORIENTATIONS)
def test_pixels_become_square_before_the_picture_is_turned(matrix, expected, tmp_path):
    images = pictures(1)
    plain = as_bytes(encode_images(tmp_path / "plain.mp4", images, aspect=Fraction(2)))
    path = set_display_matrix(encode_images(tmp_path / "turned.mp4", images, aspect=Fraction(2)), *matrix)
    difference = as_bytes(path)[0].astype(int) - expected(plain[0])
    assert np.abs(difference).max() <= 1
    assert read_video(path).full_size == expected(plain[0]).shape[:2]


def test_values_stay_in_range_at_edges(tmp_path):
    edge = np.zeros((32, 32, 3), np.uint8)
    edge[:, 16:] = 255
    frames = read_video(encode_images(tmp_path / "clip.mp4", [edge], aspect=Fraction(3, 2))).frames
    assert float(frames.min()) == 0
    assert float(frames.max()) == 1
    assert torch.isfinite(frames).all()
