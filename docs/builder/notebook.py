"""A notebook as Markdown: text as it is, code in fences, what was printed below it, pictures in the page itself."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any


def to_markdown(path: Path) -> str:
    """The cells of a notebook; its title is left to the page.

    Raises:
        ValueError: there is no such file, or it is no notebook.
    """
    try:
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path.name} is no notebook: {error}") from None
    return "\n\n".join(filter(None, map(_cell, cells)))


def _cell(cell: dict[str, Any]) -> str:
    source = "".join(cell["source"]).strip("\n")
    if cell["cell_type"] == "markdown":
        return re.sub(r"^# .*\n?", "", source).strip()
    if cell["cell_type"] != "code" or not source:
        return ""
    return "\n\n".join([_fence(source, "python"), *filter(None, map(_output, cell["outputs"]))])


def _output(output: dict[str, Any]) -> str:
    if output["output_type"] == "stream":
        return _fence("".join(output["text"])) if output["name"] == "stdout" else ""
    data = output.get("data", {})
    for kind in ("image/png", "image/jpeg"):
        if kind in data:
            return f'<p><img alt="output" src="data:{kind};base64,{"".join(data[kind]).replace(chr(10), "")}"></p>'
    if "text/html" in data:
        return f"<div>{''.join(data['text/html'])}</div>"
    return _fence("".join(data.get("text/plain", "")))


def _fence(text: str, language: str = "text") -> str:
    return f"```{language}\n{text.rstrip()}\n```" if text.strip() else ""
