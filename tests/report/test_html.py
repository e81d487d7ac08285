import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from aosa.clip import Clip
from aosa.errors import AosaError
from aosa.experiment.titles import titles
from aosa.report.claims import Claim, Verdict
from aosa.report.figures import curves
from aosa.report.html import write_report
from aosa.report.overlay import Overlay, comparison_sheet, overlay, save_png
from aosa.report.tables import TableSpec, make_table

EXPLAINERS = ("aosa", "grad_cam", "random")
NASTY = 'v_100% #1 <b>&amp; "q"</script>\u2028'


@pytest.fixture(scope="module")
def report(tmp_path_factory) -> Path:
    """A whole report of two clips and three explainers."""
    folder = tmp_path_factory.mktemp("report")
    rng = np.random.default_rng(0)
    records = pd.DataFrame(
        {"dataset": "moving_shapes", "model": "r3d_tiny", "explainer": e, "column": c, "clip": f"c{i}", "value": v}
        for e in EXPLAINERS
        for c in ("deletion", "insertion")
        for i, v in enumerate(rng.random(6))
    )
    table = make_table(
        records, TableSpec("demo", "Demo", {"deletion": "lower", "insertion": "higher"}, titles=titles())
    )
    (folder / "demo.csv").write_text(table.to_csv())
    steps = np.linspace(0, 1, 5)
    curves(
        [{"explainer": e, "clip": c, "deletion": 1 - steps, "insertion": steps} for e in EXPLAINERS for c in "ab"],
        folder / "curves.png",
    )
    gallery = []
    for name in (NASTY, "plain"):
        frames = torch.from_numpy(rng.integers(0, 256, (8, 32, 32, 3)).astype(np.uint8))
        clip = Clip(id=name, frames=frames)
        maps = {e: torch.from_numpy(rng.random(clip.size)) for e in EXPLAINERS}

        def media(shown: Overlay, stem: str, name: str = name) -> dict[str, str]:
            stem = f"gallery/{'50% #1' if name == NASTY else name}/{stem}"
            shown.save(folder / f"{stem}.mp4")
            save_png(shown.frames[4], folder / f"{stem}.png")
            return {"image": f"{stem}.png", "video": f"{stem}.mp4"}

        scores = {"deletion": 0.125, "spt": None, "truth": float("nan")}
        items = [
            {"explainer": e, **media(overlay(clip, saliency), e), "scores": scores} for e, saliency in maps.items()
        ]
        save_png(comparison_sheet(clip, maps), folder / f"gallery/{len(gallery)}.png")
        gallery.append(
            {"clip": name, "dataset": "moving_shapes", "model": "r3d_tiny", "class_name": "circle"}
            | {"target_name": "circle", "probability": 0.75, "disagreement": 0.5, "size": clip.size, "fps": 8}
            | {"original": media(Overlay(clip.frames.numpy()), "original")}
            | {"items": items, "sheet": f"gallery/{len(gallery)}.png"}
        )
    for number in range(3):
        save_png(clip.frames[number].numpy(), folder / f"figures/maps/{number}.png")
    return write_report(
        folder,
        title="Demo <report>",
        tables=[table],
        verdicts=[
            Verdict(Claim("<AOSA> wins", "deletion", "aosa"), "moving_shapes", "r3d_tiny", "holds", 6, "why", titles())
        ],
        curves_png="curves.png",
        figures={"Maps": [f"figures/maps/{number}.png" for number in range(3)]},
        gallery=gallery,
        failures=[{"clip": "broken.avi", "reason": "<script>document.title = 'injected'</script>"}],
        provenance={
            "command": "make demo",
            "versions": {"python": "3.11"},
            "configuration": f"a: 1\nb: 2\nlong: {'word' * 500}\n",
        },
    )


def test_says_the_scores_the_failures_and_where_it_comes_from(report):
    page = report.read_text(encoding="utf-8")
    for text in (
        "R3D-tiny on Moving shapes: 6 videos",
        "AOSA",
        "Grad-CAM",
        "Deletion ↓",
        "Failures (1)",
        "broken.avi",
        "make demo",
        "<pre>a: 1\nb: 2\nlong: wordword",
        'href="demo.csv"',
        'href="curves.pdf"',
        'src="figures/maps/0.png" width="32" height="32"',
        "<td>&lt;AOSA&gt; wins</td><td>R3D-tiny on Moving shapes</td><td><b>holds</b></td><td>6</td><td>why</td>",
    ):
        assert text in page, text


def gallery_of(page: str) -> dict:
    (block,) = re.findall(r'<script type="application/json" id="data">(.*)</script>', page)
    return json.loads(block, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))


def test_gallery_knows_every_clip_and_its_files(report):
    gallery = gallery_of(report.read_text(encoding="utf-8"))
    assert gallery["explainers"] == {"aosa": "AOSA", "grad_cam": "Grad-CAM", "random": "Random"}
    assert list(gallery["explainers"]) == list(EXPLAINERS)
    assert gallery["columns"] == {"deletion": "Deletion ↓", "spt": "S-PT", "truth": "Truth"}
    assert gallery["lower"] == ["deletion"]
    nasty, plain = gallery["clips"]
    assert nasty["clip"] == NASTY
    assert plain["items"]["aosa"] == {
        "image": "gallery/plain/aosa.png", "video": "gallery/plain/aosa.mp4", "scores": [0.125, None, None]
    }  # fmt: skip
    assert plain["original"] == {"image": "gallery/plain/original.png", "video": "gallery/plain/original.mp4"}
    assert (plain["probability"], plain["disagreement"], plain["size"]) == (0.75, 0.5, [8, 32, 32])


def test_text_is_escaped_and_paths_are_quoted(report):
    page = report.read_text(encoding="utf-8")
    assert "<h1>Demo &lt;report&gt;</h1>" in page
    assert "&lt;script&gt;document.title" in page
    assert page.count("<script>") == 1
    assert page.count("</script>") == 2
    assert "\u2028" not in page
    assert '"gallery/50%25%20%231/aosa.mp4"' in page


def test_asks_no_outside_host(report):
    page = report.read_text(encoding="utf-8")
    assert not re.search(r"https?:|//[a-z]|@import|url\(", page)


@pytest.mark.parametrize(
    ("path", "message"),
    [("absent.png", "absent.png is not there"), ("../secret.png", "inside"), ("/etc/passwd", "inside")],
)
def test_refuses_a_picture_that_is_absent_or_outside(tmp_path, path, message):
    (tmp_path / "secret.png").write_bytes(b"")
    (tmp_path / "report").mkdir()
    with pytest.raises(AosaError, match=message):
        write_report(tmp_path / "report", title="t", tables=[], curves_png=path)
    assert not list((tmp_path / "report").iterdir())


def test_an_empty_report_says_that_nothing_failed(tmp_path):
    page = write_report(tmp_path, title="t", tables=[]).read_text(encoding="utf-8")
    assert "None: every video was used." in page
    for absent in ("scores", "verdicts", "curves", "figures", "gallery", "provenance"):
        assert f'id="{absent}"' not in page
        assert f'"#{absent}"' not in page
    assert "<script" not in page


def test_in_a_browser_nothing_is_missing(report, visit):
    page = visit(report.as_uri())
    assert page.title() == "Demo <report>"
    for summary in page.locator("summary").all():
        summary.click()
    for picture in page.locator("main img").all():
        picture.scroll_into_view_if_needed()
        page.wait_for_function("i => i.complete && i.naturalWidth > 0", arg=picture.element_handle())
    assert page.evaluate("document.documentElement.scrollWidth") == 1366
    assert page.locator("main img").count() == 1 + 3 + 2 * 5
    assert page.evaluate("document.title") == "Demo <report>"
    assert page.locator(".clip h3").evaluate_all("all => all.map(h => h.textContent)") == ["plain", NASTY]


def test_all_but_the_gallery_is_there_without_scripts(report, visit):
    page = visit(report.as_uri(), java_script_enabled=False)
    text = page.locator("main").inner_text()
    for part in ("Grad-CAM", "holds", "broken.avi", "make demo", "The gallery needs JavaScript"):
        assert part in text, part
    assert page.locator("#curves + figure img").is_visible()
    assert not page.locator("#filters").is_visible()
