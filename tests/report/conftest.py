"""Tabs of the browser for the pages, and LaTeX for the tables."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.helpers import needs


@pytest.fixture
def visit(browser) -> Iterator[Callable]:
    """Opens an address in a page of its own, by default 1366×768. Fails the test at its end if a console message, an
    error, a failed request or one that leaves ``file://`` came by, unless it was taken from ``page.trouble``."""
    pages = []

    def go(address: str, **context):
        page = browser.new_context(**{"viewport": {"width": 1366, "height": 768}, **context}).new_page()
        page.set_default_timeout(20_000)
        page.trouble = []
        page.on("console", lambda message: page.trouble.append(message.text))
        page.on("pageerror", lambda error: page.trouble.append(str(error)))
        # A video that is put away while it loads asks no more: that is no failure.
        page.on("requestfailed", lambda r: r.failure == "net::ERR_ABORTED" or page.trouble.append(r.url))
        page.on("request", lambda r: r.url.startswith(("file:", "data:")) or page.trouble.append(r.url))
        page.goto(address)
        pages.append(page)
        return page

    yield go
    for page in pages:
        page.context.close()
    assert [page.trouble for page in pages] == [[] for _ in pages]


@pytest.fixture
def typeset(tmp_path: Path) -> Callable[[str, str], None]:
    """Fails unless pdflatex makes pages of a text, given what it needs; skips as `browser` does."""
    pdflatex = needs("texlive-latex-recommended", "pdflatex")

    def run(packages: str, body: str) -> None:
        text = rf"\documentclass{{article}}{packages}\begin{{document}}{body}\end{{document}}"
        (tmp_path / "t.tex").write_text(text, encoding="utf-8")
        command = [pdflatex, "-interaction=nonstopmode", "-halt-on-error", "t.tex"]
        ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, errors="replace")
        assert ended.returncode == 0, ended.stdout[-2000:]
        assert "Undefined control sequence" not in ended.stdout
        assert (tmp_path / "t.pdf").stat().st_size > 1000

    return run
