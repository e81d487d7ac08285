"""One run on a dashboard. Nothing that goes wrong there can stop the work."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from aosa.config import build
from aosa.environment import commit
from aosa.store.shareable import as_cell, shareable
from aosa.tracking.dashboards import Row, Untracked


class Tracker:
    """One run on a dashboard, as the stages see it: what goes wrong there is said once, and the work goes on."""

    def __init__(self, dashboard: Untracked | None = None) -> None:
        self._dashboard = dashboard or Untracked("")
        self._reported: set[str] = set()

    @property
    def active(self) -> bool:
        """Whether anybody listens."""
        return type(self._dashboard) is not Untracked

    @property
    def overlays(self) -> int:
        """How many overlay videos are wanted."""
        return self._dashboard.overlays

    def start(self, job_type: str, name: str, group: str, config: DictConfig, more: Mapping[str, Any]) -> None:
        """Open the run; when that fails there is none, and nobody listens."""
        with self.guard():
            self._dashboard.start(job_type, name, group, {**shareable(config), "commit": commit(), **more})
            return
        self._dashboard = Untracked("")

    def log(self, prefix: str, **values: float) -> None:
        """The next point of the lines ``<prefix>/<key>``."""
        with self.guard():
            self._dashboard.log({f"{prefix}/{key}": value for key, value in values.items()})

    def curves(self, name: str, curves: Mapping[str, Sequence[float]]) -> None:
        """Curves of one length over the share 0 to 1; nothing when there are none."""
        with self.guard():
            if curves:
                self._dashboard.curves(name, curves)

    def table(self, name: str, rows: Sequence[Row]) -> None:
        """Rows of plain values, without paths; nothing when there are none."""
        with self.guard():
            if rows:
                self._dashboard.table(name, [{key: as_cell(value) for key, value in row.items()} for row in rows])

    def videos(self, name: str, files: Mapping[str, Path]) -> None:
        """MP4 files by caption; nothing when there are none."""
        with self.guard():
            if files:
                self._dashboard.videos(name, files)

    def summary(self, prefix: str, **values: float | None) -> None:
        """Figures that runs are compared by, as ``<prefix>/<key>``; those that are None or NaN are left out."""
        with self.guard():
            known = {k: v for k, v in values.items() if v is not None and not math.isnan(v)}
            self._dashboard.summary({f"{prefix}/{key}": value for key, value in known.items()})

    def finish(self, exit_code: int) -> None:
        """Close the run, and print where it can be seen."""
        with self.guard():
            if where := self._dashboard.finish(exit_code):
                print(f"tracking: {where}")

    @contextmanager
    def guard(self) -> Iterator[None]:
        """Turn whatever fails inside into a warning."""
        try:
            yield
        except Exception as error:
            reason = f"{type(error).__name__}: {error}"
            if reason not in self._reported:
                self._reported.add(reason)
                print(f"warning: tracking failed, the work goes on: {reason}", file=sys.stderr)


def dashboard(config: DictConfig) -> Untracked:
    """The dashboard that ``config.tracking`` names.

    Raises:
        ConfigError: it cannot be had: a package is missing, an option is out of range.
    """
    # Handed over, so that reports, which show the config without the roots, show none here.
    return build(config.tracking, Untracked, output_root=config.output_root)


@contextmanager
def track(
    config: DictConfig, job_type: str, name: str, group: str, about: DictConfig | None = None, **more: Any
) -> Iterator[Tracker]:
    """One run on the dashboard that ``config.tracking`` names, closed on every path: with exit code 1 when the body
    raises, else 0.

    Args:
        config: of the stage.
        job_type: the stage.
        name: of the run: explainer / model / data set.
        group: what it is compared within: the experiment, or the data set.
        about: the config to keep with the run, by default the stage's own; see `shareable`. The commit is added.
        more: further entries of it.

    Raises:
        ConfigError: see `dashboard`.
    """
    tracker = Tracker(dashboard(config))
    try:
        if tracker.active:
            tracker.start(job_type, name, group, config if about is None else about, more)
        yield tracker
    except BaseException:
        tracker.finish(1)
        raise
    tracker.finish(0)
