"""What each experiment does, whatever way its config says it: its units, its claims, its table.

``python -m tests.pipeline.test_compositions table1`` prints that of an experiment, to compare two states of configs;
without a name it writes down what all do now.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from aosa.config import compose, config_dir, plain
from aosa.experiment.grid import Experiment
from aosa.experiment.table import claims, printed
from aosa.report.tables import row_key

RECORDED = Path(__file__).with_name("compositions.json")
NAMES = sorted({p.stem for p in (config_dir() / "experiment").glob("*.yaml")} - {"truth"})  # has all that there are
TABLE = ("title", "paper", "table", "columns", "statistic", "decimals", "settings", "gallery", "figures")


def effective(overrides: Sequence[str]) -> list[str]:
    """Of each key the last override, as Hydra takes it."""
    return sorted({override.partition("=")[0]: override for override in overrides}.values())


def composition(name: str) -> Iterator[str]:
    """A line for the table, one for each unit, one for each claim."""
    config = compose("reproduce", [f"experiment={name}"])
    yield str([config.experiment.name, *(plain(config.experiment)[key] for key in TABLE)])
    experiment = Experiment(config)
    for site in [] if experiment.units else experiment.sites:
        yield str([site.dataset, site.model, effective(site.overrides)])
    for unit in experiment.units:
        options = {metric: effective(unit.metric_options.get(metric, [])) for metric in unit.metrics}
        unit_overrides = effective(unit.overrides)
        yield str([unit.dataset, unit.model, unit.explainer, unit.variant, unit_overrides, options, unit.timed])
    values = printed(experiment)
    for claim in claims(experiment, config.experiment.columns or []):
        than = claim.than
        if than is None and values is not None:  # all that the paper prints
            rows = values[values["column"] == claim.column]
            than = set(map(row_key, rows["explainer"], rows["variant"]))
        than = None if than is None else sorted({*than} - {claim.explainer})
        yield str([claim.text, claim.column, claim.explainer, than, claim.dataset, claim.model])
        yield str([claim.worse, claim.factor, claim.between])


def digest(name: str) -> str:
    return hashlib.sha256("\n".join(composition(name)).encode()).hexdigest()[:16]


@pytest.mark.parametrize("name", NAMES)
def test_an_experiment_does_what_is_recorded(name):
    listed = "\n".join(composition(name))
    assert digest(name) == json.loads(RECORDED.read_text()).get(name), f"{name} does another thing now:\n{listed}"


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print("\n".join(line for name in sys.argv[1:] for line in composition(name)))
    else:
        RECORDED.write_text(json.dumps({name: digest(name) for name in NAMES}, indent=1) + "\n")
