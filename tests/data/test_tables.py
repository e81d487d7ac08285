"""CSV files as users have them: from any system, and with mistakes that the message points at."""

from __future__ import annotations

import pytest

from aosa.data.tables import read_rows, safe_name, whole
from aosa.errors import ConfigError


def rows(path, content: bytes):
    path.write_bytes(content)
    return list(read_rows(path, ("a", "b"), "dataset.annotations"))


def test_mark_line_ends_blank_lines_quotes_and_order_of_columns(tmp_path):
    content = b'\xef\xbb\xbfc,b, a\r\n1, "x, y" ,2\r\n\r\n3,"x\ny",4'
    assert rows(tmp_path / "t.csv", content.replace(b' "', b'"').replace(b'" ', b'"')) == [
        ("line 2", {"c": "1", "b": "x, y", "a": "2"}),
        ("line 5", {"c": "3", "b": "x\ny", "a": "4"}),
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"dataset\.annotations=.*t\.csv: line 1 lacks a, b; expected a header with a,b, found an empty file"),
        (b"a;b\n1;2\n", r"line 1 lacks a, b; expected a header with a,b, found a;b"),
        (b"a,b\n1,2\n3\n", r"^dataset\.annotations=[^ ]*t\.csv: line 3 has 1 fields, the header has 2"),
        (b"a,b\n1,2,3\n", r"^dataset\.annotations=[^ ]*t\.csv: line 2 has 3 fields, the header has 2"),
        (b"a,b,a\n1,2,3\n", r"line 1 has two columns a"),
        (b"a,b\n\0,1\n", r"t\.csv: not a text file \(it holds zero bytes"),
        (b"\xff\xfea\0,\0b", r"its byte-order mark says utf-16-le, and it is not"),
    ],
)
def test_file_that_is_no_such_table(tmp_path, content, message):
    with pytest.raises(ConfigError, match=message):
        rows(tmp_path / "t.csv", content)


def test_no_file(tmp_path):
    with pytest.raises(ConfigError, match=r"dataset\.annotations=.*t\.csv: no such file or directory"):
        list(read_rows(tmp_path / "t.csv", ("a",), "dataset.annotations"))


def test_numbers():
    assert [whole(v, "here", "t") for v in ("000417", "10.0", 85.9, 0)] == [417, 10, 85, 0]
    for value in ("", "-1", "x", "nan", "inf", None):
        with pytest.raises(ConfigError, match="here: t="):
            whole(value, "here", "t")


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "..\\b", "a\nb", "a\0b", " a", "/etc/passwd", "a\u202eb"])
def test_names_that_could_leave_the_folder_or_deceive(name):
    with pytest.raises(ConfigError, match=r"here: label=.* cannot be the name of a file or folder"):
        safe_name(name, "here", "label")


@pytest.mark.parametrize("name", ["-nocCq4v1mM", "massaging person's head", "tying knot (not on a tie)", "..a", "é"])
def test_names_that_are_fine(name):
    assert safe_name(name, "here", "label") == name
