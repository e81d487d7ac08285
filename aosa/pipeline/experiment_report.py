"""The whole experiment on one page: tables, verdicts, curves, pictures, gallery, failures, and where they come from."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from omegaconf import DictConfig

from aosa.files import whole_folder
from aosa.pipeline.common import absent, commit
from aosa.pipeline.experiment import Results, Unit, folder, title_of
from aosa.pipeline.gallery import gallery
from aosa.pipeline.shareable import as_cell, command_line, shareable_yaml
from aosa.pipeline.tabulate import Tabulated
from aosa.report.figures import curves
from aosa.report.html import write_report
from aosa.titles import titles

_HEADINGS = {
    "maps": "Maps",
    "masks": "Integrated masks",
    "stages": "Weights drawn anew",
    "times": "Where the time goes",
    "minimal_masks": "Minimal masks",
}


def report(config: DictConfig, all_units: list[Unit], tabulated: Tabulated | None, figures: Sequence[Path]) -> Path:
    """Write ``<output_root>/<experiment>/report/index.html`` and what it shows: a folder that can be moved.

    Args:
        tabulated: None where no metric was asked for.
        figures: the PNG files that `draw` wrote.
    """
    final = folder(config) / "report"
    with whole_folder(final) as out:
        _write_report(config, all_units, tabulated, figures, out)
    return final / "index.html"


def _write_report(
    config: DictConfig, all_units: list[Unit], tabulated: Tabulated | None, figures: Sequence[Path], out: Path
) -> None:
    for suffix in (".md", ".tex", ".csv", "_pairs.csv", "_verdicts.csv", "_verdicts.tex") if tabulated else ():
        written = folder(config) / f"{config.experiment.name}{suffix}"
        if written.exists():  # verdicts need claims
            shutil.copyfile(written, out / written.name)
    explained = [unit for unit in all_units if unit.explainer]
    results, columns = (tabulated.results, tabulated.table.spec.columns) if tabulated else (None, ())
    write_report(
        out,
        title=title_of(config),
        tables=[tabulated.table] if tabulated else [],
        verdicts=tabulated.verdicts if tabulated else [],
        curves_png=_curves(results, out) if results else [],
        figures=_figures(config, figures, out),
        gallery=list(gallery(config, explained, results, columns, out)),
        failures=_failures(all_units),
        provenance=_provenance(config, all_units),
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


def _figures(config: DictConfig, figures: Sequence[Path], out: Path) -> dict[str, list[str]]:
    """Copies of the experiment's pictures, by heading."""
    found: dict[str, list[str]] = {}
    for picture in figures:
        name = picture.relative_to(folder(config))
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        for kind in (".png", ".pdf"):
            # with_suffix takes the last dot only, as `save` does
            shutil.copyfile(picture.with_suffix(kind), (out / name).with_suffix(kind))
        kind = name.parts[1].partition("-")[0].removesuffix(".png")
        found.setdefault(_HEADINGS[kind], []).append(name.as_posix())
    return found


def _failures(all_units: list[Unit]) -> list[dict[str, object]]:
    """One row per video, model and reason, with the explainers it concerns; a metric's complaint that there is no map
    adds nothing to the reason why."""
    rows: dict[tuple[str, str, str], list[str]] = {}
    for unit in all_units:
        records = [unit.records(name) for name in unit.metrics]
        where = titles().place(unit.job.dataset.name, unit.job.model.name)
        for entry in unit.job.entries():
            reason = unit.job.maps.failure(entry.id) if unit.explainer else None
            for found in filter(None, [reason] if reason else [r.failure(entry.id) for r in records]):
                rows.setdefault((entry.id, where, str(as_cell(found))), []).append(titles().row(unit.row))
    return [
        {"clip": clip, "where": where, "reason": reason, "explainers": ", ".join(dict.fromkeys(rows_of))}
        for (clip, where, reason), rows_of in rows.items()
    ]


def _made_by(all_units: list[Unit]) -> str:
    """The environments that made the maps shown, which need not be the one that writes the report."""
    found: dict[str, list[str]] = {}
    for unit in all_units:
        for entry in unit.job.entries():
            about = {k: v for k, v in unit.job.maps.times(entry.id).items() if k not in ("seconds", "parts")}
            if about:
                explainers = found.setdefault(", ".join(f"{k} {v}" for k, v in about.items()), [])
                if unit.row not in explainers:
                    explainers.append(unit.row)
    return "\n".join(f"{about}: {', '.join(explainers)}" for about, explainers in found.items())


def _provenance(config: DictConfig, all_units: list[Unit]) -> dict[str, object]:
    explained = [unit for unit in all_units if unit.explainer]
    return {
        "command": command_line(),
        "commit": commit(),
        "maps were made by": _made_by(explained),
        "videos": " ".join(dict.fromkeys(filter(None, (absent(u.job.dataset) for u in all_units)))) or "all listed",
        "maps": {f"{u.job.dataset.name} / {u.job.model.name} / {u.row}": u.job.maps.path.name for u in explained},
        "config": shareable_yaml(config),
    }
