"""Files are written as a whole or not at all."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from worldr1_core.errors import OutputError
from worldr1_core.files import atomic_folder, atomic_path, atomic_write_text, check_writable_folder


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_text_is_written_with_its_folders(tmp_path):
    atomic_write_text(tmp_path / "a" / "b" / "x.json", "é")
    assert (tmp_path / "a" / "b" / "x.json").read_bytes() == "é".encode()
    assert names(tmp_path / "a" / "b") == ["x.json"]


def test_existing_file_is_replaced(tmp_path):
    atomic_write_text(tmp_path / "x", "old")
    atomic_write_text(tmp_path / "x", "new")
    assert (tmp_path / "x").read_text() == "new"


def test_file_gets_the_usual_permissions(tmp_path):
    previous = os.umask(0o027)
    try:
        atomic_write_text(tmp_path / "x", "")
        with atomic_folder(tmp_path / "f"):
            pass
    finally:
        os.umask(previous)
    assert stat.S_IMODE((tmp_path / "x").stat().st_mode) == 0o640
    assert stat.S_IMODE((tmp_path / "f").stat().st_mode) == 0o750


def test_temporary_path_keeps_the_suffix_and_stands_beside(tmp_path):
    with atomic_path(tmp_path / "clip.mp4") as temporary:
        assert temporary.suffix == ".mp4"
        assert temporary.parent == tmp_path
        temporary.write_bytes(b"x")
    assert names(tmp_path) == ["clip.mp4"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_failure_leaves_the_old_file_and_nothing_else(tmp_path, error):
    atomic_write_text(tmp_path / "x", "old")

    def write():
        with atomic_path(tmp_path / "x") as temporary:
            temporary.write_text("half")
            raise error

    with pytest.raises(error):
        write()
    assert (tmp_path / "x").read_text() == "old"
    assert names(tmp_path) == ["x"]


def test_long_name_is_no_obstacle(tmp_path):
    name = "n" * 240 + ".json"
    atomic_write_text(tmp_path / name, "x")
    with atomic_folder(tmp_path / ("f" * 250)):
        pass
    assert names(tmp_path) == ["f" * 250, name]


def test_folder_in_the_place_of_a_file(tmp_path):
    with pytest.raises(OutputError, match="is a folder"):
        atomic_write_text(tmp_path, "x")


@pytest.fixture
def blocked(tmp_path):
    """A path whose parent is a file."""
    (tmp_path / "file").write_text("x")
    return tmp_path / "file" / "below"


def test_place_that_cannot_be_written_to(blocked):
    with pytest.raises(OutputError, match=r"Cannot write '.*below'.*Choose a place you may write to"):
        atomic_write_text(blocked, "x")
    with pytest.raises(OutputError, match="Cannot write"), atomic_folder(blocked):
        pass
    with pytest.raises(OutputError, match="Cannot write to folder"):
        check_writable_folder(blocked)


def test_writing_that_fails_is_an_output_error(tmp_path, monkeypatch):
    def fail(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", fail)
    with pytest.raises(OutputError, match="No space left on device"):
        atomic_write_text(tmp_path / "x", "text")
    assert names(tmp_path) == []


def test_publishing_that_fails_is_an_output_error(tmp_path):
    def write():
        with atomic_path(tmp_path / "x") as temporary:
            temporary.unlink()

    with pytest.raises(OutputError, match="Cannot write"):
        write()
    assert names(tmp_path) == []


def test_folder_appears_at_the_end(tmp_path):
    with atomic_folder(tmp_path / "deep" / "out") as temporary:
        (temporary / "a").write_text("1")
        assert not (tmp_path / "deep" / "out").exists()
    assert names(tmp_path / "deep") == ["out"]
    assert names(tmp_path / "deep" / "out") == ["a"]


def test_existing_folder_is_replaced_as_a_whole(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "stale").write_text("x")
    with atomic_folder(tmp_path / "out") as temporary:
        (temporary / "fresh").write_text("x")
    assert names(tmp_path / "out") == ["fresh"]
    assert names(tmp_path) == ["out"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_failure_leaves_the_old_folder(tmp_path, error):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "old").write_text("x")

    def write():
        with atomic_folder(tmp_path / "out") as temporary:
            (temporary / "half").write_text("x")
            raise error

    with pytest.raises(error):
        write()
    assert names(tmp_path / "out") == ["old"]
    assert names(tmp_path) == ["out"]


def test_folder_that_cannot_be_published_brings_the_old_one_back(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "old").write_text("x")

    def write():
        with atomic_folder(tmp_path / "out") as temporary:
            real_replace = os.replace

            def replace(source, target):
                if Path(source) == temporary:
                    raise OSError(5, "Input/output error")
                real_replace(source, target)

            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(os, "replace", replace)
                from worldr1_core.files import _replace_folder

                _replace_folder(temporary, tmp_path / "out")

    with pytest.raises(OutputError, match="Input/output error"):
        write()
    assert names(tmp_path / "out") == ["old"]
    assert names(tmp_path) == ["out"]


def test_file_in_the_place_of_a_folder(tmp_path):
    (tmp_path / "out").write_text("x")
    with pytest.raises(OutputError, match="Cannot write"), atomic_folder(tmp_path / "out"):
        pass
    assert (tmp_path / "out").read_text() == "x"


def test_check_leaves_nothing_behind(tmp_path):
    check_writable_folder(tmp_path / "a" / "b")
    check_writable_folder(tmp_path)
    assert names(tmp_path) == []


def test_check_refuses_a_name_that_the_file_system_cannot_hold(tmp_path):
    with pytest.raises(OutputError, match="File name too long"):
        check_writable_folder(tmp_path / ("x" * 5000))
