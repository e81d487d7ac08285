"""The notebook of the Python API: it runs, and what it shows is what it prints now.

``python -m tests.docs.test_notebook`` executes it and writes its outputs anew.
"""

from __future__ import annotations

import os
import re
import sys
import tempfile
from pathlib import Path

import nbformat
import pytest
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOK = ROOT / "docs" / "notebooks" / "api.ipynb"
LIMIT = 400_000  # bytes: it is looked at on GitHub
REMAKE = "if this is meant: python -m tests.docs.test_notebook"

_NUMBER = re.compile(r"-?\d+\.\d+(?:e-?\d+)?")
_PATHS = re.compile(r"/(?:home|root|tmp|usr|opt|var|work|mnt|Users|private)/|[A-Z]:\\|file://")


def execute(notebook: nbformat.NotebookNode, folder: Path) -> nbformat.NotebookNode:
    """The notebook after a run in `folder` by this interpreter, with one thread; nothing is registered anywhere.

    Raises:
        CellExecutionError: a cell raised.
    """
    command = folder / "bin" / "aosa"
    command.parent.mkdir(parents=True)
    command.write_text(f"#!{sys.executable}\nfrom aosa.cli import entry\n\nentry()\n")
    command.chmod(0o755)
    (folder / "tmp").mkdir()
    environment = {
        **os.environ,
        "PATH": f"{command.parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
        "TMPDIR": str(folder / "tmp"),
        **{f"JUPYTER_{kind}_DIR": str(folder / kind) for kind in ("CONFIG", "DATA", "RUNTIME")},
        "IPYTHONDIR": str(folder / "ipython"),
        "MPLCONFIGDIR": str(folder / "matplotlib"),
    }
    manager = AsyncKernelManager(kernel_name="python3")
    manager.kernel_spec.argv = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    fresh = nbformat.from_dict(notebook)
    client = NotebookClient(fresh, km=manager, timeout=300, record_timing=False)
    return client.execute(cwd=str(folder), env=environment)


def texts(notebook: nbformat.NotebookNode) -> list[str]:
    """What each code cell prints, pictures left out."""
    return ["\n".join(_text(output) for output in cell.outputs) for cell in notebook.cells if cell.cell_type == "code"]


def _text(output: nbformat.NotebookNode) -> str:
    if output.output_type == "stream":
        return output.text
    pictured = any(kind.startswith("image/") for kind in output.data)
    return "(picture)" if pictured else output.data.get("text/markdown", output.data["text/plain"])


def differences(old: str, new: str) -> list[str]:
    """Where two texts differ by more than blanks and two units of a number's last digit."""
    before, after = (re.sub(r"\s+", " ", _NUMBER.sub("#", text)).strip() for text in (old, new))
    if before != after:
        return [f"{before!r} became {after!r}"]
    pairs = zip(_NUMBER.findall(old), _NUMBER.findall(new), strict=True)
    return [f"{a} became {b}" for a, b in pairs if abs(float(a) - float(b)) > 2.001 * _unit(a)]


def _unit(number: str) -> float:
    """One in its last digit."""
    digits, _, exponent = number.partition("e")
    return 10.0 ** (int(exponent or 0) - len(digits.partition(".")[2]))


@pytest.fixture(scope="module")
def committed() -> nbformat.NotebookNode:
    return nbformat.read(NOTEBOOK, as_version=4)


def test_it_runs_and_prints_what_it_shows(committed, tmp_path):
    fresh = execute(committed, tmp_path)
    cells = zip(texts(committed), texts(fresh), strict=True)
    stale = [f"code cell {i}: {d}" for i, (old, new) in enumerate(cells, 1) for d in differences(old, new)]
    assert not stale, "\n".join([*stale, REMAKE])
    assert not [o for c in fresh.cells for o in c.get("outputs", []) if o.get("name") == "stderr"]


def test_it_shows_pictures_and_no_place_of_this_machine(committed):
    assert NOTEBOOK.stat().st_size <= LIMIT
    shown = texts(committed)
    assert sum("(picture)" in text for text in shown) >= 4
    assert all(cell.execution_count for cell in committed.cells if cell.cell_type == "code")
    found = _PATHS.findall("\n".join([*shown, *(cell.source for cell in committed.cells)]))
    assert found == []


def test_texts_are_compared_to_the_last_digit():
    assert differences("n = 12, p 0.123", "n = 12,  p 0.125") == []
    assert differences("p 0.123", "p 0.126") == ["0.123 became 0.126"]
    assert differences("1.20e-5", "1.23e-5") == ["1.20e-5 became 1.23e-5"]
    assert differences("n = 12", "n = 13") != []
    assert differences("holds", "fails") != []


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        executed = execute(nbformat.read(NOTEBOOK, as_version=4), Path(scratch))
    nbformat.write(executed, NOTEBOOK)
    print(f"{NOTEBOOK.name}: {NOTEBOOK.stat().st_size} bytes")
