"""Where a table's cell comes from: its config, commit, environment and videos."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace

import pandas as pd
from omegaconf import DictConfig

from aosa.errors import AosaError, ConfigError
from aosa.pipeline.common import absent
from aosa.pipeline.experiment import Unit, collect, columns_of, printed_of, spec_of
from aosa.pipeline.shareable import shareable_yaml
from aosa.pipeline.store import Folder
from aosa.report.tables import make_table


def trace(config: DictConfig, all_units: list[Unit]) -> str:
    """What the cell ``explain_cell`` of an experiment's table is made of.

    The cell is ``explainer/column`` (``aosa/overall``), or ``dataset/model/explainer/column`` where the experiment has
    several data sets or models.

    Raises:
        ConfigError: no such cell, or several.
        AosaError: it has no record.
    """
    unit, column = _find(config, all_units)
    results = collect([unit], config.clips)
    scores = results.scores[results.scores["column"] == column]
    if scores["value"].notna().sum() == 0:
        raise AosaError(
            f"explain_cell={config.explain_cell}: there is no record; run {unit.command('explain')}, then evaluate"
        )
    spec = spec_of(config, {column: results.columns[column]}, [unit.explainer])
    table = make_table(scores, spec, _printed(config, unit, column))
    metric = next((m for m in unit.metrics if column in columns_of([replace(unit, metrics=[m], timed=False)])), None)
    shown = scores.sort_values("clip")[["clip", "value", "weight", "group", "class_name", "correct"]]
    clips, folders = list(shown["clip"]), _folders(unit, metric)
    return "\n".join(
        [
            table.to_markdown(),
            "commands:",
            *_commands(unit, metric),
            *(line for what, made in folders.items() for line in (f"{what}: {made.path}", *_made(made, clips))),
            "config:",
            *(f"  {line}" for line in _config(folders, unit).splitlines()),
            f"videos ({absent(unit.job.dataset) or 'all listed are there'}):",
            shown.to_csv(index=False, lineterminator="\n"),
        ]
    )


def _printed(config: DictConfig, unit: Unit, column: str) -> pd.DataFrame | None:
    """What the paper prints in the cell, if anything."""
    printed = printed_of(config)
    if printed is None:
        return None
    own = (printed["explainer"] == unit.explainer) & (printed["variant"] == unit.variant)
    return printed[own & (printed["column"] == column)]


def _find(config: DictConfig, all_units: list[Unit]) -> tuple[Unit, str]:
    cell = f"explain_cell={config.explain_cell}"
    *place, explainer, column = ["", *str(config.explain_cell).split("/")]
    if len(place) not in (1, 3):
        raise ConfigError(f"{cell}: give explainer/column, or dataset/model/explainer/column")
    there = [u for u in all_units if u.row == explainer and place[1:] in ([], [u.dataset, u.model])]
    found = [unit for unit in there if column in columns_of([unit])]
    if len(found) != 1:
        known = [
            f"{unit.dataset}/{unit.model}/{unit.row}/{name}"
            for unit in found or there or all_units
            for name in ([column] if found else columns_of([unit]))
        ]
        wrong = "there are several such cells" if found else "there is no such cell"
        raise ConfigError(f"{cell}: {wrong}; choose one of {', '.join(known)}")
    return found[0], column


def _made(folder: Folder, clips: list[str]) -> list[str]:
    """What ran, with how many of the clips it made: versions, commit, device."""
    notes = [{k: v for k, v in folder.times(clip).items() if k not in ("seconds", "parts")} for clip in clips]
    made = Counter(", ".join(f"{k} {v}" for k, v in note.items()) or "unknown" for note in notes)
    return [f"  {count} by {about}" for about, count in made.items()]


def _folders(unit: Unit, metric: str | None) -> dict[str, Folder]:
    """The maps and the records behind a cell: a time has no records, an accuracy no maps."""
    folders: dict[str, Folder] = {"maps": unit.job.maps} if unit.explainer else {}
    if metric is not None:
        folders["records"] = unit.records(metric)
    return folders


def _commands(unit: Unit, metric: str | None) -> list[str]:
    commands = [unit.command("explain")] if unit.explainer else []
    if metric is not None:
        commands.append(unit.evaluate_command(metric))
    return [f"  {command}" for command in commands]


def _config(folders: Mapping[str, Folder], unit: Unit) -> str:
    """The config that is kept beside the records, or the maps where there are none."""
    try:
        return (list(folders.values())[-1].path / "config.yaml").read_text(encoding="utf-8")
    except (OSError, UnicodeError):
        return shareable_yaml(unit.config("explain"))
