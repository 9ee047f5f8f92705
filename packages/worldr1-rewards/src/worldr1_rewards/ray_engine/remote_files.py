"""Videos in a bucket: found with fsspec, and copied to the machine that scores them one at a time.

A remote folder is mirrored by a local one in which every video is a placeholder of a few bytes, while the small files
that belong to videos (records, prompts) are copied. What a folder stands for, and which prompt belongs to which video,
is then decided by the code that reads local folders. The placeholder holds the address and version of the video, so
that digests of it change with the video.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from worldr1_core.errors import UserError, VideoError, require
from worldr1_core.video_io.find import FILE_SUFFIXES, IMAGE_SUFFIXES
from worldr1_rewards.ray_engine.cluster import EXTRA

MAX_SIDECAR_BYTES = 2**20
"""Size up to which a `.json` or `.txt` file counts as one that describes a video."""
_SIDECARS = (".json", ".txt")


@dataclass(frozen=True, slots=True)
class Mirror:
    """A remote path and the local one that stands for it.

    Attributes:
        url: Address of the video or folder.
        path: Local counterpart.
    """

    url: str
    path: Path

    def url_of(self, path: Path) -> str | None:
        """Return the address that a path in the mirror stands for, or `None` for another path."""
        if path == self.path:
            return self.url
        if not path.is_relative_to(self.path):
            return None
        return f"{self.url.rstrip('/')}/{path.relative_to(self.path).as_posix()}"


def mirror(url: str, folder: Path) -> Mirror:
    """Mirror a remote video or folder.

    Args:
        url: Its address.
        folder: Local folder to write into, which is empty.

    Raises:
        VideoError: There is nothing at the address, or it cannot be read.
        MissingExtraError: The package of its file system is not installed.
    """
    system, root = _open(url)
    with _as_video_error(url):
        if not system.exists(root):
            raise VideoError(f"{url}: no such file or folder.")
        top = folder / (PurePosixPath(root.rstrip("/")).name or "videos")
        if system.isfile(root):
            files = {root: system.info(root)}
            files |= {
                name: info
                for name, info in system.find(system._parent(root), maxdepth=1, detail=True).items()
                if PurePosixPath(name).stem == PurePosixPath(root).stem and PurePosixPath(name).suffix in _SIDECARS
            }
            base = system._parent(root)
        else:
            files, base, folder = system.find(root, detail=True), root.rstrip("/"), top
            folder.mkdir()
        for name, info in files.items():
            _copy_entry(system, name, info, folder / _relative(name, base))
    return Mirror(url, top)


def _relative(name: str, base: str) -> PurePosixPath:
    """Return the path of a remote file below a remote folder; refuse one that would leave it."""
    relative = PurePosixPath(name.removeprefix(base).lstrip("/"))
    if relative.is_absolute() or ".." in relative.parts or not relative.parts:
        raise VideoError(f"{name}: is not inside {base!r}. Rename it.")
    return relative


def _copy_entry(system: Any, name: str, info: dict[str, Any], target: Path) -> None:
    suffix = target.suffix.lower()
    if suffix in FILE_SUFFIXES or suffix in IMAGE_SUFFIXES:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(f"{name} {system.ukey(name)}", encoding="utf-8")
    elif suffix in _SIDECARS and info.get("size", 0) <= MAX_SIDECAR_BYTES:
        target.parent.mkdir(parents=True, exist_ok=True)
        system.get_file(name, str(target))


@contextlib.contextmanager
def fetched(url: str) -> Iterator[Path]:
    """Copy a remote video, or the folder of its images, to this machine; the copy is removed afterwards.

    Raises:
        VideoError: It cannot be read, or there is no room for it.
    """
    system, root = _open(url)
    folder = Path(tempfile.mkdtemp(prefix="worldr1-"))
    try:
        target = folder / PurePosixPath(root.rstrip("/")).name
        with _as_video_error(url):
            if system.isfile(root):
                system.get_file(root, str(target))
            elif not system.isdir(root):
                raise VideoError(f"{url}: no such file or folder.")
            else:
                for name in system.find(root):
                    place = target / _relative(name, root.rstrip("/"))
                    place.parent.mkdir(parents=True, exist_ok=True)
                    system.get_file(name, str(place))
        yield target
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _open(url: str) -> tuple[Any, str]:
    """Return the file system of an address, and the path in it."""
    fsspec = require("fsspec", extra=EXTRA)
    try:
        system, path = fsspec.core.url_to_fs(url)
    except ImportError as error:
        raise UserError(f"{url!r} needs a package that is not installed: {error}") from error
    except ValueError as error:
        raise UserError(f"{url!r} cannot be opened: {error}") from error
    return system, path


@contextlib.contextmanager
def _as_video_error(url: str) -> Iterator[None]:
    try:
        yield
    except VideoError:
        raise
    except Exception as error:
        raise VideoError(f"{url}: cannot be read: {error}") from error
