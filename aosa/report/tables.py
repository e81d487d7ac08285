"""Tables in the manner of the papers: printed value, ours with its interval, number of videos, best and second best."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from typing import NamedTuple

import numpy as np
import pandas as pd

from aosa.errors import AosaError, ConfigError
from aosa.options import check_choice, check_whole
from aosa.report.pages import environment
from aosa.report.statistics import ALPHA, Comparison, bootstrap_interval, compare, estimate
from aosa.report.titles import UNTITLED, Titles

ARROWS = {"higher": "↑", "lower": "↓"}
MISSING = "–"
_PLACE = ["dataset", "model", "part"]
_KEY = [*_PLACE, "explainer", "variant", "column"]
_MARKS = {
    "markdown": {"best": "**{}**", "second": "<ins>{}</ins>", "": "{}"},
    "latex": {"best": r"\textbf{{{}}}", "second": r"\underline{{{}}}", "": "{}"},
}


def row_key(explainer: str, variant: str = "") -> str:
    """What tells the rows of a block apart: the explainer, with its variant where it has one."""
    return f"{explainer} ({variant})" if variant else explainer


def paper_values(paper: str | None = None, table: str | None = None) -> pd.DataFrame:
    """The numbers printed in the papers, kept with the package.

    Columns: paper, table, dataset, model, explainer, column, value, variant. `variant` is empty or
    holds the options that tell two rows of one explainer apart (``stride=8``). Rows 2 and 3 of the
    journal's Table VII are named by their position: which option each switches on is unclear.

    Raises:
        ConfigError: a paper or table that is not among them; the message lists those that are.
    """
    with resources.files("aosa.report").joinpath("paper_values.csv").open(encoding="utf-8") as file:
        values = pd.read_csv(file, dtype={"value": float}, keep_default_na=False)
    for key, wanted in (("paper", paper), ("table", table)):
        if wanted is not None:
            choices = list(dict.fromkeys(values[key]))
            if str(wanted) not in choices:
                raise ConfigError(f"{key}={wanted}: there are printed values for {', '.join(choices)}")
            values = values[values[key] == str(wanted)]
    return values.reset_index(drop=True)


@dataclass(frozen=True)
class TableSpec:
    """What a table shows.

    Args:
        name: file stem and LaTeX label (``table1``).
        title: first sentence of the caption.
        columns: column → ``higher`` or ``lower``, which of them is better, in the order shown.
        explainers: rows, in the order shown; default those printed, then those in the records.
        settings: last sentences of the caption: which clips, which options.
        statistic: ``mean``, or ``median`` (of plain values: times).
        decimals: digits after the point.
        titles: what rows, columns and blocks are called.

    Raises:
        ConfigError: a direction or statistic that is neither, decimals out of range, or no column.
    """

    name: str
    title: str
    columns: Mapping[str, str]
    explainers: Sequence[str] = ()
    settings: str = ""
    statistic: str = "mean"
    decimals: int = 3
    titles: Titles = field(default=UNTITLED, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not self.columns:
            raise ConfigError(f"table {self.name}: columns is empty")
        for column, direction in self.columns.items():
            if direction not in ARROWS:
                raise ConfigError(f"table {self.name}: columns.{column}={direction}: choose higher or lower")
        check_choice("experiment", statistic=(self.statistic, ("mean", "median")))
        check_whole("experiment", decimals=(self.decimals, 0))


@dataclass(frozen=True)
class Cell:
    """One score: as printed in the paper (None: not printed) and ours (None: not run); `mark` is ``best``, ``second``
    or empty."""

    paper: float | None = None
    ours: float | None = None
    low: float = math.nan
    high: float = math.nan
    n: int = 0
    mark: str = ""


class Text(NamedTuple):
    """A cell as it is written: a name or number, what follows it, and the number's mark."""

    main: str
    rest: str = ""
    mark: str = ""

    def __str__(self) -> str:
        return self.main + self.rest


@dataclass(frozen=True)
class Block:
    """The rows of one data set and model, or of a part of them (a class). `rows` holds (explainer, variant, cells by
    column), `comparisons` the pairs of rows by column."""

    dataset: str
    model: str
    part: str
    n: int
    groups: int
    accuracy: float | None
    titles: Titles = field(default=UNTITLED, repr=False, compare=False)
    rows: list[tuple[str, str, dict[str, Cell]]] = field(default_factory=list)
    comparisons: dict[str, list[Comparison]] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """``R3D-50 on UCF101``."""
        place = self.titles.place(self.dataset, self.model)
        return f"{place}, {self.part}" if self.part else place

    @property
    def place(self) -> tuple[str, str, str]:
        """Data set, model and part."""
        return self.dataset, self.model, self.part

    @property
    def extent(self) -> str:
        """``20 videos in 12 groups, accuracy 0.850``."""
        text = "1 video" if self.n == 1 else f"{self.n} videos"
        if 0 < self.groups < self.n:
            text += f" in {self.groups} group" + "s" * (self.groups > 1)
        return text if self.accuracy is None else f"{text}, accuracy {self.accuracy:.3f}"


@dataclass(frozen=True)
class Table:
    """A table that knows its numbers; `to_markdown`, `to_latex`, `to_csv` and `to_html` write it. `scores` holds the
    records that it is made of, with their `row_key` as row; `printed` all that the paper prints, see `paper_values`."""

    spec: TableSpec
    blocks: list[Block]
    caption: str
    scores: pd.DataFrame = field(repr=False, compare=False)
    printed: pd.DataFrame = field(repr=False, compare=False)

    def videos(self, block: Block, column: str, row: str) -> pd.DataFrame:
        """The records behind a cell, of the videos that have a score, by clip; for `row` see `row_key`."""
        found = self.scores[(self.scores["column"] == column) & (self.scores["row"] == row)]
        return _scored(found[(found[_PLACE] == list(block.place)).all(axis=1)]).set_index("clip")

    @property
    def has_paper(self) -> bool:
        """Whether any cell has a printed value; without one the column is left out."""
        return any(cell.paper is not None for _, cell in self._cells())

    @property
    def common_n(self) -> bool:
        """Whether each row's scores are all over the same videos, so that one column says n."""
        return all(
            len({c.n for c in cells.values() if c.ours is not None}) <= 1 for b in self.blocks for _, _, cells in b.rows
        )

    def header(self) -> tuple[list[tuple[str, int]], list[str]]:
        """Two header lines: (score with its arrow, number of columns it spans), and a label per column.
        The column of the explainer's name comes before them."""
        parts = ["paper"] * self.has_paper + ["ours"] + ["n"] * (not self.common_n)
        top = [(f"{self.spec.titles.column(c)} {ARROWS[d]}", len(parts)) for c, d in self.spec.columns.items()]
        bottom = parts * len(top)
        return ([*top, ("", 1)], [*bottom, "n"]) if self.common_n else (top, bottom)

    def body(self) -> list[tuple[str, list[list[Text]]]]:
        """Per block its heading (empty when there is but one) and its rows of texts, name first."""
        several = len(self.blocks) > 1
        return [
            (f"{b.label} ({b.extent})" if several else "", [self._row(*row) for row in b.rows]) for b in self.blocks
        ]

    def to_markdown(self) -> str:
        """A table for GitHub, the caption above it."""
        top, bottom = self.header()
        scores = [label for label, span in top for _ in range(span)]
        lines = [
            ["", *(f"{score} {part}".strip() for score, part in zip(scores, bottom, strict=True))],
            [":--", *["--:"] * len(bottom)],
        ]
        for heading, rows in self.body():
            if heading:
                lines.append([f"**{escape_markdown(heading)}**", *[""] * len(bottom)])
            lines += [[_marked("markdown", text, escape_markdown) for text in row] for row in rows]
        return f"{escape_markdown(self.caption)}\n\n" + "".join(f"| {' | '.join(line)} |\n" for line in lines)

    def to_latex(self) -> str:
        """A `table*` environment for a document that loads `booktabs`."""
        top, bottom = self.header()
        width = 1 + len(bottom)
        rules, position = "", 2
        for label, span in top:
            rules += rf"\cmidrule(lr){{{position}-{position + span - 1}}}" if label else ""
            position += span
        lines = [
            " & ".join(["", *(rf"\multicolumn{{{span}}}{{c}}{{{escape_latex(label)}}}" for label, span in top)])
            + r" \\",
            rules,
            " & ".join(["Method", *map(escape_latex, bottom)]) + r" \\",
        ]
        for heading, rows in self.body():
            lines.append(r"\midrule")
            if heading:
                lines.append(rf"\multicolumn{{{width}}}{{l}}{{\textit{{{escape_latex(heading)}}}}} \\")
            lines += [" & ".join(_marked("latex", text, escape_latex) for text in row) + r" \\" for row in rows]
        body = "\n".join(f"  {line}" for line in ["\\toprule", *lines, "\\bottomrule"])
        return (
            "\\begin{table*}\n"
            "\\centering\\footnotesize\\setlength{\\tabcolsep}{3pt}\n"
            f"\\caption{{{escape_latex(self.caption)}}}\n"
            f"\\label{{tab:{re.sub(r'[^A-Za-z0-9:.-]', '-', self.spec.name)}}}\n"
            f"\\begin{{tabular}}{{l{'r' * len(bottom)}}}\n{body}\n\\end{{tabular}}\n"
            "\\end{table*}\n"
        )

    def to_csv(self) -> str:
        """One line per cell: dataset, model, part, explainer, variant, column, paper, ours, low, high, n, mark,
        accuracy, statistic, settings."""
        lines = [
            {
                **dict(zip(_KEY, (*block.place, explainer, variant, column), strict=True)),
                **vars(cell),
                "accuracy": block.accuracy,
                "statistic": self.spec.statistic,
                "settings": self.spec.settings,
            }
            for block in self.blocks
            for explainer, variant, cells in block.rows
            for column, cell in cells.items()
        ]
        return pd.DataFrame(lines).to_csv(index=False, float_format="%.6g", lineterminator="\n")

    def pairs_csv(self) -> str:
        """One line per pair of rows and column: dataset, model, part, column, first, second, difference (first −
        second), low, high, p, adjusted (p corrected for the pairs of its column), n."""
        lines = [
            {**dict(zip(_PLACE, block.place, strict=True)), "column": column, **vars(pair)}
            for block in self.blocks
            for column, pairs in block.comparisons.items()
            for pair in pairs
        ]
        columns = [*_PLACE, "column", *Comparison.__dataclass_fields__]
        return pd.DataFrame(lines, columns=columns).to_csv(index=False, float_format="%.6g", lineterminator="\n")

    def to_html(self) -> str:
        """A page of its own."""
        return environment().get_template("table_page.html.j2").render(table=self)

    def _cells(self) -> Iterable[tuple[Block, Cell]]:
        return ((b, cell) for b in self.blocks for _, _, cells in b.rows for cell in cells.values())

    def _row(self, explainer: str, variant: str, cells: dict[str, Cell]) -> list[Text]:
        texts = [Text(self.spec.titles.row(row_key(explainer, variant)))]
        for cell in cells.values():
            if self.has_paper:
                texts.append(Text(MISSING if cell.paper is None else self._number(cell.paper)))
            texts.append(self._ours(cell))
            if not self.common_n:
                texts.append(Text(str(cell.n or MISSING)))
        if self.common_n:
            texts.append(Text(str(max(cell.n for cell in cells.values()) or MISSING)))
        return texts

    def _ours(self, cell: Cell) -> Text:
        if cell.ours is None:
            return Text(MISSING)
        number, rest = self._number(cell.ours), ""
        if not math.isnan(cell.low):
            half = self._number((cell.high - cell.low) / 2)
            rest = f" ± {half} [{self._number(cell.low)}, {self._number(cell.high)}]"
        return Text(number, rest, cell.mark)

    def _number(self, value: float) -> str:
        text = f"{value:.{self.spec.decimals}f}"
        return text.lstrip("-") if float(text) == 0 else text


def make_table(
    records: pd.DataFrame,
    spec: TableSpec,
    printed: pd.DataFrame | None = None,
    *,
    samples: int = 2000,
    seed: int = 0,
) -> Table:
    """Aggregate records into a table: every score with its 95 % bootstrap interval over videos, every pair of rows of a
    block compared on the videos they share, the best and second best row marked.

    A row is best when it is better beyond noise than every other of its block, and second best when it is so than all
    but one that is better beyond noise than it (of three rows or more).

    Args:
        records: long format, a row per (clip, explainer, column): dataset, model, explainer, column,
            clip, value. Optional: variant (options that tell two rows of one explainer apart; default
            none), group (clips cut from one recording; default the clip itself), weight (default 1),
            correct (whether the model classifies the clip rightly; gives the accuracy).
            `value` is the clip's own score. A micro average (S-PT) has value = hits / frames and
            weight = frames, so that Σ weight·value / Σ weight = hits over frames; stratum (a label: the value is the
            plain average over labels of that ratio); part (a label: blocks of their own). A NaN value is a clip
            without a score in that column, and does not count into n.
        printed: rows of `paper_values`; None for a table without printed values.
        samples, seed: of the bootstrap.

    Raises:
        AosaError: records without a needed column, without any row, with two values for one explainer, clip and
            column, or with weights that differ between explainers.
    """
    records = _complete(records, spec)
    printed = paper_values().iloc[:0] if printed is None else printed
    explainers = list(spec.explainers) or list(dict.fromkeys([*printed["explainer"], *records["explainer"]]))
    blocks = []
    for (dataset, model, part), own in records.groupby(_PLACE, sort=False):
        theirs = printed[(printed["dataset"] == dataset) & (printed["model"] == model) & (part == "")]
        clips = own.drop_duplicates("clip")
        accuracy = float(clips["correct"].mean()) if clips["correct"].notna().all() else None
        block = Block(str(dataset), str(model), str(part), len(clips), clips["group"].nunique(), accuracy, spec.titles)
        block.comparisons.update(
            {
                column: _comparisons(own[own["column"] == column], spec.statistic, samples, seed)
                for column in spec.columns
            }
        )
        for explainer in explainers:
            of_paper, of_ours = theirs[theirs["explainer"] == explainer], own[own["explainer"] == explainer]
            for variant in dict.fromkeys([*of_paper["variant"], *of_ours["variant"]]) or [""]:
                cells = {
                    column: _cell(
                        of_ours[(of_ours["variant"] == variant) & (of_ours["column"] == column)],
                        of_paper[(of_paper["variant"] == variant) & (of_paper["column"] == column)],
                        spec.statistic,
                        samples,
                        seed,
                        _mark(row_key(explainer, variant), block.comparisons[column], direction),
                    )
                    for column, direction in spec.columns.items()
                }
                block.rows.append((explainer, variant, cells))
        blocks.append(block)
    return Table(spec, blocks, _caption(spec, blocks, records, printed), records, printed)


def _complete(records: pd.DataFrame, spec: TableSpec) -> pd.DataFrame:
    lacking = [c for c in ("dataset", "model", "explainer", "column", "clip", "value") if c not in records]
    if lacking:
        raise AosaError(f"table {spec.name}: the records have no column {', '.join(lacking)}")
    records = records[records["column"].isin(list(spec.columns))].copy()
    if records.empty:
        raise AosaError(f"table {spec.name}: there is no record of {', '.join(spec.columns)}; run evaluate first")
    for column, default in (
        ("variant", ""), ("part", ""), ("weight", 1.0), ("correct", None), ("group", None), ("stratum", None)
    ):  # fmt: skip
        if column not in records:
            records[column] = default
    records[["variant", "part"]] = records[["variant", "part"]].fillna("")
    records["weight"] = records["weight"].fillna(1.0).astype(float)
    records["value"] = records["value"].astype(float)
    records["group"] = records["group"].where(records["group"].notna(), records["clip"])
    records["row"] = [row_key(*pair) for pair in zip(records["explainer"], records["variant"], strict=True)]
    twice = records.duplicated([*_KEY, "clip"])
    if twice.any():
        first = records[twice].iloc[0]
        raise AosaError(
            f"table {spec.name}: two records of {first['column']} for {first['explainer']} on clip "
            f"{first['clip']!r} with {first['model']}; name what tells them apart in the column variant"
        )
    return records


def _scored(records: pd.DataFrame) -> pd.DataFrame:
    # A clip of weight 0 (no annotated frame) has no say in a ratio of sums.
    return records[records["value"].notna() & (records["weight"] > 0)].sort_values("clip")


def _cell(ours: pd.DataFrame, paper: pd.DataFrame, statistic: str, samples: int, seed: int, mark: str) -> Cell:
    printed = float(paper["value"].iloc[0]) if len(paper) else None
    scored = _scored(ours)
    if scored.empty:
        return Cell(paper=printed)
    value = scored["value"].to_numpy()
    weights, strata = weighting(scored, statistic)
    low, high = bootstrap_interval(
        value, list(scored["group"]), weights, strata, statistic=statistic, samples=samples, seed=seed
    )
    return Cell(printed, estimate(value, weights, strata, statistic), low, high, len(scored), mark)


def weighting(scored: pd.DataFrame, statistic: str) -> tuple[np.ndarray | None, list[str] | None]:
    """Weights and strata of these clips, as the functions of `statistics` want them."""
    if statistic == "median":
        return None, None
    return scored["weight"].to_numpy(), list(scored["stratum"]) if scored["stratum"].notna().any() else None


def _comparisons(records: pd.DataFrame, statistic: str, samples: int, seed: int) -> list[Comparison]:
    """All pairs of rows of one block in one column."""
    scored = _scored(records)
    if scored.empty:
        return []
    rows = list(dict.fromkeys(records["row"]))
    clips = scored.drop_duplicates("clip")
    if (scored.groupby("clip")["weight"].nunique() > 1).any():
        raise AosaError(f"column {scored['column'].iloc[0]}: the weight of a clip differs between explainers")
    values = scored.pivot(index="clip", columns="row", values="value").reindex(clips["clip"])
    weights, strata = weighting(clips, statistic)
    scores = {row: values[row].to_numpy() for row in rows if row in values}
    return compare(scores, list(clips["group"]), weights, strata, statistic=statistic, samples=samples, seed=seed)


def _mark(row: str, comparisons: list[Comparison], direction: str) -> str:
    own = [pair for pair in comparisons if row in (pair.first, pair.second)]
    rows = {name for pair in comparisons for name in (pair.first, pair.second)}
    if not own or len(own) < len(rows) - 1 or not all(pair.beyond_noise for pair in own):
        return ""
    worse = sum((pair.difference > 0) != ((pair.first == row) == (direction == "higher")) for pair in own)
    return "best" if worse == 0 else "second" if worse == 1 and len(own) > 1 else ""


def _caption(spec: TableSpec, blocks: list[Block], records: pd.DataFrame, printed: pd.DataFrame) -> str:
    # Parts are many, and their headings say the same.
    sentences = [spec.title, "; ".join(f"{b.label}: {b.extent}" for b in blocks if not b.part)]
    unit = "groups of videos" if any(b.groups < b.n for b in blocks) else "videos"
    what = "median" if spec.statistic == "median" else "mean"
    sentences.append(f"Ours: {what} ± half the width of its 95 % bootstrap interval [low, high] over {unit}")
    if any(pairs for block in blocks for pairs in block.comparisons.values()):
        sentences.append(
            "Bold: best; underlined: second best; only where the row differs beyond noise from every other of its "
            f"block on the same videos (sign-flip test over {unit}, p below {ALPHA} after Holm's correction)"
        )
    # An average over classes is weighted as well, but says what it is in its name.
    weighted = records[records["stratum"].isna()].groupby("column")["weight"].nunique() > 1
    micro = [spec.titles.column(c) for c in spec.columns if weighted.get(c, False)]
    if micro:
        sentences.append(f"{', '.join(micro)}: ratio of sums over all annotated frames")
    if len(printed):
        tables = printed[["paper", "table"]].drop_duplicates()
        sources = [f"{spec.titles(p)}, Table {t}" for p, t in tables.itertuples(index=False)]
        sentences.append(f"Paper: {'; '.join(sources)}")
    sentences.append(spec.settings)
    return " ".join(s if s.endswith((".", "!", "?")) else f"{s}." for s in (s.strip() for s in sentences) if s)


def _marked(form: str, text: Text, escape: Callable[[str], str]) -> str:
    return _MARKS[form][text.mark].format(escape(text.main)) + escape(text.rest)


def escape_markdown(text: str) -> str:
    """Text as GitHub shows it, in a table too."""
    return re.sub(r"([\\|*_<`])", r"\\\1", text)


_GREEK = ("alpha", "beta", "gamma", "delta", "epsilon", "lambda", "mu", "rho", "sigma", "tau", "Delta")
_LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "±": r"$\pm$",
    "↑": r"$\uparrow$",
    "↓": r"$\downarrow$",
    "−": "$-$",
    "×": r"$\times$",
    "≥": r"$\geq$",
    "≤": r"$\leq$",
    **{c: f"${c}$" for c in "<>|"},
    **{c: f"$\\{n}$" for c, n in zip("αβγδελμρστΔ", _GREEK, strict=True)},
    "–": "--",
    "—": "---",
    **{c: f"\\{c}" for c in "&%$#_{}"},
}


def escape_latex(text: str) -> str:
    """Text as LaTeX prints it."""
    return "".join(_LATEX.get(c, c) for c in re.sub(r"(?<!\w)-(?=\d)", "−", text))
