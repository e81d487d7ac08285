"""Stage tabulate: records to tables."""

from __future__ import annotations

from omegaconf import DictConfig

from aosa.errors import AosaError
from aosa.files import write_atomic
from aosa.pipeline.common import check_common
from aosa.pipeline.experiment import Results, Unit, collect, folder, table_of, units
from aosa.report.tables import Table


def run(config: DictConfig) -> int:
    """Write the table of an experiment from the records there are, as Markdown, LaTeX and CSV.

    Raises:
        AosaError: no record at all.
    """
    check_common(config)
    table, _ = tabulate(config, list(units(config)))
    print(table.to_markdown())
    print(f"table: {folder(config) / config.experiment.name}.md, .tex, .csv")
    return 0


def tabulate(config: DictConfig, all_units: list[Unit]) -> tuple[Table, Results]:
    """Gather records, write the table's three files, and the scores clip by clip (scores.csv)."""
    results = collect(all_units, config.clips)
    if results.scores.empty:
        name = config.experiment.name
        failed = [
            {"clip": e.id, "reason": reason}
            for unit in all_units
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
    out = folder(config)
    write_atomic(out / f"{config.experiment.name}.md", table.to_markdown())
    write_atomic(out / f"{config.experiment.name}.tex", table.to_latex())
    write_atomic(out / f"{config.experiment.name}.csv", table.to_csv())
    write_atomic(out / "scores.csv", results.scores.to_csv(index=False, lineterminator="\n"))
    return table, results
