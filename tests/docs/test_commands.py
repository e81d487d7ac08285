"""Every command that the documentation shows, as far as this machine can run it: a misspelt key, file, target or option
fails here.

Small work on the embedded data set is done. What needs other data, weights, a GPU or hours is planned (dry_run=true),
so that its config is composed, its model built, and its explainer asked whether they fit; what has no plan is composed.
A command that no rule knows fails.
"""

from __future__ import annotations

import ast
import importlib.util
import json
import re
import runpy
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from unittest import mock

import numpy as np
import pytest
import torch
import yaml

import aosa
from aosa import cli
from aosa.config import build, compose
from aosa.experiment import plan
from aosa.experiment.grid import Experiment
from aosa.explainers import Explainer
from aosa.explainers.base import Passes
from aosa.stages import benchmark, explain_video
from tests.docs.commands import PAGES, Command, commands, fences, parse
from tests.running import ROOT, run

# Quick on the embedded data set; edges is the one of docs/extending.md. All others are planned.
QUICK = ("grad_cam", "grad_cam_pp", "random", "saliency_tubes", "guided_backprop", "edges")
ABSENT = re.compile(r"error: dataset\.(root|annotations)=\S+: no such")
BY_HAND = re.compile(r"error: weights=\S+ has no address of its own\. ")


@pytest.fixture
def folder(tmp_path, monkeypatch, write_video) -> Path:
    """Where the reader is: in a checkout, with a video, a folder of videos, and a table of weights of one's own."""
    monkeypatch.chdir(tmp_path)
    for name in ("scripts", "configs", "aosa"):
        (tmp_path / name).symlink_to(ROOT / name)
    noise = np.random.default_rng(0).integers(0, 256, (24, 48, 64, 3), dtype=np.uint8)
    clip = write_video(tmp_path / "clip.mp4", noise).read_bytes()
    for part in ("", "train/", "val/", "test/"):
        for name in ("horizontal", "vertical"):
            path = tmp_path / "clips" / part / name / "1.mp4"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(clip)
    (tmp_path / "takes").mkdir()
    (tmp_path / "takes" / "jump_03.mp4").write_bytes(clip)
    table = yaml.safe_load((ROOT / "aosa" / "assets" / "downloads.yaml").read_text())
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump({"weights": {"mine": table["weights"]["r3d50_ucf101"]}}))
    return tmp_path


@pytest.fixture(scope="module")
def networks() -> dict[str, tuple[aosa.VideoModel, str]]:
    """Networks of plans, built once."""
    return {}


@pytest.fixture
def planned(monkeypatch, networks) -> None:
    """Plans are drawn up, and their clocks left out: the explainer is asked whether it fits, and not tried."""
    build_model = plan.model_of

    def model_of(place: plan.Place) -> tuple[aosa.VideoModel, str]:
        key = repr(place.config.model)
        if key not in networks:
            # No number is looked at, so none is drawn.
            drawn = {n: lambda tensor, *_, **__: tensor for n in vars(torch.nn.init) if re.fullmatch(r"[a-z]\w*_", n)}
            with (
                mock.patch.object(aosa.models, "randomise"),
                mock.patch.object(aosa.models, "settle"),
                mock.patch.object(aosa.VideoModel, "trial", lambda model: vars(model).update(_tried=True)),
                mock.patch.multiple(torch.nn.init, **drawn),
            ):
                networks[key] = build_model(place)
        return networks[key]

    def explaining(explainer: Explainer, model: aosa.VideoModel, *_: object) -> plan.Cost:
        explainer.check(model)
        return plan.Cost(Passes(1), 1)

    monkeypatch.setattr(plan, "model_of", model_of)
    monkeypatch.setattr(explain_video, "model_of", model_of)
    monkeypatch.setattr(plan, "explaining", explaining)
    monkeypatch.setattr(plan, "measure_rate", lambda model: plan.Rate(1, 1))
    monkeypatch.setattr(plan, "_scoring", lambda *_: plan.Cost(Passes(1), 1))
    monkeypatch.setattr(plan, "seconds", lambda *_: 0.01)


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_commands(page, folder, planned, monkeypatch, record_property):
    """In the page's order and in one folder, as a reader types them."""
    if page.name == "extending.md":
        own_parts(page, folder)
    done = {}
    for command in commands(page):
        for key, value in command.environment.items():
            assert key in ("PYTHONPATH", "CUDA_VISIBLE_DEVICES"), command.text
            if key == "PYTHONPATH":
                monkeypatch.syspath_prepend(str(folder / value))
        done[command.text] = rule(command)(command, page)
    if page.name == "extending.md":
        check_results(folder)
    for text, how in done.items():
        record_property(how, text)


def rule(command: Command) -> Callable[[Command, Path], str]:
    """How this command is tried."""
    program, script = command.words[0], command.script
    if program == "make":
        return make_target
    if program == "pip":
        return package
    if script in cli.STAGES:
        return template if command.template else stage
    if script is not None:
        return other_script
    if program == "python" and command.words[1] == "-c":
        return code
    if program == "python" and command.words[1] == "-m":
        return module
    if program in ("wandb", "tensorboard"):
        return foreign
    if program == "cp":
        return copy
    raise AssertionError(f"no rule for the command {command.text!r}")


def make_target(command: Command, page: Path) -> str:
    """Targets exist, and variables are used."""
    text = (ROOT / "Makefile").read_text()
    for word in command.words[1:]:
        name, equals, _ = word.partition("=")
        if equals:
            assert f"$({name})" in text or f"if $({name})" in text, command.text
        else:
            assert re.search(rf"^{re.escape(name)}:", text, re.MULTILINE), command.text
    return "looked up"


def package(command: Command, page: Path) -> str:
    """Extras exist; what is named is a dependency or the extra's."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    needs = [*project["dependencies"], *(need for more in extras.values() for need in more)]
    known = {re.split(r"[\[<>=!~ ]", need)[0] for need in needs}
    assert command.words[1] == "install", command.text
    for word in command.words[2:]:
        own = re.fullmatch(r"(?:aosa|\.)\[([\w,]+)\]", word)
        if own:
            assert set(own[1].split(",")) <= set(extras), command.text
        elif not word.startswith("-"):
            assert re.split(r"[<>=!~]", word)[0] in {*known, "tensorboard", "aosa", "."}, command.text
    return "looked up"


def stage(command: Command, page: Path) -> str:
    name, arguments = str(command.script), list(command.arguments)
    dirs = [arguments[i + 1] for i, word in enumerate(arguments) if word == "--config-dir"]
    overrides = [word for word in arguments if not word.startswith("-") and word not in dirs]
    own = [word for word in overrides if word.startswith("hydra")]
    if own and "hydra/sweeper=optuna" not in own:  # which is no dependency of the tests
        compose(name, own)  # and no more: launchers start processes, or need a cluster
    if name == "benchmark":
        config = compose(name, overrides)
        build(config.model)
        benchmark._wanted(config)
        return "composed"
    real = not sets(overrides, "dry_run") and quick(name, overrides)
    arguments = [word for word in arguments if word not in own] + ["threads=1", "device=cpu"]
    arguments += [] if sets(overrides, "limit") or name == "tabulate" else ["limit=1"]
    if name == "tabulate":
        ended = run(name, *arguments)
        # Names of cells and parts are looked at before records.
        unmade = ABSENT.match(ended.err) or re.match("error: .*(there are no records|there is no record)", ended.err)
        assert ended.status == 0 or unmade, f"{command.text}\n{ended.err}"
        return "composed" if ended.status else "run"
    if name == "reproduce":
        arguments += one_of_each(overrides)
    arguments += [] if real or sets(overrides, "dry_run") else ["dry_run=true"]
    if dirs or real or (name, *arguments) not in _planned:
        ended = run(name, *arguments)
        if name == "prepare" and ABSENT.match(ended.err):
            return "composed"
        if name == "download" and BY_HAND.match(ended.err):
            return "planned"
        assert ended.status == 0, f"{command.text}\n{ended.err}"
    _planned.add((name, *arguments))
    return "run" if real else "planned"


_planned: set[tuple[str, ...]] = set()  # that a plan can be made of them is known


def one_of_each(overrides: list[str]) -> list[str]:
    """Of an experiment one model and explainer; that all compose, tests/test_config.py sees."""
    name = next((word.partition("=")[2] for word in overrides if word.startswith("experiment=")), "demo")
    if not (ROOT / "configs" / "experiment" / f"{name}.yaml").is_file():
        return []
    experiment = Experiment(compose("reproduce", [f"experiment={name}"]))
    named = {"models": experiment.sites[0].model, "explainers": experiment.explainers[0]}
    return [f"{key}=[{one}]" for key, one in named.items() if one and not sets(overrides, key)]


def sets(overrides: list[str], *keys: str) -> bool:
    """Whether one of the keys is set."""
    return any(word.partition("=")[0] in keys for word in overrides)


def quick(name: str, overrides: list[str]) -> bool:
    """Small work on what is there."""
    given = dict(word.partition("=")[::2] for word in overrides)
    if name == "download":
        return not sets(overrides, "weights", "dataset")
    if name not in ("explain", "evaluate", "accuracy", "explain_video", "prepare", "sweep"):
        return False
    dataset = given.get("dataset", "ucf101" if name == "prepare" else "moving_shapes")
    there = (
        dataset in ("moving_shapes", "takes", "marked")
        or given.get("dataset.root") == "clips"
        or name == "explain_video"
    )
    light = given.get("model", "r3d_tiny") == "r3d_tiny" or given.get("checkpoint") == "random"
    brief = light and (name == "accuracy" or given.get("explainer") in QUICK)
    return there and (name == "prepare" or brief)


def template(command: Command, page: Path) -> str:
    """The keys to be filled in exist, the rest composes."""
    name = str(command.script)
    words = [word.strip("[]") for word in re.findall(r"\[?[\w.+/]+=(?:<[^>]*>|[^\s\]]+)\]?", command.text)]
    words = [word for word in words if not word.startswith("PYTHONPATH")]
    known, rest = compose(name), [word for word in words if not re.search(r"[<…]", word)]
    config = compose(name, rest)
    for word in words:
        key = word.partition("=")[0].lstrip("+")
        where = config
        for part in [] if "<" in key else key.split(".")[:-1]:
            where = where[part]
        last = key.rpartition(".")[2]
        assert "<" in last or last in where or last in known or (ROOT / "configs" / key).is_dir(), command.text
    return "composed"


def other_script(command: Command, page: Path) -> str:
    """Scripts that are no stages."""
    path = ROOT / "scripts" / f"{command.script}.py"
    assert path.is_file(), command.text
    if command.arguments == ["--help"]:
        before = sys.argv
        sys.argv = [str(path), "--help"]
        try:
            with pytest.raises(SystemExit) as ended:
                runpy.run_path(str(path), run_name="__main__")
            assert not ended.value.code
        finally:
            sys.argv = before
        return "run"
    text = path.read_text()
    assert not command.arguments or all(f'"{a}"' in text for a in command.arguments if a.startswith("--")), command.text
    return "looked up"


def code(command: Command, page: Path) -> str:
    ast.parse(command.words[2])
    return "composed"


def module(command: Command, page: Path) -> str:
    assert importlib.util.find_spec(command.words[2]), command.text
    return "looked up"


def foreign(command: Command, page: Path) -> str:
    """Another package's command: the page says how to install it."""
    installs = [words for c in commands(page) if (words := c.words)[:2] == ["pip", "install"]]
    assert any(command.words[0] in " ".join(words) for words in installs), command.text
    return "looked up"


def copy(command: Command, page: Path) -> str:
    """To a file that the project has."""
    assert (ROOT / command.words[-1]).exists(), command.text
    return "looked up"


def own_parts(page: Path, folder: Path) -> None:
    """The files of one's own that the page shows, with a network of the name that its config gives."""
    network = (
        "from torch import nn\n\n\nclass MyNet(nn.Module):\n"
        "    def __init__(self, num_classes):\n        super().__init__()\n"
        "        self.layer4 = nn.Conv3d(3, 4, 3, stride=4)\n        self.fc = nn.Linear(4, num_classes)\n\n"
        "    def forward(self, x):\n        return self.fc(self.layer4(x).mean((2, 3, 4)))\n\n\n"
    )
    (folder / "mine").mkdir()
    blocks = dict.fromkeys(fences(page))
    (folder / "mine" / "mynet.py").write_text(network + "\n\n".join(t for lang, t in blocks if lang == "python"))
    for language, text in blocks:
        if language == "yaml" and (named := re.match(r"# (mine/\S+\.yaml)\n", text)):
            (folder / named[1]).parent.mkdir(parents=True, exist_ok=True)
            (folder / named[1]).write_text(text)


def check_results(folder: Path) -> None:
    """What the parts of one's own have made: maps of each data set, and records with a number in them."""
    made = {p.relative_to(folder / "outputs").parts[1] for p in folder.glob("outputs/maps/*/mynet/edges-*/**/*.b2nd")}
    assert made == {"video_folder", "takes", "marked"}
    for name, column in (("video_folder", "spread"), ("marked", "spt")):
        (record, *_) = folder.glob(f"outputs/records/{name}/mynet/edges-*/*/**/*.json")
        assert isinstance(json.loads(record.read_text())[column], float)


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_blocks_of_python_and_yaml(page, folder, monkeypatch):
    """Python runs, with the embedded network in the place of those whose weights are not there, and noise in that of
    maps; YAML can be read."""
    module = ModuleType("page")
    monkeypatch.setitem(sys.modules, "page", module)  # where dataclasses look for their annotations
    space = vars(module)
    whole = aosa.load_model

    def load(name: str, **options: object) -> aosa.VideoModel:
        assert (ROOT / "configs" / "model" / f"{name}.yaml").is_file()
        return whole("r3d_tiny", device="cpu")

    def explain(
        self: Explainer, model: aosa.VideoModel, clip: aosa.Clip, target: int, prepared: object
    ) -> torch.Tensor:
        self.check(model)
        return whole_explain(aosa.explainers.Random(), model, clip, target, None)

    whole_explain = aosa.explainers.Random.explain
    monkeypatch.setattr(aosa, "load_model", load)
    for explainer in vars(aosa.explainers).values():
        if isinstance(explainer, type) and issubclass(explainer, Explainer) and "explain" in vars(explainer):
            monkeypatch.setattr(explainer, "explain", explain)
    for language, text in fences(page):
        if language == "python":
            for path in re.findall(r"outputs/\S+/scores\.csv", text):
                table = "explainer,column,value,group\naosa,overall,0.5,a\naosa,overall,0.4,b\naosa,deletion,0.2,a\n"
                (folder / path).parent.mkdir(parents=True, exist_ok=True)
                (folder / path).write_text(table)
            exec(compile(text, f"{page.name} (python)", "exec"), space)
        elif language in ("yaml", "yml"):
            yaml.safe_load(text)


def test_what_is_wrong_fails(folder, planned):
    page = ROOT / "README.md"
    for text, message in (
        ("python scripts/explain.py explaner=aosa", "explaner"),
        ("python scripts/explain.py explainer=aosa explainer.strid=4", "strid"),
        ("python scripts/evaluate.py dataset=ucf101 model=r3d50 explainer=attention_rollout", "attention_rollout"),
        ("python scripts/reproduce.py experiment=tabel1", "tabel1"),
        ("python scripts/train.py dataset=<data set> train.epoch=<n>", "train.epoch"),
        ("python scripts/download.py weights=r3d51", "r3d51"),
        ("python scripts/no.py", "no.py"),
        ("make demos", "demos"),
        ('pip install "aosa[wanda]"', "wanda"),
        ("docker run aosa", "no rule"),
    ):
        command = parse(text)
        assert command is not None
        with pytest.raises((AssertionError, aosa.errors.ConfigError), match=re.escape(message)):
            rule(command)(command, page)


def test_commands_are_found():
    page = SimpleNamespace(
        read_text=lambda **_: (
            "```\npython scripts/explain.py a=1 \\\n    b='x y'  # why\na tree of files\n```\n"
            "```bash\nodd one\n```\nType `make demo` or `python scripts/tabulate.py\nexperiment=demo`; `x`.\n"
            "```yaml\nmake: 1\n```\n"
        )
    )
    assert [c.words for c in commands(page)] == [
        ["python", "scripts/explain.py", "a=1", "b=x y"],
        ["odd", "one"],
        ["make", "demo"],
        ["python", "scripts/tabulate.py", "experiment=demo"],
    ]
