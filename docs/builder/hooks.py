"""What MkDocs calls while it builds the site: equations, tables of options, the notebook, a search without a server.

In a page, a line of its own is replaced:

    <!-- options: explainer/aosa -->   a table of its options; of a script (explain) its choices and keys
    <!-- options: base -->             the keys that all scripts have
    <!-- group: explainer -->          all configs of a group
    <!-- experiments -->               one row per experiment
    <!-- explainers -->                one row per line <!-- index: … --> of the explainers' pages
    <!-- notebook: notebooks/api.ipynb -->
"""

from __future__ import annotations

import posixpath
import re
import textwrap
from pathlib import Path
from typing import Any

import maths
import notebook
import options

_DIRECTIVE = re.compile(r"^<!-- (options|group|experiments|explainers|notebook)(?:: *(\S+))? -->$", re.MULTILINE)
_LINK = re.compile(r"\[([^\]\n]+)\]\((\.\./[^)\s]+)\)")
_FENCE = re.compile(r"^ *```.*?^ *```", re.MULTILINE | re.DOTALL)


def on_config(config: Any) -> Any:
    config.markdown_extensions.append(maths.Maths())
    (part,) = (entry["Explainers"] for entry in config.nav if "Explainers" in entry)
    listed = {page for entry in part for page in entry.values()}
    folder = Path(config.docs_dir)
    part += [
        {page.read_text(encoding="utf-8").partition("\n")[0].removeprefix("# "): name}
        for page in sorted((folder / "explainers").glob("*.md"))
        if (name := page.relative_to(folder).as_posix()) not in listed
    ]
    return config


def on_page_markdown(markdown: str, page: Any, config: Any, **_: Any) -> str:
    """Directives, and links that leave docs/, which a site does not have."""
    here = page.file.src_uri
    parts, end = [], 0
    for fence in [*_FENCE.finditer(markdown), None]:
        text = markdown[end : fence.start() if fence else None]
        text = _LINK.sub(lambda m: _inside(m, here), text)
        parts.append(_DIRECTIVE.sub(lambda m: _made(m, here, Path(config.docs_dir)), text))
        parts.append(_outdented(fence[0]) if fence else "")
        end = fence.end() if fence else end
    return "".join(parts)


def _outdented(fence: str) -> str:
    """A fence within a list, which GitHub knows and Python-Markdown does not: it ends the list here."""
    return f"\n{textwrap.dedent(fence)}\n" if fence.startswith(" ") else fence


def _made(found: re.Match[str], here: str, docs: Path) -> str:
    kind, name = found[1], found[2] or ""
    depth = here.count("/")
    try:
        if kind == "experiments":
            return options.experiments()
        if kind == "explainers":
            return options.explainers(docs / "explainers")
        if kind == "group":
            return options.whole_group(name)
        if kind == "notebook":
            return notebook.to_markdown(docs / name)
        if "/" in name:
            return options.table(name)
        return options.common(depth) if name == "base" else options.script(name, depth)
    except ValueError as error:
        raise ValueError(f"docs/{here}: {found[0]}: {error}") from None


def _inside(found: re.Match[str], here: str) -> str:
    """A link to a config becomes one to its options, to the README one to the start; of any other the text stays."""
    text, target = found.groups()
    path = posixpath.normpath(posixpath.join("docs", posixpath.dirname(here), target.partition("#")[0]))
    if path.startswith("docs/"):
        return found[0]
    config = re.fullmatch(r"configs/(?:(\w+)/)?(\w+)\.yaml", path)
    if config:
        page = f"options/{config[1]}.md" if config[1] else "cli.md"
        return f"[{text}]({posixpath.relpath(page, posixpath.dirname(here) or '.')}#{config[2]})"
    if path == "README.md":
        return f"[{text}]({posixpath.relpath('index.md', posixpath.dirname(here) or '.')})"
    return text


def on_post_build(config: Any) -> None:
    """The search index as a script: a page that is opened from disk may not fetch a file."""
    folder = Path(config.site_dir) / "search"
    index = (folder / "search_index.json").read_text(encoding="utf-8")
    (folder / "index.js").write_text(f"var searchIndex = {index};\n", encoding="utf-8")
    (folder / "search_index.json").unlink()
