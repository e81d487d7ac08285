"""The table of an experiment: which columns it shows, what its paper prints, and its claims."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from aosa.config import did_you_mean
from aosa.errors import ConfigError
from aosa.experiment.collect import Results
from aosa.experiment.grid import AVERAGES, Experiment, bases_of, whole_grids
from aosa.experiment.titles import titles
from aosa.report.claims import Claim, Verdict, claims_here, read_claims, verdicts, verdicts_markdown
from aosa.report.tables import Table, TableSpec, make_table, paper_values, row_key


@dataclass(frozen=True)
class Tabulated:
    """An experiment's table, the scores and curves that it is made of, and the verdicts on the claims."""

    table: Table
    results: Results
    verdicts: list[Verdict]

    def to_markdown(self) -> str:
        """The table, and the verdicts if there are any."""
        return self.table.to_markdown() + (f"\n{verdicts_markdown(self.verdicts)}" if self.verdicts else "")


def make_experiment_table(experiment: Experiment, results: Results) -> Table:
    """The experiment's table: paper | ours ± interval | n."""
    spec = table_spec(experiment, table_columns(experiment), experiment.explainers)
    return make_table(results.scores, spec, printed(experiment))


def table_columns(experiment: Experiment) -> dict[str, str]:
    """Those of the columns that the experiment's table shows.

    Raises:
        ConfigError: one that the experiment names and no metric gives.
    """
    columns = experiment.columns
    wanted = experiment.options["columns"] or [c for c in columns if not c.endswith(AVERAGES)]
    for column in wanted:
        if column not in columns:
            raise ConfigError(
                f"experiment.columns: the metrics of {experiment.name} give no {column}"
                f"{did_you_mean(column, list(columns))} (they give {', '.join(columns)})"
            )
    return {column: columns[column] for column in wanted}


def table_spec(experiment: Experiment, columns: Mapping[str, str], explainers: Sequence[str]) -> TableSpec:
    """A table of these columns and rows, as the experiment has it."""
    options, clips = experiment.options, experiment.config.clips
    settings = options["settings"]
    if clips != "all":
        who = "the model classifies" if clips == "correct" else "all models classify"
        settings = f"{settings} Only clips that {who} correctly.".strip()
    return TableSpec(
        name=experiment.name,
        title=experiment.title,
        columns=columns,
        explainers=explainers,
        settings=settings,
        statistic=options["statistic"],
        decimals=options["decimals"],
        titles=titles(),
    )


def judge(experiment: Experiment, table: Table) -> list[Verdict]:
    """What the table says on each claim of the experiment, for each of the claim's data sets and models there are."""
    return verdicts(claims(experiment, list(table.spec.columns)), table)


def claims(experiment: Experiment, columns: Sequence[str]) -> list[Claim]:
    """The claims of the experiment, checked against the columns that its table shows and its names. Of one that is
    based on another, claims may name what the other has, too: see `claims_here`.

    Raises:
        ConfigError: see `read_claims`.
    """
    listed, known = experiment.options["claims"], _known(experiment, list(columns))
    bases = [Experiment(config) for config in bases_of(experiment.config)] if listed else []
    if not bases:
        return read_claims(listed, known)
    everywhere = {kind: list(names) for kind, names in known.items()}
    for base in bases:
        for kind, names in _known(base, base.options["columns"] or list(base.columns)).items():
            everywhere[kind] += names
    own, first = ({(g["dataset"], *g["models"]) for g in whole_grids(e.options)} for e in (experiment, bases[-1]))
    return claims_here(read_claims(listed, everywhere), known, stand_in=own.isdisjoint(first))


def _known(experiment: Experiment, columns: list[str]) -> dict[str, list[str]]:
    """What claims may name."""
    grids, values = whole_grids(experiment.options), printed(experiment)
    rows = [
        row_key(explainer, variant)
        for grid in grids
        for explainer in grid["explainers"]
        for variant in grid["variants"].get(explainer, [""])
    ]
    return {
        "column": columns,
        "explainer": [*rows, *([] if values is None else map(row_key, values["explainer"], values["variant"]))],
        "dataset": [grid["dataset"] for grid in grids],
        "model": [model for grid in grids for model in grid["models"]],
    }


def printed(experiment: Experiment) -> pd.DataFrame | None:
    """The values that the experiment's paper prints; None without a paper."""
    options = experiment.options
    return paper_values(options["paper"], options["table"]) if options["paper"] else None
