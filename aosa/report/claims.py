"""What the papers claim, and whether the paired comparisons bear it out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from aosa.config import did_you_mean
from aosa.errors import ConfigError
from aosa.report.statistics import Comparison
from aosa.report.tables import Block, display_name, escape_markdown, row_key, row_name

HOLDS, FAILS, UNDECIDED = "holds", "does not hold", "undecided"
_KEYS = ("text", "column", "dataset", "model", "best", "better", "than")


@dataclass(frozen=True)
class Claim:
    """One explainer is better than others in a column.

    Args:
        text: the claim in words, with its place in the paper.
        column: the score it is about.
        explainer: the one that is said to be better.
        than: those it is said to be better than; None for all that the paper compares (where nothing was printed: all
            of the table, but for `random`).
        dataset, model: where; None for each of the table's.
    """

    text: str
    column: str
    explainer: str
    than: tuple[str, ...] | None = None
    dataset: str | None = None
    model: str | None = None


@dataclass(frozen=True)
class Verdict:
    """A claim in the light of the records: ``holds``, ``does not hold`` or ``undecided``, and why."""

    claim: Claim
    dataset: str
    model: str
    outcome: str
    n: int
    reason: str

    @property
    def where(self) -> str:
        """``R3D-50 on UCF101``."""
        return f"{display_name(self.model)} on {display_name(self.dataset)}"


def read_claims(entries: Sequence[Mapping[str, Any]], known: Mapping[str, Sequence[str]]) -> list[Claim]:
    """Claims as an experiment's config has them: ``text``, ``column``, and either ``best: aosa`` (with ``than: [osa]``
    unless it is all), or ``better: [aosa, osa]``; ``dataset`` and ``model`` unless it is each of them.

    Args:
        known: the names there are of ``column``, ``explainer``, ``dataset`` and ``model``.

    Raises:
        ConfigError: naming the claim and the key.
    """
    claims = []
    for number, entry in enumerate(entries):
        where = f"experiment.claims[{number}]"
        for key in entry:
            if key not in _KEYS:
                raise ConfigError(f"{where}: there is no key {key}{did_you_mean(str(key), _KEYS)}")
        if not {"text", "column"} <= set(entry) or ("best" in entry) == ("better" in entry):
            raise ConfigError(f"{where}: give text, column, and either best or better")
        if "best" in entry:
            first, than = entry["best"], entry.get("than")
            if than is not None and (not isinstance(than, list) or not than):
                raise ConfigError(f"{where}.than={than}: give a list of explainers, or leave it out")
        else:
            pair = entry["better"]
            if "than" in entry or not isinstance(pair, list) or len(pair) != 2:
                raise ConfigError(f"{where}.better={pair}: give two explainers, the better one first; than is for best")
            first, than = pair[0], pair[1:]
        claim = Claim(
            entry["text"],
            entry["column"],
            first,
            tuple(than) if than else None,
            entry.get("dataset"),
            entry.get("model"),
        )
        named = [("column", claim.column), ("dataset", claim.dataset), ("model", claim.model)]
        named += [("explainer", name.partition(" (")[0]) for name in (claim.explainer, *(claim.than or ()))]
        for kind, name in named:
            if name is not None and name not in known[kind]:
                listed = list(dict.fromkeys(known[kind]))
                raise ConfigError(
                    f"{where}: there is no {kind} {name} in this experiment{did_you_mean(str(name), listed)} "
                    f"(it has {', '.join(listed)})"
                )
        claims.append(claim)
    return claims


def rivals(block: Block, column: str) -> list[str]:
    """Whom the explainer of a claim without `than` is compared with: the rows that the paper prints; where it prints
    none, those that were run, but for `random`."""
    rows = [(row_key(explainer, variant), cells[column]) for explainer, variant, cells in block.rows]
    printed = [row for row, cell in rows if cell.paper is not None]
    return printed or [row for row, cell in rows if cell.ours is not None and row != "random"]


def judge(
    claim: Claim, comparisons: Sequence[Comparison], direction: str, others: Sequence[str], dataset: str, model: str
) -> Verdict:
    """The verdict on a claim for one data set and model.

    It holds when the explainer is better beyond noise than each of the others, does not hold when one of them is
    better beyond noise than it, and is undecided otherwise, also when one of them was not run.

    Args:
        comparisons: all pairs of the claim's column.
        direction: ``higher`` or ``lower``, which is better.
        others: whom a claim without `than` means, see `rivals`.
    """
    than = [name for name in claim.than or others if name != claim.explainer]
    pairs = {p.second if p.first == claim.explainer else p.first: p for p in comparisons if claim.explainer in _two(p)}
    found = [pairs[name] for name in than if name in pairs]
    absent = [name for name in than if name not in pairs] if pairs else [claim.explainer]
    gains = {name: p.difference * (1 if p.first == claim.explainer else -1) for name, p in pairs.items()}
    worse = [r for r in than if r in pairs and pairs[r].beyond_noise and (gains[r] > 0) != (direction == "higher")]
    close = [r for r in than if r in pairs and not pairs[r].beyond_noise]
    if worse:
        outcome, reason = FAILS, f"{_names(worse)} better beyond noise"
    elif close or absent or not than:
        outcome = UNDECIDED
        parts = [f"no difference beyond noise from {_names(close)}"] * bool(close)
        reason = "; ".join([*parts, *[f"not run: {_names(absent)}"] * bool(absent)]) or "nothing to compare with"
    else:
        outcome, reason = HOLDS, f"better beyond noise than {_names(than)}"
    return Verdict(claim, dataset, model, outcome, max((p.n for p in found), default=0), reason)


def verdicts_markdown(verdicts: Sequence[Verdict]) -> str:
    """A table for GitHub."""
    lines = [["Claim", "Where", "Verdict", "n", "Why"], [":--", ":--", ":--", "--:", ":--"]]
    lines += [
        [escape_markdown(text) for text in (v.claim.text, v.where, v.outcome, str(v.n), v.reason)] for v in verdicts
    ]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def verdicts_csv(verdicts: Sequence[Verdict]) -> str:
    """One line per verdict: claim, dataset, model, column, verdict, n, reason."""
    rows = [(v.claim.text, v.dataset, v.model, v.claim.column, v.outcome, v.n, v.reason) for v in verdicts]
    columns = ["claim", "dataset", "model", "column", "verdict", "n", "reason"]
    return pd.DataFrame(rows, columns=columns).to_csv(index=False, lineterminator="\n")


def _two(pair: Comparison) -> tuple[str, str]:
    return pair.first, pair.second


def _names(rows: Sequence[str]) -> str:
    return ", ".join(map(row_name, rows))
