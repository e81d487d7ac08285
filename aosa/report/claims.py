"""What the papers claim, and whether the paired comparisons bear it out."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NamedTuple

import pandas as pd

from aosa.config import did_you_mean
from aosa.errors import ConfigError
from aosa.report.statistics import Comparison, Videos, compare, compare_apart, compare_ratio, holm
from aosa.report.tables import (
    MISSING,
    Block,
    Table,
    escape_latex,
    escape_markdown,
    row_key,
    weighting,
)
from aosa.report.titles import UNTITLED, Titles

HOLDS, FAILS, UNDECIDED = "holds", "does not hold", "undecided"
_FORMS = ("best", "worst", "better", "between")
_KEYS = ("text", "column", "dataset", "model", *_FORMS, "than", "factor", "explainers")


class Between(NamedTuple):
    """Two models (or data sets), the better one first, that a claim compares an explainer on."""

    kind: Literal["model", "dataset"]
    first: str
    second: str


@dataclass(frozen=True)
class Claim:
    """One explainer is better than others in a column; or explainers are better on one model, or data set, than on
    another.

    Args:
        text: the claim in words, with its place in the paper.
        column: the score it is about.
        explainer: the one that is said to be better; empty for a claim between models or data sets.
        than: those it is said to be better than, or, between models or data sets, the explainers that it is about; None
            for all that the paper compares (where nothing was printed: all that were run, but for `random`).
        dataset, model: where; None for each of the table's.
        worse: the explainer is said to be worse than the others, not better.
        factor: at least so many times better or worse; None for any difference.
        between: see `Between`.
    """

    text: str
    column: str
    explainer: str
    than: tuple[str, ...] | None = None
    dataset: str | None = None
    model: str | None = None
    worse: bool = False
    factor: float | None = None
    between: Between | None = None


@dataclass(frozen=True)
class Verdict:
    """A claim in the light of the records: ``holds``, ``does not hold`` or ``undecided``, and why. A claim between two
    models, or data sets, has both in `model`, or `dataset`: ``r2plus1d18, vgg16_lstm``."""

    claim: Claim
    dataset: str
    model: str
    outcome: str
    n: int
    reason: str
    titles: Titles = field(default=UNTITLED, repr=False, compare=False)

    @property
    def where(self) -> str:
        """``R3D-50 on UCF101``."""
        model, dataset = (", ".join(map(self.titles, names.split(", "))) for names in (self.model, self.dataset))
        return f"{model} on {dataset}"


def read_claims(entries: Sequence[Mapping[str, Any]], known: Mapping[str, Sequence[str]]) -> list[Claim]:
    """Claims as an experiment's config has them: ``text``, ``column``, and one of

    - ``best: aosa`` or ``worst: aosa``, with ``than: [osa]`` unless it is all;
    - ``better: [aosa, osa]``;
    - ``between: {model: [r3d50, r2plus1d50]}`` (or ``dataset``), with ``explainers: [aosa]`` unless it is all.

    ``factor: 25`` asks the first three for so many times better or worse. ``dataset`` and ``model`` unless it is each
    of them.

    Args:
        known: the names there are of ``column``, ``explainer`` (with its variant, see `row_key`), ``dataset`` and
            ``model``.

    Raises:
        ConfigError: naming the claim and the key.
    """
    if not isinstance(entries, list):
        raise ConfigError("experiment.claims: give a list of claims")
    return [_read(f"experiment.claims[{number}]", entry, known) for number, entry in enumerate(entries)]


def _read(where: str, entry: Mapping[str, Any], known: Mapping[str, Sequence[str]]) -> Claim:
    if not isinstance(entry, Mapping):
        raise ConfigError(f"{where}: give text, column, and one of {', '.join(_FORMS)}")
    for key in entry:
        if key not in _KEYS:
            raise ConfigError(f"{where}: there is no key {key}{did_you_mean(str(key), _KEYS)}")
    forms = [form for form in _FORMS if form in entry]
    if not isinstance(entry.get("text"), str) or "column" not in entry or len(forms) != 1:
        raise ConfigError(f"{where}: give text, column, and one of {', '.join(_FORMS)}")
    form = forms[0]
    for key, takers in (
        ("than", ("best", "worst")),
        ("factor", ("best", "worst", "better")),
        ("explainers", ("between",)),
    ):
        if key in entry and form not in takers:
            raise ConfigError(f"{where}.{key} is for {' and '.join(takers)}, not for {form}")
    listed = "explainers" if form == "between" else "than"
    than = entry.get(listed)
    if than is not None and (not isinstance(than, list) or not than):
        raise ConfigError(f"{where}.{listed}={than}: give a list of explainers, or leave it out")
    first, between = entry[form], None
    if form == "better":
        first, *than = _two(f"{where}.better", entry["better"], "explainers")
    if form == "between":
        first, between = "", _between(where, entry)
    factor = entry.get("factor")
    if factor is not None and (isinstance(factor, bool) or not isinstance(factor, int | float) or not factor > 1):
        raise ConfigError(f"{where}.factor={factor}: give a number above 1")
    if first in (than or []):
        raise ConfigError(f"{where}.than: {first} is compared with itself")
    named = [(key, key, entry.get(key)) for key in ("column", "dataset", "model")]
    named += [(form, "explainer", first)] if between is None else [(form, between.kind, x) for x in between[1:]]
    named += [("better" if form == "better" else listed, "explainer", name) for name in than or []]
    for key, kind, name in named:
        if name is not None and name not in known[kind]:
            names = list(dict.fromkeys(known[kind]))
            raise ConfigError(
                f"{where}.{key}: there is no {kind} {name} in this experiment{did_you_mean(str(name), names)} "
                f"(it has {', '.join(names)})"
            )
    return Claim(
        entry["text"],
        entry["column"],
        first,
        tuple(than) if than else None,
        entry.get("dataset"),
        entry.get("model"),
        form == "worst",
        factor,
        between,
    )


def _two(key: str, pair: Any, what: str) -> list[str]:
    if not isinstance(pair, list) or len(pair) != 2 or pair[0] == pair[1]:
        raise ConfigError(f"{key}={pair}: give two {what}, the better one first")
    return pair


def _between(where: str, entry: Mapping[str, Any]) -> Between:
    chosen = entry["between"]
    if not isinstance(chosen, Mapping) or len(chosen) != 1 or not set(chosen) <= {"model", "dataset"}:
        raise ConfigError(f"{where}.between={chosen}: give model: [a, b] or dataset: [a, b], the better one first")
    ((kind, pair),) = chosen.items()
    if kind in entry:
        raise ConfigError(f"{where}.{kind}: the claim is between two of them; leave it out")
    return Between(kind, *_two(f"{where}.between.{kind}", pair, f"{kind}s"))


def claims_here(claims: Sequence[Claim], known: Mapping[str, Sequence[str]], stand_in: bool) -> list[Claim]:
    """Those of another table's claims that can be judged on this one. A claim that names a row or a column that is not
    here is left out, and so is one about a data set or model that is not here; but a stand-in, which has none of the
    other's places, has its own ones in their stead: there the claim is about each of them.

    Args:
        known: the names there are here, as in `read_claims`.
        stand_in: whether no data set × model is the other table's.
    """
    if stand_in:
        claims = [replace(claim, dataset=None, model=None) for claim in claims]
    return [claim for claim in claims if all(name in known[kind] for kind, name in _names(claim))]


def _names(claim: Claim) -> Iterator[tuple[str, str]]:
    """What a claim names, by kind."""
    between = () if claim.between is None else [(claim.between.kind, name) for name in claim.between[1:]]
    rows = [("explainer", name) for name in (claim.explainer, *(claim.than or ()))]
    for kind, name in (("column", claim.column), ("dataset", claim.dataset), ("model", claim.model), *rows, *between):
        if name:
            yield kind, name


def rivals(table: Table, block: Block, column: str) -> list[str]:
    """Whom the explainer of a claim without `than` is compared with: all that the paper prints, be they rows of this
    table or not; where it prints none, the rows that were run, but for `random`."""
    printed = table.printed[(table.printed[["dataset", "model"]] == [block.dataset, block.model]).all(axis=1)]
    printed = printed[printed["column"] == column]
    if len(printed):
        return [row_key(*pair) for pair in zip(printed["explainer"], printed["variant"], strict=True)]
    return [row for row in _run(block, column) if row != "random"]


def _run(block: Block, column: str) -> list[str]:
    """The rows that have a score."""
    return [row_key(explainer, variant) for explainer, variant, cells in block.rows if cells[column].ours is not None]


def verdicts(claims: Sequence[Claim], table: Table) -> list[Verdict]:
    """What a table says on each claim, for each of the claim's data sets and models that it has.

    A factor is judged by the interval of the ratio of the two scores: it holds when the interval lies above the factor
    and the two differ beyond noise, for each of the others, does not hold when one lies below it, and is undecided
    otherwise. Two models are compared on the videos of a data set, two data sets each on its own; it holds when each of
    the explainers is better beyond noise on the first, and does not hold when one of them is so on the second.
    """
    return [v for claim in claims for v in (_within(claim, table) if claim.between is None else _across(claim, table))]


@dataclass(frozen=True)
class _Found:
    """What was found for each row that a claim compares: 1 as the claim says, -1 the opposite, 0 neither beyond noise;
    the names of what was not run, and the number of videos."""

    signs: Mapping[str, int]
    absent: Sequence[str]
    n: int
    titles: Titles

    @property
    def outcome(self) -> str:
        if -1 in self.signs.values():
            return FAILS
        return HOLDS if set(self.signs.values()) == {1} and not self.absent else UNDECIDED

    def reason(self, said: str, opposite: str, neither: str) -> str:
        """In these words, each with a place for the rows that it is true of."""
        if self.outcome != UNDECIDED:
            text, sign = (said, 1) if self.outcome == HOLDS else (opposite, -1)
            return text.format(self._names(sign))
        return "; ".join([*[neither.format(self._names(0))] * (0 in self.signs.values()), *self.lacking()])

    def lacking(self) -> list[str]:
        """Who was not run, if any."""
        if not self.signs and not self.absent:
            return ["nothing to compare with"]
        return [f"not run: {', '.join(self.absent)}"] if self.absent else []

    def _names(self, sign: int) -> str:
        return ", ".join(self.titles.row(row) for row, own in self.signs.items() if own == sign)


def judge(
    claim: Claim,
    comparisons: Sequence[Comparison],
    direction: str,
    others: Sequence[str],
    run: Collection[str],
    dataset: str,
    model: str,
    titles: Titles = UNTITLED,
) -> Verdict:
    """The verdict on a claim of one explainer, without factor, for one data set and model.

    It holds when the explainer is better (or worse, where the claim says so) beyond noise than each of the others, does
    not hold when the opposite is so for one of them, and is undecided otherwise, also when one of them was not run.

    Args:
        comparisons: all pairs of the claim's column.
        direction: ``higher`` or ``lower``, which is better.
        others: whom a claim without `than` means, see `rivals`.
        run: the rows that have a score.
        titles: what the rows are called.
    """
    than = [name for name in claim.than or others if name != claim.explainer]
    pairs = {p.second if p.first == claim.explainer else p.first: p for p in comparisons if claim.explainer in _ends(p)}
    absent = [name for name in than if name not in pairs] if claim.explainer in run else [claim.explainer]
    more = (direction == "higher") != claim.worse  # whether the explainer's score should be above the others'
    found = _Found(
        {name: _sign(p, more == (p.first == claim.explainer)) for name in than if (p := pairs.get(name))},
        [titles.row(name) for name in absent],
        max((pairs[name].n for name in than if name in pairs), default=0),
        titles,
    )
    said = "worse" if claim.worse else "better"
    reason = found.reason(
        f"{said} beyond noise than {{}}", f"{{}} {said} beyond noise", "no difference beyond noise from {}"
    )
    return Verdict(claim, dataset, model, found.outcome, found.n, reason, titles)


def _within(claim: Claim, table: Table) -> Iterator[Verdict]:
    places = [(block.dataset, block.model) for block in table.blocks]
    if not any(claim.dataset in (None, dataset) and claim.model in (None, model) for dataset, model in places):
        datasets, models = (", ".join(dict.fromkeys(names)) for names in zip(*places, strict=True))
        yield Verdict(
            claim, claim.dataset or datasets, claim.model or models, UNDECIDED, 0, "not run", table.spec.titles
        )
    for block in table.blocks:
        if claim.dataset in (None, block.dataset) and claim.model in (None, block.model):
            others = rivals(table, block, claim.column)
            if claim.factor is not None:
                yield _judge_factor(claim, table, block, others)
            else:
                direction = table.spec.columns[claim.column]
                pairs = block.comparisons[claim.column]
                run = _run(block, claim.column)
                yield judge(claim, pairs, direction, others, run, block.dataset, block.model, table.spec.titles)


def _judge_factor(claim: Claim, table: Table, block: Block, others: Sequence[str]) -> Verdict:
    """By the intervals of the ratios: above the factor as the claim says, below it the opposite. What is so many times
    better is better beyond noise, too."""
    assert claim.factor is not None
    titles = table.spec.titles
    statistic, own = table.spec.statistic, table.videos(block, claim.column, claim.explainer)
    signs, absent, parts, most = {}, [], [], 0
    differ = {frozenset(_ends(pair)) for pair in block.comparisons[claim.column] if pair.beyond_noise}
    for name in [name for name in claim.than or others if name != claim.explainer]:
        both = own.merge(table.videos(block, claim.column, name)["value"], on="clip", suffixes=("", "_other"))
        if both.empty:
            absent.append(name)
            continue
        top, bottom = both["value"], both["value_other"]
        if (table.spec.columns[claim.column] == "lower") != claim.worse:
            top, bottom = bottom, top
        ratio = compare_ratio(top, bottom, list(both["group"]), *weighting(both, statistic), statistic=statistic)
        beyond = {claim.explainer, name} in differ
        signs[name] = -1 if ratio.high < claim.factor else 1 if ratio.low > claim.factor and beyond else 0
        most = max(most, ratio.n)
        if math.isnan(ratio.value):
            parts.append(f"no ratio to {titles.row(name)}, as a score is not above 0")
            continue
        numbers = [MISSING if math.isnan(x) else f"{x:.3g}" for x in (ratio.value, ratio.low, ratio.high)]
        words = "worse" if claim.worse else "better", titles.row(name), "" if beyond else ", within noise"
        parts.append("{} [{}, {}] times {} than {}{}".format(*numbers, *words))
    found = _Found(signs, [titles.row(name) for name in (absent if len(own) else [claim.explainer])], most, titles)
    reason = "; ".join([*parts, *found.lacking()])
    return Verdict(claim, block.dataset, block.model, found.outcome, most, reason, titles)


def _across(claim: Claim, table: Table) -> Iterator[Verdict]:
    """Two models on each data set, or two data sets for each model."""
    assert claim.between is not None
    kind, *pair = claim.between
    other, wanted = ("dataset", claim.dataset) if kind == "model" else ("model", claim.model)
    sides: dict[str, dict[str, Block]] = {}
    for block in table.blocks:
        place = {"dataset": block.dataset, "model": block.model}
        if place[kind] in pair and wanted in (None, place[other]):
            sides.setdefault(place[other], {})[place[kind]] = block
    for where, blocks in sides.items():
        names = {kind: ", ".join(pair), other: where}
        lacking = [name for name in pair if name not in blocks]
        titles = table.spec.titles
        found = _Found({}, list(map(titles, lacking)), 0, titles) if lacking else _differ(claim, table, blocks)
        words = ("better beyond noise for {}", "worse beyond noise for {}", "no difference beyond noise for {}")
        yield Verdict(claim, names["dataset"], names["model"], found.outcome, found.n, found.reason(*words), titles)


def _differ(claim: Claim, table: Table, blocks: Mapping[str, Block]) -> _Found:
    """Each explainer of a claim on both sides: on the same videos for two models, on each its own for two data sets;
    corrected for the number of explainers."""
    assert claim.between is not None
    kind, *names = claim.between
    titles = table.spec.titles
    both = [blocks[name] for name in names]
    one, other = (rivals(table, block, claim.column) for block in both)
    rows = claim.than or [row for row in one if row in other]
    pairs, absent = {}, []
    for row in rows:
        first, second = (table.videos(block, claim.column, row) for block in both)
        pair = (_same_videos if kind == "model" else _own_videos)(names, first, second, table.spec.statistic)
        if pair is None:
            absent.append(titles.row(row) + " on the same frames" * (len(first) > 0 and len(second) > 0))
        else:
            pairs[row] = pair
    adjusted = dict(zip(pairs, holm([pair.p for pair in pairs.values()]).tolist(), strict=True))
    more = table.spec.columns[claim.column] == "higher"
    signs = {row: _sign(replace(pair, adjusted=adjusted[row]), more) for row, pair in pairs.items()}
    return _Found(signs, absent, max((pair.n for pair in pairs.values()), default=0), titles)


def _same_videos(names: Sequence[str], first: pd.DataFrame, second: pd.DataFrame, statistic: str) -> Comparison | None:
    both = first.merge(second[["value", "weight"]], on="clip", suffixes=("", "_other"))
    # Networks that see other frames of a video have other annotated ones, and other weights in a ratio of sums.
    if both.empty or (both["weight"] != both["weight_other"]).any():
        return None
    scores = dict(zip(names, (both["value"], both["value_other"]), strict=True))
    (pair,) = compare(scores, list(both["group"]), *weighting(both, statistic), statistic=statistic)
    return pair


def _own_videos(names: Sequence[str], first: pd.DataFrame, second: pd.DataFrame, statistic: str) -> Comparison | None:
    if first.empty or second.empty:
        return None
    sets = [Videos(own["value"], list(own["group"]), *weighting(own, statistic)) for own in (first, second)]
    return compare_apart(dict(zip(names, sets, strict=True)), statistic=statistic)


def _sign(pair: Comparison, more: bool) -> int:
    """1 where the first is above the second beyond noise and `more` says so, or below and it does not; else -1, or 0
    within noise."""
    return (1 if (pair.difference > 0) == more else -1) if pair.beyond_noise else 0


def _ends(pair: Comparison) -> tuple[str, str]:
    return pair.first, pair.second


_HEADER = ("Claim", "Where", "Verdict", "n", "Why")


def _lines(verdicts: Sequence[Verdict], escape: Callable[[str], str]) -> list[list[str]]:
    return [[escape(text) for text in (v.claim.text, v.where, v.outcome, str(v.n), v.reason)] for v in verdicts]


def verdicts_markdown(verdicts: Sequence[Verdict]) -> str:
    """A table for GitHub."""
    lines = [[*_HEADER], [":--", ":--", ":--", "--:", ":--"], *_lines(verdicts, escape_markdown)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def verdicts_latex(verdicts: Sequence[Verdict]) -> str:
    """A `longtable` for a document in one column that loads `array`, `booktabs` and `longtable`."""
    rows = "".join(f"  {' & '.join(line)} \\\\\n" for line in _lines(verdicts, escape_latex))
    ragged = r">{\raggedright\arraybackslash}"
    widths = "".join(f"{ragged}p{{{width}\\linewidth}}" for width in (0.33, 0.15, 0.1))
    return (
        "{\\footnotesize\\setlength{\\tabcolsep}{3pt}\n"
        f"\\begin{{longtable}}{{@{{}}{widths}r{ragged}p{{0.3\\linewidth}}@{{}}}}\n"
        f"  \\toprule\n  {' & '.join(_HEADER)} \\\\\n  \\midrule\n  \\endhead\n"
        f"  \\bottomrule\n  \\endfoot\n{rows}"
        "\\end{longtable}}\n"
    )


def verdicts_csv(verdicts: Sequence[Verdict]) -> str:
    """One line per verdict: claim, dataset, model, column, verdict, n, reason."""
    rows = [(v.claim.text, v.dataset, v.model, v.claim.column, v.outcome, v.n, v.reason) for v in verdicts]
    columns = ["claim", "dataset", "model", "column", "verdict", "n", "reason"]
    return pd.DataFrame(rows, columns=columns).to_csv(index=False, lineterminator="\n")
