"""Stage reproduce: everything an experiment needs, from videos to the report."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Container, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import DictConfig, OmegaConf

from aosa.config import build
from aosa.data.base import Entry
from aosa.options import check_choice, check_range
from aosa.pipeline import evaluate, explain
from aosa.pipeline.accuracy import gate
from aosa.pipeline.common import absent, check_common, commit, environment
from aosa.pipeline.experiment import Results, Unit, claims_of, columns_of, folder, shown, units, verdicts_of
from aosa.pipeline.figures import draw, figures_of
from aosa.pipeline.plan import print_plan
from aosa.pipeline.store import canonical
from aosa.pipeline.tabulate import BREAKDOWNS, markdown, tabulate
from aosa.pipeline.tracking import dashboard, track, track_table
from aosa.report.figures import curves
from aosa.report.html import write_report
from aosa.report.overlay import comparison_sheet, overlay, save_png
from aosa.report.tables import Table, display_name, row_key, row_name


def run(config: DictConfig) -> int:
    """Print the accuracy of each model on each data set, then explain, evaluate, tabulate, draw and report; what is
    there already is kept. ``dry_run`` prints the plan instead and makes nothing. Returns the exit status.

    Raises:
        ConfigError: an unknown key or choice, or accuracy_margin out of range.
    """
    check_common(config)
    check_choice("", engine=(config.engine, ("local",)))
    check_choice("", explain_cell=(config.explain_cell, (None,)), breakdown=(config.breakdown, BREAKDOWNS))
    check_range("", accuracy_margin=(config.accuracy_margin, 0, 1))
    dashboard(config)  # refused before any work, too
    all_units = list(units(config))
    figures_of(config, all_units)
    if config.dry_run:
        return print_plan(config, all_units)
    for unit in all_units:
        # Names, options and pairs are checked before hours of work, not in the midst of them.
        if unit.explainer:
            unit.job.explainer.check(unit.job.model)
        for name in unit.metrics:
            unit.metric(name)
        unit.job.entries()
    columns = columns_of(all_units)
    claims_of(config, shown(config, columns))
    status = _accuracies(all_units, config.accuracy_margin)
    explained = [unit for unit in all_units if unit.explainer]
    for number, unit in enumerate(explained, 1):
        print(f"[{number}/{len(explained)}] {unit.command('explain')}")
        mine, group = unit.config("explain"), config.experiment.name
        about = {"maps": unit.job.maps.path.name, "environment": environment(unit.job.model)}
        with track(config, "reproduce", unit.job.title, group, mine, **about) as tracker:
            status = max(status, explain.run(mine, tracker))
            for name in unit.metrics:
                if any(unit.job.maps.clips()):
                    status = max(status, evaluate.run(unit.evaluation(name), tracker))
    results = None
    if columns:
        table, results = tabulate(config, all_units)
        with track(config, "table", config.experiment.name, config.experiment.name) as tracker:
            track_table(tracker, table)
        page = report(config, explained, table, results)
        print(f"\n{markdown(config, table)}\nreport: {page}")
    for picture in draw(config, all_units, results):
        print(f"figure: {picture}")
    return status


def _accuracies(all_units: list[Unit], margin: float) -> int:
    """The accuracy gate, once for each data set and model: both are told apart by all their options."""
    status, seen = 0, set()
    for unit in all_units:
        parts = (unit.job.config[part] for part in ("dataset", "model"))
        key = canonical([OmegaConf.to_container(part, resolve=True) for part in parts])
        if key not in seen:
            seen.add(key)
            config = unit.evaluation("accuracy")
            status = max(status, gate(config, build(config.metric), margin))
    return status


def report(config: DictConfig, all_units: list[Unit], table: Table, results: Results) -> Path:
    """Write ``<output_root>/<experiment>/report/index.html`` and what it shows."""
    final = folder(config) / "report"
    out = Path(tempfile.mkdtemp(dir=folder(config), prefix=".report-"))
    try:
        _write_report(config, all_units, table, results, out)
        # The page before stays until this one is whole.
        shutil.rmtree(final, ignore_errors=True)
        out.chmod(0o755)
        out.rename(final)
    finally:
        shutil.rmtree(out, ignore_errors=True)
    return final / "index.html"


def _write_report(config: DictConfig, all_units: list[Unit], table: Table, results: Results, out: Path) -> None:
    for suffix in (".md", ".tex", ".csv", "_pairs.csv"):
        name = f"{config.experiment.name}{suffix}"
        shutil.copyfile(folder(config) / name, out / name)
    pictures = []
    for dataset, model in dict.fromkeys((c["dataset"], c["model"]) for c in results.curves):
        part = [c for c in results.curves if (c["dataset"], c["model"]) == (dataset, model)]
        title = f"{display_name(model)} on {display_name(dataset)}, {len({c['clip'] for c in part})} videos"
        stem = f"curves-{dataset}-{model}"
        curves(part, out / stem, title=title)
        pictures.append(f"{stem}.png")
    write_report(
        out,
        title=config.experiment.title,
        tables=[table],
        verdicts=verdicts_of(config, table),
        curves_png=pictures,
        gallery=list(_gallery(config, all_units, results, list(table.spec.columns), out)),
        failures=_failures(all_units),
        provenance=_provenance(config, all_units),
    )


def _gallery(
    config: DictConfig, all_units: list[Unit], results: Results, shown: Container[str], out: Path
) -> Iterator[dict[str, Any]]:
    """Evenly spaced clips of each data set × model, each with the overlays of all explainers."""
    scores: dict[tuple[str, str, str, str], dict[str, float]] = {}
    for row in results.scores.to_dict("records"):
        if row["column"] not in shown:
            continue
        key = (row["dataset"], row["model"], row_key(row["explainer"], row["variant"]), row["clip"])
        scores.setdefault(key, {})[row["column"]] = row["value"]
    probability = {(c["dataset"], c["model"], c["clip"]): c["probability"] for c in results.curves}
    grids: dict[tuple[str, str], list[Unit]] = {}
    for unit in all_units:
        grids.setdefault((unit.job.dataset.name, unit.job.model.name), []).append(unit)
    share = max(1, config.experiment.gallery // max(1, len(grids)))
    for (dataset, model), mine in grids.items():
        folders = [u.job.maps for u in mine]
        there = [
            e for e in mine[0].job.entries() if all(f.file(e.id).exists() and not f.failure(e.id) for f in folders)
        ]
        there.sort(key=lambda e: e.class_name or "")  # so that evenly spaced ones are of many classes
        for at in np.unique(np.linspace(0, len(there) - 1, min(share, len(there))).round().astype(int)):
            entry: Entry = there[at]
            clip = mine[0].job.load(entry)
            stem = f"media/{dataset}/{model}/{entry.id}"
            maps, items = {}, []
            meta: dict[str, Any] = {}
            for unit in mine:
                saliency, meta = unit.job.maps.load(entry.id)
                maps[row_name(unit.row)] = saliency
                picture = overlay(clip, saliency)
                save_png(picture.frames[len(picture.frames) // 2], out / f"{stem}.{unit.row}.png")
                picture.save(out / f"{stem}.{unit.row}.mp4")
                items.append(
                    {
                        "explainer": unit.row,
                        "image": f"{stem}.{unit.row}.png",
                        "video": f"{stem}.{unit.row}.mp4",
                        "scores": scores.get((dataset, model, unit.row, entry.id), {}),
                    }
                )
            title = f"{entry.id}: {meta['target_name'] or meta['target']}"
            save_png(comparison_sheet(clip, maps, title=title), out / f"{stem}.png")
            yield {
                "dataset": dataset,
                "model": model,
                "clip": entry.id,
                "class_name": clip.class_name,
                "target_name": meta["target_name"] or str(meta["target"]),
                "probability": probability.get((dataset, model, entry.id)),
                "items": items,
                "sheet": f"{stem}.png",
            }


def _failures(all_units: list[Unit]) -> list[dict[str, object]]:
    """One row per video and reason, with the explainers it concerns; a metric's complaint that there is no map
    adds nothing to the reason why."""
    rows: dict[tuple[str, str], list[str]] = {}
    for unit in all_units:
        records = [unit.records(name) for name in unit.metrics]
        for entry in unit.job.entries():
            reason = unit.job.maps.failure(entry.id)
            for found in [reason] if reason else [r.failure(entry.id) for r in records]:
                if found and unit.row not in rows.setdefault((entry.id, found), []):
                    rows[entry.id, found].append(unit.row)
    return [{"clip": c, "reason": r, "explainers": ", ".join(e)} for (c, r), e in rows.items()]


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
    shown = OmegaConf.to_container(config, resolve=True)
    assert isinstance(shown, dict)
    # Roots are this machine's own affair.
    hidden = {"data_root", "output_root"}
    return {
        "command": " ".join(["python", *(a for a in sys.argv if a.partition("=")[0] not in hidden)]),
        "commit": commit(),
        "maps were made by": _made_by(all_units),
        "videos": " ".join(dict.fromkeys(filter(None, (absent(u.job.dataset) for u in all_units)))) or "all listed",
        "maps": {f"{u.job.dataset.name} / {u.job.model.name} / {u.row}": u.job.maps.path.name for u in all_units},
        "config": OmegaConf.to_yaml(OmegaConf.create({k: v for k, v in shown.items() if k not in hidden})),
    }
