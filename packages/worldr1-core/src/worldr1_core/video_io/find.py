"""Which paths hold clips: known suffixes, natural order, and the expansion of folders."""

from __future__ import annotations

import os
from pathlib import Path

from worldr1_core.errors import VideoError
from worldr1_core.natural_order import natural_key

CONTAINER_SUFFIXES = (".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".gif")
ARRAY_SUFFIXES = (".npy", ".npz", ".safetensors")
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")
FILE_SUFFIXES = CONTAINER_SUFFIXES + ARRAY_SUFFIXES


def list_files(folder: Path, suffixes: tuple[str, ...]) -> list[Path]:
    """Visible files of a folder with one of the suffixes, in natural order."""
    return [p for p in _entries(folder) if p.suffix.lower() in suffixes and p.is_file()]


def find_videos(path: str | os.PathLike[str]) -> list[Path]:
    """The clips that a path stands for, in natural order.

    A file is itself. A folder that holds images is one clip. Any other folder stands for the clips in it and in its
    sub-folders; hidden entries and files of other kinds are passed over.

    Raises:
        VideoError: There is no such path, no clip in it, or a folder holds both images and video files, so that it is
            unclear which of them are the clips.
    """
    path = Path(path)
    if not path.exists():
        raise VideoError(f"{path}: no such file or folder.")
    if not path.is_dir():
        return [path]
    clips = _clips_in(path)
    if not clips:
        raise VideoError(
            f"{path}: the folder holds no clips. Allowed: {list(FILE_SUFFIXES)}, or images {list(IMAGE_SUFFIXES)}."
        )
    return clips


def _clips_in(folder: Path) -> list[Path]:
    pictures = list_files(folder, IMAGE_SUFFIXES)
    films = list_files(folder, CONTAINER_SUFFIXES)
    if pictures and films:
        raise VideoError(
            f"{folder}: holds images ({pictures[0].name!r}, ...) and video files ({films[0].name!r}, ...). "
            "Keep them in separate folders, or name the files one by one."
        )
    if pictures:
        return [folder]
    clips = []
    for entry in _entries(folder):
        if entry.is_dir():
            clips += [] if entry.is_symlink() else _clips_in(entry)  # a linked folder may lead back here
        elif entry.suffix.lower() in FILE_SUFFIXES:
            clips.append(entry)
    return clips


def _entries(folder: Path) -> list[Path]:
    try:
        visible = [entry for entry in folder.iterdir() if not entry.name.startswith(".")]
    except OSError as error:
        raise VideoError(f"{folder}: the folder cannot be read: {error.strerror or error}.") from error
    return sorted(visible, key=lambda entry: natural_key(entry.name))
