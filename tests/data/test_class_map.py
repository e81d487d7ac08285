"""From a data set's classes to a model's."""

from __future__ import annotations

from pathlib import Path

import pytest

import aosa.data.class_map
from aosa.data.class_map import read_class_map
from aosa.errors import ConfigError

CLASSES = Path(aosa.data.class_map.__file__).parents[1] / "assets" / "classes"


def names(file: str) -> list[str]:
    return (CLASSES / file).read_text().splitlines()


def test_mapping_file_and_name_are_read(tmp_path):
    (tmp_path / "map.yaml").write_text("Surfing: surfing water\n")
    assert read_class_map({"Surfing": "surfing water"}) == {"Surfing": "surfing water"}
    assert read_class_map(str(tmp_path / "map.yaml")) == {"Surfing": "surfing water"}
    assert read_class_map("ucf101_to_kinetics400")["BasketballDunk"] == "dunking basketball"
    assert read_class_map(None) == {}


def test_map_of_the_package_leads_from_ucf101_to_kinetics():
    mapping = read_class_map("ucf101_to_kinetics400")
    assert set(mapping) <= set(names("ucf101.txt"))
    assert set(mapping.values()) <= set(names("kinetics400.txt"))
    assert len(set(mapping.values())) == len(mapping)


def test_class_lists_are_whole_and_in_checkpoint_order():
    ucf, kinetics = names("ucf101.txt"), names("kinetics400.txt")
    assert (len(set(ucf)), len(set(kinetics))) == (101, 400)
    assert (ucf[0], ucf[36], ucf[100]) == ("ApplyEyeMakeup", "HandstandPushups", "YoYo")
    assert (kinetics[0], kinetics[5], kinetics[399]) == ("abseiling", "archery", "zumba")


@pytest.mark.real
def test_class_lists_are_the_published_ones(shared_data):
    labels = shared_data / "labels"
    assert names("ucf101.txt") == (labels / "mmaction2_ucf101_label_map.txt").read_text().splitlines()
    assert names("kinetics400.txt") == (labels / "mmaction2_kinetics_label_map_k400.txt").read_text().splitlines()


def test_neither_file_nor_name():
    with pytest.raises(ConfigError, match=r"dataset\.class_map=kinetics: .* one of ucf101_to_kinetics400"):
        read_class_map("kinetics")


@pytest.mark.parametrize("text", ["- a\n- b\n", "a: [b\n", "a: 1\n", "a: b\na: c\n", "\t"])
def test_file_that_is_no_mapping_of_names(tmp_path, text):
    (tmp_path / "map.yaml").write_text(text)
    with pytest.raises(ConfigError, match=r"dataset\.class_map"):
        read_class_map(tmp_path / "map.yaml")
