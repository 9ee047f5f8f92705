"""Animated WebP, PNG and GIF files are clips; still pictures are frames."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from core.video_files import cut_at, pictures
from worldr1_core.errors import VideoError
from worldr1_core.video_io import find_videos, read_video
from worldr1_core.video_io.animations import is_animated

ANIMATIONS = [".webp", ".png", ".apng"]


def save_animation(path: Path, images: list[np.ndarray], **options) -> Path:
    """Lossless where the form allows it, 125 ms a frame."""
    first, *others = (Image.fromarray(image) for image in images)
    lossless = {"lossless": True} if path.suffix == ".webp" else {}
    kind = "PNG" if path.suffix == ".apng" else None
    options = {"save_all": True, "append_images": others, "duration": 125, "loop": 0, **lossless, **options}
    first.save(path, format=kind, **options)
    return path


def save_still(path: Path, image: np.ndarray) -> Path:
    Image.fromarray(image).save(path, **({"lossless": True} if path.suffix == ".webp" else {}))
    return path


def as_bytes(path: Path) -> np.ndarray:
    return (read_video(path).frames * 255).round().byte().permute(0, 2, 3, 1).numpy()


@pytest.mark.parametrize("suffix", ANIMATIONS)
def test_every_frame_of_an_animation_is_read(suffix, tmp_path):
    images = pictures(6)
    path = save_animation(tmp_path / f"clip{suffix}", images)
    np.testing.assert_array_equal(as_bytes(path), images)
    assert read_video(path).fps == pytest.approx(8)


@pytest.mark.parametrize("suffix", ANIMATIONS)
def test_max_frames_and_max_side_of_an_animation(suffix, tmp_path):
    video = read_video(save_animation(tmp_path / f"clip{suffix}", pictures(6)), max_frames=2, max_side=32)
    assert video.frames.shape == (2, 3, 24, 32)
    assert video.full_size == (48, 64)


@pytest.mark.parametrize("suffix", [*ANIMATIONS, ".gif"])
def test_a_folder_of_animations_is_several_clips(suffix, tmp_path):
    names = [f"clip{number}{suffix}" for number in (1, 2, 10)]
    for name in names:
        save_animation(tmp_path / name, pictures(3))
    assert [path.name for path in find_videos(tmp_path)] == names
    assert [read_video(path).num_frames for path in find_videos(tmp_path)] == [3, 3, 3]


@pytest.mark.parametrize("suffix", [".webp", ".png"])
def test_a_single_animation_in_a_folder_is_the_clip(suffix, tmp_path):
    path = save_animation(tmp_path / f"clip{suffix}", pictures(3))
    assert find_videos(tmp_path) == [path]


@pytest.mark.parametrize("suffix", [".webp", ".png"])
def test_a_folder_of_stills_is_one_clip(suffix, tmp_path):
    images = pictures(3)
    for index, image in enumerate(images):
        save_still(tmp_path / f"{index}{suffix}", image)
    assert find_videos(tmp_path) == [tmp_path]
    np.testing.assert_array_equal(as_bytes(tmp_path), images)


def test_animations_of_different_forms_are_clips_side_by_side(tmp_path):
    for suffix in (".gif", ".png", ".webp"):
        save_animation(tmp_path / f"clip{suffix}", pictures(2))
    assert [path.suffix for path in find_videos(tmp_path)] == [".gif", ".png", ".webp"]


def test_animations_beside_stills_are_ambiguous(tmp_path):
    save_animation(tmp_path / "clip.webp", pictures(2))
    for index in range(2):
        save_still(tmp_path / f"{index}.webp", pictures(1)[0])
    with pytest.raises(VideoError, match=r"holds images \('0.webp', ...\) and video files \('clip.webp', ...\)"):
        find_videos(tmp_path)


@pytest.mark.parametrize("suffix", [".webp", ".png"])
def test_an_animation_is_no_frame_of_a_folder(suffix, tmp_path):
    for index in range(2):
        save_animation(tmp_path / f"{index}{suffix}", pictures(2))
    with pytest.raises(VideoError, match=rf"0{suffix}: is an animation, and so a clip of its own"):
        read_video(tmp_path)


@pytest.mark.parametrize("suffix", [".webp", ".png"])
def test_a_still_picture_is_no_clip(suffix, tmp_path):
    path = save_still(tmp_path / f"0{suffix}", pictures(1)[0])
    with pytest.raises(VideoError, match=r"is a single picture.*Give the folder"):
        read_video(path)


def test_the_picture_for_viewers_without_animation_is_no_frame(tmp_path):
    images = pictures(4)
    path = save_animation(tmp_path / "clip.png", images, default_image=True)
    np.testing.assert_array_equal(as_bytes(path), images[1:])


@pytest.mark.parametrize("suffix", ANIMATIONS)
@pytest.mark.parametrize("share", [0.3, 0.6, 0.95])
def test_a_cut_animation(suffix, share, tmp_path):
    path = cut_at(save_animation(tmp_path / f"clip{suffix}", pictures(6)), share)
    with pytest.raises(VideoError, match=r"truncated|damaged"):
        read_video(path)


@pytest.mark.parametrize("suffix", ANIMATIONS)
@pytest.mark.parametrize(
    "content", [b"rubbish" * 9, b"RIFF\x00\x00\x00\x00WEBPVP8X" + bytes(4) + b"\x02", b"\x89PNG\r\n\x1a\n"]
)
def test_what_is_no_animation(suffix, content, tmp_path):
    path = tmp_path / f"clip{suffix}"
    path.write_bytes(content)
    with pytest.raises(VideoError, match=r"damaged|single picture"):
        read_video(path)


def test_animations_are_told_by_their_content(tmp_path):
    assert is_animated(save_animation(tmp_path / "a.webp", pictures(2)))
    assert is_animated(save_animation(tmp_path / "b.png", pictures(2)))
    assert not is_animated(save_still(tmp_path / "c.png", pictures(1)[0]))
    assert not is_animated(save_still(tmp_path / "d.webp", pictures(1)[0]))
    assert not is_animated(tmp_path / "none.png")
    Image.fromarray(pictures(1)[0]).save(tmp_path / "e.png", icc_profile=bytes(5000))
    assert not is_animated(tmp_path / "e.png")


def test_differences_between_frames_are_composed(tmp_path):
    """Writers store only the rectangle that changed."""
    images = [np.zeros((32, 32, 3), np.uint8) for _ in range(3)]
    images[1][4:8, 4:8] = 255
    images[2][20:24, 20:24] = 90
    for suffix in ANIMATIONS:
        assert torch.equal(
            read_video(save_animation(tmp_path / f"clip{suffix}", images)).frames * 255,
            torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float(),
        )
