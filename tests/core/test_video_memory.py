"""Large clips: frames shrunk one by one, and an error instead of a killed process."""

import json
import subprocess
import sys
import textwrap
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional

from core.video_files import encode_images, pictures
from worldr1_core.errors import VideoError
from worldr1_core.video import Video
from worldr1_core.video_io import memory, read_video, write_video

FORMS = [".mp4", ".mkv", ".gif", ".npy", ".npz", ".safetensors", ""]


def clip(num_frames: int = 3, height: int = 48, width: int = 64) -> Video:
    images = np.stack(pictures(num_frames, height, width))
    return Video(torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255)


@pytest.mark.parametrize("file_format", FORMS)
def test_max_side_shrinks_every_frame_with_antialiasing(file_format, tmp_path):
    path = write_video(clip(), tmp_path / f"clip{file_format}")
    full = read_video(path)
    expected = functional.interpolate(full.frames, (15, 20), mode="bilinear", antialias=True)
    small = read_video(path, max_side=20)
    torch.testing.assert_close(small.frames, expected, atol=1e-6, rtol=0)
    assert (small.full_size, full.full_size) == ((48, 64), (48, 64))


@pytest.mark.parametrize(("height", "width", "size"), [(64, 48, (20, 15)), (33, 47, (14, 20)), (4, 200, (1, 20))])
def test_max_side_limits_the_longer_side_and_keeps_proportions(height, width, size, tmp_path):
    path = write_video(clip(2, height, width), tmp_path / "clip.npy")
    assert read_video(path, max_side=20).size == size


@pytest.mark.parametrize("file_format", FORMS)
def test_max_side_never_enlarges(file_format, tmp_path):
    path = write_video(clip(), tmp_path / f"clip{file_format}")
    assert torch.equal(read_video(path, max_side=64).frames, read_video(path).frames)
    assert torch.equal(read_video(path, max_side=1000).frames, read_video(path).frames)


@pytest.mark.parametrize("name", ["max_side", "max_frames"])
@pytest.mark.parametrize("value", [0, -3])
def test_limits_must_be_positive(name, value, tmp_path):
    with pytest.raises(VideoError, match=f"{name} must be at least 1 or None, received {value}"):
        read_video(write_video(clip(), tmp_path / "clip.npy"), **{name: value})


# --- clips that do not fit --------------------------------------------------------------------------------------------


def allow(monkeypatch, num_bytes: int | None) -> None:
    monkeypatch.setattr(memory, "available_bytes", lambda: num_bytes)


@pytest.mark.parametrize("file_format", FORMS)
def test_a_clip_that_would_not_fit_is_an_error_that_names_a_way_out(file_format, tmp_path, monkeypatch):
    path = write_video(clip(200), tmp_path / f"clip{file_format}")  # 200 * 48 * 64 * 12 bytes = 7.4 MB
    allow(monkeypatch, 2_000_000)
    with pytest.raises(VideoError, match=r"does not fit into memory") as caught:
        read_video(path)
    assert str(path) in str(caught.value)
    assert "GiB" in str(caught.value)


def test_the_error_states_sizes_and_a_side_that_fits(tmp_path, monkeypatch):
    path = write_video(clip(200), tmp_path / "clip.npy")
    allow(monkeypatch, 2_000_000)
    with pytest.raises(VideoError, match=r"200 frames of 64x48 pixels need 0\.0 GiB, 0\.0 GiB of memory .* e\.g\. 22,"):
        read_video(path)
    assert read_video(path, max_side=22).num_frames == 200


@pytest.mark.parametrize("file_format", FORMS)
def test_fewer_frames_of_a_large_clip_fit(file_format, tmp_path, monkeypatch):
    path = write_video(clip(200), tmp_path / f"clip{file_format}")
    allow(monkeypatch, 8_000_000 if file_format == ".npz" else 2_000_000)  # an array in an npz is loaded whole
    assert read_video(path, max_frames=20).num_frames == 20


def test_the_size_is_checked_before_anything_is_decoded(tmp_path, monkeypatch):
    path = write_video(clip(200), tmp_path / "clip.mkv")
    allow(monkeypatch, 2_000_000)
    monkeypatch.setattr("worldr1_core.video_io.containers._to_rgb", lambda frame, scaler: pytest.fail("decoded"))
    with pytest.raises(VideoError, match="does not fit into memory"):
        read_video(path)


def test_pixels_that_become_square_count(tmp_path, monkeypatch):
    path = encode_images(tmp_path / "clip.mp4", pictures(100), aspect=8)
    allow(monkeypatch, 8_000_000)  # 3.7 MB as stored, 29 MB as shown
    with pytest.raises(VideoError, match="100 frames of 512x48 pixels"):
        read_video(path)


def test_where_the_system_does_not_tell_nothing_is_refused(tmp_path, monkeypatch):
    path = write_video(clip(), tmp_path / "clip.mp4")
    allow(monkeypatch, None)
    assert read_video(path).num_frames == 3


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory")])
def test_an_allocation_that_fails_is_an_error_of_that_clip(error, tmp_path, monkeypatch):
    def refuse(*args, **kwargs):
        raise error

    path = write_video(clip(), tmp_path / "clip.mp4")
    monkeypatch.setattr("torch.empty", refuse)
    with pytest.raises(VideoError, match="does not fit into memory: 3 frames of 64x48"):
        read_video(path)


def test_a_decoder_that_runs_out_of_memory_is_an_error_of_that_clip(tmp_path, monkeypatch):
    def refuse(frame, scaler):
        raise MemoryError

    path = write_video(clip(), tmp_path / "clip.mp4")
    monkeypatch.setattr("worldr1_core.video_io.containers._to_rgb", refuse)
    with pytest.raises(VideoError, match=r"clip\.mp4: does not fit into memory"):
        read_video(path)


def test_more_frames_than_were_announced_are_kept(tmp_path):
    from worldr1_core.video_io.frame_buffer import FrameBuffer

    buffer = FrameBuffer(tmp_path, 2, None)
    for value in range(30):
        buffer.append(torch.full((3, 2, 2), value, dtype=torch.uint8))
    assert (buffer.frames() * 255).round()[:, 0, 0, 0].tolist() == list(range(30))


# --- a process with little memory -------------------------------------------------------------------------------------

PROGRAM = """
    import json, resource, sys
    import torch
    from worldr1_core.errors import VideoError
    from worldr1_core.video_io import read_video

    def peak():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

    torch.set_num_threads(1)
    large, small = sys.argv[1:]
    read_video(small)
    start = peak()
    shape = tuple(read_video(large, max_side=96).frames.shape)
    shrunk = peak()
    kept = read_video(large).frames.nbytes
    full = peak()

    used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + 400 * 2**20, hard))
    try:
        read_video(large)
        refusal = None
    except VideoError as error:
        refusal = str(error)
    resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
    print(json.dumps({
        "shape": shape, "shrunk": shrunk - start, "full": full - start, "kept": kept, "refusal": refusal,
        "next": read_video(small).num_frames,
    }))
"""


@pytest.fixture(scope="module")
def report(tmp_path_factory) -> dict[str, Any]:
    """What a fresh process says about forty frames of 1280x720 pixels (442 MB as float32) and a small clip."""
    folder = tmp_path_factory.mktemp("clips")
    images = [np.full((720, 1280, 3), 4 * index, np.uint8) for index in range(40)]
    large = encode_images(folder / "large.mp4", images, "libx264", "yuv420p", options={"preset": "ultrafast"})
    small = encode_images(folder / "small.mp4", pictures(3))
    command = [sys.executable, "-c", textwrap.dedent(PROGRAM), str(large), str(small)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


@linux
def test_a_clip_beyond_the_limit_of_the_process_leaves_the_next_ones(report):
    assert "40 frames of 1280x720 pixels need 0.5 GiB, 0.4 GiB of memory are available" in report["refusal"]
    assert report["next"] == 3


@linux
def test_memory_peaks_at_the_frames_that_are_kept(report):
    assert report["kept"] == 40 * 3 * 720 * 1280 * 4
    assert report["full"] < 1.25 * report["kept"]


@linux
def test_shrunk_frames_are_not_kept_at_full_size(report):
    assert report["shape"] == [40, 3, 54, 96]
    assert report["shrunk"] < 0.25 * report["kept"]


# --- what the system says ---------------------------------------------------------------------------------------------


def system(monkeypatch, files: dict[str, str]) -> None:
    monkeypatch.setattr(memory, "_lines", lambda path: files.get(str(path), "").splitlines())


MACHINE = {"/proc/meminfo": "MemTotal: 9000 kB\nMemAvailable: 4000 kB"}


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, None),
        (MACHINE, 4000 * 1024),
        (
            {
                **MACHINE,
                "/proc/self/cgroup": "0::/job/step",
                "/sys/fs/cgroup/job/step/memory.max": "max",
                "/sys/fs/cgroup/job/step/memory.current": "100",
                "/sys/fs/cgroup/job/memory.max": "3000",
                "/sys/fs/cgroup/job/memory.current": "2500",
                "/sys/fs/cgroup/job/memory.stat": "anon 1700\ninactive_file 800",
            },
            1300,
        ),
        (
            {
                **MACHINE,
                "/proc/self/cgroup": "5:cpu:/x\n4:memory:/docker/abc",
                "/sys/fs/cgroup/memory/memory.limit_in_bytes": "3000",
                "/sys/fs/cgroup/memory/memory.usage_in_bytes": "1000",
            },
            2000,
        ),
        (
            {
                **MACHINE,
                "/proc/self/cgroup": "4:memory:/",
                "/sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712",
                "/sys/fs/cgroup/memory/memory.usage_in_bytes": "1000",
            },
            4000 * 1024,
        ),
    ],
    ids=["unknown", "machine", "group of version 2", "container of version 1", "group without a limit"],
)
def test_available_memory_is_the_least_of_machine_and_groups(files, expected, monkeypatch):
    system(monkeypatch, files)
    assert memory.available_bytes() == expected


def test_images_of_a_folder_are_shrunk_one_by_one(tmp_path, monkeypatch):
    for index in range(50):
        Image.fromarray(pictures(1)[0]).save(tmp_path / f"{index}.png")
    allow(monkeypatch, 800_000)
    with pytest.raises(VideoError, match="does not fit into memory"):
        read_video(tmp_path)
    assert read_video(tmp_path, max_side=16).frames.shape == (50, 3, 12, 16)
