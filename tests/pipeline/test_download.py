"""From a name to a file in its place, and the command that uses it; the table is right."""

from __future__ import annotations

import hashlib
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from omegaconf import OmegaConf

from aosa.config import compose, config_dir, quoted
from aosa.downloads.fetch import alone
from aosa.downloads.table import published_weights, read_table
from aosa.errors import ConfigError
from tests.archives import FILE, FOLDER, Members, write_zip
from tests.running import Ended, run, snapshot
from tests.server import Served, Server, serving

DOCS = Path(__file__).resolve().parents[2] / "docs"
CONTENT = bytes(range(256)) * 40
VIDEOS = ["Archery/v_Archery_g01_c01.avi", "Surfing/v_Surfing_g01_c01.avi"]
TABLE = read_table()


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as server:
        yield server


def download(folder: Path, *overrides: str) -> Ended:
    return run(
        "download", f"data_root={quoted(str(folder / 'data'))}", f"output_root={quoted(str(folder))}", *overrides
    )


def own_table(folder: Path, **parts: object) -> str:
    path = folder / "own.yaml"
    path.write_text(yaml.safe_dump(parts))
    return f"table={quoted(str(path))}"


def weights(server: Server, **changes: object) -> dict[str, object]:
    entry = {
        "model": "r3d_tiny", "dataset": "moving_shapes", "num_classes": 6, "file": "mine.pth",
        "address": server.url("mine.pth"), "size": len(CONTENT), "sha256": hashlib.sha256(CONTENT).hexdigest(),
    }  # fmt: skip
    return {"weights": {"mine": {**entry, **changes}}}


def test_weights(server, tmp_path):
    server.files["mine.pth"] = Served(CONTENT)
    table = own_table(tmp_path, **weights(server, licence="MIT"))
    ended = download(tmp_path, "weights=mine", table)
    path = tmp_path / "data" / "weights" / "mine.pth"
    assert (ended.status, path.read_bytes()) == (0, CONTENT)
    assert ended.out.splitlines() == [
        f"{path} is fetched: 10.2 kB, size and sha256 as published",
        "licence: MIT; to use them:",
        f"  python scripts/explain.py dataset=moving_shapes model=r3d_tiny checkpoint={path} data_root={tmp_path}/data",
    ]
    again = download(tmp_path, "weights=mine", table)
    assert again.out.startswith(f"{path} is there already: ")
    assert len(server.requests) == 1


def test_printed_command_works_whatever_the_folder_is_called(server, tmp_path):
    server.files["mine.pth"] = Served(CONTENT)
    folder = tmp_path / "it's (mine), =1"
    folder.mkdir()
    ended = download(folder, "weights=mine", own_table(folder, **weights(server)))
    words = shlex.split(ended.out.splitlines()[-1])
    assert words[:2] == ["python", "scripts/explain.py"]
    config = compose("explain", words[2:])
    assert Path(config.checkpoint).read_bytes() == CONTENT
    assert config.data_root == str(folder / "data")


def test_interrupted_and_gone_on_with(server, tmp_path, monkeypatch):
    monkeypatch.setattr("aosa.downloads.fetch.TRIES", 1)
    server.files["mine.pth"] = Served(CONTENT, cuts=[4000])
    table = own_table(tmp_path, **weights(server))
    first = download(tmp_path, "weights=mine", table)
    assert first.status == 1
    assert "the same command goes on from there. By hand: open" in first.err
    assert download(tmp_path, "weights=mine", table).status == 0
    assert [r[1:] for r in server.requests] == [(None, 4000), ("bytes=4000-", len(CONTENT) - 4000)]


def test_failure_names_the_page_and_the_place(server, tmp_path):
    table = own_table(tmp_path, **weights(server, page="https://example.org/models"))
    ended = download(tmp_path, "weights=mine", table)
    address = server.url("mine.pth")
    assert ended.status == 1
    assert ended.err.rstrip() == (
        f"error: {address}: the server answered 404 Not Found (there is no such file any more). By hand: open "
        f"https://example.org/models and put the file at {tmp_path}/data/weights/mine.pth"
    )


def test_where_no_other_place_would_help_none_is_named(server, tmp_path):
    """A file that is gone from the only address there is; one that another process is downloading; another file."""
    table = own_table(tmp_path, **weights(server))
    gone = download(tmp_path, "weights=mine", table)
    assert gone.err.rstrip().endswith("404 Not Found (there is no such file any more)")
    path = tmp_path / "data" / "weights" / "mine.pth"
    table = own_table(tmp_path, **weights(server, page="https://example.org/models"))
    part = path.with_name("mine.pth.part")
    with part.open("ab") as file, alone(file, part):
        busy = download(tmp_path, "weights=mine", table)
    assert busy.err.rstrip() == f"error: {part}: another process is at work on it"
    path.write_bytes(b"another")
    other = download(tmp_path, "weights=mine", table)
    assert other.err.rstrip().endswith("move it away, then run the same command again")


def test_weights_that_have_only_a_page(tmp_path):
    ended = download(tmp_path, "weights=r2plus1d50_kinetics700")
    path = tmp_path / "data" / "weights" / "r2p1d50_K_200ep.pth"
    assert ended.status == 1
    assert f"and put the file at {path}." in ended.err
    path.parent.mkdir(parents=True)
    path.write_bytes(CONTENT)
    ended = download(tmp_path, "weights=r2plus1d50_kinetics700")
    assert ended.status == 0
    assert f"checkpoint={path} model.network.num_classes=700" in ended.out


def test_unpublished_weights(tmp_path):
    ended = download(tmp_path, "weights=vgg16_lstm_ucf101_24")
    assert ended.status == 1
    assert "Its authors publish the code and no weights. Weights of your own: checkpoint=<file>" in ended.err


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("weights=slowfast_r50", "no weights=slowfast_r50; for model slowfast_r50: slowfast_r50_kinetics400"),
        ("weights=r3d50_ufc101", "no weights=r3d50_ufc101; did you mean r3d50_ucf101?"),
        ("dataset=video_folder", "dataset=video_folder has no download; docs/datasets.md says how to get it"),
        ("dataset=ucf102", "there is no dataset=ucf102; did you mean dataset=ucf101?"),
        ("wieghts=r3d50", "there is no key 'wieghts' in the config of download; did you mean weights?"),
    ],
)
def test_names_that_are_not_there(tmp_path, override, said):
    ended = download(tmp_path, override)
    assert ended.status == 1
    assert said in ended.err
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("overrides", [[], ["list=true", "weights=r3d50_ucf101"]])
def test_listing(tmp_path, overrides):
    there = tmp_path / "data" / "weights" / "save_200.pth"
    there.parent.mkdir(parents=True)
    there.touch()
    ended = download(tmp_path, *overrides)
    assert ended.status == 0
    rows = {line.split()[0]: re.split(r"  +", line)[1:] for line in ended.out.splitlines() if line}
    assert set(TABLE.weights) | {"weights", "dataset"} | set(TABLE.datasets) == set(rows)
    assert rows["r3d50_ucf101"] == ["r3d50", "unpublished", "Apache-2.0", "is there"]
    assert rows["slowfast_r50_kinetics400"] == ["slowfast_r50", "unpublished", "Apache-2.0"]
    assert rows["r2plus1d50_kinetics700"][-1] == "by hand"
    assert rows["vgg16_lstm_ucf101_24"][-1] == "unpublished"
    assert rows["ucf101"] == ["UCF101.rar", "6.9 GB", "not stated"]


def ucf101(server: Server, folder: Path, videos: list[str] = VIDEOS) -> str:
    """A small UCF101 on the server."""
    lists: Members = [("ucfTrainTestlist", b"", FOLDER)]
    for name, content in (
        ("classInd", "1 Archery\n2 Surfing\n"),
        ("testlist01", f"{VIDEOS[0]}\n"),
        ("trainlist01", f"{VIDEOS[1]} 2\n"),
    ):
        lists.append((f"ucfTrainTestlist/{name}.txt", content.encode(), FILE))
    clips: Members = [(f"UCF-101/{v}", v.encode() * 50, FILE) for v in videos]
    entries = []
    for name, members in (("lists.zip", lists), ("videos.zip", clips)):
        content = write_zip(folder / name, members).read_bytes()
        server.files[name] = Served(content)
        entries.append({"file": name, "address": server.url(name), "size": len(content), "unpack": True})
    return own_table(folder, datasets={"ucf101": entries})


def test_dataset(server, tmp_path):
    table = ucf101(server, tmp_path)
    ended = download(tmp_path, "dataset=ucf101", table)
    assert ended.status == 0
    root = tmp_path / "data" / "ucf101"
    assert {f"UCF-101/{v}" for v in VIDEOS} == set(snapshot(root, ".avi"))
    assert "lists.zip: 3 new files" in ended.out
    assert "videos.zip: 2 new files; the archive itself is no longer needed" in ended.out
    assert ended.out.splitlines()[-1] == f"  python scripts/prepare.py dataset=ucf101 data_root={tmp_path}/data"

    # Complete: nothing is fetched, although the archives are gone.
    for name in ("lists.zip", "videos.zip"):
        (root / name).unlink()
    again = download(tmp_path, "dataset=ucf101", table)
    assert again.out.startswith(f"ucf101 is complete in {root}")
    assert len(server.requests) == 2

    # A video is lost: only what is missing is put back.
    (root / "UCF-101" / VIDEOS[0]).unlink()
    kept = (root / "UCF-101" / VIDEOS[1]).stat().st_mtime_ns
    repaired = download(tmp_path, "dataset=ucf101", table)
    assert "lists.zip: 0 new files" in repaired.out
    assert "videos.zip: 1 new files" in repaired.out
    assert (root / "UCF-101" / VIDEOS[1]).stat().st_mtime_ns == kept


def test_dataset_from_a_malicious_archive(server, tmp_path):
    table = ucf101(server, tmp_path, [*VIDEOS, "../../../../evil.avi"])
    ended = download(tmp_path, "dataset=ucf101", table)
    assert ended.status == 1
    assert "nothing is unpacked: its member 'UCF-101/../../../../evil.avi' would leave the folder" in ended.err
    assert not list(tmp_path.rglob("*.avi"))


def test_file_of_a_dataset_goes_where_its_config_says(server, tmp_path):
    server.files["pyannot.pkl"] = Served(CONTENT)
    entry = {"file": "pyannot.pkl", "address": server.url("pyannot.pkl"), "key": "annotations"}
    path = tmp_path / "elsewhere" / "boxes.pkl"
    table = own_table(tmp_path, datasets={"ucf101_24": [entry]})
    ended = download(tmp_path, "dataset=ucf101_24", f"dataset.annotations={quoted(str(path))}", table)
    assert path.read_bytes() == CONTENT
    assert "its publishers state neither size nor sha256" in ended.out
    assert ended.out.rstrip().endswith(f"python scripts/prepare.py dataset=ucf101_24 data_root={tmp_path}/data")


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ({"file": "../mine.pth"}, "weights.mine: file=../mine.pth: give the name of a file, without folders"),
        ({"file": ".."}, "weights.mine: file=..: give"),
        ({"address": "http://example.org/a"}, "weights.mine: address=http://example.org/a: give an https address"),
        ({"page": "file:///etc/passwd"}, "weights.mine: page=file:///etc/passwd"),
        ({"sha256": "12"}, "weights.mine: sha256=12: give 8 to 64 hexadecimal digits, or null"),
        ({"sha256": "ABCDEFGH"}, "weights.mine: sha256=ABCDEFGH: give"),
        ({"size": 0}, "weights.mine: size=0: give a number of bytes, or null"),
        ({"size": "large"}, "weights.mine: Value 'large'"),
        ({"adress": "https://example.org"}, "weights.mine: Key 'adress' not in 'Weights'"),
        ({"model": None}, "weights.mine: "),
        ({"published": {"dataset": "a", "top1": 7.0, "source": "b", "views": "ten"}}, "weights.mine: views=ten"),
        ({"published": {"dataset": "a", "top1": 7.0, "source": "b", "sampling": "x"}}, "weights.mine: sampling=x"),
        ({"published": {"dataset": "a", "top1": 7.0, "source": "b", "average": "x"}}, "weights.mine: average=x"),
    ],
)  # fmt: skip
def test_wrong_entry_of_the_users_table(server, tmp_path, entry, said):
    own_table(tmp_path, **weights(server, **entry))
    with pytest.raises(ConfigError) as refused:
        read_table(tmp_path / "own.yaml")
    assert str(refused.value).startswith(f"table={tmp_path / 'own.yaml'}: {said}")


@pytest.mark.parametrize(
    "content", ["- a", "weights: [a]", "datasets: {a: {b: c}}", "a: [", "weights: {mine: 3}", "weights: {mine: {}}"]
)
def test_table_of_another_form(tmp_path, content):
    (tmp_path / "own.yaml").write_text(content)
    with pytest.raises(ConfigError, match=r"^table=.*own\.yaml: "):
        read_table(tmp_path / "own.yaml")


def test_table_that_is_not_there(tmp_path):
    with pytest.raises(ConfigError, match=r"table=.*none\.yaml: cannot be read \(No such file"):
        read_table(tmp_path / "none.yaml")


def test_own_entries_are_added_and_take_precedence(server, tmp_path):
    name = "r3d50_ucf101"
    own = tmp_path / "own.yaml"
    own.write_text(yaml.safe_dump({"weights": {name: weights(server)["weights"]["mine"]}}))
    table = read_table(own)
    assert table.weights[name].file == "mine.pth"
    assert set(table.weights) == set(TABLE.weights)
    assert table.datasets == TABLE.datasets


@pytest.mark.parametrize("name", TABLE.weights)
def test_entry_fits_its_model(name):
    entry = TABLE.weights[name]
    assert (config_dir() / "model" / f"{entry.model}.yaml").is_file()
    assert entry.address or entry.instructions
    config = compose("explain", [f"model={entry.model}", "checkpoint=x", *entry.options])
    assert config.model.network.num_classes == entry.num_classes
    if name.endswith("_hf_kinetics400"):
        assert OmegaConf.to_object(config.model.spec.mean) == [0.45, 0.45, 0.45]


def test_table_is_right():
    files = [entry.file for entry in TABLE.weights.values()]
    assert len(set(files)) == len(files)
    for entry in TABLE.weights.values():
        # mmaction2 and torchvision end the names of their files with the first digits of the sha256.
        named = re.search(r"[-_]([0-9a-f]{8})\.pth$", entry.file)
        assert entry.sha256 == (named[1] if named else None)
        if named:
            assert entry.address.endswith(f"/{entry.file}")
        if entry.published is not None:
            assert entry.published.dataset == entry.dataset
            assert 60 < entry.published.top1 < entry.published.top5 < 100
            assert entry.published.views or entry.published.protocol
            assert entry.published.source.startswith("https://")
            if entry.published.views is not None:
                # mmaction2 names the files of densely sampled networks so.
                assert entry.published.sampling == ("dense" if "-dense-" in entry.file else "uniform")
    for name, entries in TABLE.datasets.items():
        assert (config_dir() / "dataset" / f"{name}.yaml").is_file()
        assert all(entry.address and entry.size for entry in entries)


def test_published_accuracy_is_known_by_the_files_name():
    found = published_weights("/anywhere/slowfast_r50_8xb8-8x8x1-256e_kinetics400-rgb_20220818-1cb6dfc8.pth").published
    assert (found.dataset, found.top1, found.top5, found.views) == ("kinetics400", 76.8, 92.99, "10x3")
    assert published_weights("save_200.pth").published is None
    assert published_weights("mine.pth") is None


@pytest.mark.real
def test_boxes_of_ucf101_24_are_those_of_the_real_data(shared_data):
    entry = TABLE.datasets["ucf101_24"][0]
    content = (shared_data / "ucf101_24" / "pyannot.pkl").read_bytes()
    assert (len(content), hashlib.sha256(content).hexdigest()) == (entry.size, entry.sha256)


def test_docs_name_every_entry():
    text = (DOCS / "weights.md").read_text()
    for name, entry in TABLE.weights.items():
        row = next(line for line in text.splitlines() if line.startswith(f"| `{name}` |"))
        assert f"`{entry.file}`" in row
        assert (entry.licence or "not stated") in row
        if entry.published is not None:
            assert f"{entry.published.top1:g} / {entry.published.top5:g}" in row
            assert (", dense |" in row) == (entry.published.sampling == "dense")
    assert "scripts/download.py dataset=ucf101" in (DOCS / "datasets.md").read_text()
