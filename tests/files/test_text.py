"""Text and JSON in and out: what the system refuses is one line, and JSON has no infinities."""

import json
import math

import pytest

from lm.errors import UserError
from lm.files.atomic import check_writable
from lm.files.text import json_text, lines_of_text, read_text, write_text


def test_what_the_system_refuses_is_one_line_with_its_reason(tmp_path):
    (tmp_path / "latin").write_bytes(b"\xe9")
    with pytest.raises(UserError, match=r"^file=.*latin is not UTF-8 text \(byte 0\)"):
        read_text(tmp_path / "latin", "file")
    with pytest.raises(UserError, match=r"Cannot read file=.*nowhere: No such file or directory\."):
        read_text(tmp_path / "nowhere", "file")
    with pytest.raises(UserError, match=r"Cannot write .*latin/x: "):
        write_text("", tmp_path / "latin" / "x")
    with pytest.raises(UserError, match=r"Cannot write .*latin/x: "):
        check_writable(tmp_path / "latin" / "x")


def test_json_has_null_for_what_it_has_no_number_for():
    assert json.loads(json_text({"a": math.inf, "b": [math.nan, 1.5]})) == {"a": None, "b": [None, 1.5]}


@pytest.mark.parametrize("text", ["a\n\nb", "a\r\n\r\nb\r\n", "\ufeffa\r\rb\r", "a\n\nb\n"])
def test_lines_of_a_text_are_those_of_a_file_with_it_whatever_ends_them(text, tmp_path):
    (tmp_path / "file").write_bytes(text.encode())
    assert lines_of_text(text) == lines_of_text(read_text(tmp_path / "file", "file")) == ["a", "", "b"]


def test_a_text_without_a_word_has_one_line():
    assert lines_of_text("") == lines_of_text("\r\n") == [""]
