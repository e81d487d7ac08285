"""Stage accuracy: how well a model classifies a data set."""

from __future__ import annotations

from functools import partial

from omegaconf import DictConfig

from aosa.config import build
from aosa.engine.accuracy import Accuracy, accuracy_records
from aosa.engine.job import Place
from aosa.environment import environment
from aosa.experiment.accuracy import known_entries, measure
from aosa.experiment.plan import print_accuracy_plan
from aosa.experiment.publish import publish_records
from aosa.stages.keys import check_common
from aosa.tracking.tracker import track


def run(config: DictConfig) -> int:
    """Classify every video of ``dataset`` whose class ``model`` knows, and print top-1 and top-5.

    Records lie under ``<output_root>/records/<dataset>/<model>/accuracy-<digest>/``, one JSON per clip; one that is
    there for the present content of its video is kept. ``dry_run`` prints the plan instead and makes nothing. Returns
    the exit status.

    Raises:
        ConfigError: no video of a class that the model knows, or views that the data set has not.
    """
    check_common(config)
    accuracy: Accuracy = build(config.accuracy, Accuracy)
    if config.dry_run:
        return print_accuracy_plan(config)
    place = Place(config)
    about = environment(place.model)
    with track(config, "accuracy", place.title, place.dataset.name, environment=about) as tracker:
        status, measured = measure(place, accuracy, partial(tracker.log, "accuracy"))
        records = accuracy_records(place, accuracy)
        publish_records(tracker, "accuracy", accuracy.columns, {}, records, known_entries(place))
    if measured is not None:
        print(measured)
    print(f"records: {records.path}")
    return status
