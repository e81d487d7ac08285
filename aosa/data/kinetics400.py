"""Kinetics-400."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from aosa.data.kinetics import Kinetics
from aosa.fields import option


@dataclass(kw_only=True)
class Kinetics400(Kinetics):
    """Kinetics-400 (Kay et al., 2017); options as of `aosa.data.kinetics.Kinetics`."""

    title: ClassVar[str] = "Kinetics-400"

    name: str = option("kinetics400", "in folders and tables")
