"""The short form of `tests/kills.py`: a few kills in each stage; ``make kills`` runs 200."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests import kills
from tests.running import ROOT

pytestmark = pytest.mark.skipif(not Path("/proc/self/cwd").exists(), reason="there is no /proc to find processes by")


@pytest.mark.e2e
def test_killed_and_started_again_gives_the_same_bytes_and_leaves_nothing_behind(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.kills", "N=6", "SEED=3", f"FOLDER={tmp_path / 'kills'}"]
    ended = subprocess.run(
        command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=600
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "\nkills: 6\n" in ended.stdout
    assert "\ndifferences, leftovers, orphans, failures: 0\n" in ended.stdout


def test_what_it_looks_for_is_found(tmp_path: Path) -> None:
    (tmp_path / "out" / "maps").mkdir(parents=True)
    (tmp_path / "tmp").mkdir()
    (tmp_path / "out" / "maps" / "a.b2nd").write_bytes(b"1")
    (tmp_path / "out" / "maps" / "a.time").write_bytes(b"now")
    wanted = kills.files(tmp_path)
    assert kills.left_behind(tmp_path) == []
    (tmp_path / "out" / "maps" / "a.b2nd").write_bytes(b"2")
    (tmp_path / "out" / "maps" / "a.time").write_bytes(b"later")
    for name in ("out/maps/.aosa-x.b2nd", "out/.report-x/index.html", "out/maps/b.lock", "tmp/x"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert kills.differing(wanted, kills.files(tmp_path)) == [
        "out/.report-x/index.html: new",
        "out/maps/.aosa-x.b2nd: new",
        "out/maps/a.b2nd: differs",
        "out/maps/b.lock: new",
    ]
    assert set(kills.left_behind(tmp_path)) == {"out/.report-x", "out/maps/.aosa-x.b2nd", "out/maps/b.lock", "tmp/x"}
    assert kills.differing(wanted, {}) == ["out/maps/a.b2nd: missing"]

    other = subprocess.Popen(["sleep", "60"], cwd=tmp_path / "tmp")
    try:
        assert kills.survivors(tmp_path) == ["sleep 60 "]
    finally:
        other.kill()
        other.wait()
    assert kills.survivors(tmp_path) == []
