"""The whole experiment on one page: tables, verdicts, curves, pictures, gallery, failures, and where they come from."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from aosa.engine.job import Place, describe_missing
from aosa.environment import commit
from aosa.experiment.collect import Results
from aosa.experiment.gallery import gallery
from aosa.experiment.grid import Experiment, Unit
from aosa.experiment.table import Tabulated
from aosa.experiment.titles import titles
from aosa.files import whole_folder
from aosa.report.figures import curves
from aosa.report.html import write_report
from aosa.store.shareable import as_cell, command_line, shareable_yaml

_HEADINGS = {
    "maps": "Maps",
    "masks": "Integrated masks",
    "stages": "Weights drawn anew",
    "times": "Where the time goes",
    "minimal_masks": "Minimal masks",
}


def report(experiment: Experiment, tabulated: Tabulated | None, figures: Sequence[Path]) -> Path:
    """Write ``<output_root>/<experiment>/report/index.html`` and what it shows: a folder that can be moved.

    Args:
        tabulated: None where no metric was asked for.
        figures: the PNG files that `draw` wrote.
    """
    final = experiment.folder / "report"
    with whole_folder(final) as out:
        _write_report(experiment, tabulated, figures, out)
    return final / "index.html"


def _write_report(experiment: Experiment, tabulated: Tabulated | None, figures: Sequence[Path], out: Path) -> None:
    for suffix in (".md", ".tex", ".csv", "_pairs.csv", "_verdicts.csv", "_verdicts.tex") if tabulated else ():
        written = experiment.folder / f"{experiment.name}{suffix}"
        if written.exists():  # verdicts need claims
            shutil.copyfile(written, out / written.name)
    results, columns = (tabulated.results, tabulated.table.spec.columns) if tabulated else (None, ())
    write_report(
        out,
        title=experiment.title,
        tables=[tabulated.table] if tabulated else [],
        verdicts=tabulated.verdicts if tabulated else [],
        curves_png=_curves(results, out) if results else [],
        figures=_figures(experiment, figures, out),
        gallery=list(gallery(experiment, results, columns, out)),
        failures=_failures(experiment),
        provenance=_provenance(experiment),
    )


def _curves(results: Results, out: Path) -> list[str]:
    pictures = []
    for dataset, model in dict.fromkeys((c["dataset"], c["model"]) for c in results.curves):
        part = [c for c in results.curves if (c["dataset"], c["model"]) == (dataset, model)]
        title = f"{titles().place(dataset, model)}, {len({c['clip'] for c in part})} videos"
        stem = f"curves-{dataset}-{model}"
        curves(part, out / f"{stem}.png", title=title, titles=titles())  # no suffix: a network's name may hold dots
        pictures.append(f"{stem}.png")
    return pictures


def _figures(experiment: Experiment, figures: Sequence[Path], out: Path) -> dict[str, list[str]]:
    """Copies of the experiment's pictures, by heading."""
    found: dict[str, list[str]] = {}
    for picture in figures:
        name = picture.relative_to(experiment.folder)
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        for kind in (".png", ".pdf"):
            # with_suffix takes the last dot only, as `save` does
            shutil.copyfile(picture.with_suffix(kind), (out / name).with_suffix(kind))
        kind = name.parts[1].partition("-")[0].removesuffix(".png")
        found.setdefault(_HEADINGS[kind], []).append(name.as_posix())
    return found


def _failures(experiment: Experiment) -> list[dict[str, object]]:
    """One row per video, model and reason, with the explainers it concerns; a metric's complaint that there is no map
    adds nothing to the reason why."""
    rows: dict[tuple[str, str, str], list[str]] = {}
    for site in experiment.sites if experiment.has_accuracy else ():
        for entry in site.place.videos():
            if reason := site.records.failure(entry.id):
                rows.setdefault((entry.id, _where(site.place), str(as_cell(reason))), []).append(titles().row(""))
    for unit in experiment.units:
        records = [unit.records(name) for name in unit.metrics]
        where = _where(unit.job)
        for entry in unit.job.entries():
            reason = unit.job.maps.failure(entry.id)
            for found in filter(None, [reason] if reason else [r.failure(entry.id) for r in records]):
                rows.setdefault((entry.id, where, str(as_cell(found))), []).append(titles().row(unit.row))
    return [
        {"clip": clip, "where": where, "reason": reason, "explainers": ", ".join(dict.fromkeys(rows_of))}
        for (clip, where, reason), rows_of in rows.items()
    ]


def _where(place: Place) -> str:
    return titles().place(place.dataset.name, place.model.name)


def _made_by(units: Sequence[Unit]) -> str:
    """The environments that made the maps shown, which need not be the one that writes the report."""
    found: dict[str, list[str]] = {}
    for unit in units:
        for entry in unit.job.entries():
            about = {k: v for k, v in unit.job.maps.times(entry.id).items() if k not in ("seconds", "parts")}
            if about:
                explainers = found.setdefault(", ".join(f"{k} {v}" for k, v in about.items()), [])
                if unit.row not in explainers:
                    explainers.append(unit.row)
    return "\n".join(f"{about}: {', '.join(explainers)}" for about, explainers in found.items())


def _provenance(experiment: Experiment) -> dict[str, object]:
    units = experiment.units
    datasets = [site.place.dataset for site in experiment.sites]
    return {
        "command": command_line(),
        "commit": commit(),
        "maps were made by": _made_by(units),
        "videos": " ".join(dict.fromkeys(filter(None, map(describe_missing, datasets)))) or "all listed",
        "maps": {f"{u.job.dataset.name} / {u.job.model.name} / {u.row}": u.job.maps.path.name for u in units},
        "config": shareable_yaml(experiment.config),
    }
