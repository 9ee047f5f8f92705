"""Files that end early or hold wrong bytes are errors; files that only look so are read."""

import struct
import subprocess
import sys
import zlib
from pathlib import Path

import av
import numpy as np
import pytest

from core.video_files import cut_at, encode_images, overwrite, packets, pictures
from worldr1_core.errors import VideoError
from worldr1_core.video_io import read_video
from worldr1_core.video_io.checksums import Ffv1Check
from worldr1_core.video_io.structure import gif_length

LIVE = {"live": "1"}
QUIET = {"x265-params": "log-level=none"}
FRAGMENTS = {"movflags": "frag_keyframe+empty_moov"}
# suffix, codec, pixel format, codec options, container options
KINDS = {
    "MJPEG in AVI": (".avi", "mjpeg", "yuvj420p", {}, {}),
    "MPEG-4 in AVI": (".avi", "mpeg4", "yuv420p", {}, {}),
    "FFV1 in AVI": (".avi", "ffv1", "yuv420p", {}, {}),
    "raw AVI": (".avi", "rawvideo", "yuv420p", {}, {}),
    "MJPEG in MOV": (".mov", "mjpeg", "yuvj420p", {}, {"movflags": "faststart"}),
    "ProRes": (".mov", "prores_ks", "yuv422p10le", {}, {"movflags": "faststart"}),
    "FFV1 in MKV": (".mkv", "ffv1", "yuv420p", {"level": "3", "slicecrc": "1"}, {}),
    "HEVC in MKV": (".mkv", "libx265", "yuv420p", QUIET, {}),
    "AV1 in MKV": (".mkv", "libsvtav1", "yuv420p", {}, {}),
    "MPEG-2 in MKV": (".mkv", "mpeg2video", "yuv420p", {"bf": "2"}, {}),
    "VP8 in MKV": (".mkv", "libvpx", "yuv420p", {}, {}),
    "VP8 in WebM": (".webm", "libvpx", "yuv420p", {}, {}),
    "live VP8": (".webm", "libvpx", "yuv420p", {}, LIVE),
    "live VP9": (".webm", "libvpx-vp9", "yuv420p", {}, LIVE),
    "live H.264": (".mkv", "libx264", "yuv420p", {}, LIVE),
    "live HEVC": (".mkv", "libx265", "yuv420p", QUIET, LIVE),
    "H.264 in fragments": (".mp4", "libx264", "yuv420p", {"g": "4"}, FRAGMENTS),
    "HEVC in fragments": (".mp4", "libx265", "yuv420p", {"g": "4", **QUIET}, FRAGMENTS),
}


def encode_kind(folder: Path, kind: str, images=None, **more) -> Path:
    suffix, codec, pixel_format, options, container_options = KINDS[kind]
    return encode_images(
        folder / f"clip{suffix}",
        pictures() if images is None else images,
        codec,
        pixel_format,
        options=options,
        container_options=container_options,
        **more,
    )


@pytest.mark.parametrize("kind", KINDS)
def test_whole_files_are_read(kind, tmp_path):
    assert read_video(encode_kind(tmp_path, kind)).num_frames == 12


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("share", [0.4, 0.75, 0.9])
def test_files_cut_within_the_pictures(kind, share, tmp_path):
    path = encode_kind(tmp_path, kind)
    places = packets(path)
    first, last = places[0][0], places[-1][0] + len(places[-1][1])
    with pytest.raises(VideoError, match=r"truncated|damaged") as caught:
        read_video(cut_at(path, first + 30 + share * (last - first - 40)))
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("kind", ["live VP8", "live H.264", "live HEVC"])
def test_a_live_recording_that_lost_half_of_its_last_picture(kind, tmp_path):
    path = encode_kind(tmp_path, kind)
    start, content = packets(path)[-1]
    with pytest.raises(VideoError, match=r"truncated|damaged"):
        read_video(cut_at(path, start + len(content) // 2))


@pytest.mark.parametrize("kind", ["MJPEG in AVI", "FFV1 in AVI", "MPEG-4 in AVI"])
def test_an_avi_cut_exactly_between_two_pictures(kind, tmp_path):
    path = encode_kind(tmp_path, kind)
    with pytest.raises(VideoError, match=r"truncated"):
        read_video(cut_at(path, packets(path)[6][0] - 8))


def test_an_avi_cut_whose_size_field_was_never_filled(tmp_path):
    path = overwrite(encode_kind(tmp_path, "MJPEG in AVI"), 4, bytes(4))
    assert read_video(path).num_frames == 12
    with pytest.raises(VideoError, match="the header promises 12 frames, 6 frames can be decoded"):
        read_video(cut_at(path, packets(path)[6][0] - 8))


def test_an_avi_that_lost_only_its_index_is_read(tmp_path):
    path = encode_kind(tmp_path, "MJPEG in AVI")
    assert read_video(cut_at(path, path.read_bytes().index(b"idx1"))).num_frames == 12


def test_a_matroska_file_cut_between_two_clusters(tmp_path):
    path = encode_images(
        tmp_path / "clip.mkv", pictures(), "mjpeg", "yuvj420p", container_options={"cluster_time_limit": "200"}
    )
    data = path.read_bytes()
    cluster = b"\x1f\x43\xb6\x75"
    assert data.count(cluster) >= 3
    with pytest.raises(VideoError, match=r"is truncated: the header promises 0\.7\d+ s, 8 frames can be decoded"):
        read_video(cut_at(path, data.rindex(cluster)))


def test_a_matroska_file_that_lost_only_its_index_is_read(tmp_path):
    path = encode_kind(tmp_path, "VP8 in WebM")
    start, content = packets(path)[-1]
    assert (
        read_video(cut_at(path, path.read_bytes().index(b"\x1c\x53\xbb\x6b", start + len(content)) + 6)).num_frames
        == 12
    )


# --- wrong bytes inside -----------------------------------------------------------------------------------------------


def fix_cluster_checksums(path: Path) -> Path:
    """Write the right CRC-32 of each cluster, as after a faulty copy by a tool that writes checksums itself."""
    data = bytearray(path.read_bytes())
    position = data.find(b"\x1f\x43\xb6\x75")
    while position >= 0:
        length = 9 - data[position + 4].bit_length()
        size = int.from_bytes(data[position + 4 : position + 4 + length], "big") & ((1 << 7 * length) - 1)
        start = position + 4 + length
        if data[start] == 0xBF:
            data[start + 2 : start + 6] = struct.pack("<I", zlib.crc32(data[start + 6 : start + size]))
        position = data.find(b"\x1f\x43\xb6\x75", start + size)
    path.write_bytes(data)
    return path


def flip(path: Path, packet: int, offset: float) -> Path:
    """Flip all bits of one byte of a packet."""
    start, content = packets(path)[packet]
    place = int(len(content) * offset)
    return overwrite(path, start + place, bytes([content[place] ^ 0xFF]))


@pytest.mark.parametrize("packet", [0, 5, 11])
@pytest.mark.parametrize("kind", ["FFV1 in MKV", "FFV1 in AVI"])
def test_a_wrong_checksum_of_ffv1(kind, packet, tmp_path):
    suffix, codec, pixel_format, _, _ = KINDS[kind]
    options = {"level": "3", "slicecrc": "1"}
    path = encode_images(tmp_path / f"clip{suffix}", pictures(), codec, pixel_format, options=options)
    flip(path, packet, 0.6)
    if suffix == ".mkv":
        fix_cluster_checksums(path)
    with pytest.raises(VideoError, match=rf"frame {packet} is damaged: its checksum is wrong"):
        read_video(path)


@pytest.mark.parametrize("options", [{"level": "1"}, {"level": "3", "slicecrc": "0"}])
def test_ffv1_without_checksums_is_read(options, tmp_path):
    path = encode_images(tmp_path / "clip.mkv", pictures(), "ffv1", "yuv420p", options=options)
    assert read_video(path).num_frames == 12


def test_the_checksum_of_ffv1_is_the_codecs_own(tmp_path):
    """Packets of FFmpeg's encoder hold, with any single bit flipped they do not."""
    path = encode_images(tmp_path / "c.mkv", pictures(3), "ffv1", "yuv420p", options={"level": "3", "slicecrc": "1"})
    sound = [content for _, content in packets(path)]
    check = Ffv1Check()
    for packet in sound:
        check.add(packet)
    assert check.damaged is None
    generator = np.random.default_rng(0)
    for place in generator.integers(0, len(sound[1]), 20):
        check = Ffv1Check()
        check.add(sound[0])
        check.add(sound[1][:place] + bytes([sound[1][place] ^ 0x10]) + sound[1][place + 1 :])
        assert check.damaged == 1


@pytest.mark.parametrize("kind", ["VP8 in MKV", "FFV1 in MKV", "AV1 in MKV", "HEVC in MKV"])
def test_a_wrong_checksum_of_a_matroska_cluster(kind, tmp_path):
    path = flip(encode_kind(tmp_path, kind), 6, 0.5)
    with pytest.raises(VideoError, match="damaged"):
        read_video(path)


@pytest.mark.parametrize("suffix", [".avi", ".mov", ".mkv"])
def test_mjpeg_with_a_decoder_error(suffix, tmp_path):
    """A run of ones is no Huffman code; the decoder leaves the rest of the picture grey."""
    path = encode_images(tmp_path / f"clip{suffix}", pictures(), "mjpeg", "yuvj420p")
    start, content = packets(path)[7]
    scan = content.index(b"\xff\xda") + 14
    overwrite(path, start + scan + 8, b"\xff\x00" * 12)
    if suffix == ".mkv":
        fix_cluster_checksums(path)
    with pytest.raises(VideoError, match="damaged"):
        read_video(path)


def test_mjpeg_whose_picture_ends_early(tmp_path):
    path = encode_images(tmp_path / "clip.avi", pictures(), "mjpeg", "yuvj420p")
    start, content = packets(path)[7]
    half = len(content) // 2
    overwrite(path, start + half, b"\xff\xd9" + bytes(len(content) - half - 2))
    with pytest.raises(VideoError, match="damaged"):
        read_video(path)


def test_hevc_with_a_decoder_error(tmp_path):
    path = encode_kind(tmp_path, "HEVC in MKV")
    start, _ = packets(path)[4]
    overwrite(path, start + 6, b"\xff" * 8)  # the slice's header
    with pytest.raises(VideoError, match="damaged"):
        read_video(fix_cluster_checksums(path))


LOGGING_READER = """
import sys
from pathlib import Path
import av.logging
from worldr1_core.errors import VideoError
from worldr1_core.video_io import read_video

av.logging.set_level(av.logging.ERROR)
for _ in range(20):
    try:
        read_video(Path(sys.argv[1]))
    except VideoError as error:
        assert "damaged" in str(error)
    else:
        raise SystemExit("the file was read")
"""


def test_a_damaged_file_does_not_block_where_the_decoder_logs_to_python(tmp_path):
    """Threads of the decoder wait for the GIL to log, while whoever frees the decoder waits for them."""
    path = encode_kind(tmp_path, "HEVC in MKV")
    start, _ = packets(path)[4]
    overwrite(path, start + 6, b"\xff" * 8)
    fix_cluster_checksums(path)
    command = [sys.executable, "-c", LOGGING_READER, str(path)]
    subprocess.run(command, check=True, timeout=120, capture_output=True)


def test_hevc_that_lost_a_picture_which_others_refer_to(tmp_path):
    path = encode_kind(tmp_path, "HEVC in MKV")
    with av.open(str(path)) as source, av.open(str(tmp_path / "other.mkv"), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for index, packet in enumerate(p for p in source.demux(video=0) if p.size):
            if index != 1:
                packet.stream = stream
                target.mux(packet)
    with pytest.raises(VideoError, match="damaged"):
        read_video(tmp_path / "other.mkv")


@pytest.mark.parametrize("kind", ["MPEG-2 in MKV", "AV1 in MKV", "live H.264", "MPEG-4 in AVI"])
def test_other_codecs_with_a_decoder_error(kind, tmp_path):
    path = encode_kind(tmp_path, kind)
    start, content = packets(path)[4]
    # Ones: where x264 puts its bits differs from run to run, and zeros can decode as another picture without an error.
    overwrite(path, start + len(content) // 3, b"\xff" * (len(content) // 2))
    fix_cluster_checksums(path)
    with pytest.raises(VideoError, match="damaged"):
        read_video(path)


# --- files that are sound ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("offset", [1, 5, 160, 57600])
@pytest.mark.parametrize("suffix", [".mkv", ".webm", ".mp4"])
@pytest.mark.parametrize("tag", [True, False])
def test_a_first_timestamp_that_is_not_zero(offset, suffix, tag, tmp_path):
    codec = "libvpx" if suffix == ".webm" else "libx264"
    times = [offset + index for index in range(12)]
    path = encode_images(tmp_path / f"clip{suffix}", pictures(), codec, "yuv420p", options={}, times=times)
    if not tag:
        path.write_bytes(path.read_bytes().replace(b"DURATION", b"SOMETHIN"))
    assert read_video(path).num_frames == 12


def test_a_late_first_timestamp_does_not_hide_a_cut(tmp_path):
    times = [160 + index for index in range(12)]
    path = encode_images(
        tmp_path / "clip.mkv",
        pictures(),
        "mjpeg",
        "yuvj420p",
        times=times,
        container_options={"cluster_time_limit": "200"},
    )
    with pytest.raises(VideoError, match="truncated"):
        read_video(cut_at(path, path.read_bytes().rindex(b"\x1f\x43\xb6\x75")))


@pytest.mark.parametrize(
    ("suffix", "codec", "pixel_format"),
    [
        (".avi", "mpeg4", "yuv420p"),
        (".avi", "mjpeg", "yuvj420p"),
        (".mp4", "libx264", "yuv420p"),
        (".mkv", "libx264", "yuv420p"),
        (".webm", "libvpx", "yuv420p"),
        (".gif", "gif", "rgb8"),
    ],
)
def test_a_variable_frame_rate_is_read_frame_by_frame(suffix, codec, pixel_format, tmp_path):
    times = [0, 1, 2, 5, 6, 7, 8, 20, 21, 22, 23, 24]
    path = encode_images(tmp_path / f"clip{suffix}", pictures(), codec, pixel_format, options={}, times=times)
    assert read_video(path).num_frames == 12


def test_open_groups_of_pictures_are_read(tmp_path):
    options = {"x264-params": "open-gop=1:keyint=8"}
    path = encode_images(tmp_path / "clip.mp4", pictures(30), "libx264", "yuv420p", options=options)
    assert read_video(path).num_frames == 30


@pytest.mark.parametrize("rest", [b"\x00", b"\r\n", b"rubbish" * 40, b"GIF89a" + bytes(20), b"\x21\xf9\x04"])
def test_bytes_behind_the_trailer_of_a_gif_do_no_harm(rest, tmp_path):
    path = encode_images(tmp_path / "clip.gif", pictures(), "gif", "rgb8")
    frames = read_video(path).frames
    path.write_bytes(path.read_bytes() + rest)
    assert read_video(path).frames.equal(frames)


@pytest.mark.parametrize("share", [0.3, 0.6, 0.9, 0.99])
def test_a_gif_cut_with_bytes_that_look_like_a_trailer(share, tmp_path):
    path = cut_at(encode_images(tmp_path / "clip.gif", pictures(), "gif", "rgb8"), share)
    path.write_bytes(path.read_bytes() + b"\x00;")
    with pytest.raises(VideoError, match=r"truncated|damaged"):
        read_video(path)


def test_the_blocks_of_a_gif_are_counted(tmp_path):
    path = encode_images(tmp_path / "clip.gif", pictures(9), "gif", "rgb8")
    size = path.stat().st_size
    path.write_bytes(path.read_bytes() + b"more")
    assert gif_length(path) == (size, 9)


def test_a_trailing_packet_without_content_is_no_frame(tmp_path):
    """AVI repeats a frame by an empty chunk."""
    path = encode_kind(tmp_path, "MJPEG in AVI")
    with av.open(str(path)) as source, av.open(str(tmp_path / "other.avi"), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for index, packet in enumerate(p for p in source.demux(video=0) if p.size):
            packet.stream = stream
            packet.pts = packet.dts = index * 3  # gaps, which the writer fills with empty chunks
            target.mux(packet)
    assert b"00dc\x00\x00\x00\x00" in (tmp_path / "other.avi").read_bytes()
    assert read_video(tmp_path / "other.avi").num_frames == 12


def test_a_codec_that_nobody_knows_is_an_error(tmp_path):
    path = encode_images(tmp_path / "clip.mp4", pictures(3), "libx264", "yuv420p", options={})
    path.write_bytes(path.read_bytes().replace(b"avc1", b"zzzz"))
    with pytest.raises(VideoError, match=r"clip\.mp4"):
        read_video(path)


def test_metadata_that_is_no_utf8_is_no_damage(tmp_path):
    path = encode_kind(tmp_path, "VP8 in WebM")
    whole = path.read_bytes()
    assert b"Lavf" in whole
    path.write_bytes(whole.replace(b"Lavf", b"L\xe4vf"))
    assert read_video(path).num_frames == 12


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data.replace(b"}", b" ", 1),
        lambda data: data.replace(b"(2, 3, 4, 4)", b"((((((((((((", 1),
        lambda data: data.replace(b"'<f4'", b"'\0f4'", 1),
    ],
)
def test_a_numpy_file_with_a_damaged_header_is_an_error(damage, tmp_path):
    path = tmp_path / "clip.npy"
    np.save(path, np.zeros((2, 3, 4, 4), np.float32))
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(VideoError, match="damaged or no NumPy file"):
        read_video(path)
