"""The commands that README.md and docs/ show, and what is done with each: run, planned, composed, or looked up."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from aosa.cli import STAGES
from tests.running import ROOT

PAGES = [
    ROOT / "README.md",
    *sorted(p for p in (ROOT / "docs").rglob("*.md") if not {"builder", "site"} & set(p.relative_to(ROOT).parts)),
]
_FENCE = re.compile(r"^( *)```(\S*)[^\n]*\n(.*?)^\1```", re.MULTILINE | re.DOTALL)
_SPAN = re.compile(r"(?<!`)`((?:python|make|PYTHONPATH=\S+|aosa (?:" + "|".join(STAGES) + r")) [^`]*)`")
# What begins a command in a fence without a language; the other lines of such a fence are trees of files, or output.
_PROGRAMS = (
    "python", "make", "aosa", "pip", "wandb", "tensorboard", "cp", "mv", "rm", "mkdir", "cd", "source", "export", "git",
    "curl", "wget", "bsdtar", "unrar", "tar", "unzip", "conda", "docker", "srun", "sbatch", "ray", "sh", "bash", "apt",
    "apt-get", "ffmpeg", "torchrun", "jupyter", "pytest", "mkdocs", "ls", "cat", "head", "PYTHONPATH=", "CUDA_VISIBLE",
)  # fmt: skip


@dataclass
class Command:
    """One command: its words without comment, and what stands before them (``PYTHONPATH=mine``)."""

    text: str
    words: list[str]
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def script(self) -> str | None:
        """``explain`` of ``python scripts/explain.py`` and of ``aosa explain``."""
        if self.words[0] == "aosa":
            return self.words[1]
        found = re.fullmatch(r"scripts/(\w+)\.py", next((w for w in self.words[1:] if not w.startswith("-")), ""))
        return found[1] if found and self.words[0] == "python" else None

    @property
    def arguments(self) -> list[str]:
        """What follows the script."""
        at = next(i for i, word in enumerate(self.words) if i and not word.startswith("-"))
        return self.words[at + 1 :]

    @property
    def template(self) -> bool:
        """It stands for many: a part of it is to be filled in."""
        return "…" in self.text or re.search(r"<[^>|]+>|(?<= )\[\S+=[^\]]*\]", self.text) is not None


def fences(page: Path) -> Iterator[tuple[str, str]]:
    """Language and text of each fence."""
    for _, language, text in _FENCE.findall(page.read_text(encoding="utf-8")):
        yield language, text


def commands(page: Path) -> list[Command]:
    """All commands of a page, in its order: those of fences first, then those within its sentences."""
    found = []
    for language, text in fences(page):
        if language in ("", "bash", "sh", "shell", "console"):
            lines = text.replace("\\\n", " ").splitlines()
            found += [line.strip() for line in lines if language or line.strip().startswith(_PROGRAMS)]
    prose = _FENCE.sub("", page.read_text(encoding="utf-8"))
    found += [" ".join(span.split()) for span in _SPAN.findall(prose)]
    return [command for text in found if (command := parse(text))]


def parse(text: str) -> Command | None:
    """None for a line that is empty or a comment."""
    lexer = shlex.shlex(text.removeprefix("$ "), posix=True, punctuation_chars=False)
    lexer.whitespace_split = True
    words = list(lexer)
    environment = {}
    while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
        key, _, environment[key] = words.pop(0).partition("=")
    return Command(text, words, environment) if words else None
