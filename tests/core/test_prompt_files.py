"""Prompt files."""

from __future__ import annotations

import pytest

from worldr1_core.errors import UserError
from worldr1_core.prompt_files import read_prompt_file, read_prompts, split_lines


def test_prompts_are_stripped_and_blank_lines_and_comments_left_out(tmp_path):
    path = tmp_path / "p.txt"
    path.write_text("\ufeff# main\n  Camera push in. A room. \n\n\t# indented\n\tA ball # 2\n", encoding="utf-8")
    assert read_prompts(path) == ["Camera push in. A room.", "A ball # 2"]


@pytest.mark.parametrize(
    ("content", "count"),
    [
        ("a\n", "1 prompt"),
        ("a\nb\n\n \n", "2 prompts"),
        ("# x\na\n# y\n", "1 prompt (2 comment lines left out)"),
        ("\na\n\n#\n\nb", "2 prompts (1 comment line and 3 blank lines left out)"),
    ],
)
def test_the_count_says_what_was_left_out(tmp_path, content, count):
    (tmp_path / "p.txt").write_text(content)
    assert read_prompt_file(tmp_path / "p.txt").count == count


@pytest.mark.parametrize("separator", ["\u2028", "\u2029", "\u0085", "\v", "\f", "\x1c", "\x1d", "\x1e"])
def test_only_line_ends_end_a_prompt(tmp_path, separator):
    path = tmp_path / "p.txt"
    path.write_bytes(f"a{separator}b\r\nc\rd\n".encode())
    assert read_prompts(path) == [f"a{separator}b", "c", "d"]


@pytest.mark.parametrize(
    ("text", "lines"),
    [("", []), ("\n", [""]), ("a", ["a"]), ("a\n\nb\n", ["a", "", "b"]), ("a\r\n\rb", ["a", "", "b"])],
)
def test_lines_end_as_text_files_do(text, lines):
    assert split_lines(text) == lines


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
