"""Prompt files."""

from __future__ import annotations

import pytest

from worldr1_core.errors import UserError
from worldr1_core.prompt_files import read_prompts


def test_prompts_are_stripped_and_blank_lines_and_comments_left_out(tmp_path):
    path = tmp_path / "p.txt"
    path.write_text("\ufeff# main\n  Camera push in. A room. \n\n\tA ball # 2\n", encoding="utf-8")
    assert read_prompts(path) == ["Camera push in. A room.", "A ball # 2"]


@pytest.mark.parametrize("content", [b"", b"\n \n# only a comment\n"])
def test_file_without_prompts_is_refused(tmp_path, content):
    (tmp_path / "p.txt").write_bytes(content)
    with pytest.raises(UserError, match="holds no prompt"):
        read_prompts(tmp_path / "p.txt")


def test_file_that_is_absent_or_no_text_is_refused(tmp_path):
    (tmp_path / "p.txt").write_bytes(b"\xff\xfe\x00\xd8")
    for path in (tmp_path / "p.txt", tmp_path / "absent.txt", tmp_path):
        with pytest.raises(UserError, match="cannot be read as text"):
            read_prompts(path)
