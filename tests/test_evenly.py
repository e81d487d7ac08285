"""Items at even distances: known answers."""

from aosa.evenly import evenly


def test_first_last_and_even_distances_between():
    assert evenly(range(37), 4) == [0, 12, 24, 36]
    assert evenly("abcdefghi", 3) == ["a", "e", "i"]


def test_all_where_there_are_no_more_one_is_the_first_none_is_none():
    assert evenly(range(5), 5) == evenly(range(5), 9) == list(range(5))
    assert evenly("abc", 1) == ["a"]
    assert evenly("abc", 0) == evenly("abc", -1) == evenly([], 3) == []


def test_none_comes_twice():
    assert all(len(set(evenly(range(n), k))) == min(n, k) for n in range(1, 60) for k in range(1, 65))
