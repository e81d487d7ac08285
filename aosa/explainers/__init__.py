"""The explainers: one method, one file. A class that an own file defines and names is found here by itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aosa.explainers.base import Explainer
from aosa.fields import methods_below

if TYPE_CHECKING:

    def __getattr__(name: str) -> Any: ...


globals().update(found := methods_below(__name__, (Explainer,)))
__all__ = ["Explainer", *sorted(found)]
del found
