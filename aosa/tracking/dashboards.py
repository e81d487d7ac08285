"""Where a run can be followed: nowhere, on Weights & Biases, or on TensorBoard."""

from __future__ import annotations

import importlib
import json
import os
import re
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from aosa.errors import ConfigError
from aosa.options import check_choice, check_whole

Row = Mapping[str, object]


class Untracked:
    """No dashboard: forgets what it is told. Every dashboard is one of these, used for one run: `start`, anything of
    the rest, `finish`.

    Args:
        output_root: what it writes lies in a folder of its own below it.

    Attributes:
        overlays: how many overlay videos of a run it wants.
    """

    overlays = 0

    def __init__(self, output_root: str) -> None:
        self.output_root = Path(output_root).absolute()

    def start(self, job_type: str, name: str, group: str, config: Mapping[str, Any]) -> None:
        """Open a run."""

    def log(self, values: Mapping[str, float]) -> None:
        """Take the next point of each of these lines."""

    def curves(self, name: str, curves: Mapping[str, Sequence[float]]) -> None:
        """Take curves of one length over the share 0 to 1."""

    def table(self, name: str, rows: Sequence[Row]) -> None:
        """Take rows of plain values; the columns are the keys of all of them."""

    def videos(self, name: str, files: Mapping[str, Path]) -> None:
        """Take MP4 files by caption; they may be deleted afterwards."""

    def summary(self, values: Mapping[str, float]) -> None:
        """Take the figures that runs are compared by."""

    def finish(self, exit_code: int) -> str:
        """Close the run.

        Returns:
            where it can be seen; empty for nowhere.
        """
        return ""


class Wandb(Untracked):
    """Weights & Biases.

    Everything it writes lies below ``<output_root>/wandb``. What it would collect of itself is off: host, program,
    source code, git remote, installed packages, console output, load of the machine.

    Args:
        output_root: see `Untracked`.
        mode: ``offline``: kept on disk, for ``wandb sync``; ``online``: sent as the run goes on, and kept offline when
            the server cannot be reached.
        project: where the runs are listed.
        entity: user or team; None = the one the account says.
        overlays: overlay videos per run.

    Raises:
        ConfigError: an option out of range, the package is missing, or online without being logged in.
    """

    def __init__(
        self,
        output_root: str,
        mode: str = "offline",
        project: str = "aosa",
        entity: str | None = None,
        overlays: int = 4,
    ) -> None:
        check_choice("tracking", mode=(mode, ("offline", "online")))
        check_whole("tracking", overlays=(overlays, 0))
        super().__init__(output_root)
        self.folder = self.output_root / "wandb"
        self.mode, self.project, self.entity, self.overlays = mode, project, entity, overlays
        self._wandb = _package("wandb", "init", "wandb")
        with self._surroundings():
            if mode == "online" and not self._wandb.login(prompt=False, verify=False):
                raise ConfigError("tracking.mode=online: you are not logged in; run `wandb login`, or leave it offline")
        self._run: Any = None

    def start(self, job_type: str, name: str, group: str, config: Mapping[str, Any]) -> None:
        """Open a run.

        Raises:
            OSError: the folder cannot be written.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        if not os.access(self.folder, os.W_OK):  # it would turn to the folder of temporary files
            raise PermissionError(f"{self.folder} cannot be written")

        def init(mode: str) -> Any:
            with self._surroundings():
                return self._wandb.init(
                    project=self.project,
                    entity=self.entity,
                    dir=self.output_root,
                    job_type=job_type,
                    name=name,
                    group=group,
                    config=dict(config),
                    reinit="create_new",  # a run that the caller has open is left alone
                    settings=self._settings(mode),
                )

        try:
            self._run = init(self.mode)
        except self._wandb.errors.CommError as error:
            if self.mode == "offline":
                raise
            print(f"warning: tracking goes on offline: {str(error).splitlines()[0]}", file=sys.stderr)
            self._run = init("offline")

    def log(self, values: Mapping[str, float]) -> None:
        """Take the next point of each of these lines."""
        self._run.log(dict(values))

    def curves(self, name: str, curves: Mapping[str, Sequence[float]]) -> None:
        """Take curves of one length over the share 0 to 1, as lines over an axis of their own."""
        axis = f"{name}/share"
        for key in curves:
            self._run.define_metric(f"{name}/{key}", step_metric=axis)
        count = len(next(iter(curves.values())))
        for i in range(count):
            share = i / max(1, count - 1)
            self._run.log({axis: share, **{f"{name}/{key}": values[i] for key, values in curves.items()}})

    def table(self, name: str, rows: Sequence[Row]) -> None:
        """Take rows of plain values; the columns are the keys of all of them."""
        columns = list(dict.fromkeys(key for row in rows for key in row))
        data = [[row.get(column) for column in columns] for row in rows]
        with self._surroundings():
            self._run.log({name: self._wandb.Table(columns=columns, data=data, allow_mixed_types=True)})

    def videos(self, name: str, files: Mapping[str, Path]) -> None:
        """Take MP4 files by caption, as one gallery."""
        videos = [self._wandb.Video(str(path), caption=caption, format="mp4") for caption, path in files.items()]
        self._run.log({name: videos})

    def summary(self, values: Mapping[str, float]) -> None:
        """Take the figures that runs are compared by."""
        self._run.summary.update(dict(values))

    def finish(self, exit_code: int) -> str:
        """Close the run. Returns its address, or its folder when it is offline."""
        if self._run is None:  # stopped before there was one
            return ""
        with self._surroundings():
            self._run.finish(exit_code=exit_code)
        return str(Path(self._run.dir).parent if self._run.offline else self._run.url)

    def _settings(self, mode: str) -> Any:
        return self._wandb.Settings(
            mode=mode,
            silent=True,
            console="off",
            host="hidden",
            save_code=False,
            disable_code=True,
            disable_git=True,
            disable_job_creation=True,
            init_timeout=30,
            finish_timeout=300,  # what could not be sent by then is still on disk
            x_disable_meta=True,
            x_disable_machine_info=True,
            x_disable_stats=True,
            x_save_requirements=False,
        )

    @contextmanager
    def _surroundings(self) -> Iterator[None]:
        """What it reads from the environment alone: caches that lie below the folder too, and a quiet log-in."""
        cache = str(self.folder / "cache")
        ours = {"WANDB_DATA_DIR": cache, "WANDB_CACHE_DIR": cache, "WANDB_SILENT": "true"}
        before = {key: os.environ.get(key) for key in ours}
        os.environ.update(ours)
        try:
            yield
        finally:
            for key, value in before.items():
                if value is None:
                    del os.environ[key]
                else:
                    os.environ[key] = value


class TensorBoard(Untracked):
    """TensorBoard, by tensorboardX: each run lies in ``<output_root>/tensorboard/<group>/<name>/<job type>-<number>``.
    It has no axes but whole steps and no videos: a curve's step is its share in percent; a table is a Markdown text.

    Raises:
        ConfigError: the package is missing.
    """

    def __init__(self, output_root: str) -> None:
        super().__init__(output_root)
        self.folder = self.output_root / "tensorboard"
        self._package = _package("tensorboardX", "SummaryWriter", "tensorboard")
        self._steps: Counter[str] = Counter()
        self._writer: Any = None

    def start(self, job_type: str, name: str, group: str, config: Mapping[str, Any]) -> None:
        """Open a run in a folder that no earlier one has.

        Raises:
            OSError: the folder cannot be written.
        """
        above = self.folder / _plain(group) / _plain(name)
        above.mkdir(parents=True, exist_ok=True)
        number = 1
        while True:
            try:
                (above / f"{job_type}-{number}").mkdir()
                break
            except FileExistsError:
                number += 1
        self._writer = self._package.SummaryWriter(str(above / f"{job_type}-{number}"))
        text = json.dumps(config, indent=2, ensure_ascii=False, default=str)
        self._writer.add_text("config", "".join(f"    {line}\n" for line in text.splitlines()))

    def log(self, values: Mapping[str, float]) -> None:
        """Take the next point of each of these lines."""
        for key, value in values.items():
            self._writer.add_scalar(key, value, self._steps[key])
            self._steps[key] += 1

    def curves(self, name: str, curves: Mapping[str, Sequence[float]]) -> None:
        """Take curves of one length over the share 0 to 1."""
        for key, values in curves.items():
            for i, value in enumerate(values):
                self._writer.add_scalar(f"{name}/{key}", value, round(100 * i / max(1, len(values) - 1)))

    def table(self, name: str, rows: Sequence[Row]) -> None:
        """Take rows of plain values; the columns are the keys of all of them."""
        columns = list(dict.fromkeys(key for row in rows for key in row))
        lines: list[list[object]] = [[*columns], ["---"] * len(columns)]
        lines += [[row.get(column) for column in columns] for row in rows]
        texts = (["" if v is None else str(v).replace("|", "\\|") for v in line] for line in lines)
        self._writer.add_text(name, "".join(f"| {' | '.join(line)} |\n" for line in texts))

    def summary(self, values: Mapping[str, float]) -> None:
        """Take the figures that runs are compared by."""
        for key, value in values.items():
            self._writer.add_scalar(f"summary/{key}", value, 0)

    def finish(self, exit_code: int) -> str:
        """Close the run. Returns its folder."""
        if self._writer is None:
            return ""
        self._writer.add_scalar("exit_code", exit_code, 0)
        self._writer.close()
        return str(self._writer.logdir)


def _plain(name: str) -> str:
    return re.sub(r"[^\w.+-]+", "-", name)


def _package(name: str, part: str, extra: str) -> Any:
    """A package that is no requirement.

    Raises:
        ConfigError: it is missing.
    """
    try:
        package = importlib.import_module(name)
    except ImportError:
        package = None
    if not hasattr(package, part):  # a folder of that name passes for a package
        raise ConfigError(f'tracking={extra} needs the package {name}: pip install "aosa[{extra}]"')
    return package
