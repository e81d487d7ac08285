"""The report's gallery in a browser: playing in step, filters, order, links, and 500 clips."""

from __future__ import annotations

import itertools
import shutil

import numpy as np
import pandas as pd
import pytest

from aosa.experiment.titles import titles
from aosa.report.html import write_report
from aosa.report.overlay import Overlay, save_png
from aosa.report.tables import TableSpec, make_table

EXPLAINERS = ("aosa", "osa", "random")
CLASSES = ("circle", "Ring", "square")
FRAMES, FPS = 16, 8


def entry(number: int) -> dict:
    """Clip `number`: data sets alternate, classes go round, and every number is another."""
    media = {"image": "media/clip.png", "video": "media/clip.mp4"}
    own = [e for e in EXPLAINERS if (number, e) != (7, "osa")]
    shuffled = (number * 37) % 500 / 500
    return {
        "clip": f"{CLASSES[number % 3]}/{number}",
        "dataset": ("moving_shapes", "ucf101")[number % 2],
        "model": "r3d_tiny",
        "class_name": CLASSES[number % 3],
        "target_name": "circle",
        "probability": 0.75,
        "size": (FRAMES, 32, 32),
        "fps": FPS,
        "disagreement": None if number == 3 else shuffled,
        "original": None if number == 5 else media,
        "sheet": None,
        "items": [
            {"explainer": e, **media, "scores": {"deletion": None if number == 4 else 1 - shuffled, "truth": shuffled}}
            for e in own
        ],
    }


ENTRIES = [entry(number) for number in range(500)]


def table():
    spec = TableSpec("demo", "Demo", {"deletion": "lower", "truth": "higher"}, titles=titles())
    rows = [
        {
            "dataset": e["dataset"],
            "model": e["model"],
            "explainer": i["explainer"],
            "column": c,
            "clip": e["clip"],
            "value": v,
        }
        for e in ENTRIES[:20]
        for i in e["items"]
        for c, v in i["scores"].items()
    ]
    return make_table(pd.DataFrame(rows), spec)


@pytest.fixture(scope="module")
def address(tmp_path_factory) -> str:
    """A report of 500 clips, moved elsewhere after it was written; all clips show the same little film."""
    folder = tmp_path_factory.mktemp("report") / "written"
    film = Overlay(np.random.default_rng(0).integers(0, 256, (FRAMES, 32, 32, 3)).astype(np.uint8))
    film.save(folder / "media" / "clip.mp4", fps=FPS)
    save_png(film.frames[8], folder / "media" / "clip.png")
    write_report(folder, title="Demo", tables=[table()], gallery=ENTRIES)
    moved = folder.with_name("moved to #1")
    shutil.move(folder, moved)
    return (moved / "index.html").as_uri()


def names(page) -> list[str]:
    return page.locator(".clip h3").all_inner_texts()


def field(page, name: str):
    return page.locator(f"#filters [name={name}]")


def count(page) -> str:
    return page.locator("#count").inner_text()


def times(card) -> list[float]:
    """Of all videos of a card, at one moment."""
    return card.locator("video").evaluate_all("all => all.map(video => video.currentTime)")


def apart(card) -> float:
    """How far the videos of a card are from each other, in seconds; they begin again where they end."""
    length = card.locator("video").first.evaluate("video => video.duration")
    now = sorted(times(card))
    gaps = [b - a for a, b in itertools.pairwise([*now, now[0] + length])]
    return length - max(gaps)


def started(page, videos: int) -> None:
    page.wait_for_function(
        "n => { const all = [...document.querySelectorAll('video')];"
        " return all.length === n && all.every(v => !v.paused && v.currentTime > 0.2) }",
        arg=videos,
    )


def by_number(clips: list[dict]) -> list[str]:
    """In the order of names, where 2 comes before 10."""
    return [c["clip"] for c in sorted(clips, key=lambda c: (c["class_name"].lower(), int(c["clip"].split("/")[1])))]


def test_500_clips_are_a_page_of_24_and_no_video_until_one_is_played(address, visit):
    page = visit(address)
    assert count(page) == "500 of 500 clips"
    assert names(page) == by_number(ENTRIES)[:24]
    assert page.locator("video").count() == 0
    assert page.locator("*").count() < 3500
    page.get_by_role("button", name="Next").first.click()
    assert names(page) == by_number(ENTRIES)[24:48]
    assert page.locator("[data-page]").first.inner_text() == "page 2 of 21"
    assert page.locator("*").count() < 3500
    page.get_by_role("button", name="Previous").last.click()
    assert names(page) == by_number(ENTRIES)[:24]


def test_videos_off_the_screen_or_the_page_are_put_away(address, visit):
    page = visit(address)
    cards = page.locator(".clip")
    for card in (cards.nth(0), cards.nth(20)):
        card.get_by_role("button").click()
        started(page, 4)
    page.locator("h1").scroll_into_view_if_needed()
    page.wait_for_function("document.querySelectorAll('video').length === 0")
    assert cards.nth(20).get_by_role("button").inner_text() == "Play"
    assert cards.nth(20).locator("img").count() == 4
    cards.nth(0).get_by_role("button").click()
    started(page, 4)
    page.get_by_role("button", name="Next").first.click()
    assert page.locator("video").count() == 0


def test_all_videos_of_a_clip_play_in_step_and_over_again(address, visit):
    page = visit(address)
    card = page.locator(".clip").first
    card.get_by_role("button", name="Play circle/0").click()
    started(page, 4)
    assert card.locator("figcaption b").all_inner_texts() == ["Original", "AOSA", "OSA", "Random"]
    samples = np.array(
        page.evaluate(
            """() => new Promise((resolve) => {
              const samples = [], end = performance.now() + 3000;
              const sample = () => {
                samples.push([...document.querySelectorAll("video")].map((video) => video.currentTime));
                if (performance.now() < end) requestAnimationFrame(sample); else resolve(samples);
              };
              sample();
            })"""
        )
    )
    assert samples.shape[1] == 4
    apart = samples.max(axis=1) - samples.min(axis=1)
    assert np.quantile(apart, 0.9) < 0.1
    assert (samples.max(axis=0) - samples.min(axis=0) > 1.5).all()  # each ran through the two seconds
    assert (np.diff(samples, axis=0).min(axis=0) < -1).all()  # and began again


def test_a_video_that_falls_behind_catches_up(address, visit):
    page = visit(address)
    page.locator(".clip").first.get_by_role("button").click()
    started(page, 4)
    for harm in ("currentTime = 0", "playbackRate = 0", "pause()"):
        # All in the page, within one round of the two seconds: the next one would start in step anyway.
        harmed, later, paused = page.evaluate(
            f"""async () => {{
              const videos = [...document.querySelectorAll("video")];
              const times = () => videos.map((video) => video.currentTime);
              const apart = () => Math.max(...times()) - Math.min(...times());
              const wait = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
              const scrubber = document.querySelector("[type=range]");
              scrubber.value = 3;
              scrubber.dispatchEvent(new Event("input"));
              while (videos.some((v) => v.paused || v.seeking || v.currentTime < 0.5)) await wait(10);
              videos.at(-1).{harm};
              const harmed = videos.at(-1).paused || videos.at(-1).playbackRate === 0 || apart() > 0.3;
              await wait(600);
              const samples = [];
              for (let n = 0; n < 9; n += 1) {{ samples.push(apart()); await wait(10); }}
              return [harmed, samples.sort()[4], videos.at(-1).paused && !videos[0].paused];
            }}"""
        )
        assert harmed, harm
        assert later < 0.1, harm
        assert not paused, harm


def test_scrubbing_moves_all_videos_to_the_same_frame(address, visit):
    page = visit(address)
    card = page.locator(".clip").first
    scrubber = card.get_by_role("slider")
    assert card.locator("output").inner_text() == "frame 8 / 15"
    scrubber.focus()
    page.keyboard.press("ArrowLeft")
    page.wait_for_function("document.querySelectorAll('video').length === 4")
    page.wait_for_function("[...document.querySelectorAll('video')].every(v => v.readyState >= 2 && !v.seeking)")
    assert times(card) == pytest.approx([7.5 / FPS] * 4)
    assert card.locator("output").inner_text() == "frame 7 / 15"
    scrubber.fill("2")
    page.wait_for_function("[...document.querySelectorAll('video')].every(v => v.readyState >= 2 && !v.seeking)")
    assert times(card) == pytest.approx([2.5 / FPS] * 4)
    page.evaluate(
        "() => { document.querySelector('video').onplay = ({ target }) => { window.began ??= target.currentTime; } }"
    )
    card.get_by_role("button").focus()
    page.keyboard.press("Space")
    started(page, 4)
    assert page.evaluate("began") == pytest.approx(2.5 / FPS, abs=0.15)
    while_playing = page.evaluate(
        """async () => {
          const scrubber = document.querySelector("[type=range]");
          scrubber.value = 4;
          scrubber.dispatchEvent(new Event("input"));
          await new Promise((resolve) => setTimeout(resolve, 300));
          return [...document.querySelectorAll("video")].map((video) => video.currentTime);
        }"""
    )
    assert all(4.5 / FPS <= at < 4.5 / FPS + 0.8 for at in while_playing)
    assert max(while_playing) - min(while_playing) < 0.1
    scrubber.focus()
    page.keyboard.press("Space")
    assert card.get_by_role("button").inner_text() == "Play"
    page.wait_for_function("[...document.querySelectorAll('video')].every(v => v.paused && !v.seeking)")
    assert len(set(times(card))) == 1
    frame = int(card.locator("output").inner_text().split()[1])
    assert times(card)[0] == pytest.approx((frame + 0.5) / FPS)


def test_explainers_come_and_go_while_the_clip_plays(address, visit):
    page = visit(address)
    card = page.locator(".clip").first
    card.locator(".box").last.click()  # a picture starts its clip, too
    started(page, 4)
    for name, left in (("OSA", 3), ("Random", 2)):
        page.get_by_label(name, exact=True).uncheck()
        assert card.locator("video").count() == left
    assert page.locator(".clip").nth(1).locator("figcaption b:visible").all_inner_texts() == ["Original", "AOSA"]
    page.get_by_label("OSA", exact=True).check()
    started(page, 3)
    page.wait_for_timeout(300)
    assert apart(card) < 0.1
    assert card.get_by_role("button").inner_text() == "Pause"


def test_filters(address, visit):
    page = visit(address)
    field(page, "class").select_option("Ring")
    assert count(page) == "167 of 500 clips"
    assert names(page) == by_number([e for e in ENTRIES if e["class_name"] == "Ring"])[:24]
    field(page, "dataset").select_option("UCF101")
    assert count(page) == "84 of 500 clips"
    field(page, "q").fill("rING/4")
    assert names(page) == by_number([e for e in ENTRIES if e["clip"].startswith("Ring/4") and e["dataset"] == "ucf101"])
    field(page, "q").fill("no such clip")
    assert count(page) == "0 of 500 clips"
    assert names(page) == []
    assert page.get_by_text("No clip is like that.").is_visible()
    assert field(page, "model").count() == 0


def test_order(address, visit):
    page = visit(address)
    assert not field(page, "column").is_visible()

    def first(number: int, key: str, most: bool) -> list[str]:
        """By disagreement or a score, those without it last."""
        value = {e["clip"]: e[key] if key == "disagreement" else e["items"][0]["scores"][key] for e in ENTRIES}
        known = [clip for clip in by_number(ENTRIES) if value[clip] is not None]
        return sorted(known, key=lambda clip: -value[clip] if most else value[clip])[:number]

    field(page, "sort").select_option("most disagreement")
    assert names(page) == first(24, "disagreement", True)
    assert page.locator(".disagreement").first.inner_text() == "disagreement 1.00"
    for order, score, most in (
        ("best score", "Truth ↑", True), ("worst score", "Truth ↑", False),
        ("best score", "Deletion ↓", False), ("worst score", "Deletion ↓", True),
    ):  # fmt: skip
        field(page, "sort").select_option(order)
        field(page, "column").select_option(score)
        assert names(page) == first(24, score.split()[0].lower(), most), (order, score)
    # Clip 4 has no deletion; clip 7 has no map of OSA at all.
    for explainer, last in (("AOSA", ["square/2", "circle/0", "Ring/4"]), ("OSA", ["circle/0", "Ring/4", "Ring/7"])):
        field(page, "of").select_option(explainer)
        field(page, "sort").select_option("best score")
        page.evaluate("location.hash = location.hash + '&page=21'")
        page.wait_for_function("document.querySelector('[data-page]').textContent === 'page 21 of 21'")
        shown = names(page)
        assert len(shown) == 20
        assert shown[-len(last) + 1 :] == last[1:]


def test_a_clip_shows_what_there_is(address, visit):
    page = visit(address)
    field(page, "q").fill("Ring/7")
    assert page.locator(".clip").first.locator("figcaption b").all_inner_texts() == ["Original", "AOSA", "Random"]
    field(page, "q").fill("square/5")
    card = page.locator(".clip").first
    assert names(page)[0] == "square/5"
    assert card.locator("figcaption b").all_inner_texts() == ["AOSA", "OSA", "Random"]
    card.get_by_role("button").click()
    started(page, 3)
    field(page, "q").fill("Ring/4")
    assert page.locator(".clip dl").first.inner_text() == ""
    assert page.locator(".clip dl").nth(1).inner_text().split() == ["Deletion", "↓", "–", "Truth", "↑", "0.296"]


def test_a_link_brings_the_same_view_back(address, visit):
    page = visit(address)
    field(page, "class").select_option("Ring")
    field(page, "sort").select_option("worst score")
    field(page, "column").select_option("Truth ↑")
    field(page, "of").select_option("OSA")
    page.get_by_label("Random", exact=True).uncheck()
    page.get_by_role("button", name="Next").first.click()
    assert "#gallery?" in page.url

    def view(page):
        shown = page.locator(".clip").first.locator("figcaption b:visible").all_inner_texts()
        fields = page.locator("#filters select").evaluate_all("all => all.map(field => field.value)")
        return count(page), names(page), shown, fields, page.locator("[data-page]").first.inner_text()

    again = visit(page.url)
    assert view(again) == view(page)
    assert view(again)[2:] == (["Original", "AOSA", "OSA"], ["Ring", "", "worst", "truth", "osa"], "page 2 of 7")
    assert again.evaluate("document.getElementById('gallery').getBoundingClientRect().top < innerHeight / 2")
    # A link that is pasted into a page that is open already, and one with values that there are not.
    again.evaluate("location.hash = '#gallery?class=triangle&sort=size&page=x&show='")
    again.wait_for_function("document.querySelector('#count').textContent.startsWith('500')")
    assert view(again)[2:] == (["Original"], ["", "", "name", "deletion", "aosa"], "page 1 of 21")
    for tick in again.locator("[name=show]").all():
        tick.check()
    assert again.url.endswith("#gallery")


def test_a_video_that_cannot_be_played_does_not_stop_the_others(tmp_path, visit):
    media = {name: {"image": None, "video": f"{name}.mp4"} for name in ("good", "bad")}
    film = Overlay(np.zeros((FRAMES, 32, 32, 3), np.uint8))
    film.save(tmp_path / "good.mp4", fps=FPS)
    (tmp_path / "bad.mp4").write_bytes(b"no video")
    items = [{"explainer": e, **media[k], "scores": {}} for e, k in (("aosa", "good"), ("osa", "bad"))]
    clip = {**ENTRIES[0], "original": media["bad"], "items": items, "disagreement": None, "class_name": None}
    page = visit(write_report(tmp_path, title="t", tables=[], gallery=[clip]).as_uri())
    assert [label.split("\n")[0] for label in page.locator(".field").all_inner_texts()] == ["Clip", "Sort by"]
    page.get_by_role("button", name="Play").click()
    page.wait_for_function("document.querySelectorAll('.broken').length === 2")
    page.wait_for_function("[...document.querySelectorAll('video')].some(video => video.currentTime > 0.5)")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_on_a_telephone(address, visit, scheme):
    page = visit(address, viewport={"width": 390, "height": 844}, color_scheme=scheme)
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    card = page.locator(".clip").first
    assert min(box["width"] for box in (tile.bounding_box() for tile in card.locator(".box").all())) > 140
    card.get_by_role("button").click()
    started(page, 4)
    ink, paper = page.evaluate(
        "[getComputedStyle(document.body).color, getComputedStyle(document.body).backgroundColor]"
    )
    light = sum(map(int, paper.removeprefix("rgb(").removesuffix(")").split(",")))
    dark = sum(map(int, ink.removeprefix("rgb(").removesuffix(")").split(",")))
    assert (light > dark) == (scheme == "light")
    field(page, "sort").select_option("best score")
    assert page.evaluate("document.documentElement.scrollWidth") == 390
