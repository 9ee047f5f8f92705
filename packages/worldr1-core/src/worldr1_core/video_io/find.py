"""Search for clips: known suffixes, natural order, and the expansion of folders."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from worldr1_core.errors import VideoError
from worldr1_core.natural_order import natural_sorted
from worldr1_core.video_io.animations import is_animated
from worldr1_core.written_files import written_files

CONTAINER_SUFFIXES = (".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".gif")
ARRAY_SUFFIXES = (".npy", ".npz", ".safetensors")
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")
FILE_SUFFIXES = CONTAINER_SUFFIXES + ARRAY_SUFFIXES


def list_files(folder: Path, suffixes: tuple[str, ...]) -> list[Path]:
    """Visible files of a folder with one of the suffixes, in natural order, without what World-R1 wrote about clips."""
    return [p for p in _entries(folder) if p.suffix.lower() in suffixes and p.is_file()]


def find_videos(path: str | os.PathLike[str]) -> list[Path]:
    """The clips that a path stands for, in natural order.

    A file is itself. A folder that holds still images is one clip. Any other folder stands for the clips in it and in
    its sub-folders; an animated GIF, WebP or PNG is a clip of its own. Hidden entries and files of other kinds are
    passed over, and so are the pictures and renders that `worldr1 generate` and `worldr1 score --out` write beside
    videos. Beside video files, a single image and images that are named after a video (`clip.jpg` or `clip.mp4.jpg`
    beside `clip.mp4`) are no clip.

    Raises:
        VideoError: There is no such path, no clip in it, or a folder holds several other images beside video files, so
            that it is unclear which of them are the clips.
    """
    path = Path(path)
    try:
        mode = path.stat().st_mode
    except FileNotFoundError as error:
        raise VideoError(f"{path}: no such file or folder.") from error
    except (OSError, ValueError) as error:
        raise VideoError(f"{path}: cannot be opened: {getattr(error, 'strerror', None) or error}.") from error
    if stat.S_ISREG(mode):
        return [path]
    if not stat.S_ISDIR(mode):
        raise VideoError(f"{path}: is a device or a pipe. Name a file; a video is read more than once.")
    clips = _clips_in(path)
    if not clips:
        raise VideoError(
            f"{path}: the folder holds no clips. Allowed: {list(FILE_SUFFIXES)}, or images {list(IMAGE_SUFFIXES)}; "
            "files that worldr1 score --out wrote do not count."
        )
    return clips


def _clips_in(folder: Path) -> list[Path]:
    pictures = [picture for picture in list_files(folder, IMAGE_SUFFIXES) if not is_animated(picture)]
    films = [film for film in _entries(folder) if film.is_file() and _is_film(film)]
    if films:
        pictures = _without_thumbnails(pictures, films)
    if len(pictures) > 1 and films:
        raise VideoError(
            f"{folder}: holds images ({pictures[0].name!r}, ...) and video files ({films[0].name!r}, ...). "
            "Keep them in separate folders, or name the files one by one."
        )
    if pictures and not films:
        return [folder]
    clips = []
    for entry in _entries(folder):
        if entry.is_dir():
            clips += [] if entry.is_symlink() else _clips_in(entry)  # a linked folder may lead back here
        elif entry.suffix.lower() in FILE_SUFFIXES or is_animated(entry):
            clips.append(entry)
    return clips


def _is_film(path: Path) -> bool:
    return path.suffix.lower() in CONTAINER_SUFFIXES or is_animated(path)


def _without_thumbnails(pictures: list[Path], films: list[Path]) -> list[Path]:
    named = {film.stem for film in films} | {film.name for film in films}
    return [picture for picture in pictures if picture.stem not in named]


def _entries(folder: Path) -> list[Path]:
    try:
        visible = [
            entry
            for entry in folder.iterdir()
            if not entry.name.startswith(".") and not entry.is_fifo()  # to open a pipe waits for its writer
        ]
    except OSError as error:
        raise VideoError(f"{folder}: the folder cannot be read: {error.strerror or error}.") from error
    written = written_files(folder, {entry.name for entry in visible})
    return natural_sorted((entry for entry in visible if entry.name not in written), key=lambda entry: entry.name)
