"""Kinetics-700."""

from __future__ import annotations

from aosa.data.kinetics import Kinetics


class Kinetics700(Kinetics):
    """Kinetics-700 (Carreira et al., 2019); options as of `aosa.data.kinetics.Kinetics`."""
