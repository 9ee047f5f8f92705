"""Atomic writing of files and folders: a temporary neighbour first, then one rename."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from worldr1_core.errors import OutputError


@contextlib.contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """A temporary file path beside `path` that becomes `path` when the block ends without an error.

    Args:
        path: The file to write; its folders are made. The temporary name keeps the suffix.

    Raises:
        OutputError: The place cannot be written to.
    """
    path = Path(path)
    temporary: Path | None = None
    try:
        if path.is_dir():
            raise IsADirectoryError(f"{str(path)!r} is a folder")
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.stem[:40]}-", suffix=path.suffix[-40:], dir=path.parent)
        os.close(handle)
        temporary = Path(name)
    except OSError as error:
        raise OutputError(f"Cannot write {str(path)!r}: {error}. Choose a place you may write to.") from error
    try:
        yield temporary
        _publish(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_folder(path: str | Path) -> Iterator[Path]:
    """A temporary folder beside `path` that replaces `path` when the block ends without an error.

    Args:
        path: The folder to write; an existing one is replaced as a whole.

    Raises:
        OutputError: The place cannot be written to.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{path.name[:40]}-", dir=path.parent))
    except OSError as error:
        raise OutputError(f"Cannot write {str(path)!r}: {error}. Choose a place you may write to.") from error
    try:
        yield temporary
        temporary.chmod(0o777 & ~_umask())
        if path.is_dir():
            _replace_folder(temporary, path)
        else:
            os.replace(temporary, path)
    except OSError as error:
        raise OutputError(f"Cannot write {str(path)!r}: {error}. Choose a place you may write to.") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def atomic_write_text(path: str | Path, text: str) -> None:
    """Write a UTF-8 file as a whole or not at all (see `atomic_path`)."""
    with atomic_path(path) as temporary:
        try:
            temporary.write_text(text, encoding="utf-8")
        except OSError as error:
            raise OutputError(f"Cannot write {str(path)!r}: {error}. Choose a place you may write to.") from error


def check_writable_folder(path: str | Path) -> None:
    """Try, before any expensive work, whether a folder can be made and written to; leaves nothing behind.

    Raises:
        OutputError: It cannot.
    """
    existing = Path(path).absolute()
    try:
        while not existing.exists() and existing != existing.parent:
            existing = existing.parent
        with tempfile.TemporaryDirectory(prefix=".worldr1-", dir=existing):
            pass
    except OSError as error:
        raise OutputError(f"Cannot write to folder {str(path)!r}: {error}. Choose a place you may write to.") from error


def _replace_folder(temporary: Path, path: Path) -> None:
    """Replace a folder by another; restore the first if that fails."""
    retired = Path(tempfile.mkdtemp(prefix=f".{path.name[:40]}-old-", dir=path.parent))
    try:
        os.replace(path, retired / "old")
        try:
            os.replace(temporary, path)
        except OSError:
            os.replace(retired / "old", path)
            raise
    finally:
        shutil.rmtree(retired, ignore_errors=True)


def _publish(temporary: Path, path: Path) -> None:
    try:
        temporary.chmod(0o666 & ~_umask())
        os.replace(temporary, path)
    except OSError as error:
        raise OutputError(f"Cannot write {str(path)!r}: {error}. Choose a place you may write to.") from error


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
