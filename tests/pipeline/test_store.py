"""Maps and records on disk: whole or not at all, checked when read, named by what made them."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from random import Random

import blosc2
import numpy as np
import pytest
import torch
import yaml
from omegaconf import OmegaConf

from aosa import SaliencyMap, load_map, save_map
from aosa.errors import AosaError, StoreError
from aosa.schema import NUMBER, TEXT, index, listing, optional
from aosa.store.folders import RecordFolder, canonical, digest
from aosa.store.maps import MapFolder

MAP = SaliencyMap(torch.linspace(-1, 1, 2 * 3 * 4).reshape(2, 3, 4), 1)
META = {"clip": "a", "fingerprint": "f", "target": 1, "target_name": "jump"}


def write(path: Path, values: torch.Tensor, meta: dict[str, object]) -> None:
    """A file of a map, whatever it holds."""
    content = np.ascontiguousarray(values.numpy())
    array = blosc2.asarray(content)
    array.schunk.vlmeta["aosa"] = canonical({**meta, "sha256": hashlib.sha256(content.tobytes()).hexdigest()})
    path.write_bytes(array.to_cframe())


@pytest.mark.parametrize("signed", [False, True])
def test_map_comes_back_with_its_meta_data_and_target(tmp_path, signed):
    save_map(tmp_path / "a.b2nd", SaliencyMap(MAP.values, 4, signed=signed), {"class_name": "日本"})
    saliency, meta = load_map(tmp_path / "a.b2nd")
    assert torch.equal(saliency.values, MAP.values)
    assert (saliency.target, saliency.signed) == (meta["target"], meta["signed"]) == (4, signed)
    assert meta["class_name"] == "日本"
    assert meta["sha256"] == hashlib.sha256(MAP.values.numpy().tobytes()).hexdigest()


def test_a_map_of_before_signs_were_kept_is_not_signed(tmp_path):
    write(tmp_path / "a.b2nd", MAP.values, META)
    saliency, meta = load_map(tmp_path / "a.b2nd")
    assert (saliency.target, saliency.signed) == (1, False)
    assert torch.equal(saliency.values, MAP.values)
    assert "signed" not in meta


@pytest.mark.parametrize(
    ("saliency", "meta", "problem"),
    [
        (MAP.values, {"target": 1}, r"a bare Tensor does not say which class it explains: give aosa\.SaliencyMap"),
        (MAP, {"target": 2}, "target is 2 in the meta data, but 1 in the map"),
        (MAP, {"signed": True}, "signed is True in the meta data, but False in the map"),
    ],
)
def test_a_map_says_itself_what_it_explains(tmp_path, saliency, meta, problem):
    with pytest.raises(AosaError, match=rf"a\.b2nd: {problem}"):
        save_map(tmp_path / "a.b2nd", saliency, meta)
    assert list(tmp_path.iterdir()) == []


def test_same_map_same_bytes_whatever_its_strides(tmp_path):
    turned = MAP.values.permute(2, 1, 0).contiguous().permute(2, 1, 0)
    save_map(tmp_path / "a.b2nd", MAP, {"x": 1, "y": 2})
    save_map(tmp_path / "b.b2nd", MAP.with_values(turned), {"y": 2, "x": 1})
    assert (tmp_path / "a.b2nd").read_bytes() == (tmp_path / "b.b2nd").read_bytes()


@pytest.mark.parametrize("keep", [0, 1, 40, -1])
def test_truncated_map_is_told(tmp_path, keep):
    path = tmp_path / "a.b2nd"
    save_map(path, MAP, {})
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(AosaError, match=r"a\.b2nd: .*damaged.*run explain again"):
        load_map(path)


def test_changed_byte_is_told(tmp_path):
    path, noise = tmp_path / "a.b2nd", SaliencyMap(torch.rand(4, 8, 8, generator=torch.Generator().manual_seed(0)), 1)
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
    folder = RecordFolder(tmp_path, {"explainer": "é", "seed": 1}, {"clip": TEXT})
    folder.describe(OmegaConf.create({"a": 1}))
    for clip in ("identity", "config", "failures"):
        folder.save(clip, {"clip": clip})
    assert yaml.safe_load((tmp_path / "identity.yaml").read_text()) == {"explainer": "é", "seed": 1}
    assert (tmp_path / "config.yaml").read_text() == "a: 1\n"
    assert [folder.load(c) for c in ("identity", "config")] == [{"clip": "identity"}, {"clip": "config"}]


RECORD = {"clip": "a", "x": 1.5, "n": 2, "curve": [0.5, None]}
RECORD_SCHEMA = {"clip": TEXT, "x": NUMBER, "n": index(3), "curve": listing(optional(NUMBER), 2)}


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (b"", "Expecting value"),
        (b'{"clip": "a"', "Expecting ',' delimiter"),
        (b"[1]", "not a JSON object"),
        (b"null", "not a JSON object"),
        (b"\xef\xbb\xbf" + json.dumps(RECORD).encode(), "BOM"),
        (json.dumps(RECORD).encode("utf-16"), "codec can't decode|is missing|Expecting"),
        (b"\xff\xfe\x00", "codec can't decode|Expecting"),
        (b"[" * 100_000, "nested too deeply|Expecting"),
        ({"clip": "b"}, "'clip' is \"b\", not 'a'"),
        ({"x": None}, "'x' is null, not a number"),
        ({"x": "1.5"}, "'x' is \"1.5\", not a number"),
        ({"x": True}, "'x' is true, not a number"),
        ({"x": [1.5]}, r"'x' is \[1.5\], not a number"),
        ({"x": float("nan")}, "NaN is no number"),
        ({"x": float("-inf")}, "-Infinity is no number"),
        (json.dumps(RECORD).replace("1.5", "1e999"), "1e999 is too large"),
        (json.dumps(RECORD).replace("1.5", "9" * 400), "is too large"),
        (json.dumps(RECORD).replace("1.5", "9" * 5000), "is too large"),
        (json.dumps(RECORD).replace("{", '{"x": 2.5, '), "a key comes twice"),
        ({"n": 3}, "'n' is 3, not a whole number from 0 to 2"),
        ({"n": -1}, "'n' is -1"),
        ({"n": 1.0}, "'n' is 1.0"),
        ({"n": False}, "'n' is false"),
        ({"curve": [0.5]}, "not a list of 2 times a number or null"),
        ({"curve": {"0": 0.5, "1": 0.5}}, "not a list"),
        ({"curve": [0.5, "1"]}, "not a list"),
        ({"clip": ...}, "'clip' is missing"),
        ({"curve": ...}, "'curve' is missing"),
    ],
)
def test_a_record_that_is_none_is_named(tmp_path, text, problem):
    folder = RecordFolder(tmp_path, {}, RECORD_SCHEMA)
    if isinstance(text, dict):
        text = json.dumps({k: v for k, v in {**RECORD, **text}.items() if v is not ...})
    folder.file("a").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(StoreError, match=rf"a\.json: damaged \(.*({problem}).*; run evaluate again"):
        folder.load("a")
    assert folder.find("a") == {}


def test_a_record_that_is_there_or_not(tmp_path):
    folder = RecordFolder(tmp_path, {}, RECORD_SCHEMA)
    assert folder.load("a") is None
    folder.save("a", {**RECORD, "more": 1})
    assert folder.load("a") == folder.find("a") == {**RECORD, "more": 1}
    folder.file("b").mkdir()
    with pytest.raises(StoreError, match=r"b\.json: cannot be read \(Is a directory\)"):
        folder.load("b")


@pytest.mark.parametrize(
    ("suffix", "content", "read"),
    [
        (".failure", {"clip": "a", "stage": "explain"}, "failure"),
        (".failure", {"clip": "a", "stage": "explain", "reason": 5}, "failure"),
        (".time", {}, "times"),
        (".time", {"seconds": "1"}, "times"),
        (".time", {"seconds": 1, "parts": [1]}, "times"),
        (".time", {"seconds": 1, "parts": {"seconds": None}}, "times"),
        (".time", {"seconds": 1, "torch": {"version": 2}}, "times"),
    ],
)
def test_notes_that_are_none_are_named(tmp_path, suffix, content, read):
    folder = MapFolder(tmp_path, {})
    (tmp_path / f"a{suffix}").write_text(json.dumps(content))
    with pytest.raises(StoreError, match=rf"a\{suffix}: damaged .*run explain again"):
        getattr(folder, read)("a")


@pytest.mark.parametrize(
    ("values", "meta", "problem"),
    [
        (MAP.values[:1], {}, r"a map of \(1, 3, 4\) \(T, H, W\), not \(2, 3, 4\)"),
        (MAP.values[0], {}, r"float32 \(3, 4\) instead of"),
        (MAP.values[None], {}, r"float32 \(1, 2, 3, 4\) instead of"),
        (MAP.values[:0], {}, r"float32 \(0, 3, 4\) instead of"),
        (MAP.values / 0, {}, "it holds NaN or infinity"),
        (MAP.values, {"clip": "b"}, "the map of clip 'b'"),
        (MAP.values, {"clip": 5}, "'clip' is 5"),
        (MAP.values, {"fingerprint": None}, "'fingerprint' is null|'fingerprint' is None"),
        (MAP.values, {"fingerprint": ...}, "'fingerprint' is missing"),
        (MAP.values, {"target": ...}, "'target' is missing"),
        (MAP.values, {"target": None}, "'target' is null, not a whole number from 0"),
        (MAP.values, {"target": "1"}, "'target' is \"1\", not a whole number from 0"),
        (MAP.values, {"target": True}, "'target' is true"),
        (MAP.values, {"target": -1}, "'target' is -1"),
        (MAP.values, {"signed": 1}, "'signed' is 1, not true or false"),
        (MAP.values, {"signed": None}, "'signed' is None, not true or false"),
        (MAP.values, {"target": 2, "target_name": None}, "it explains class 2, the last is 1"),
        (MAP.values, {"target": 0}, "class 0 is 'run', not 'jump'"),
    ],
)
def test_a_map_of_something_else_is_none(tmp_path, values, meta, problem):
    folder = MapFolder(tmp_path, {}, (2, 3, 4), ["run", "jump"])
    folder.save("a", MAP, META)
    assert folder.valid("a", "f")
    write(folder.file("a"), values, {k: v for k, v in {**META, **meta}.items() if v is not ...})
    assert not folder.valid("a", "f")
    with pytest.raises(StoreError, match=rf"a\.b2nd: .*damaged \(({problem}).*run explain again"):
        folder.load("a")


def test_a_map_that_is_a_folder_is_none(tmp_path):
    folder = MapFolder(tmp_path, {})
    folder.file("a").mkdir()
    assert not folder.valid("a", "f")
    with pytest.raises(StoreError, match=r"a\.b2nd: "):
        folder.digest("a")
    assert folder.digest("b") is None


def test_every_flipped_bit_of_the_meta_data_is_found(tmp_path):
    path = tmp_path / "a.b2nd"
    save_map(path, MAP, META)
    whole = path.read_bytes()
    begin = whole.index(b'{"clip"')
    for place in range(begin, begin + len(canonical(META))):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises(StoreError):
            load_map(path)


def test_mutated_maps_are_refused_or_the_same(tmp_path):
    path, content = tmp_path / "a.b2nd", SaliencyMap(torch.rand(2, 8, 8, generator=torch.Generator().manual_seed(0)), 1)
    save_map(path, content, META)
    _, meta = load_map(path)
    whole, random = path.read_bytes(), Random(0)
    for _ in range(200):
        mutated = bytearray(whole)
        for _ in range(random.choice((1, 1, 2, 8))):
            mutated[random.randrange(len(mutated))] = random.choice((0, 127, 128, 255, random.randrange(256)))
        path.write_bytes(mutated)
        try:
            saliency, found = load_map(path)
            assert torch.equal(saliency.values, content.values)
            assert found == meta
        except AosaError as error:
            assert str(error).startswith(f"{path}: the map is damaged (")  # noqa: PT017


def test_failures_are_noted_and_forgiven(tmp_path):
    folder = MapFolder(tmp_path, {})
    folder.fail("b", "explain", "zero bytes")
    folder.fail("a/1", "explain", "audio only")
    assert folder.failures() == [
        {"clip": "a/1", "stage": "explain", "reason": "audio only"},
        {"clip": "b", "stage": "explain", "reason": "zero bytes"},
    ]
    assert folder.failure("b") == "zero bytes"
    folder.clear_failure("b")
    folder.clear_failure("never failed")
    assert folder.failure("b") is None
    assert [f["clip"] for f in folder.failures()] == ["a/1"]


def test_digest_is_of_the_values_not_their_order():
    assert digest({"a": 1, "b": [1, 2]}) == digest({"b": [1, 2], "a": 1})
    assert digest({"a": 1}) != digest({"a": 2})
    assert json.loads(canonical({"é": 1.5})) == {"é": 1.5}
