"""Each explainer has a page with its options and a picture, each metric its part of the page of metrics."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from PIL import Image

from tests.running import ROOT

DOCS = ROOT / "docs"
PAGES = sorted((DOCS / "explainers").glob("*.md"))
LARGEST = 60_000  # bytes of a picture


def marker(group: str, name: str) -> re.Pattern[str]:
    return re.compile(rf"^<!-- options: {group}/{name} -->$", re.MULTILINE)


def names(group: str) -> list[str]:
    return sorted(p.stem for p in (ROOT / "configs" / group).glob("*.yaml"))


def pictures(page: Path) -> list[Path]:
    return [
        page.parent / target for target in re.findall(r"^!\[[^\]]+\]\(([^)]+\.png)\)$", page.read_text(), re.MULTILINE)
    ]


@pytest.mark.parametrize("name", names("explainer"))
def test_an_explainer_has_a_page_with_options_and_picture(name: str) -> None:
    pages = [page for page in PAGES if marker("explainer", name).search(page.read_text())]
    assert len(pages) == 1, (
        f"explainer/{name} has {len(pages)} pages: write docs/explainers/{name}.md, with <!-- options: … -->, "
        f"<!-- index: … -->, an equation, Cost, Reference, and a picture (python docs/make_pictures.py {name}); and "
        f"record its values (python -m tests.values missing)"
    )
    text = pages[0].read_text()
    assert f"(../../configs/explainer/{name}.yaml)" in text
    assert f"explainer={name}" in text or pages[0].stem != name
    assert "$$" in text
    assert "\n## Cost\n" in text
    assert "\n## Reference\n" in text
    rows = re.findall(r"^<!-- index: ([^|]+) \|", text, re.MULTILINE)
    assert f"`{name}`" in ", ".join(rows).split(", "), f"{pages[0].name} has no row of the index for {name}"


@pytest.mark.parametrize("page", [p for p in PAGES if p.stem != "index"], ids=lambda p: p.stem)
def test_a_page_shows_pictures_that_are_small(page: Path) -> None:
    assert pictures(page)
    for path in pictures(page):
        assert path.stat().st_size <= LARGEST, path.name
        with Image.open(path) as image:
            assert image.width > 600, path.name


def test_all_pictures_are_shown() -> None:
    shown = {path.resolve() for page in DOCS.rglob("*.md") for path in pictures(page)}
    assert {p.resolve() for p in (DOCS / "pictures").glob("*.png")} == {p for p in shown if p.parent.name == "pictures"}


@pytest.mark.parametrize("name", names("metric"))
def test_a_metric_has_its_part_of_the_page(name: str) -> None:
    text = (DOCS / "metrics.md").read_text()
    assert f"| [`{name}`](#" in text
    assert marker("metric", name).search(text)
    assert f"(../configs/metric/{name}.yaml)" in text


@pytest.mark.parametrize("name", names("model"))
def test_a_model_has_a_row(name: str) -> None:
    assert f"| `{name}` |" in (DOCS / "models.md").read_text()


def test_a_caption_states_its_settings() -> None:
    for page in PAGES:
        for _, caption in re.findall(r"^!\[[^\]]+\]\(([^)]+)\)\n\n(.*)$", page.read_text(), re.MULTILINE):
            assert caption.startswith("*"), page.name
            assert "@" not in caption, page.name
