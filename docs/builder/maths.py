"""Equations to MathML when a page is built, so that a browser needs nothing more to show them."""

from __future__ import annotations

import re

from latex2mathml.converter import convert
from markdown import Markdown
from markdown.extensions import Extension
from markdown.preprocessors import Preprocessor

# Code spans are matched first, so that what is in them is left alone. As on GitHub, a $ that begins an equation has no
# space behind it, and one that ends it has none before it and no digit behind it.
_FOUND = re.compile(
    r"(?P<code>(?<!`)(?P<ticks>`+)(?!`).+?(?<!`)(?P=ticks)(?!`))"
    r"|(?P<escaped>\\\$)"
    r"|\$\$(?P<block>.+?)\$\$"
    r"|\$(?P<inline>[^\s$](?:[^$\n]*[^\s$\\])?)\$(?!\d)",
    re.DOTALL,
)


class Maths(Extension):
    """``$…$`` in a line, ``$$…$$`` on its own."""

    def extendMarkdown(self, md: Markdown) -> None:
        # After fenced code is put aside (25), before HTML is looked for (20): a < may be less than.
        md.preprocessors.register(_Equations(md), "maths", 22)


class _Equations(Preprocessor):
    def run(self, lines: list[str]) -> list[str]:
        return _FOUND.sub(self._replaced, "\n".join(lines)).split("\n")

    def _replaced(self, found: re.Match[str]) -> str:
        block, inline = found["block"], found["inline"]
        if block is None and inline is None:
            return found[0]
        assert self.md is not None
        return self.md.htmlStash.store(mathml(block or inline, "block" if block else "inline"))


def mathml(latex: str, display: str) -> str:
    """An equation as ``<math>``.

    Raises:
        ValueError: it cannot be read, or holds a command that is not known.
    """
    equation = latex.strip()
    try:
        text = convert(equation, display=display)
    except Exception as error:
        raise ValueError(f"equation {equation!r}: {type(error).__name__} {error}") from None
    # What it does not know it would show as it is.
    unknown = re.search(r">(\\[A-Za-z]+|&)<", text)
    if unknown:
        raise ValueError(f"equation {equation!r}: {unknown[1]} is not known here")
    bare = re.sub(r"\\[{}]", "", equation)
    if bare.count("{") != bare.count("}"):
        raise ValueError(f"equation {equation!r}: a brace has no other")
    return text
