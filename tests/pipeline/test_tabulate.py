"""Tables without records."""

from __future__ import annotations

from tests.running import common_options, run


def test_without_records_it_says_what_to_run(tmp_path):
    ended = run("tabulate", *common_options(tmp_path), "experiment=demo")
    assert ended.status == 1
    assert "there are no records for experiment demo with these options" in ended.err
    assert "python scripts/reproduce.py experiment=demo" in ended.err
    assert not (tmp_path / "demo").exists()


def test_experiment_that_does_not_exist(tmp_path):
    ended = run("tabulate", *common_options(tmp_path), "experiment=dmo")
    assert ended.status == 1
    assert ended.err.startswith("error: there is no experiment=dmo; did you mean experiment=demo?\n  choices: ")
