"""Items at even distances: known answers."""

from aosa.subsample import subsample


def test_first_last_and_even_distances_between():
    assert subsample(range(37), 4) == [0, 12, 24, 36]
    assert subsample("abcdefghi", 3) == ["a", "e", "i"]


def test_all_where_there_are_no_more_one_is_the_first_none_is_none():
    assert subsample(range(5), 5) == subsample(range(5), 9) == list(range(5))
    assert subsample("abc", 1) == ["a"]
    assert subsample("abc", 0) == subsample("abc", -1) == subsample([], 3) == []


def test_none_comes_twice():
    assert all(len(set(subsample(range(n), k))) == min(n, k) for n in range(1, 60) for k in range(1, 65))
