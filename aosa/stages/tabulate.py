"""Stage tabulate: records to tables."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd
from omegaconf import DictConfig

from aosa.errors import AosaError, ConfigError
from aosa.experiment.collect import Results, collect
from aosa.experiment.grid import Experiment
from aosa.experiment.table import Tabulated, judge, make_experiment_table, table_columns, table_spec
from aosa.experiment.trace import trace
from aosa.files import write_atomic
from aosa.options import check_choice
from aosa.report.claims import verdicts_csv, verdicts_latex
from aosa.report.figures import save, scores_figure
from aosa.report.tables import Table, make_table, row_key
from aosa.stages.keys import check_common

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
    experiment = Experiment(config)
    if config.explain_cell is not None:
        print(trace(experiment, config.explain_cell))
        return 0
    tabulated = tabulate(experiment)
    stem = experiment.folder / experiment.name
    print(tabulated.to_markdown())
    print(f"table: {stem}.md, .tex, .csv, .html; figure: {stem}.png, .pdf; pairs of rows: {stem}_pairs.csv")
    if tabulated.verdicts:
        print(f"verdicts: {stem}_verdicts.csv, .tex")
    return 0


def tabulate(experiment: Experiment) -> Tabulated:
    """Gather records, write the table's files, the breakdown asked for, the verdicts, and the scores clip by clip
    (scores.csv).

    Raises:
        AosaError: no record at all.
        ConfigError: an experiment without a table.
    """
    config = experiment.config
    if not experiment.columns:
        raise ConfigError(f"experiment {experiment.name} has pictures and no table; reproduce draws them")
    results = collect(experiment.units, experiment.sites if experiment.has_accuracy else [], config.clips)
    if results.scores.empty:
        raise AosaError(f"there are no records for experiment {experiment.name} with these options; {_why(experiment)}")
    table = make_experiment_table(experiment, results)
    tabulated = Tabulated(table, results, judge(experiment, table))
    _write(experiment, table, tabulated.to_markdown())
    stem = experiment.folder / experiment.name
    save(scores_figure(table), f"{stem}.png")
    if tabulated.verdicts:
        write_atomic(f"{stem}_verdicts.csv", verdicts_csv(tabulated.verdicts))
        write_atomic(f"{stem}_verdicts.tex", verdicts_latex(tabulated.verdicts))
    if config.breakdown == "class":
        classes = by_class(experiment, results, table)
        _write(experiment, classes, classes.to_markdown())
        print(f"by class: {stem}_by_class.md, .tex, .csv, .html")
    if config.breakdown == "video":
        write_atomic(f"{stem}_by_video.csv", by_video(results, table).to_csv(index=False, lineterminator="\n"))
        print(f"by video: {stem}_by_video.csv")
    write_atomic(experiment.folder / "scores.csv", results.scores.to_csv(index=False, lineterminator="\n"))
    return tabulated


def _why(experiment: Experiment) -> str:
    """Why there are none."""
    for unit in experiment.units:
        for entry in unit.job.entries():
            if reason := unit.job.maps.failure(entry.id):
                return f"every video failed, the first, {entry.id!r}, since {reason}"
    return f"run python scripts/reproduce.py experiment={experiment.name} first"


def by_class(experiment: Experiment, results: Results, table: Table) -> Table:
    """The same table with blocks per class."""
    scores = results.scores
    spec = table_spec(experiment, table_columns(experiment), table.spec.explainers)
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


def _write(experiment: Experiment, table: Table, text: str) -> None:
    stem = experiment.folder / table.spec.name
    for suffix, content in (
        (".md", text),
        (".tex", table.to_latex()),
        (".csv", table.to_csv()),
        (".html", table.to_html()),
        ("_pairs.csv", table.pairs_csv()),
    ):
        write_atomic(f"{stem}{suffix}", content)
