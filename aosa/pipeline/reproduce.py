"""Stage reproduce: everything an experiment needs, from videos to the report."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Container, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import DictConfig, OmegaConf

from aosa.data.base import Entry
from aosa.pipeline import evaluate, explain
from aosa.pipeline.common import check_common, environment
from aosa.pipeline.experiment import Results, Unit, folder, units
from aosa.pipeline.tabulate import tabulate
from aosa.report.figures import curves
from aosa.report.html import write_report
from aosa.report.overlay import comparison_sheet, overlay, save_png
from aosa.report.tables import Table, display_name


def run(config: DictConfig) -> int:
    """Explain, evaluate, tabulate and report; what is there already is kept. Returns the exit status."""
    check_common(config)
    all_units = list(units(config))
    for unit in all_units:
        # Names and options are checked before hours of work, not in the midst of them.
        unit.job.explainer  # noqa: B018
        for name in unit.metrics:
            unit.metric(name)
        unit.job.entries()
    status = 0
    for number, unit in enumerate(all_units, 1):
        print(f"[{number}/{len(all_units)}] {unit.command('explain')}")
        status = max(status, explain.run(unit.config("explain")))
        for name in unit.metrics:
            if any(unit.job.maps.clips()):
                status = max(status, evaluate.run(unit.evaluation(name)))
    table, results = tabulate(config, all_units)
    page = report(config, all_units, table, results)
    print(f"\n{table.to_markdown()}\nreport: {page}")
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
    for suffix in ("md", "tex", "csv"):
        name = f"{config.experiment.name}.{suffix}"
        shutil.copyfile(folder(config) / name, out / name)
    pictures = []
    for dataset, model in dict.fromkeys((c["dataset"], c["model"]) for c in results.curves):
        part = [c for c in results.curves if (c["dataset"], c["model"]) == (dataset, model)]
        title = f"{display_name(model)} on {display_name(dataset)}, {len({c['clip'] for c in part})} videos"
        stem = f"curves-{dataset}-{model}"
        curves(part, out / stem, title=title)
        pictures.append(f"{stem}.png")
    failures = {
        tuple(failure.values()): {"explainer": unit.explainer, **failure}
        for unit in all_units
        for results_folder in (unit.job.maps, *(unit.job.records(unit.metric(m), m) for m in unit.metrics))
        for failure in results_folder.failures()
    }
    write_report(
        out,
        title=config.experiment.title,
        tables=[table],
        curves_png=pictures,
        gallery=list(_gallery(config, all_units, results, list(table.spec.columns), out)),
        failures=list(failures.values()),
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
        key = (row["dataset"], row["model"], row["explainer"], row["clip"])
        scores.setdefault(key, {})[row["column"]] = row["value"]
    probability = {(c["dataset"], c["model"], c["clip"]): c["probability"] for c in results.curves}
    grids: dict[tuple[str, str], list[Unit]] = {}
    for unit in all_units:
        grids.setdefault((unit.job.dataset.name, unit.job.model.name), []).append(unit)
    share = max(1, config.experiment.gallery // max(1, len(grids)))
    for (dataset, model), mine in grids.items():
        there = [e for e in mine[0].job.entries() if all(u.job.maps.file(e.id).exists() for u in mine)]
        there.sort(key=lambda e: e.class_name or "")  # so that evenly spaced ones are of many classes
        for at in np.unique(np.linspace(0, len(there) - 1, min(share, len(there))).round().astype(int)):
            entry: Entry = there[at]
            clip = mine[0].job.load(entry)
            stem = f"media/{dataset}/{model}/{entry.id}"
            maps, items = {}, []
            meta: dict[str, Any] = {}
            for unit in mine:
                saliency, meta = unit.job.maps.load(entry.id)
                maps[display_name(unit.explainer)] = saliency
                picture = overlay(clip, saliency)
                save_png(picture.frames[len(picture.frames) // 2], out / f"{stem}.{unit.explainer}.png")
                picture.save(out / f"{stem}.{unit.explainer}.mp4")
                items.append(
                    {
                        "explainer": unit.explainer,
                        "image": f"{stem}.{unit.explainer}.png",
                        "video": f"{stem}.{unit.explainer}.mp4",
                        "scores": scores.get((dataset, model, unit.explainer, entry.id), {}),
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


def _provenance(config: DictConfig, all_units: list[Unit]) -> dict[str, object]:
    shown = OmegaConf.to_container(config, resolve=True)
    assert isinstance(shown, dict)
    # Roots are this machine's own affair.
    hidden = {"data_root", "output_root"}
    return {
        "command": " ".join(["python", *(a for a in sys.argv if a.partition("=")[0] not in hidden)]),
        "commit": commit(),
        "environment": {k: str(v) for k, v in environment(all_units[0].job.model).items()},
        "maps": {f"{u.job.dataset.name} / {u.job.model.name} / {u.explainer}": u.job.maps.path.name for u in all_units},
        "config": OmegaConf.to_yaml(OmegaConf.create({k: v for k, v in shown.items() if k not in hidden})),
    }


def commit() -> str:
    """The commit of the checkout that runs, with a mark when files were changed since; "unknown" for a wheel."""
    here = Path(__file__).resolve().parents[2]

    def git(*arguments: str) -> str:
        result = subprocess.run(["git", "-C", str(here), *arguments], capture_output=True, text=True, check=True)
        return result.stdout.strip()

    try:
        changed = " (with uncommitted changes)" if git("status", "--porcelain") else ""
        return git("rev-parse", "HEAD") + changed if (here / ".git").exists() else "unknown"
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
