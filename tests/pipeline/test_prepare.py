"""The manifest: what was found, missing, unreadable, and how much of it decodes."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from omegaconf import DictConfig

from aosa.config import compose
from aosa.errors import ConfigError
from aosa.stages import prepare


@pytest.fixture
def root(tmp_path, write_video) -> Path:
    folder = tmp_path / "videos"
    write_video(folder / "a" / "good.avi", 6)
    write_video(folder / "a" / "long.avi", 9)
    (folder / "b").mkdir()
    (folder / "b" / "empty.mp4").touch()
    (folder / "b" / "deeper").mkdir()
    (folder / "b" / "notes.txt").touch()
    return folder


@pytest.fixture
def config(tmp_path, root) -> DictConfig:
    overrides = ["dataset=video_folder", f"dataset.root='{root}'", f"output_root='{tmp_path / 'out'}'", "workers=2"]
    return compose("prepare", overrides)


def manifest(config: DictConfig) -> list[dict[str, str]]:
    path = Path(config.output_root) / "prepare" / "video_folder" / "manifest.csv"
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_manifest_and_exit_status(config, root, capsys):
    assert prepare.run(config) == 3
    rows = manifest(config)
    assert [(r["id"], r["class"], r["path"], r["frames"], r["width"], r["height"], r["status"]) for r in rows] == [
        ("a/good", "a", "a/good.avi", "6", "48", "32", "found"),
        ("a/long", "a", "a/long.avi", "9", "48", "32", "found"),
        ("b/empty", "b", "b/empty.mp4", "", "", "", "unreadable"),
        ("b/deeper", "", "", "", "", "", "rejected"),
    ]
    assert rows[2]["reason"] == "empty.mp4: the file is empty (zero bytes)"
    out = capsys.readouterr().out
    assert "4 videos listed, 2 found, 1 unreadable, 1 rejected" in out
    assert "frames decoded: 15 (fewest 6, most 9)" in out
    assert "b/empty: empty.mp4: the file is empty (zero bytes)" in out
    assert "1 other files ignored" in out
    assert str(root) not in out


def test_status_is_zero_when_all_can_be_read(config, root):
    (root / "b" / "empty.mp4").unlink()
    assert prepare.run(config) == 0


def test_what_is_in_the_manifest_is_not_decoded_again(config, root, write_video, monkeypatch):
    prepare.run(config)
    before = manifest(config)
    write_video(root / "a" / "good.avi", 7)
    decoded = []
    probe = prepare.probe
    monkeypatch.setattr(prepare, "probe", lambda path: decoded.append(path.name) or probe(path))
    assert prepare.run(config) == 3
    assert decoded == ["good.avi"]
    assert [r["frames"] for r in manifest(config)] == ["7", "9", "", ""]
    assert manifest(config)[1:] == before[1:]


def test_interrupted_run_keeps_what_it_has_decoded(config, monkeypatch):
    probe = prepare.probe

    def interrupted(path):
        if path.name == "long.avi":
            raise KeyboardInterrupt
        return probe(path)

    config.workers = 1
    monkeypatch.setattr(prepare, "probe", interrupted)
    with pytest.raises(KeyboardInterrupt):
        prepare.run(config)
    assert ("a/good", "found") in [(r["id"], r["status"]) for r in manifest(config)]
    assert "a/long" not in [r["id"] for r in manifest(config)]
    monkeypatch.setattr(prepare, "probe", probe)
    prepare.run(config)
    assert [r["frames"] for r in manifest(config)] == ["6", "9", "", ""]


def test_truncated_video_is_found_with_a_note(config, root, write_video, capsys):
    noise = np.random.default_rng(0).integers(0, 256, (9, 32, 48, 3), dtype=np.uint8)
    path = write_video(root / "a" / "long.avi", noise)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    prepare.run(config)
    row = manifest(config)[1]
    assert row["status"] == "found"
    assert 0 < int(row["frames"]) < 9
    cut = f"only {row['frames']} of the 9 frames that its container lists decode"
    last = int(row["frames"]) - 1  # cut in the middle
    assert row["reason"] == f"{cut}; 1 damaged frame ({last})"
    assert "found, but damaged or cut off (1)" in capsys.readouterr().out


def test_only_the_first_few_troubles_are_printed(capsys):
    rows = [{"id": f"v{i}", "status": "missing", "reason": "not there", "frames": ""} for i in range(8)]
    lines = prepare.summary("ucf101", rows).splitlines()
    assert lines == [
        "ucf101: 8 videos listed, 8 missing",
        "  missing (8):",
        *(f"    v{i}: not there" for i in range(5)),
        "    … and 3 more, in the manifest",
    ]


def test_limit(config):
    config.limit = 1
    assert prepare.run(config) == 0
    assert [r["id"] for r in manifest(config)] == ["a/good", "b/deeper"]


def test_no_such_folder(config):
    config.dataset.root = "/nowhere/videos"
    with pytest.raises(ConfigError, match=r"dataset\.root=/nowhere/videos: no such folder"):
        prepare.run(config)


def test_workers_out_of_range(config):
    config.workers = 0
    with pytest.raises(ConfigError, match=r"workers=0"):
        prepare.run(config)


@pytest.mark.parametrize("dataset", ["ucf101", "ucf101_24"])
@pytest.mark.real
def test_real_data_sets_compose_and_decode(shared_data, tmp_path, dataset):
    config = compose("prepare", [f"dataset={dataset}", "dataset.limit_per_class=2", "dataset.classes=[Surfing]"])
    config.data_root, config.output_root = str(shared_data), str(tmp_path)
    assert prepare.run(config) == 0
    with (tmp_path / "prepare" / dataset / "manifest.csv").open(newline="") as file:
        found = [r for r in csv.DictReader(file) if r["status"] == "found"]
    assert [r["group"] for r in found] == ["Surfing/g01", "Surfing/g07"]  # the first and the last of the list
    assert all(int(r["frames"]) > 30 and (r["width"], r["height"]) == ("320", "240") for r in found)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b",6,48,32,", b",six,48,32,"),
        (b",6,48,32,", b",-6,48,32,"),
        (b",6,48,32,", b"," + b"6" * 5000 + b",48,32,"),
        (b",6,48,32,", b",6,,32,"),
        (b",6,48,32,", b",6,48,"),
        (b",6,48,32,", b",6,48,32,32,"),
        (b"found", b"lost"),
        (b"a/good", b"a/g\xffod"),
        (b"a/good", b'"a/good'),
        (b"a/good", b"a/g\0od"),
        (b"id,", b"\xef\xbb\xbfid,"),
    ],
)
def test_a_damaged_manifest_is_made_again(config, old, new):
    assert prepare.run(config) == 3
    path = Path(config.output_root) / "prepare" / "video_folder" / "manifest.csv"
    whole = path.read_bytes()
    path.write_bytes(whole.replace(old, new, 1))
    assert prepare.run(config) == 3
    assert path.read_bytes() == whole
