"""What the system refuses is one line; results lie beside their checkpoint; JSON has no infinities."""

import json
import math

import pytest

from lm.errors import UserError
from lm.files import beside, check_writable, json_text, read_text, write_text


@pytest.mark.parametrize(
    ("given", "place"),
    [
        ("best.ckpt", "best.json"),
        ("../best.v2.ckpt", "../best.v2.json"),
        ("folder.v1", "folder.v1.json"),
        ("..", "../../up.json"),
    ],
)
def test_a_result_lies_beside_its_checkpoint_by_a_plain_path(tmp_path, monkeypatch, given, place):
    here = tmp_path / "up" / "here"
    (here / "folder.v1").mkdir(parents=True)
    monkeypatch.chdir(here)
    found = beside(given, ".json")
    assert found == (here / place).resolve()
    assert ".." not in found.parts


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
