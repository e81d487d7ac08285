"""What a user reads when the command line is wrong, and how a run ends."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from aosa import cli
from aosa.config import compose, quoted
from aosa.errors import ConfigError
from tests.running import common_options, run


def explain(folder: Path, *overrides: str) -> str:
    """The one message of a run that is refused."""
    ended = run("explain", *common_options(folder / "out"), *overrides)
    assert ended.status == 1
    assert ended.err.startswith("error: ")
    assert "Traceback" not in ended.err
    assert not (folder / "out" / "maps").exists()
    return ended.err.removeprefix("error: ").rstrip()


@pytest.mark.parametrize(
    ("override", "meant"),
    [
        ("explaner=aosa", "explainer"),
        ("output_rot=x", "output_root"),
        ("explainer.strid=4", "explainer.stride"),
        ("model.spec.frame=8", "model.spec.frames"),
        ("~explainer.strid", "explainer.stride"),
    ],
)
def test_misspelt_key(tmp_path, override, meant):
    message = explain(tmp_path, override)
    key = override.partition("=")[0].lstrip("~")
    assert message.startswith(f"there is no key {key!r} in the config of explain; did you mean {meant}?\n  keys: ")
    assert meant in message.splitlines()[1]
    assert "_target_" not in message


def test_key_that_resembles_nothing_gets_the_keys_there_are(tmp_path):
    message = explain(tmp_path, "foo.bar=3")
    assert message.startswith("there is no key 'foo.bar' in the config of explain\n  keys: data_root, output_root")


@pytest.mark.parametrize("override", ["explainer=aossa", "dataset=ucf", "model=r3d_tinny"])
def test_misspelt_choice(tmp_path, override):
    message = explain(tmp_path, override)
    group = override.partition("=")[0]
    assert message.startswith(f"there is no {override}; did you mean {group}=")
    choices = sorted(p.stem for p in (cli.config_dir() / group).glob("*.yaml"))
    assert message.splitlines()[1] == f"  choices: {', '.join(choices)}"


def test_values_that_would_be_a_sweep(tmp_path):
    message = explain(tmp_path, "explainer.stride=4,8")
    assert "add -m" in message
    assert "explainer.stride=[4,8]" in message


@pytest.mark.parametrize("override", ["explainer", "=3", "dataset=null"])
def test_what_is_no_override(tmp_path, override):
    explain(tmp_path, override)


def test_config_folder_that_is_not_there(tmp_path):
    ended = run("explain", "--config-dir", "/nowhere", *common_options(tmp_path))
    assert ended.status == 1
    assert "'/nowhere' not found" in ended.err


ODD_NAMES = [
    "my (1).mp4", "it's.mp4", 'say "hi".mp4', "a=b.mp4", "[x]{y}.mp4", "back\\slash (1).mp4", "end (\\", "a\\\\\"b(",
]  # fmt: skip


@pytest.mark.parametrize("name", [*ODD_NAMES, "plain.mp4", "ünï (ö).mp4", ""])
def test_quoted_value_is_read_as_it_was(name):
    (override,) = OverridesParser.create().parse_overrides([f"video={quoted(name)}"])
    assert override.value() == name


@pytest.mark.parametrize("name", ODD_NAMES)
def test_command_that_is_printed_gives_the_value_as_it_was(tmp_path, name):
    ended = run("explain_video", f"output_root={quoted(str(tmp_path))}", f"video={name}", "target=a(b")
    if not ended.err.startswith("error: the value of "):
        pytest.skip("Hydra accepts this name as it is")
    words = shlex.split("\n".join(ended.err.splitlines()[1:]))
    values = {o.key_or_group: o.value() for o in OverridesParser.create().parse_overrides(words[2:])}
    assert values == {"output_root": str(tmp_path), "video": name, "target": "a(b"}


def test_value_with_commas_gets_a_command_too():
    ended = run("explain_video", "video=a,b.mp4")
    words = shlex.split(ended.err.splitlines()[1])
    assert OverridesParser.create().parse_overrides(words[2:])[0].value() == "a,b.mp4"


def test_traceback_only_when_asked_for(monkeypatch, tmp_path):
    assert "Traceback" not in run("explain", *common_options(tmp_path), "target=99").err
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    with pytest.raises(ConfigError, match="target=99"):
        run("explain", *common_options(tmp_path), "target=99")


def test_environment_is_left_as_it_was(monkeypatch, tmp_path):
    monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)
    run("explain", *common_options(tmp_path), "target=99")
    assert "HYDRA_FULL_ERROR" not in cli.os.environ


def test_a_bug_is_told_as_one(monkeypatch, tmp_path):
    from aosa.stages import explain as stage

    def broken(config: object) -> int:
        raise ZeroDivisionError("division by zero")

    monkeypatch.setattr(stage, "run", broken)
    ended = run("explain", *common_options(tmp_path))
    assert ended.status == 1
    assert ended.err.startswith("error: ZeroDivisionError: division by zero\n(a bug, ")
    assert "HYDRA_FULL_ERROR=1 shows where" in ended.err


def test_sweep_does_every_job_and_ends_with_the_worst_status(tmp_path):
    options = [*common_options(tmp_path), "dataset.size=1", "explainer=random"]
    ended = run("explain", "-m", *options, "explainer.seed=1,-1,2")
    assert ended.status == 1
    assert ended.err.count("error: explainer.seed=-1: ") == 1
    assert len({p.parent.parent for p in tmp_path.rglob("*.b2nd")}) == 2


def test_an_error_outranks_failed_videos_in_a_sweep(tmp_path, write_video):
    write_video(tmp_path / "videos" / "vertical" / "good.avi", 20)
    (tmp_path / "videos" / "vertical" / "bad.avi").touch()
    root = f"dataset.root={quoted(str(tmp_path / 'videos'))}"
    options = [*common_options(tmp_path), "dataset=video_folder", root, "explainer=random"]
    assert run("explain", *options).status == 3
    assert run("explain", "-m", *options, "explainer.seed=0,-1").status == 1


def test_console_command(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["aosa", "explian"])
    with pytest.raises(SystemExit) as ended:
        cli.entry()
    assert ended.value.code == 2
    assert "stages: prepare, explain, evaluate" in capsys.readouterr().err
    called = []
    monkeypatch.setattr(cli, "main", called.append)
    monkeypatch.setattr(sys, "argv", ["aosa", "explain", "limit=1"])
    cli.entry()
    assert (called, sys.argv) == (["explain"], ["aosa", "limit=1"])


def test_compose_tells_errors_as_the_scripts_do():
    with pytest.raises(
        ConfigError, match=r"no key 'explainer\.strid' in the config of explain; did you mean explainer.stri"
    ):
        compose("explain", ["explainer.strid=3"])
    with pytest.raises(ConfigError, match="there is no model=r3d51; did you mean model=r3d50"):
        compose("explain", ["model=r3d51"])


def test_no_room_and_no_right_are_told_with_the_path():
    full = OSError(28, "No space left on device", "/out/a.b2nd")
    assert cli.describe(full, "explain", []).startswith("no room to write /out/a.b2nd: No space left on device. ")
    denied = PermissionError(13, "Permission denied", "/out")
    assert cli.describe(denied, "explain", []).startswith("cannot write /out: Permission denied. Set output_root")
