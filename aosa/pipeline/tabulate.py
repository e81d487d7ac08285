"""Stage tabulate: records to tables."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pandas as pd
from omegaconf import DictConfig

from aosa.errors import AosaError, ConfigError
from aosa.files import write_atomic
from aosa.options import check_choice
from aosa.pipeline.common import check_common
from aosa.pipeline.experiment import (
    Results,
    Unit,
    collect,
    columns_of,
    folder,
    shown,
    spec_of,
    table_of,
    units,
    verdicts_of,
)
from aosa.pipeline.trace import trace
from aosa.report.claims import Verdict, verdicts_csv, verdicts_latex, verdicts_markdown
from aosa.report.figures import save, scores_figure
from aosa.report.tables import Table, make_table, row_key

BREAKDOWNS = (None, "class", "video")


def run(config: DictConfig) -> int:
    """Write the table of an experiment from the records there are, as Markdown, LaTeX, CSV and HTML, with the pairs of
    its rows and the verdicts on its claims; ``breakdown`` writes it class by class or video by video as well.
    ``explain_cell`` writes nothing, it prints where one cell comes from.

    Raises:
        AosaError: no record at all.
        ConfigError: a choice, claim or cell that there is not.
    """
    check_common(config)
    check_choice("", breakdown=(config.breakdown, BREAKDOWNS))
    all_units = list(units(config))
    if config.explain_cell is not None:
        print(trace(config, all_units))
        return 0
    tabulated = tabulate(config, all_units)
    stem = folder(config) / config.experiment.name
    print(tabulated.to_markdown())
    print(f"table: {stem}.md, .tex, .csv, .html; figure: {stem}.png, .pdf; pairs of rows: {stem}_pairs.csv")
    if tabulated.verdicts:
        print(f"verdicts: {stem}_verdicts.csv, .tex")
    return 0


@dataclass(frozen=True)
class Tabulated:
    """An experiment's table, the scores and curves that it is made of, and the verdicts on the claims."""

    table: Table
    results: Results
    verdicts: list[Verdict]

    def to_markdown(self) -> str:
        """The table, and the verdicts if there are any."""
        return self.table.to_markdown() + (f"\n{verdicts_markdown(self.verdicts)}" if self.verdicts else "")


def tabulate(config: DictConfig, all_units: list[Unit]) -> Tabulated:
    """Gather records, write the table's files, the breakdown asked for, the verdicts, and the scores clip by clip
    (scores.csv)."""
    if not columns_of(all_units):
        raise ConfigError(f"experiment {config.experiment.name} has pictures and no table; reproduce draws them")
    results = collect(all_units, config.clips)
    if results.scores.empty:
        name = config.experiment.name
        failed = [
            {"clip": e.id, "reason": reason}
            for unit in all_units
            if unit.explainer
            for e in unit.job.entries()
            if (reason := unit.job.maps.failure(e.id))
        ]
        reason = (
            f"every video failed, the first, {failed[0]['clip']!r}, since {failed[0]['reason']}"
            if failed
            else f"run python scripts/reproduce.py experiment={name} first"
        )
        raise AosaError(f"there are no records for experiment {name} with these options; {reason}")
    table = table_of(config, results, list(dict.fromkeys(u.explainer for u in all_units)))
    tabulated = Tabulated(table, results, verdicts_of(config, table))
    _write(config, table, tabulated.to_markdown())
    stem = folder(config) / config.experiment.name
    save(scores_figure(table), f"{stem}.png")
    if tabulated.verdicts:
        write_atomic(f"{stem}_verdicts.csv", verdicts_csv(tabulated.verdicts))
        write_atomic(f"{stem}_verdicts.tex", verdicts_latex(tabulated.verdicts))
    if config.breakdown == "class":
        classes = by_class(config, results, table)
        _write(config, classes, classes.to_markdown())
        print(f"by class: {stem}_by_class.md, .tex, .csv, .html")
    if config.breakdown == "video":
        write_atomic(f"{stem}_by_video.csv", by_video(results, table).to_csv(index=False, lineterminator="\n"))
        print(f"by video: {stem}_by_video.csv")
    write_atomic(folder(config) / "scores.csv", results.scores.to_csv(index=False, lineterminator="\n"))
    return tabulated


def by_class(config: DictConfig, results: Results, table: Table) -> Table:
    """The same table with blocks per class."""
    scores = results.scores
    spec = spec_of(config, shown(config, results.columns), table.spec.explainers)
    part = "class " + scores["class_name"].where(scores["class_name"].notna(), "unknown").astype(str)
    return make_table(
        scores.assign(part=part).sort_values("part", kind="stable"),
        replace(spec, name=f"{spec.name}_by_class", title=f"{spec.title}, class by class"),
    )


def by_video(results: Results, table: Table) -> pd.DataFrame:
    """One row per data set, model, video and column, one column per explainer, and the distance of the best score from
    the worst, which is large where explainers disagree."""
    scores = results.scores[results.scores["column"].isin(list(table.spec.columns))]
    about = ["dataset", "model", "clip", "group", "class_name", "correct"]
    keys = ["dataset", "model", "clip", "column"]
    rows = [row_key(*pair) for pair in zip(scores["explainer"], scores["variant"], strict=True)]
    wide = scores.assign(row=rows).pivot(index=keys, columns="row", values="value")
    wide = wide.reindex(columns=list(dict.fromkeys(rows)))
    wide["spread"] = wide.max(axis=1) - wide.min(axis=1)
    return scores[about].drop_duplicates(["dataset", "model", "clip"]).merge(wide.reset_index(), on=keys[:3])


def _write(config: DictConfig, table: Table, text: str) -> None:
    stem = folder(config) / table.spec.name
    for suffix, content in (
        (".md", text),
        (".tex", table.to_latex()),
        (".csv", table.to_csv()),
        (".html", table.to_html()),
        ("_pairs.csv", table.pairs_csv()),
    ):
        write_atomic(f"{stem}{suffix}", content)
