"""Titles come from the classes that configs name, one's own included."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest

from aosa import config
from aosa.experiment.titles import titles

CLASSES = """
    from dataclasses import dataclass
    from typing import ClassVar
    from aosa.explainers import GradCAM, Random
    from aosa.metrics import TruthScore

    @dataclass
    class Named(Random):
        title: ClassVar[str] = "My noise"
        titles: ClassVar[dict[str, str]] = {"named_more": "My noise (more)"}

    @dataclass
    class Silent(GradCAM):
        pass

    @dataclass
    class Half(TruthScore):
        columns: ClassVar[dict[str, str]] = {"half": "higher"}
        titles: ClassVar[dict[str, str]] = {"half": "Half of it"}
"""
CONFIGS = {
    "explainer/named": "_target_: titled_classes.Named",
    "explainer/named_more": "defaults: [named, _self_]\nseed: 3",
    "explainer/named_other": "defaults: [named, _self_]\nseed: 4",
    "explainer/silent": "_target_: titled_classes.Silent",
    "explainer/mine": "defaults: [grad_cam, _self_]",
    "metric/half": "_target_: titled_classes.Half",
    "model/mynet": "_target_: aosa.models.build_model\nname: mynet\nnetwork: {_target_: torch.nn.Linear}",
}


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "titled_classes.py").write_text(textwrap.dedent(CLASSES))
    for name, text in CONFIGS.items():
        (tmp_path / f"{name}.yaml").parent.mkdir(exist_ok=True)
        (tmp_path / f"{name}.yaml").write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr("aosa.experiment.titles.given_dirs", lambda: [tmp_path])
    monkeypatch.setattr(config, "given_dirs", lambda: [tmp_path])


@pytest.mark.parametrize(
    ("name", "title"),
    [
        ("named", "My noise"),
        ("named_more", "My noise (more)"),
        ("named_other", "named_other"),  # else two rows would look alike
        ("silent", "silent"),  # the title of its parent is the parent's
        ("mine", "mine"),
        ("mynet", "mynet"),
        ("grad_cam", "Grad-CAM"),
        ("timesformer_hf", "TimeSformer (Hugging Face)"),
        ("kinetics700", "Kinetics-700"),
    ],
)
def test_a_name_has_the_title_of_its_class(mine: None, name: str, title: str) -> None:
    assert titles()(name) == title


def test_a_column_has_the_title_of_its_metric(mine: None) -> None:
    assert titles().column("half") == "Half of it"
    assert titles().column("half_video") == "Half of it (over videos)"
    assert titles().row("named (seed=3)") == "My noise (seed=3)"
