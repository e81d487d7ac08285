"""Kinetics-700."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from aosa.data.kinetics import Kinetics
from aosa.fields import option


@dataclass(kw_only=True)
class Kinetics700(Kinetics):
    """Kinetics-700 (Carreira et al., 2019); options as of `aosa.data.kinetics.Kinetics`."""

    title: ClassVar[str] = "Kinetics-700"

    name: str = option("kinetics700", "in folders and tables")
