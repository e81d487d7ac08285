"""Dashboards: what a run tells them, read back from disk, and that none of it can stop the work."""

from __future__ import annotations

import csv
import inspect
import json
import os
import struct
import sys
from pathlib import Path

import av
import numpy as np
import pytest
from omegaconf import OmegaConf

from aosa.config import compose, quoted
from aosa.engine.job import Job
from aosa.environment import commit
from aosa.errors import ConfigError
from aosa.store.shareable import command_line, shareable
from aosa.tracking.dashboards import Untracked, Wandb
from aosa.tracking.tracker import Tracker, dashboard, track
from tests.running import Ended, common_options, own_configs, run, start
from tests.wandb_runs import BLOCK, OfflineRun, read_runs

wandb = pytest.importorskip("wandb")

SMALL = ["explainer=random", "dataset.size=3", "tracking=wandb", "tracking.overlays=1"]


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch):
    """Nothing of the machine's own account."""
    for key in [k for k in os.environ if k.startswith("WANDB_")]:
        monkeypatch.delenv(key)
    monkeypatch.setenv("NETRC", os.devnull)


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    """Where an experiment with two explainers was tracked."""
    folder = tmp_path_factory.mktemp("home")
    own_configs(folder)
    return folder


@pytest.fixture(scope="module")
def ended(home) -> Ended:
    patch = pytest.MonkeyPatch()
    patch.syspath_prepend(str(home))
    patch.chdir(home)
    patch.setenv("OWN_SECRET", "do-not-tell")
    more = ["experiment=own", "experiment.gallery=1", "limit=3", "tracking=wandb", "tracking.overlays=2"]
    ended = run("reproduce", "--config-dir", str(home / "configs"), *common_options(home / "out"), *more)
    patch.undo()
    assert ended.status == 0, ended.err
    return ended


@pytest.fixture(scope="module")
def progress(home, ended) -> OfflineRun:
    """The run that tells of the work while it goes on."""
    return read_runs(home / "out")[0]


@pytest.fixture(scope="module")
def runs(home, ended) -> list[OfflineRun]:
    """Those that tell of the results."""
    return read_runs(home / "out")[1:]


def records(out: Path, explainer: str, metric: str) -> dict[str, dict]:
    """Records by clip, read without the package."""
    files = (out / "records").rglob(f"{explainer}-*/{metric}-*/*/*.json")
    return {record["clip"]: record for record in (json.loads(path.read_text()) for path in files)}


def cells(home: Path) -> list[dict[str, str]]:
    """The cells of the experiment's table."""
    (path,) = (home / "out").glob("own*/own.csv")
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_one_run_per_explainer_and_model_and_one_for_the_table_in_one_group(progress, runs):
    assert [(r.about.display_name, r.about.job_type, r.about.run_group) for r in [progress, *runs]] == [
        ("own_net / moving_shapes", "progress", "own"),
        ("grad_cam / own_net / moving_shapes", "reproduce", "own"),
        ("random / own_net / moving_shapes", "reproduce", "own"),
        ("own", "table", "own"),
    ]
    assert [r.exit_code for r in runs] == [0, 0, 0]


def test_config_says_what_made_the_numbers(runs, home):
    config = runs[0].config
    assert (config["dataset"]["size"], config["limit"]) == (6, 3)
    assert config["explainer"]["relu"] is False
    assert config["seed"] == 0
    assert config["commit"] == commit()
    assert config["environment"]["device"] == "cpu"
    (folder,) = (home / "out" / "maps" / "moving_shapes" / "own_net").glob("grad_cam-*")
    assert config["maps"] == folder.name


def test_table_per_clip_holds_the_records(runs, home):
    expected = records(home / "out", "random", "deletion_insertion")
    rows = {row["clip"]: row for row in runs[1].table("evaluate/deletion_insertion/clips")}
    assert set(rows) == set(expected)
    assert len(rows) == 3
    for clip, row in rows.items():
        assert row["overall"] == pytest.approx(expected[clip]["overall"])
        assert row["class_name"] == expected[clip]["class_name"]
        assert row["seconds"] > 0


def test_curves_are_means_over_clips(runs, home):
    expected = records(home / "out", "random", "deletion_insertion").values()
    for key in ("deletion_curve", "insertion_curve"):
        mean = np.mean([r[key] for r in expected], axis=0)
        assert runs[1].line(f"evaluate/deletion_insertion/{key}") == pytest.approx(mean.tolist())
    assert runs[1].line("evaluate/deletion_insertion/share") == pytest.approx(np.linspace(0, 1, len(mean)).tolist())


def test_summary_is_what_the_table_of_the_experiment_says(runs, home):
    mine = [cell for cell in cells(home) if cell["explainer"] == "grad_cam"]
    metrics = {"spt": "spatial_pointing", "truth": "truth_score"}
    assert {"deletion", "insertion", "overall", "spt", "truth"} <= {cell["column"] for cell in mine}
    for cell in mine:
        if not cell["column"].endswith(("_class", "_video")):
            key = f"evaluate/{metrics.get(cell['column'], 'deletion_insertion')}/{cell['column']}"
            assert runs[0].summary[key] == pytest.approx(float(cell["ours"]), abs=1e-6)
    assert runs[0].summary["explain/maps"] == 3
    assert runs[0].summary["explain/failed"] == 0


def test_progress_and_times_of_each_clip(progress, runs):
    """Of each clip a map and three records of each explainer, before the next clip."""
    assert progress.line("progress/made") == list(range(1, 3 * 2 * 4 + 1))
    seconds = progress.line("progress/seconds")
    for found, first in zip(runs, (0, 4), strict=False):
        mine = [seconds[8 * clip + first] for clip in range(3)]
        assert [row["seconds"] for row in found.table("explain/clips")] == pytest.approx(mine)
        assert sum(mine) == pytest.approx(found.summary["explain/seconds"])


def test_overlay_videos_are_there_and_play(runs):
    for found in runs[:2]:
        videos = found.videos("explain/overlays")
        assert len(videos) == 2
        for caption, path in videos.items():
            assert caption.split(": ")[1] == caption.split("/")[0]  # target=label, and ids begin with the class
            with av.open(str(path)) as container:
                assert len(list(container.decode(video=0))) == 6
    assert set(runs[0].videos("explain/overlays")) == set(runs[1].videos("explain/overlays"))


def test_table_of_the_experiment(runs, home):
    expected = [(r["explainer"], r["column"], float(r["ours"])) for r in cells(home) if r["ours"]]
    assert len(expected) >= 10
    rows = runs[2].table("own")
    assert [(r["explainer"], r["column"], r["ours"]) for r in rows if r["ours"] is not None] == expected


def test_nothing_of_the_machine_and_nothing_outside_its_folder(runs, home, ended):
    for found in runs:
        assert found.about.host == "hidden"
        assert not found.about.HasField("git")
        assert not {"environment", "output", "output_raw", "stats"} & found.kinds
        assert not {"data_root", "output_root", "tracking"} & set(found.config)
        assert str(home) not in json.dumps([found.config, found.history, found.summary])
    for path in (home / "out" / "wandb").rglob("*"):
        assert path.is_dir() or b"do-not-tell" not in path.read_bytes()
    assert {p.name for p in home.iterdir()} - {"__pycache__"} == {"own_network.py", "configs", "out"}
    assert "wandb:" not in ended.err
    assert ended.out.count("tracking: ") == 4
    assert f"tracking: {runs[0].folder}\n" in ended.out


def test_config_is_shared_without_paths_and_environment(monkeypatch):
    monkeypatch.setenv("OWN_SECRET", "do-not-tell")
    config = OmegaConf.create(
        {
            "data_root": "/home/me/data",
            "output_root": "/home/me/out",
            "tracking": {"mode": "offline"},
            "checkpoint": "/home/me/my weights/r3d.pth",
            "dataset": {"root": "${data_root}/ucf101", "relative": "data/ucf101", "lists": ["~/lists/a.txt"]},
            "key": "${oc.env:OWN_SECRET}",
            "again": "see ${key}",
            "url": "https://example.org/a/b",
            "note": f"at {Path.home()}/x y/z.avi and /mnt/disk/clip.avi: 3D/2D",
            "override": r"model.weights=\${data_root}/weights/w.pth",
        }
    )
    assert shareable(config) == {
        "checkpoint": "r3d.pth",
        "dataset": {"root": "ucf101", "relative": "data/ucf101", "lists": ["a.txt"]},
        "key": "(environment)",
        "again": "see (environment)",
        "url": "https://example.org/a/b",
        "note": "at x y/z.avi and clip.avi: 3D/2D",
        "override": "model.weights=${data_root}/weights/w.pth",
    }


def test_the_command_is_shared_without_paths(monkeypatch):
    typed = ["/opt/me/scripts/reproduce.py", "+output_root=/home/me/out", "models=[a, b]", "checkpoint=/home/me/w.pth"]
    monkeypatch.setattr("sys.argv", [*typed, "tracking.entity=us", "tracking=wandb", "limit=2"])
    assert command_line() == "python reproduce.py 'models=[a, b]' checkpoint=w.pth limit=2"


def test_a_long_run_is_read_back_whole(tmp_path):
    made = Wandb(str(tmp_path))
    made.start("explain", "long", "g", {})
    for i in range(400):  # more than one block of the file
        made.log({"x": i / 7, "y" * 100: i})
    folder = Path(made.finish(0))
    wandb.teardown()  # its service, idle after so many records, would keep a core busy
    assert sum(path.stat().st_size for path in folder.glob("*.wandb")) > 3 * BLOCK
    (found,) = read_runs(tmp_path)
    assert found.folder == folder
    assert found.line("x") == pytest.approx([i / 7 for i in range(400)])
    assert found.line("y" * 100) == list(range(400))


def test_what_is_there_is_listed_and_not_counted_as_work(tmp_path):
    assert run("explain", *common_options(tmp_path), *SMALL, "limit=2").status == 0
    assert run("explain", *common_options(tmp_path), *SMALL).status == 0
    first, second = read_runs(tmp_path)
    assert first.line("explain/made") == [1, 2]
    assert second.line("explain/made") == [1]
    assert second.summary["explain/maps"] == 3
    seconds = {row["seconds"] for row in second.table("explain/clips")}
    assert seconds == {*first.line("explain/seconds"), *second.line("explain/seconds")}


def test_failed_videos_are_told_without_their_folders(tmp_path, write_video):
    write_video(tmp_path / "my videos" / "good.avi", 16)
    (tmp_path / "my videos" / "bad.avi").touch()
    options = ["dataset=video_folder", f"dataset.root={quoted(str(tmp_path / 'my videos'))}", "target=predicted"]
    patch = pytest.MonkeyPatch()
    patch.chdir(tmp_path)
    ended = run("explain", *common_options(tmp_path / "out"), "explainer=random", "tracking=wandb", *options)
    patch.undo()
    assert ended.status == 3
    (found,) = read_runs(tmp_path / "out")
    rows = {row["clip"]: row for row in found.table("explain/clips")}
    assert "zero bytes" in rows["bad"]["failure"]
    assert str(tmp_path) not in rows["bad"]["failure"]
    assert rows["good"]["failure"] is None
    assert found.line("explain/failed") == [1, 1]
    assert (found.summary["explain/maps"], found.summary["explain/failed"], found.exit_code) == (1, 1, 0)


def test_a_run_that_stops_is_closed_as_failed(tmp_path, monkeypatch):
    def refuse(*_: object) -> int:
        raise ConfigError("no such class")

    monkeypatch.setattr(Job, "target", refuse)
    ended = run("explain", *common_options(tmp_path), *SMALL)
    assert ended.status == 1
    assert ended.err.endswith("error: no such class\n")
    (found,) = read_runs(tmp_path)
    assert found.exit_code == 1
    monkeypatch.setattr(Job, "target", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    assert run("explain", *common_options(tmp_path), *SMALL).status == 130
    assert [r.exit_code for r in read_runs(tmp_path)] == [1, 1]


def test_a_run_that_stops_while_it_opens_is_closed(tmp_path, monkeypatch):
    opened = Wandb.start

    def interrupted(*about: object) -> None:
        opened(*about)
        raise KeyboardInterrupt

    monkeypatch.setattr(Wandb, "start", interrupted)
    assert run("explain", *common_options(tmp_path), *SMALL).status == 130
    (found,) = read_runs(tmp_path)
    assert found.exit_code == 1


def test_training(tmp_path):
    options = ["train.clips_per_epoch=4", "train.batch_size=4", "train.workers=0", "limit=2"]
    options += ["train.epochs=2", "tracking=wandb", "dataset.size=4", "threads=1", "device=cpu"]
    assert run("train", *common_options(tmp_path)[:1], *options).status == 0
    (found,) = read_runs(tmp_path)
    with next((tmp_path / "train").rglob("log.csv")).open(newline="") as file:
        log = list(csv.DictReader(file))
    assert found.line("train/epoch") == [1, 2]
    assert found.line("train/train_loss") == pytest.approx([float(row["train_loss"]) for row in log])
    assert found.line("train/val_accuracy") == pytest.approx([float(row["val_accuracy"]) for row in log])
    assert 0 <= found.summary["train/test_accuracy"] <= 1
    assert found.about.display_name == "r3d_tiny / moving_shapes"


def events(folder: Path) -> dict[str, list[tuple[int, object]]]:
    """What TensorBoard would show: name → steps and values. A record is a length, its checksum, an event, its own."""
    from tensorboardX.proto.event_pb2 import Event

    found: dict[str, list[tuple[int, object]]] = {}
    (path,) = folder.glob("events.*")
    data, at = path.read_bytes(), 0
    while at < len(data):
        (length,) = struct.unpack_from("<Q", data, at)
        event = Event.FromString(data[at + 12 : at + 12 + length])
        at += length + 16
        for value in event.summary.value:
            text = b"".join(value.tensor.string_val).decode()
            found.setdefault(value.tag, []).append((event.step, text or value.simple_value))
    return found


def test_tensorboard(tmp_path):
    pytest.importorskip("tensorboardX")
    options = [*common_options(tmp_path), *SMALL[:2], "tracking=tensorboard"]
    assert run("explain", *options, "limit=2").status == 0
    assert run("explain", *options).status == 0
    ended = run("evaluate", *options, "metric.steps=4")
    folder = tmp_path / "tensorboard" / "moving_shapes" / "random-r3d_tiny-moving_shapes"
    assert f"tracking: {folder / 'evaluate-1'}\n" in ended.out
    assert events(folder / "explain-1")["explain/made"] == [(0, 1), (1, 2)]
    assert events(folder / "explain-2")["explain/made"] == [(0, 1)]
    found, scored = events(folder / "evaluate-1"), records(tmp_path, "random", "deletion_insertion")
    curve = found["evaluate/deletion_insertion/deletion_curve"]
    assert [step for step, _ in curve] == [0, 25, 50, 75, 100]
    assert [v for _, v in curve] == pytest.approx(np.mean([r["deletion_curve"] for r in scored.values()], axis=0))
    ((_, mean),) = found["summary/evaluate/deletion_insertion/overall"]
    assert mean == pytest.approx(np.mean([r["overall"] for r in scored.values()]))
    ((_, table),) = next(v for k, v in found.items() if k.startswith("evaluate/deletion_insertion/clips"))
    assert all(f"| {clip} |" in table for clip in scored)
    ((_, config),) = next(v for k, v in found.items() if k.startswith("config"))
    assert '"commit": ' in config
    assert found["exit_code"] == [(0, 0)]


def test_without_a_dashboard_nothing_is_imported(tmp_path):
    before = (
        "import atexit, sys; atexit.register(lambda: print('imported:', {'wandb', 'tensorboardX'} & {*sys.modules}))"
    )
    process = start("explain", *common_options(tmp_path), *SMALL[:2], before=before)
    out, err = process.communicate()
    assert process.returncode == 0, err
    assert "imported: set()" in out
    assert not (tmp_path / "wandb").exists()


class Broken(Untracked):
    """A dashboard with no room left, from `first` on."""

    overlays = 1

    def __init__(self, output_root: str, first: str) -> None:
        super().__init__(output_root)
        self.first = first

    def start(self, *_: object) -> None:
        if self.first == "start":
            raise OSError("no room")

    def log(self, *_: object) -> None:
        raise OSError("no room")

    curves = table = videos = summary = finish = log


@pytest.mark.parametrize("first", ["start", "log"])
def test_a_broken_dashboard_is_told_once_and_stops_nothing(tmp_path, first):
    options = [*SMALL[:2], f"+tracking.first={first}", f"tracking._target_={__name__}.Broken"]
    ended = run("explain", *common_options(tmp_path), *options)
    assert ended.status == 0
    assert ended.err.count("warning: tracking failed, the work goes on: OSError: no room\n") == 1
    assert len(list(tmp_path.rglob("*.b2nd"))) == 3


def test_the_error_of_the_work_is_not_hidden_by_the_dashboards():
    config = OmegaConf.create({"output_root": ".", "tracking": {"_target_": f"{__name__}.Broken", "first": "log"}})
    with pytest.raises(ConfigError, match="mine"), track(config, "explain", "a", "b"):
        raise ConfigError("mine")


def test_means_and_texts_that_a_dashboard_cannot_take(capsys):
    told = []

    class Listening(Untracked):
        def summary(self, values):
            told.append(dict(values))

        def table(self, name, rows):
            told.append(rows)

    tracker = Tracker(Listening(""))
    tracker.summary("m", a=1.0, b=None, c=float("nan"))
    tracker.table("t", [{"x": np.float32(0.5), "y": float("inf"), "z": "/a/b/c.avi: no"}])
    tracker.table("t", [])
    assert told == [{"m/a": 1.0}, [{"x": 0.5, "y": None, "z": "c.avi: no"}]]
    assert capsys.readouterr().err == ""


def test_missing_package_is_told_before_any_work(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    for stage in ("explain", "reproduce", "train"):
        ended = run(stage, *common_options(tmp_path), "tracking=wandb")
        assert ended.status == 1
        assert 'error: tracking=wandb needs the package wandb: pip install "aosa[wandb]"' in ended.err
    assert not list(tmp_path.rglob("*.b2nd"))


def test_online_without_being_logged_in(tmp_path):
    ended = run("explain", *common_options(tmp_path), *SMALL, "tracking.mode=online")
    assert ended.status == 1
    assert "error: tracking.mode=online: you are not logged in; run `wandb login`, or leave it offline" in ended.err


def test_online_goes_on_offline_where_the_server_is_not_reached(tmp_path, monkeypatch):
    init = wandb.init

    def unreachable(**options: object) -> object:
        if options["settings"].mode == "online":  # type: ignore[attr-defined]
            raise wandb.errors.CommError("connection refused\nand more")
        return init(**options)

    monkeypatch.setattr(wandb, "login", lambda **_: True)
    monkeypatch.setattr(wandb, "init", unreachable)
    ended = run("explain", *common_options(tmp_path), *SMALL, "tracking.mode=online")
    assert ended.status == 0
    assert "warning: tracking goes on offline: connection refused\n" in ended.err
    (found,) = read_runs(tmp_path)
    assert found.summary["explain/maps"] == 3


@pytest.mark.parametrize("option", ["tracking.mode=cloud", "tracking.overlays=-1"])
def test_option_out_of_range(tmp_path, option):
    ended = run("explain", *common_options(tmp_path), *SMALL[:3], option)
    assert ended.status == 1
    assert ended.err.startswith(f"error: {option}: ")


@pytest.mark.parametrize("name", ["none", "wandb", "tensorboard"])
def test_every_dashboard_lists_its_options_and_builds(name):
    if name == "tensorboard":
        pytest.importorskip("tensorboardX")
    config = compose("explain", [f"tracking={name}"])
    made = dashboard(config)
    assert isinstance(made, Untracked)
    assert set(inspect.signature(type(made)).parameters) - {"output_root"} == set(config.tracking) - {"_target_"}
