"""The metrics: one metric, one file. A class that an own file defines and names is found here by itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aosa.fields import methods_below
from aosa.metrics.base import Metric

if TYPE_CHECKING:

    def __getattr__(name: str) -> Any: ...


globals().update(found := methods_below(__name__, (Metric,)))
__all__ = ["Metric", *sorted(found)]
del found
