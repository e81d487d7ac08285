"""Kinetics-400."""

from __future__ import annotations

from aosa.data.kinetics import Kinetics


class Kinetics400(Kinetics):
    """Kinetics-400 (Kay et al., 2017); options as of `aosa.data.kinetics.Kinetics`."""
