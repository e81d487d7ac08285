"""One bad video never stops a stage: it is reported by name, and the others are done."""

from __future__ import annotations

import csv
import os
from pathlib import Path

import pytest

from tests.running import Ended, common_options, run
from tests.videos import encode, scene, spoil

BAD = ("0_pipe", "1_empty", "2_text", "3_spoilt", "4_header")
GOOD = ("titled", "whole")


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One class: bad videos of every kind come first, and two that can be used."""
    folder, frames = tmp_path_factory.mktemp("videos") / "clockwise", scene(40, 96, 128)
    folder.mkdir()
    os.mkfifo(folder / "0_pipe.mp4")
    (folder / "1_empty.mp4").touch()
    (folder / "2_text.mp4").write_text("no video")
    whole = encode(folder / "whole.mkv", frames, "libx264", g=40)
    spoil(whole, 20).rename(folder / "3_spoilt.mkv")
    (folder / "4_header.mkv").write_bytes(whole.read_bytes()[:300])
    titled = encode(folder / "titled.mkv", frames, "ffv1", "bgr0", metadata={"title": "Mxxxrchen"})
    titled.write_bytes(titled.read_bytes().replace(b"Mxxxrchen", b"M\xe4\xe4\xe4rchen"))
    return folder.parent


@pytest.fixture
def stage(tmp_path, videos):
    def call(name: str, *overrides: str) -> Ended:
        data = ("dataset=video_folder", f"dataset.root='{videos}'")
        return run(name, *common_options(tmp_path), *(data if name != "explain_video" else ()), *overrides)

    return call


def test_prepare(stage, tmp_path):
    assert stage("prepare", "dry_run=true").status == 0
    assert stage("prepare", "workers=2").status == 3
    with (tmp_path / "prepare" / "video_folder" / "manifest.csv").open(newline="") as file:
        rows = {Path(row["path"]).stem: row for row in csv.DictReader(file)}
    assert {name: row["status"] for name, row in rows.items()} == {
        **dict.fromkeys(BAD, "unreadable"), "3_spoilt": "found", **dict.fromkeys(GOOD, "found"),
    }  # fmt: skip
    assert "not a regular file" in rows["0_pipe"]["reason"]
    assert rows["3_spoilt"]["reason"].startswith("1 lost frame (")
    assert [rows[name]["reason"] for name in GOOD] == ["", ""]


def test_explain_and_evaluate(stage, tmp_path):
    planned = stage("explain", "explainer=random", "dry_run=true")
    assert planned.status == 0, planned.err
    explained = stage("explain", "explainer=random")
    assert explained.status == 3, explained.err
    assert sorted(p.stem for p in tmp_path.rglob("*.b2nd")) == list(GOOD)
    assert all(f"{name}." in explained.err + explained.out for name in BAD)
    judged = stage("accuracy")
    assert judged.status == 3, judged.err
    taken = stage("explain", "explainer=random", "dataset.damaged_videos=use")
    assert taken.status == 3
    assert len(list(tmp_path.rglob("3_spoilt.b2nd"))) == 1


@pytest.mark.parametrize("windows", ["one", "sliding"])
@pytest.mark.parametrize("name", BAD)
def test_explain_video_says_what_is_wrong(stage, videos, windows, name):
    (path,) = videos.glob(f"*/{name}.*")
    ended = stage("explain_video", f"video='{path}'", "explainer=random", f"windows={windows}")
    assert ended.status == 1
    assert path.name in ended.err
    assert "Traceback" not in ended.err
    if name == "3_spoilt":
        assert "damaged_videos=use takes what decodes" in ended.err
