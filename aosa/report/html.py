"""The report that one opens in a browser: one static page, no outside hosts, works from ``file://``."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from aosa.errors import AosaError
from aosa.files import whole_file
from aosa.report.claims import Verdict
from aosa.report.pages import environment
from aosa.report.tables import Table, row_name

_FILES = {"CSV": ".csv", "LaTeX": ".tex", "Markdown": ".md", "pairs (CSV)": "_pairs.csv"}


def write_report(
    folder: str | os.PathLike[str],
    *,
    title: str,
    tables: Sequence[Table],
    verdicts: Sequence[Verdict] = (),
    curves_png: str | Sequence[str] = (),
    gallery: Sequence[Mapping[str, Any]] = (),
    failures: Sequence[Mapping[str, object]] = (),
    provenance: Mapping[str, object] | None = None,
) -> Path:
    """Write ``index.html`` beside the pictures and videos it shows.

    Args:
        folder: where the report goes; every path below is relative to it and must exist there.
        title: heading of the page.
        tables: as `make_table` gives them; ``<name>.md``, ``.tex`` and ``.csv``, and the pairs of its rows
            (``<name>_pairs.csv``), are linked when they lie in `folder`.
        verdicts: on the papers' claims.
        curves_png: picture(s) of deletion and insertion curves; a PDF of the same stem is linked.
        gallery: one entry per clip: ``clip``, ``class_name``, ``target_name``, ``probability``, ``items``,
            and optionally ``model`` and ``dataset`` (where there are several) and ``sheet`` (a picture of all
            explainers over several frames). An item is an explainer's overlay: ``explainer``, ``image``,
            ``video``, ``scores`` (name → number); image or video may be None. With both, the image is shown
            until the video plays: it should have the video's aspect.
        failures: one mapping per video that was passed over (all with the same keys).
        provenance: name → text, or name → (name → text): command, commit, versions, configuration. A text
            of several lines is set as a block.

    Returns:
        The path of ``index.html``.

    Raises:
        AosaError: a file that is absent or outside `folder`.
        OSError: the page cannot be written.
    """
    root = Path(folder)

    def link(path: str) -> str:
        if not (root / path).resolve().is_relative_to(root.resolve()) or Path(path).is_absolute():
            raise AosaError(f"report {root}: {path} must be a relative path inside the folder of the report")
        if not (root / path).is_file():
            raise AosaError(f"report {root}: {path} is not there")
        return quote(path)

    def beside(stem: str, kinds: Mapping[str, str]) -> list[tuple[str, str]]:
        return [(name, quote(stem + suffix)) for name, suffix in kinds.items() if (root / (stem + suffix)).is_file()]

    pages = environment()
    pages.filters["link"] = link
    pages.filters["display_name"] = row_name
    pictures = [curves_png] if isinstance(curves_png, str) else list(curves_png)
    page = pages.get_template("report.html.j2").render(
        title=title,
        tables=[(t, beside(t.spec.name, _FILES)) for t in tables],
        verdicts=verdicts,
        curves=[(p, beside(str(Path(p).with_suffix("")), {"PDF": ".pdf"})) for p in pictures],
        gallery=gallery,
        failures=failures,
        provenance=provenance or {},
    )
    with whole_file(root / "index.html") as temporary:
        temporary.write_text(page, encoding="utf-8")
    return root / "index.html"
