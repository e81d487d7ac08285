"""The site: built without a warning, complete, readable from disk, and in need of no other host."""

from __future__ import annotations

import importlib.util
import json
import logging
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType, SimpleNamespace
from urllib.parse import unquote, urldefrag

import pytest
import yaml
from markdown import Markdown
from mkdocs.commands.build import build
from mkdocs.config import load_config
from omegaconf import OmegaConf

from aosa.config import compose
from tests.running import ROOT

BUILDER = ROOT / "docs" / "builder"
GROUPS = sorted(p.name for p in (ROOT / "configs").iterdir() if p.is_dir())
CONFIGS = [f"{group}/{p.stem}" for group in GROUPS for p in sorted((ROOT / "configs" / group).glob("*.yaml"))]
SCRIPTS = sorted(p.stem for p in (ROOT / "configs").glob("*.yaml") if p.stem != "base")


def module(name: str) -> ModuleType:
    """A file of docs/builder, which MkDocs loads by its path."""
    sys.path.insert(0, str(BUILDER))
    try:
        spec = importlib.util.spec_from_file_location(f"docs_builder_{name}", BUILDER / f"{name}.py")
        assert spec is not None
        assert spec.loader is not None
        loaded = sys.modules[spec.name] = importlib.util.module_from_spec(spec)  # dataclasses look their module up
        spec.loader.exec_module(loaded)
    finally:
        sys.path.remove(str(BUILDER))
    return loaded


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> tuple[Path, list[str]]:
    """The site, and what was said of it."""
    folder = tmp_path_factory.mktemp("site")
    said: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: said.append(record.getMessage())  # type: ignore[method-assign]
    logger = logging.getLogger("mkdocs")
    logger.addHandler(handler)
    try:
        build(load_config(str(ROOT / "mkdocs.yml"), site_dir=str(folder)))
    finally:
        logger.removeHandler(handler)
    return folder, said


@pytest.fixture(scope="module")
def site(built) -> Path:
    return built[0]


def test_nothing_is_warned_of(built):
    """A link, a picture or an anchor that is not there, a page that the navigation lacks."""
    assert built[1] == []


class Parsed(HTMLParser):
    """Links and anchors of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.anchors: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for key, value in attrs:
            if key == "id" and value:
                self.anchors.add(value)
            if value and ((key == "href" and tag in ("a", "link")) or (key == "src")):
                self.links.append(value)


@pytest.fixture(scope="module")
def pages(site) -> dict[str, Parsed]:
    return {p.relative_to(site).as_posix(): Parsed(p.read_text()) for p in site.rglob("*.html")}


def test_every_page_is_built_and_in_the_navigation(pages):
    sources = [p.relative_to(ROOT / "docs") for p in (ROOT / "docs").rglob("*.md") if "builder" not in p.parts]
    listed = {urldefrag(link)[0] for link in pages["index.html"].links} | {"index.html"}
    assert len(sources) > 20
    for source in sources:
        assert source.with_suffix(".html").as_posix() in pages
        assert source.with_suffix(".html").as_posix() in listed


def test_links_lead_somewhere(site, pages):
    """Also those in tables that are made at build time; of other hosts there are links, and nothing is loaded."""
    for name, page in pages.items():
        for link in page.links:
            target, anchor = urldefrag(unquote(link))
            if target.startswith(("http", "data:", "mailto:")) or name == "404.html":
                continue
            path = ((site / name).parent / target).resolve() if target else site / name
            assert path.exists(), f"{name}: {link}"
            if anchor:
                assert anchor in pages[path.relative_to(site.resolve()).as_posix()].anchors, f"{name}: {link}"


def test_no_fence_and_no_directive_is_left_as_text(site):
    for path in site.rglob("*.html"):
        text = path.read_text()
        assert "```" not in text, path
        assert not any(f"<!-- {kind}" in text for kind in ("options", "group", "experiments", "notebook")), path


def test_every_config_is_in_the_reference(pages):
    for name in CONFIGS:
        group, _, config = name.partition("/")
        assert config in pages[f"options/{group}.html"].anchors


def test_every_script_is_in_the_reference(site, pages):
    text = (site / "cli.html").read_text()
    for name in SCRIPTS:
        assert name in pages["cli.html"].anchors
        for key in module("options").read(name).options:
            assert f"<code>{key}</code>" in text


def flat(content: dict[str, object], prefix: str = "") -> dict[str, object]:
    found: dict[str, object] = {}
    for key, value in content.items():
        if key.startswith("_"):
            continue
        below = isinstance(value, dict) and value and "name" not in value  # a fill and its options are one value
        found |= flat(value, f"{prefix}{key}.") if below else {f"{prefix}{key}": value}  # type: ignore[arg-type]
    return found


@pytest.mark.parametrize("name", [n for n in CONFIGS if n.split("/")[0] not in ("experiment", "parts", "defaults")])
def test_options_are_those_that_hydra_composes(name):
    """Inherited ones with the value that they have in the end; each with a meaning."""
    group, _, config = name.partition("/")
    options = module("options")
    script = "evaluate" if group != "tracking" else "explain"
    composed = OmegaConf.to_container(compose(script, [f"{group}={config}"])[group], resolve=False)
    listed = options.read(name).options
    assert flat({key: yaml.safe_load(o.default) for key, o in listed.items()}) == flat(composed)
    assert [key for key, o in listed.items() if not options.meaning(o)] == []


@pytest.mark.parametrize("name", SCRIPTS)
def test_keys_are_those_that_hydra_composes(name):
    options = module("options")
    config = options.read(name)
    composed = OmegaConf.to_container(compose(name), resolve=False)
    groups = {*config.groups, "hydra"}
    expected = flat({k: v for k, v in composed.items() if k not in groups})
    found = {key: yaml.safe_load(o.default) for key, o in config.options.items()}
    assert found == {key: value for key, value in expected.items() if not key.startswith("train.parts")}
    assert [key for key, o in config.options.items() if not options.meaning(o)] == []


def test_a_comment_is_the_meaning_and_is_inherited(tmp_path, monkeypatch):
    options = module("options")
    monkeypatch.setattr(options, "CONFIGS", tmp_path)
    folder = tmp_path / "explainer"
    folder.mkdir()
    (folder / "whole.yaml").write_text(
        "# Whole: <all> of it.\n_target_: x.Y\nside: 8   # pixels | null\n"
        "box: [1, 2]  # height, width; with\n             # a second line\nkind: 'a # b'\nseed: ${seed}\n"
    )
    (folder / "part.yaml").write_text("# A part.\ndefaults: [whole, _self_]\nside: 4\nnew: null  # none\n")
    read = options.read("explainer/part")
    assert [(o.key, o.default, options.meaning(o), o.origin) for o in read.options.values()] == [
        ("side", "4", "pixels | null", "part"),
        ("box", "[1, 2]", "height, width; with a second line", "whole"),
        ("kind", "'a # b'", "", "whole"),
        ("seed", "${seed}", "the key `seed` of all scripts", "whole"),
        ("new", "null", "none", "part"),
    ]
    assert (read.about, read.target) == ("A part.", "x.Y")
    table = options.table("explainer/part")
    assert "<td><code>side</code></td><td><code>4</code></td><td>pixels · null</td>" in table
    assert "Whole: &lt;all&gt; of it." in options.whole_group("explainer")


WRONG = ["options: explainer/aossa", "options: nothing", "group: explainers", "notebook: no.ipynb"]


@pytest.mark.parametrize("line", WRONG)
def test_what_is_not_there_stops_the_build(line):
    page = SimpleNamespace(file=SimpleNamespace(src_uri="explainers/aosa.md"))
    config = SimpleNamespace(docs_dir=str(ROOT / "docs"))
    with pytest.raises(ValueError, match=f"docs/explainers/aosa.md: <!-- {line} -->: "):
        module("hooks").on_page_markdown(f"# A\n\n<!-- {line} -->\n", page=page, config=config)


def test_directives_in_code_and_links_inside_stay():
    page = SimpleNamespace(file=SimpleNamespace(src_uri="explainers/aosa.md"))
    config = SimpleNamespace(docs_dir=str(ROOT / "docs"))
    text = "```\n<!-- options: nothing -->\n[a](../../x)\n```\n[b](../cli.md) [c](../../configs/model/i3d.yaml) "
    text += "[d](../../configs/train.yaml) [e](../../README.md) [f](../../aosa/cli.py)\n"
    assert module("hooks").on_page_markdown(text, page=page, config=config) == (
        "```\n<!-- options: nothing -->\n[a](../../x)\n```\n[b](../cli.md) [c](../options/model.md#i3d) "
        "[d](../cli.md#train) [e](../index.md) f\n"
    )


def test_a_fence_within_a_list_is_one():
    page = SimpleNamespace(file=SimpleNamespace(src_uri="a.md"))
    text = "- item:\n  ```\n  make demo\n    deeper\n  ```\n- more\n"
    made = module("hooks").on_page_markdown(text, page=page, config=SimpleNamespace(docs_dir="docs"))
    assert "<pre><code>make demo\n  deeper\n</code></pre>" in html(made)


def html(text: str) -> str:
    return Markdown(extensions=["tables", "fenced_code", module("maths").Maths()]).convert(text)


def test_equations_become_mathml():
    made = html("With $x_1 < b_n$ and $*a*$:\n\n$$\n\\frac{a}{b}\n$$\n\nwhere $x$.")
    assert made.count("<math") == 4
    assert made.count('display="block"') == 1
    assert "<msub><mi>x</mi><mn>1</mn></msub><mo>&#x0003C;</mo><msub><mi>b</mi><mi>n</mi></msub>" in made
    assert "<mfrac><mrow><mi>a</mi></mrow><mrow><mi>b</mi></mrow></mfrac>" in made
    assert "$" not in made
    assert "<em>" not in made


@pytest.mark.parametrize(
    "text", ["`$x$` and ``a $y$ ` b``", "```\n$x$ and $$y$$\n```", "costs $5, or $6 more", r"\$x\$", "a $ b $ c"]
)
def test_what_is_no_equation_stays(text):
    assert "<math" not in html(text)


@pytest.mark.parametrize("equation", [r"\nosuch{x}", r"\frac{a", "a & b"])
def test_an_equation_that_cannot_be_read_is_named(equation):
    with pytest.raises(ValueError, match="equation"):
        html(f"$${equation}$$")


def test_notebook_becomes_a_page(tmp_path):
    cells = [
        {"cell_type": "markdown", "source": ["# Title\n", "Text with $x$."]},
        {
            "cell_type": "code",
            "source": "1 + 1",
            "outputs": [
                {"output_type": "stream", "name": "stderr", "text": "progress"},
                {"output_type": "stream", "name": "stdout", "text": ["said\n"]},
                {"output_type": "execute_result", "data": {"text/plain": "2"}},
                {"output_type": "display_data", "data": {"image/png": "QUJD\n", "text/plain": "<Figure>"}},
            ],
        },
    ]
    path = tmp_path / "a.ipynb"
    path.write_text(json.dumps({"cells": cells}))
    assert module("notebook").to_markdown(path) == (
        "Text with $x$.\n\n```python\n1 + 1\n```\n\n```text\nsaid\n```\n\n```text\n2\n```\n\n"
        '<p><img alt="output" src="data:image/png;base64,QUJD"></p>'
    )


@pytest.fixture
def tab(browser) -> Iterator:
    """A tab in which nothing may go wrong, and nothing may be asked of another host."""
    tab, trouble = browser.new_page(viewport={"width": 390, "height": 844}), []
    tab.on("console", lambda m: trouble.append(m.text) if m.type in ("error", "warning") else None)
    tab.on("pageerror", lambda e: trouble.append(str(e)))
    tab.on("requestfailed", lambda r: trouble.append(f"failed: {r.url}"))
    tab.on("request", lambda r: None if r.url.startswith(("file:", "data:")) else trouble.append(f"asked: {r.url}"))
    yield tab
    tab.close()
    assert trouble == []


@pytest.mark.parametrize("name", ["index", "cli", "options/explainer", "explainers/aosa", "notebooks/api", "metrics"])
def test_pages_open_from_disk(site, tab, name):
    """On a phone, nothing is wider than the screen."""
    tab.goto((site / f"{name}.html").as_uri())
    assert tab.locator("h1").count() == 1
    assert tab.evaluate("document.documentElement.scrollWidth") <= 390
    broken = tab.evaluate("[...document.images].filter(i => !i.complete || !i.naturalWidth).map(i => i.src)")
    assert broken == []


def test_equations_are_drawn(site, tab):
    tab.goto((site / "explainers" / "aosa.html").as_uri())
    blocks = tab.locator("math[display=block]")
    assert blocks.count() >= 1
    assert tab.locator("math mfrac").count() >= 1
    fraction = tab.locator("math mfrac").first
    above, below = (fraction.locator(f"> :nth-child({i})").bounding_box() for i in (1, 2))
    assert above["y"] + above["height"] <= below["y"] + 1
    assert "$" not in tab.locator("[role=main]").inner_text().replace("${", "")


def test_search_works_from_disk(site, tab):
    tab.goto((site / "search.html").as_uri() + "?q=temporal+stride")
    found = tab.locator("#mkdocs-search-results article")
    found.first.wait_for()
    tab.fill("#mkdocs-search-query", "xyzzyx")
    assert tab.locator("#mkdocs-search-results").inner_text() == "Nothing found."
    tab.fill("#mkdocs-search-query", "Bernoulli")
    assert tab.evaluate("typeof searchIndex") == "object"
    found.first.locator("a").click()
    assert "search.html" not in tab.url
