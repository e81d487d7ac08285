"""Files that are there whole or not at all, and what a killed process leaves behind."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from aosa import files
from aosa.files import remove_leftovers, temporary_folder, whole_file, whole_folder, write_atomic
from tests.running import ROOT

# Writes a file and a folder, and waits there until its input ends.
WRITER = """
import sys
from pathlib import Path
from aosa.files import whole_file, whole_folder
out = Path(sys.argv[1])
with whole_file(out / "a.npy") as file, whole_folder(out / "report") as folder:
    file.write_text("half")
    (folder / "index.html").write_text("half")
    print("ready", flush=True)
    sys.stdin.read()
"""


def writer(folder: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def hidden(folder: Path) -> set[str]:
    return {p.name for p in folder.rglob(".*")}


def test_what_a_killed_process_left_is_removed_and_what_a_living_one_writes_is_not(tmp_path):
    killed = writer(tmp_path)
    killed.kill()
    killed.wait()
    left = hidden(tmp_path)
    assert len(left) == 3  # the file, the folder and its lock
    living = writer(tmp_path)  # removes them as it begins to write
    assert hidden(tmp_path).isdisjoint(left)
    remove_leftovers(tmp_path)
    assert len(hidden(tmp_path)) == 3
    living.communicate()
    assert living.returncode == 0
    assert {p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*")} == {"a.npy", "report", "report/index.html"}


@pytest.mark.parametrize(("age", "stays"), [(60, True), (2 * 86400, False)])
def test_what_another_host_left_goes_after_a_day(tmp_path, age, stays):
    for name in ("0123.npy", "0124.lock"):
        file = tmp_path / "maps" / f".aosa-{'0' * 8}-{name}"
        file.parent.mkdir(exist_ok=True)
        file.touch()
        os.utime(file, (time.time() - age,) * 2)
    folder = tmp_path / "maps" / f".aosa-{'0' * 8}-0124.folder"
    (folder / "new").mkdir(parents=True)
    (folder / "new" / "index.html").touch()
    remove_leftovers(tmp_path)
    assert len(hidden(tmp_path)) == 3 * stays


def test_without_locks_only_what_is_old_goes(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "fcntl", None)
    with whole_file(tmp_path / "a.txt") as mine, whole_file(tmp_path / "b.txt") as other:
        mine.write_text("a")
        os.utime(other, (0, 0))
        remove_leftovers(tmp_path)
        assert mine.exists()
        assert not other.exists()
        other.write_text("b")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.txt", "b.txt"]


def test_files_of_others_stay(tmp_path):
    for name in (".hidden", ".aosa", "aosa-1.npy"):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (0, 0))
    write_atomic(tmp_path / "a.txt", "a")
    remove_leftovers(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == [".aosa", ".hidden", "a.txt", "aosa-1.npy"]


def test_a_folder_stays_until_the_new_one_is_whole(tmp_path):
    for text in ("first", "second"):
        with whole_folder(tmp_path / "report") as new:
            (new / "index.html").write_text(text)
    with contextlib.suppress(ZeroDivisionError), whole_folder(tmp_path / "report") as new:
        (new / "index.html").write_text("half")
        raise ZeroDivisionError
    assert (tmp_path / "report" / "index.html").read_text() == "second"
    assert [p.name for p in tmp_path.iterdir()] == ["report"]


def test_folders_swapped_at_once_end_with_a_whole_one(tmp_path):
    code = """
import sys
from pathlib import Path
from aosa.files import whole_folder
sys.stdin.readline()
for i in range(100):
    with whole_folder(Path(sys.argv[1]) / "report") as new:
        for n in range(5):
            (new / f"{n}.txt").write_text(sys.argv[2])
"""
    both = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(tmp_path), name],
            stdin=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        for name in "ab"
    ]
    for process in both:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    assert [process.wait() for process in both] == [0, 0]
    assert [p.name for p in tmp_path.iterdir()] == ["report"]
    texts = [p.read_text() for p in (tmp_path / "report").iterdir()]
    assert len(texts) == 5
    assert len(set(texts)) == 1


def test_errors_name_the_file_that_was_to_be_written(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match=r"file/a\.txt"), whole_file(tmp_path / "file" / "a.txt"):
        pass
    with pytest.raises(OSError, match=r"report'$"), whole_folder(tmp_path / "report") as new:
        (new / "no" / "a.txt").write_text("a")
    with temporary_folder(tmp_path / "new") as folder:
        assert folder.is_dir()
    assert list((tmp_path / "new").iterdir()) == []
