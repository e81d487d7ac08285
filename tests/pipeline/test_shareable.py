"""No stored file tells the folders of the machine or what stands in its environment."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from aosa import load_map
from aosa.store.shareable import hidden
from tests.running import common_options, own_configs, run

SECRET = "tell-tale-token"


@pytest.fixture(scope="module")
def stored(tmp_path_factory) -> Path:
    """The results of many stages, below a folder whose name tells."""
    home = tmp_path_factory.mktemp("tell-tale")
    configs, out, videos = own_configs(home), home / "out", home / "videos"
    (videos / "vertical").mkdir(parents=True)
    (videos / "vertical" / "bad.avi").write_bytes(b"no video")
    patch = pytest.MonkeyPatch()
    patch.syspath_prepend(str(home))
    patch.setenv("AOSA_TEST_VIDEOS", str(videos))
    options = ["--config-dir", str(configs), *common_options(out)]
    assert run("reproduce", *options, "experiment=own", "limit=2").status == 0
    folder = ["dataset=video_folder", "dataset.root=${oc.env:AOSA_TEST_VIDEOS}", "target=0", "model=own_net"]
    assert run("prepare", *options, *folder[:2]).status == 3
    assert run("explain", "-m", *options, *folder, "explainer=random", "explainer.seed=1,2").status == 3
    options += ["model=own_net", "dataset.size=1"]
    assert run("sweep", *options, "explainer=random", "explainer.seed=1,2").status == 0
    patch.undo()
    return out


def test_no_file_tells_folders_or_secrets(stored):
    files = [p for p in stored.rglob("*") if p.is_file()]
    assert {p.suffix for p in files} >= {".b2nd", ".json", ".yaml", ".csv", ".html", ".png", ".pdf", ".mp4", ".time"}
    for path in files:
        content = path.read_bytes()
        if path.suffix == ".b2nd":
            content += json.dumps(load_map(path)[1]).encode()
        assert b"tell-tale" not in content, path
    assert list(stored.rglob("multirun.yaml")) == []


def test_config_keeps_what_is_asked_of_the_environment_as_such(stored):
    (identity, *_) = (stored / "maps" / "video_folder").rglob("config.yaml")
    assert "(environment)" in str(OmegaConf.load(identity).dataset.root)
    assert "bad.avi" in next((stored / "maps" / "video_folder").rglob("failures.csv")).read_text()


def test_secrets_are_found_in_what_was_made_of_the_config(monkeypatch):
    monkeypatch.setenv("AOSA_TEST_SECRET", SECRET)
    monkeypatch.setenv("AOSA_TEST_SHORT", "1")
    config = OmegaConf.create({"a": {"b": ["${oc.env:AOSA_TEST_SECRET}"]}, "c": "${oc.env:AOSA_TEST_SHORT}", "d": "11"})
    made = {"token": SECRET, "url": f"https://host/{SECRET}", "short": "1", "list": [1, "11"], "path": "/home/me/a.pth"}
    assert hidden(made, config) == {
        "token": "(environment)",
        "url": "https://host/(environment)",
        "short": "(environment)",
        "list": ["(environment)", "11"],
        "path": "a.pth",
    }
