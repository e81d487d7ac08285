"""Where a table's cell comes from: its config, commit, environment and videos."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import pandas as pd

from aosa.data.base import VideoDataset
from aosa.engine.accuracy import Accuracy
from aosa.engine.job import describe_missing
from aosa.errors import AosaError, ConfigError
from aosa.experiment.collect import Results, collect
from aosa.experiment.grid import Experiment, Site, Unit, columns_of
from aosa.experiment.table import printed, table_spec
from aosa.report.tables import make_table, row_key
from aosa.store.folders import Folder
from aosa.store.shareable import shareable_yaml


@dataclass
class _Cell:
    """What a cell is made of: its scores, the folders of its results, and the commands that make these."""

    results: Results
    explainer: str
    variant: str
    dataset: VideoDataset
    commands: list[str]
    folders: Mapping[str, Folder]


def trace(experiment: Experiment, cell: str) -> str:
    """What the cell of an experiment's table is made of.

    Args:
        cell: ``explainer/column`` (``aosa/overall``), or ``dataset/model/explainer/column`` where the experiment has
            several data sets or models; an accuracy has no explainer (``ucf101/i3d//top1``).

    Raises:
        ConfigError: no such cell, or several.
        AosaError: it has no record.
    """
    part, column = _find(experiment, cell)
    clips = experiment.config.clips
    found = _of_site(part, clips) if isinstance(part, Site) else _of_unit(part, column, clips)
    scores = found.results.scores[found.results.scores["column"] == column]
    if scores["value"].notna().sum() == 0:
        raise AosaError(f"explain_cell={cell}: there is no record; run {', then '.join(found.commands)}")
    spec = table_spec(experiment, {column: found.results.columns[column]}, [found.explainer])
    table = make_table(scores, spec, _printed(experiment, found, column))
    rows = scores.sort_values("clip")[["clip", "value", "weight", "group", "class_name", "correct"]]
    made = [line for what, f in found.folders.items() for line in (f"{what}: {f.path}", *_made(f, list(rows["clip"])))]
    return "\n".join(
        [
            table.to_markdown(),
            "commands:",
            *(f"  {command}" for command in found.commands),
            *made,
            "config:",
            *(f"  {line}" for line in _config(found.folders, part).splitlines()),
            f"videos ({describe_missing(found.dataset) or 'all listed are there'}):",
            rows.to_csv(index=False, lineterminator="\n"),
        ]
    )


def _of_site(site: Site, clips: str) -> _Cell:
    results = collect([], [site], clips)
    return _Cell(results, "", "", site.place.dataset, [site.command("accuracy")], {"records": site.records})


def _of_unit(unit: Unit, column: str, clips: str) -> _Cell:
    """A time has no records."""
    commands, folders = [unit.command("explain")], {"maps": unit.job.maps}
    alone = {name: replace(unit, metrics=[name], timed=False) for name in unit.metrics}
    metric = next((name for name, part in alone.items() if column in columns_of([part])), None)
    more: dict[str, Folder] = {}
    if metric is not None:
        commands.append(unit.evaluate_command(metric))
        more["records"] = unit.records(metric)
    results = collect([unit], clips=clips)
    return _Cell(results, unit.explainer, unit.variant, unit.job.dataset, commands, {**folders, **more})


def _printed(experiment: Experiment, cell: _Cell, column: str) -> pd.DataFrame | None:
    """What the paper prints in the cell, if anything."""
    values = printed(experiment)
    if values is None:
        return None
    own = (values["explainer"] == cell.explainer) & (values["variant"] == cell.variant)
    return values[own & (values["column"] == column)]


def _find(experiment: Experiment, cell: str) -> tuple[Unit | Site, str]:
    *place, explainer, column = ["", *str(cell).split("/")]
    if len(place) not in (1, 3):
        raise ConfigError(f"explain_cell={cell}: give explainer/column, or dataset/model/explainer/column")
    cells: list[tuple[Unit | Site, str, list[str]]] = [(u, u.row, list(columns_of([u]))) for u in experiment.units]
    if experiment.has_accuracy:
        cells += [(site, row_key("", ""), list(Accuracy.columns)) for site in experiment.sites]
    there = [c for c in cells if c[1] == explainer and place[1:] in ([], [c[0].dataset, c[0].model])]
    found = [part for part, _, columns in there if column in columns]
    if len(found) != 1:
        known = [
            f"{part.dataset}/{part.model}/{row}/{name}"
            for part, row, columns in ([c for c in there if c[0] in found] or there or cells)
            for name in ([column] if found else columns)
        ]
        wrong = "there are several such cells" if found else "there is no such cell"
        raise ConfigError(f"explain_cell={cell}: {wrong}; choose one of {', '.join(known)}")
    return found[0], column


def _made(folder: Folder, clips: Sequence[str]) -> list[str]:
    """What ran, with how many of the clips it made: versions, commit, device."""
    notes = [{k: v for k, v in folder.times(clip).items() if k not in ("seconds", "parts")} for clip in clips]
    made = Counter(", ".join(f"{k} {v}" for k, v in note.items()) or "unknown" for note in notes)
    return [f"  {count} by {about}" for about, count in made.items()]


def _config(folders: Mapping[str, Folder], part: Unit | Site) -> str:
    """The config that is kept beside the records, or the maps where there are none."""
    try:
        return (list(folders.values())[-1].path / "config.yaml").read_text(encoding="utf-8")
    except (OSError, UnicodeError):
        return shareable_yaml(part.config("explain" if isinstance(part, Unit) else "accuracy"))
