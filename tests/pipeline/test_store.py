"""Maps and records on disk: whole or not at all, checked when read, named by what made them."""

from __future__ import annotations

import json

import pytest
import torch
import yaml

from aosa import load_map, save_map
from aosa.errors import AosaError
from aosa.pipeline.store import MapFolder, RecordFolder, canonical, digest

MAP = torch.linspace(-1, 1, 2 * 3 * 4).reshape(2, 3, 4)


def test_map_comes_back_with_its_meta_data_and_target(tmp_path):
    save_map(tmp_path / "a.b2nd", MAP, {"target": 4, "class_name": "日本"})
    saliency, meta = load_map(tmp_path / "a.b2nd")
    assert torch.equal(saliency, MAP)
    assert saliency.target == 4
    assert meta["class_name"] == "日本"


def test_same_map_same_bytes_whatever_its_strides(tmp_path):
    save_map(tmp_path / "a.b2nd", MAP, {"x": 1, "y": 2})
    save_map(tmp_path / "b.b2nd", MAP.permute(2, 1, 0).contiguous().permute(2, 1, 0), {"y": 2, "x": 1})
    assert (tmp_path / "a.b2nd").read_bytes() == (tmp_path / "b.b2nd").read_bytes()


@pytest.mark.parametrize("keep", [0, 1, 40, -1])
def test_truncated_map_is_told(tmp_path, keep):
    path = tmp_path / "a.b2nd"
    save_map(path, MAP, {})
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(AosaError, match=r"a\.b2nd: .*(not a readable map|damaged).*run explain again"):
        load_map(path)


def test_changed_byte_is_told(tmp_path):
    path, noise = tmp_path / "a.b2nd", torch.rand(4, 8, 8, generator=torch.Generator().manual_seed(0))
    save_map(path, noise, {})
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(AosaError, match=r"a\.b2nd: .*run explain again"):
        load_map(path)


def test_missing_map_is_told(tmp_path):
    with pytest.raises(AosaError, match=r"a\.b2nd: there is no such map"):
        load_map(tmp_path / "a.b2nd")


@pytest.mark.parametrize("clip", ["", "/etc/x", "../x", "a/../../x", "a\\..\\x"])
def test_id_that_would_leave_the_folder_is_refused(tmp_path, clip):
    folder = MapFolder(tmp_path / "maps", {})
    with pytest.raises(AosaError, match="not a safe relative path"):
        folder.save(clip, MAP, {})
    assert list(tmp_path.rglob("*")) == []


def test_valid_asks_for_the_same_content(tmp_path):
    folder = MapFolder(tmp_path, {})
    folder.save("c/1", MAP, {"fingerprint": "f"})
    assert folder.valid("c/1", "f")
    assert not folder.valid("c/1", "g")
    assert not folder.valid("c/2", "f")


def test_clips_are_listed_without_what_a_killed_process_left(tmp_path):
    folder = MapFolder(tmp_path, {})
    folder.save("c/2", MAP, {})
    folder.save("1", MAP, {})
    (tmp_path / "c" / ".aosa-0-k3jd.b2nd").write_bytes(b"half")
    assert list(folder.clips()) == ["1", "c/2"]


def test_record_of_any_name_leaves_the_identity_alone(tmp_path):
    folder = RecordFolder(tmp_path, {"explainer": "é", "seed": 1})
    folder.describe(config_yaml="a: 1\n")
    for clip in ("identity", "config", "failures"):
        folder.save(clip, {"clip": clip})
    assert yaml.safe_load((tmp_path / "identity.yaml").read_text()) == {"explainer": "é", "seed": 1}
    assert (tmp_path / "config.yaml").read_text() == "a: 1\n"
    assert [folder.load(c) for c in ("identity", "config")] == [{"clip": "identity"}, {"clip": "config"}]


def test_damaged_record_counts_as_none(tmp_path):
    folder = RecordFolder(tmp_path, {})
    folder.save("a", {"x": 1})
    folder.file("a").write_text('{"x": 1')
    assert folder.load("a") is None
    folder.file("a").write_text("[1]")
    assert folder.load("a") is None


def test_failures_are_noted_and_forgiven(tmp_path):
    folder = MapFolder(tmp_path, {})
    folder.fail("b", "explain", "zero bytes")
    folder.fail("a/1", "explain", "audio only")
    assert folder.failures() == [
        {"clip": "a/1", "stage": "explain", "reason": "audio only"},
        {"clip": "b", "stage": "explain", "reason": "zero bytes"},
    ]
    assert folder.failure("b") == "zero bytes"
    folder.forgive("b")
    folder.forgive("never failed")
    assert folder.failure("b") is None
    assert [f["clip"] for f in folder.failures()] == ["a/1"]


def test_digest_is_of_the_values_not_their_order():
    assert digest({"a": 1, "b": [1, 2]}) == digest({"b": [1, 2], "a": 1})
    assert digest({"a": 1}) != digest({"a": 2})
    assert json.loads(canonical({"é": 1.5})) == {"é": 1.5}
