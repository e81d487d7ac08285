"""Tables in the manner of the papers: printed value, ours with its interval, number of videos."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources

import pandas as pd

from aosa.errors import AosaError, ConfigError
from aosa.report.statistics import bootstrap_interval

DISPLAY_NAMES = {
    # explainers
    "aosa": "AOSA",
    "aosa_single": "AOSA (single mask)",
    "aosa_approx": "AOSA-approx",
    "aosa_approx_single": "AOSA-approx (single mask)",
    "aosa_approx_iqr": "AOSA-approx (IQR, WACV)",
    "aosa_approx_iqr_single": "AOSA-approx (IQR, WACV, single mask)",
    "osa": "OSA",
    "grad_cam": "Grad-CAM",
    "grad_cam_pp": "Grad-CAM++",
    "smooth_grad": "SmoothGrad",
    "integrated_gradients": "Integrated Gradients",
    "guided_backprop": "Guided Backprop",
    "attention_rollout": "Attention Rollout",
    "step": "STEP",
    "ep3d": "EP-3D",
    "ep3d_evenly": "EP-3D-Evenly",
    "ep3d_gaussian": "EP-3D (Gaussian)",
    "saliency_tubes": "Saliency Tubes",
    "eb_r": "EB-R",
    "lime3d": "LIME (3D)",
    "kernel_shap3d": "Kernel SHAP (3D)",
    "rise3d": "RISE (3D)",
    "loco": "LOCO",
    "univariate": "Univariate",
    "sos": "SOS",
    "random": "Random",
    # models
    "r3d50": "R3D-50",
    "r2plus1d50": "R(2+1)D-50",
    "slowfast_r50": "SlowFast-R50",
    "timesformer": "TimeSformer",
    "r2plus1d18": "R(2+1)D-18",
    "vgg16_lstm": "VGG16-LSTM",
    "tanet_r50": "TANet-R50",
    "tpn_r50": "TPN-R50",
    "i3d": "I3D",
    "r3d_tiny": "R3D-tiny",
    # data sets
    "ucf101": "UCF101",
    "ucf101_24": "UCF101-24",
    "kinetics400": "Kinetics-400",
    "kinetics700": "Kinetics-700",
    "epic_object": "EPIC-Object",
    "epic_action": "EPIC-Action",
    "etri_activity3d": "ETRI-Activity3D",
    "moving_shapes": "Moving shapes",
    # columns
    "deletion": "Deletion",
    "insertion": "Insertion",
    "overall": "Over-all",
    "spt": "S-PT",
    "spt_class": "S-PT (over classes)",
    "spt_video": "S-PT (over videos)",
    "tpt": "T-PT",
    "truth": "Truth",
    "seconds": "Seconds",
    "min_preservation_ratio": "Min. preservation ratio",
    # papers
    "aosa_journal": "AOSA (journal)",
    "aosa_wacv": "AOSA (WACV 2023)",
    "revex": "REVEX",
}

ARROWS = {"higher": "↑", "lower": "↓"}
MISSING = "–"
_KEY = ["dataset", "model", "explainer", "variant", "column"]


def display_name(key: str) -> str:
    """What a table calls an explainer, model, data set, column or paper; unknown names stay as they are."""
    return DISPLAY_NAMES.get(key, key)


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

    Raises:
        ConfigError: a direction that is neither, or no column.
    """

    name: str
    title: str
    columns: Mapping[str, str]
    explainers: Sequence[str] = ()
    settings: str = ""
    statistic: str = "mean"
    decimals: int = 3

    def __post_init__(self) -> None:
        if not self.columns:
            raise ConfigError(f"table {self.name}: columns is empty")
        for column, direction in self.columns.items():
            if direction not in ARROWS:
                raise ConfigError(f"table {self.name}: columns.{column}={direction}: choose higher or lower")


@dataclass(frozen=True)
class Cell:
    """One score: as printed in the paper (None: not printed) and ours (None: not run)."""

    paper: float | None = None
    ours: float | None = None
    low: float = math.nan
    high: float = math.nan
    n: int = 0


@dataclass(frozen=True)
class Block:
    """The rows of one data set and model. `rows` holds (explainer, variant, cells by column)."""

    dataset: str
    model: str
    n: int
    groups: int
    accuracy: float | None
    rows: list[tuple[str, str, dict[str, Cell]]] = field(default_factory=list)

    @property
    def label(self) -> str:
        """``R3D-50 on UCF101``."""
        return f"{display_name(self.model)} on {display_name(self.dataset)}"

    @property
    def extent(self) -> str:
        """``20 videos in 12 groups, accuracy 0.850``."""
        text = "1 video" if self.n == 1 else f"{self.n} videos"
        if 0 < self.groups < self.n:
            text += f" in {self.groups} group" + "s" * (self.groups > 1)
        return text if self.accuracy is None else f"{text}, accuracy {self.accuracy:.3f}"


@dataclass(frozen=True)
class Table:
    """A table that knows its numbers; `to_markdown`, `to_latex`, `to_csv` and the HTML report write it."""

    spec: TableSpec
    blocks: list[Block]
    caption: str

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
        top = [(f"{display_name(c)} {ARROWS[d]}", len(parts)) for c, d in self.spec.columns.items()]
        bottom = parts * len(top)
        return ([*top, ("", 1)], [*bottom, "n"]) if self.common_n else (top, bottom)

    def body(self) -> list[tuple[str, list[list[str]]]]:
        """Per block its heading (empty when there is but one) and its rows of text, name first."""
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
                lines.append([f"**{_markdown(heading)}**", *[""] * len(bottom)])
            lines += [[_markdown(text) for text in row] for row in rows]
        return f"{_markdown(self.caption)}\n\n" + "".join(f"| {' | '.join(line)} |\n" for line in lines)

    def to_latex(self) -> str:
        """A `table*` environment for a document that loads `booktabs`."""
        top, bottom = self.header()
        width = 1 + len(bottom)
        rules, position = "", 2
        for label, span in top:
            rules += rf"\cmidrule(lr){{{position}-{position + span - 1}}}" if label else ""
            position += span
        lines = [
            " & ".join(["", *(rf"\multicolumn{{{span}}}{{c}}{{{_latex(label)}}}" for label, span in top)]) + r" \\",
            rules,
            " & ".join(["Method", *map(_latex, bottom)]) + r" \\",
        ]
        for heading, rows in self.body():
            lines.append(r"\midrule")
            if heading:
                lines.append(rf"\multicolumn{{{width}}}{{l}}{{\textit{{{_latex(heading)}}}}} \\")
            lines += [" & ".join(map(_latex, row)) + r" \\" for row in rows]
        body = "\n".join(f"  {line}" for line in ["\\toprule", *lines, "\\bottomrule"])
        return (
            "\\begin{table*}\n"
            "\\centering\\footnotesize\\setlength{\\tabcolsep}{3pt}\n"
            f"\\caption{{{_latex(self.caption)}}}\n"
            f"\\label{{tab:{re.sub(r'[^A-Za-z0-9:.-]', '-', self.spec.name)}}}\n"
            f"\\begin{{tabular}}{{l{'r' * len(bottom)}}}\n{body}\n\\end{{tabular}}\n"
            "\\end{table*}\n"
        )

    def to_csv(self) -> str:
        """One line per cell: dataset, model, explainer, variant, column, paper, ours, low, high, n, accuracy."""
        lines = [
            {
                **dict(zip(_KEY, (block.dataset, block.model, explainer, variant, column), strict=True)),
                **vars(cell),
                "accuracy": block.accuracy,
            }
            for block in self.blocks
            for explainer, variant, cells in block.rows
            for column, cell in cells.items()
        ]
        return pd.DataFrame(lines).to_csv(index=False, float_format="%.6g", lineterminator="\n")

    def _cells(self) -> Iterable[tuple[Block, Cell]]:
        return ((b, cell) for b in self.blocks for _, _, cells in b.rows for cell in cells.values())

    def _row(self, explainer: str, variant: str, cells: dict[str, Cell]) -> list[str]:
        text = [display_name(explainer) + (f" ({variant})" if variant else "")]
        for cell in cells.values():
            if self.has_paper:
                text.append(MISSING if cell.paper is None else self._number(cell.paper))
            text.append(self._ours(cell))
            if not self.common_n:
                text.append(str(cell.n or MISSING))
        if self.common_n:
            text.append(str(max(cell.n for cell in cells.values()) or MISSING))
        return text

    def _ours(self, cell: Cell) -> str:
        if cell.ours is None:
            return MISSING
        if math.isnan(cell.low):
            return self._number(cell.ours)
        half = self._number((cell.high - cell.low) / 2)
        return f"{self._number(cell.ours)} ± {half} [{self._number(cell.low)}, {self._number(cell.high)}]"

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
    """Aggregate records into a table; every score carries a 95 % bootstrap interval over videos.

    Args:
        records: long format, a row per (clip, explainer, column): dataset, model, explainer, column,
            clip, value. Optional: variant (options that tell two rows of one explainer apart; default
            none), group (clips cut from one recording; default the clip itself), weight (default 1),
            correct (whether the model classifies the clip rightly; gives the accuracy).
            `value` is the clip's own score. A micro average (S-PT) has value = hits / frames and
            weight = frames, so that Σ weight·value / Σ weight = hits over frames. A NaN value is a clip
            without a score in that column, and does not count into n.
        printed: rows of `paper_values`; None for a table without printed values.
        samples, seed: of the bootstrap.

    Raises:
        AosaError: records without a needed column, without any row, or with two values for one
            explainer, clip and column.
    """
    records = _complete(records, spec)
    printed = paper_values().iloc[:0] if printed is None else printed
    explainers = list(spec.explainers) or list(dict.fromkeys([*printed["explainer"], *records["explainer"]]))
    blocks = []
    for (dataset, model), part in records.groupby(["dataset", "model"], sort=False):
        theirs = printed[(printed["dataset"] == dataset) & (printed["model"] == model)]
        clips = part.drop_duplicates("clip")
        accuracy = float(clips["correct"].mean()) if clips["correct"].notna().all() else None
        block = Block(str(dataset), str(model), len(clips), clips["group"].nunique(), accuracy)
        for explainer in explainers:
            of_paper, of_ours = theirs[theirs["explainer"] == explainer], part[part["explainer"] == explainer]
            for variant in dict.fromkeys([*of_paper["variant"], *of_ours["variant"]]) or [""]:
                cells = {
                    column: _cell(
                        of_ours[(of_ours["variant"] == variant) & (of_ours["column"] == column)],
                        of_paper[(of_paper["variant"] == variant) & (of_paper["column"] == column)],
                        spec.statistic,
                        samples,
                        seed,
                    )
                    for column in spec.columns
                }
                block.rows.append((explainer, variant, cells))
        blocks.append(block)
    return Table(spec, blocks, _caption(spec, blocks, records, printed))


def _complete(records: pd.DataFrame, spec: TableSpec) -> pd.DataFrame:
    lacking = [c for c in ("dataset", "model", "explainer", "column", "clip", "value") if c not in records]
    if lacking:
        raise AosaError(f"table {spec.name}: the records have no column {', '.join(lacking)}")
    records = records[records["column"].isin(list(spec.columns))].copy()
    if records.empty:
        raise AosaError(f"table {spec.name}: there is no record of {', '.join(spec.columns)}; run evaluate first")
    for column, default in (("variant", ""), ("weight", 1.0), ("correct", None), ("group", None)):
        if column not in records:
            records[column] = default
    records["variant"] = records["variant"].fillna("")
    records["weight"] = records["weight"].fillna(1.0).astype(float)
    records["value"] = records["value"].astype(float)
    records["group"] = records["group"].where(records["group"].notna(), records["clip"])
    twice = records.duplicated([*_KEY, "clip"])
    if twice.any():
        first = records[twice].iloc[0]
        raise AosaError(
            f"table {spec.name}: two records of {first['column']} for {first['explainer']} on clip "
            f"{first['clip']!r} with {first['model']}; name what tells them apart in the column variant"
        )
    return records


def _cell(ours: pd.DataFrame, paper: pd.DataFrame, statistic: str, samples: int, seed: int) -> Cell:
    printed = float(paper["value"].iloc[0]) if len(paper) else None
    # A clip of weight 0 (no annotated frame) has no say in a ratio of sums.
    scored = ours[ours["value"].notna() & (ours["weight"] > 0)].sort_values("clip")
    if scored.empty:
        return Cell(paper=printed)
    value, weight = scored["value"].to_numpy(), scored["weight"].to_numpy()
    if statistic == "median":
        estimate, weights = scored["value"].median(), None
    else:
        estimate, weights = (value * weight).sum() / weight.sum(), weight
    low, high = bootstrap_interval(
        value, list(scored["group"]), weights, statistic=statistic, samples=samples, seed=seed
    )
    return Cell(printed, float(estimate), low, high, len(scored))


def _caption(spec: TableSpec, blocks: list[Block], records: pd.DataFrame, printed: pd.DataFrame) -> str:
    sentences = [spec.title, "; ".join(f"{b.label}: {b.extent}" for b in blocks)]
    unit = "groups of videos" if any(b.groups < b.n for b in blocks) else "videos"
    what = "median" if spec.statistic == "median" else "mean"
    sentences.append(f"Ours: {what} ± half the width of its 95 % bootstrap interval [low, high] over {unit}")
    weighted = records.groupby("column")["weight"].nunique() > 1
    # An average over classes is weighted as well, but says what it is in its name.
    micro = [display_name(c) for c in spec.columns if weighted.get(c, False) and not c.endswith("_class")]
    if micro:
        sentences.append(f"{', '.join(micro)}: ratio of sums over all annotated frames")
    if len(printed):
        tables = printed[["paper", "table"]].drop_duplicates()
        sources = [f"{display_name(p)}, Table {t}" for p, t in tables.itertuples(index=False)]
        sentences.append(f"Paper: {'; '.join(sources)}")
    sentences.append(spec.settings)
    return " ".join(s if s.endswith((".", "!", "?")) else f"{s}." for s in (s.strip() for s in sentences) if s)


def _markdown(text: str) -> str:
    return re.sub(r"([\\|*_<`])", r"\\\1", text)


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
    "σ": r"$\sigma$",
    "–": "--",
    "—": "---",
    **{c: f"\\{c}" for c in "&%$#_{}"},
}


def _latex(text: str) -> str:
    return "".join(_LATEX.get(c, c) for c in re.sub(r"(?<!\w)-(?=\d)", "−", text))
