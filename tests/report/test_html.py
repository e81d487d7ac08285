import os
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from aosa.clip import Clip
from aosa.errors import AosaError
from aosa.report.claims import Claim, Verdict
from aosa.report.figures import curves
from aosa.report.html import write_report
from aosa.report.overlay import comparison_sheet, overlay, save_png
from aosa.report.tables import TableSpec, make_table

EXPLAINERS = ("aosa", "grad_cam", "random")
NASTY = 'v_100% #1 <b>&amp; "q"'


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
    table = make_table(records, TableSpec("demo", "Demo", {"deletion": "lower", "insertion": "higher"}))
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
        items = []
        for explainer, saliency in maps.items():
            stem = f"gallery/{'50% #1' if name == NASTY else name}/{explainer}"
            shown = overlay(clip, saliency)
            shown.save(folder / f"{stem}.mp4")
            save_png(shown.frames[4], folder / f"{stem}.png")
            scores = {"deletion": 0.125, "spt": None}
            items.append({"explainer": explainer, "image": f"{stem}.png", "video": f"{stem}.mp4", "scores": scores})
        save_png(comparison_sheet(clip, maps), folder / f"gallery/{len(gallery)}.png")
        gallery.append(
            {"clip": name, "class_name": "circle", "target_name": "circle", "probability": 0.75}
            | {"items": items, "sheet": f"gallery/{len(gallery)}.png"}
        )
    return write_report(
        folder,
        title="Demo <report>",
        tables=[table],
        verdicts=[Verdict(Claim("<AOSA> wins", "deletion", "aosa"), "moving_shapes", "r3d_tiny", "holds", 6, "why")],
        curves_png="curves.png",
        gallery=gallery,
        failures=[{"clip": "broken.avi", "reason": "<script>document.title = 'injected'</script>"}],
        provenance={"command": "make demo", "versions": {"python": "3.11"}, "configuration": "a: 1\nb: 2\n"},
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
        "<pre>a: 1\nb: 2\n</pre>",
        'href="demo.csv"',
        'href="curves.pdf"',
        "probability 0.750",
        "Deletion 0.125",
        "S-PT –",
        "<td>&lt;AOSA&gt; wins</td><td>R3D-tiny on Moving shapes</td><td><b>holds</b></td><td>6</td><td>why</td>",
    ):
        assert text in page, text


def test_text_is_escaped_and_paths_are_quoted(report):
    page = report.read_text(encoding="utf-8")
    assert "<h1>Demo &lt;report&gt;</h1>" in page
    assert "&lt;script&gt;document.title" in page
    assert page.count("<script>") == 1
    assert 'src="gallery/50%25%20%231/aosa.mp4"' in page
    assert "v_100% #1 &lt;b&gt;&amp;amp; &#34;q&#34;" in page


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
    assert 'id="gallery"' not in page


def _absent(reason: str):
    if os.environ.get("CI"):
        pytest.fail(f"{reason}, and CI must run this test")
    pytest.skip(reason)


@pytest.fixture
def browser():
    """Headless Chromium; the test is skipped without it, except under CI, where it fails."""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        _absent("playwright is not installed")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        _absent("chromium is not installed")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield browser
        browser.close()


def test_in_a_browser_nothing_is_missing_and_the_videos_play(report, browser):
    page = browser.new_page(viewport={"width": 1366, "height": 768})
    trouble = []
    page.on("console", lambda message: trouble.append(message.text))
    page.on("pageerror", lambda error: trouble.append(str(error)))
    page.on("requestfailed", lambda request: trouble.append(request.url))
    page.on("request", lambda request: request.url.startswith(("file:", "data:")) or trouble.append(request.url))
    page.goto(report.as_uri())
    assert page.title() == "Demo <report>"
    page.locator("summary").first.click()
    page.locator("[data-play]").first.click()
    page.wait_for_function(
        "[...document.querySelectorAll('.clip')[0].querySelectorAll('video')].every(v => v.currentTime > 0.1)",
        timeout=20_000,
    )
    videos = page.evaluate("[...document.querySelectorAll('video')].map(v => [v.videoWidth, v.videoHeight, v.paused])")
    assert videos[:3] == [[224, 224, False]] * 3
    assert all(paused for _, _, paused in videos[3:])
    page.locator("[data-play]").first.click()
    assert page.evaluate("[...document.querySelectorAll('video')].every(v => v.paused)")
    for picture in page.locator("main img").all():
        if picture.is_visible():
            picture.scroll_into_view_if_needed()
            page.wait_for_function("i => i.complete && i.naturalWidth > 0", arg=picture.element_handle())
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert trouble == []
