"""Kinetics-400."""

from __future__ import annotations

from dataclasses import dataclass

from aosa.data.kinetics import Kinetics
from aosa.fields import option


@dataclass(kw_only=True)
class Kinetics400(Kinetics):
    """Kinetics-400 (Kay et al., 2017); options as of `aosa.data.kinetics.Kinetics`."""

    name: str = option("kinetics400", "in folders and tables")
