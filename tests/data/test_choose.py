"""A seeded choice of so many videos a class: the same for everybody, and written down."""

from __future__ import annotations

import csv

import pytest

from aosa.data.base import Entry
from aosa.data.choose import Choice, limited
from aosa.errors import ConfigError

LISTED = {"a": [f"a/{i}" for i in range(40)], "b": [f"b/{i}" for i in range(3)]}
ALL = {id for ids in LISTED.values() for id in ids}


def test_all_in_the_order_of_the_list():
    chosen, missing = Choice().choose(LISTED, ALL - {"a/1"})
    assert chosen == [id for ids in LISTED.values() for id in ids if id != "a/1"]
    assert missing == ["a/1"]


def test_so_many_a_class_or_all_that_there_are():
    chosen, missing = Choice(per_class=10).choose(LISTED, ALL)
    assert [id[0] for id in chosen] == ["a"] * 10 + ["b"] * 3
    assert len(set(chosen)) == 13
    assert missing == []


def test_seed_and_id_alone_decide():
    """Neither the order of the list nor the other videos of it matter."""
    ten = Choice(per_class=10).choose(LISTED, ALL)[0]
    shuffled = {"a": LISTED["a"][::-1], "b": LISTED["b"]}
    assert Choice(per_class=10).choose(shuffled, ALL)[0] == ten
    without = {"a": [id for id in LISTED["a"] if id in ten], "b": LISTED["b"]}
    assert Choice(per_class=10).choose(without, ALL)[0] == ten
    assert Choice(per_class=10, seed=1).choose(LISTED, ALL)[0] != ten
    assert ten[:10] != LISTED["a"][:10]


def test_missing_videos_are_passed_over_and_named():
    ten = Choice(per_class=10).choose(LISTED, ALL)[0][:10]
    chosen, missing = Choice(per_class=10).choose({"a": LISTED["a"]}, ALL - set(ten[:2]))
    assert missing == ten[:2]
    assert chosen[:8] == ten[2:]
    assert len(chosen) == 10


def test_manifest_is_written_and_then_is_the_list(tmp_path):
    path = tmp_path / "deep" / "chosen.csv"
    chosen, _ = Choice(per_class=2, seed=7, manifest=path).choose(LISTED, ALL)
    rows = list(csv.reader(path.open()))
    assert rows[0] == ["id", "class", "per_class", "seed"]
    assert rows[1:] == [[id, id[0], "2", "7"] for id in chosen]
    # What has gone since is missing, and has no replacement.
    again, missing = Choice(per_class=2, seed=7, manifest=path).choose(LISTED, ALL - {chosen[1]})
    assert again == [chosen[0], *chosen[2:]]
    assert missing == [chosen[1]]
    assert list(csv.reader(path.open())) == rows


@pytest.mark.parametrize(("per_class", "seed"), [(3, 7), (2, 8), (None, 7)])
def test_manifest_of_other_options_is_refused(tmp_path, per_class, seed):
    Choice(per_class=2, seed=7, manifest=tmp_path / "m.csv").choose(LISTED, ALL)
    with pytest.raises(ConfigError, match=r"m\.csv: line 2 was chosen with per_class=2 seed=7, this run asks for"):
        Choice(per_class=per_class, seed=seed, manifest=tmp_path / "m.csv").choose(LISTED, ALL)


def test_manifest_made_by_hand_needs_ids_and_classes_alone(tmp_path):
    (tmp_path / "m.csv").write_bytes(b"\xef\xbb\xbfclass,id\r\nb,b/2\r\na,a/5\r\n")
    assert Choice(per_class=10, manifest=tmp_path / "m.csv").choose(LISTED, ALL) == (["b/2", "a/5"], [])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("id,class\nc/1,a\n", r"m\.csv: line 2: 'c/1' of class 'a' is not listed"),
        ("id,class\na/1,b\n", r"'a/1' of class 'b' is not listed"),
        ("id,class\n", "no video in it"),
        ("id\na/1\n", r"line 1 lacks class; expected a header with id,class, found id"),
    ],
)
def test_manifest_that_does_not_fit(tmp_path, text, message):
    (tmp_path / "m.csv").write_text(text)
    with pytest.raises(ConfigError, match=message):
        Choice(per_class=1, manifest=tmp_path / "m.csv").choose(LISTED, ALL)


def test_nothing_is_written_where_nothing_was_found(tmp_path):
    """Else the empty list would be the list from then on."""
    Choice(per_class=1, manifest=tmp_path / "m.csv").choose(LISTED, set())
    assert not (tmp_path / "m.csv").exists()


def test_manifest_that_cannot_be_written(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"dataset\.manifest=.*m\.csv: cannot be written \("):
        Choice(per_class=1, manifest=tmp_path / "file" / "m.csv").choose(LISTED, ALL)


@pytest.mark.parametrize(("per_class", "seed"), [(0, 0), (1.5, 0), (1, -1)])
def test_options_out_of_range(per_class, seed):
    with pytest.raises(ConfigError, match=r"dataset\.(per_class|seed)=.*whole number of at least"):
        Choice(per_class=per_class, seed=seed)


def test_a_limit_takes_from_all_of_the_list_and_a_larger_one_adds_to_it():
    entries = [Entry(id=f"{name}/{i}") for name in "abcdefghij" for i in range(100)]
    hundred = limited(entries, 100)
    assert [e for e in entries if e in hundred] == hundred  # in their order
    per_class = [sum(e.id[0] == name for e in hundred) for name in "abcdefghij"]
    # 10 each on average, with a standard deviation of 3
    assert (sum(per_class), min(per_class) >= 2, max(per_class) <= 20) == (100, True, True)
    assert {e.id for e in limited(entries, 40)} < {e.id for e in hundred}
    assert limited(entries[::-1], 40)[::-1] == limited(entries, 40)
    assert limited(entries, None) == limited(entries, 5000) == entries
