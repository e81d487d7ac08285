"""The report that one opens in a browser: one static page, no outside hosts, works from ``file://``."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
from PIL import Image

from aosa.errors import AosaError
from aosa.files import whole_file
from aosa.report.claims import Verdict
from aosa.report.overlay import colour
from aosa.report.pages import environment
from aosa.report.tables import ARROWS, Table
from aosa.report.titles import UNTITLED, Titles

_FILES = {"CSV": ".csv", "LaTeX": ".tex", "Markdown": ".md", "pairs (CSV)": "_pairs.csv"}
_FILES |= {"verdicts (CSV)": "_verdicts.csv", "verdicts (LaTeX)": "_verdicts.tex"}
_RAMP = [f"rgb({r} {g} {b})" for r, g, b in colour(np.linspace(0, 1, 9, dtype=np.float32))]


def write_report(
    folder: str | os.PathLike[str],
    *,
    title: str,
    tables: Sequence[Table],
    verdicts: Sequence[Verdict] = (),
    curves_png: str | Sequence[str] = (),
    figures: Mapping[str, Sequence[str]] | None = None,
    gallery: Sequence[Mapping[str, Any]] = (),
    failures: Sequence[Mapping[str, object]] = (),
    provenance: Mapping[str, object] | None = None,
) -> Path:
    """Write ``index.html`` beside the pictures and videos it shows.

    A section without content is absent, but for the failures. All but the gallery shows without JavaScript, too.

    Args:
        folder: where the report goes; every path below is relative to it and must exist there.
        title: heading of the page.
        tables: as `make_table` gives them; ``<name>.md``, ``.tex`` and ``.csv``, the pairs of its rows
            (``<name>_pairs.csv``) and the verdicts (``_verdicts.csv``, ``.tex``) are linked when they lie in `folder`.
        verdicts: on the papers' claims.
        curves_png: picture(s) of deletion and insertion curves; a PDF of the same stem is linked.
        figures: heading → pictures; a PDF of the same stem is linked.
        gallery: one entry per clip: ``clip``, ``dataset``, ``model``, ``class_name``, ``target_name``, ``probability``,
            ``size`` (T, H, W), ``fps`` of its videos, ``disagreement`` of its explainers, ``original``, ``items``, and
            ``sheet`` (a picture of all explainers over several frames). An item is an explainer's overlay:
            ``explainer``, ``image``, ``video``, ``scores`` (name → number); an original has ``image`` and ``video``
            alone. The image stands for the video until that is played. Class, probability, disagreement, sheet,
            original, image, video or a score may be None. A clip need not have an item of each explainer.
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
    inside = root.resolve()

    def link(path: str) -> str:
        if not (root / path).resolve().is_relative_to(inside) or Path(path).is_absolute():
            raise AosaError(f"report {root}: {path} must be a relative path inside the folder of the report")
        if not (root / path).is_file():
            raise AosaError(f"report {root}: {path} is not there")
        return quote(path)

    def beside(stem: str, kinds: Mapping[str, str]) -> list[tuple[str, str]]:
        return [(name, quote(stem + suffix)) for name, suffix in kinds.items() if (root / (stem + suffix)).is_file()]

    def picture(path: str) -> dict[str, Any]:
        """With its size, so that nothing moves when it is loaded at last."""
        url = link(path)
        with Image.open(root / path) as image:
            width, height = image.size
        files = beside(str(Path(path).with_suffix("")), {"PDF": ".pdf"})
        return {"url": url, "name": Path(path).stem, "width": width, "height": height, "files": files}

    pages = environment()
    titles = tables[0].spec.titles if tables else UNTITLED
    pages.policies["json.dumps_kwargs"] = {"separators": (",", ":")}  # and no sorting: rows keep the table's order
    directions = {column: way for t in tables for column, way in t.spec.columns.items()}
    page = pages.get_template("report.html.j2").render(
        title=title,
        tables=[(t, beside(t.spec.name, _FILES)) for t in tables],
        verdicts=verdicts,
        curves=[picture(p) for p in ([curves_png] if isinstance(curves_png, str) else curves_png)],
        figures={heading: [picture(p) for p in paths] for heading, paths in (figures or {}).items()},
        gallery=_gallery(gallery, directions, link, titles),
        ramp=", ".join(_RAMP),
        failures=failures,
        provenance=provenance or {},
    )
    with whole_file(root / "index.html") as temporary:
        temporary.write_text(page, encoding="utf-8")
    return root / "index.html"


def _gallery(
    entries: Sequence[Mapping[str, Any]], directions: Mapping[str, str], link: Callable[[str], str], titles: Titles
) -> dict[str, Any]:
    """What the page's script shows: names once, and per clip its numbers and files."""

    def media(files: Mapping[str, Any] | None) -> dict[str, str | None]:
        return {kind: link(files[kind]) if files and files[kind] else None for kind in ("image", "video")}

    items = [item for entry in entries for item in entry["items"]]
    columns = list(dict.fromkeys(column for item in items for column in item["scores"]))
    return {
        "explainers": {i["explainer"]: titles.row(i["explainer"]) for i in items},
        "columns": {c: f"{titles.column(c)} {ARROWS.get(directions.get(c, ''), '')}".strip() for c in columns},
        "lower": [c for c in columns if directions.get(c) == "lower"],
        "datasets": {e["dataset"]: titles(e["dataset"]) for e in entries},
        "models": {e["model"]: titles(e["model"]) for e in entries},
        "classes": {name: name for name in sorted({e["class_name"] for e in entries} - {None})},
        "compared": any(e["disagreement"] is not None for e in entries),
        "clips": [
            {
                **{key: entry[key] for key in ("clip", "dataset", "model", "class_name", "target_name", "size", "fps")},
                **{key: _number(entry[key]) for key in ("probability", "disagreement")},
                "original": media(entry["original"]) if entry["original"] else None,
                "sheet": link(entry["sheet"]) if entry["sheet"] else None,
                "items": {
                    i["explainer"]: media(i) | {"scores": [_number(i["scores"].get(c)) for c in columns]}
                    for i in entry["items"]
                },
            }
            for entry in entries
        ],
    }


def _number(value: float | None) -> float | None:
    """JSON knows no NaN."""
    return None if value is None or not math.isfinite(value) else round(value, 6)
