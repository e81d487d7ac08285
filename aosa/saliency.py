"""What an explainer gives: a map, with the class that it explains."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from aosa.errors import AosaError
from aosa.options import check_choice, check_whole


@dataclass(frozen=True, eq=False, repr=False)
class SaliencyMap:
    """One number per voxel of a clip. ``np.asarray(map)`` gives the values, without a copy.

    Args:
        values: T×H×W floating numbers, a tensor or an array, larger = more important; kept as float32 on the CPU.
        target: index of the class that the map explains.
        signed: whether 0 means something: what is below 0 speaks against the class. In a map that is not signed, 0 is
            a value as any other.

    Raises:
        AosaError: the values are of another shape or kind.
        ConfigError: the target is no index, or signed is neither true nor false.
    """

    values: Tensor
    target: int
    signed: bool = False

    def __post_init__(self) -> None:
        if self.target is None:
            raise AosaError("a map needs its target: the index of the class that it explains")
        check_whole("", target=(self.target, 0))
        check_choice("", signed=(self.signed, (True, False)))
        given = self.values
        array = given.detach().cpu() if isinstance(given, Tensor) else np.asarray(given)
        floating = array.is_floating_point() if isinstance(array, Tensor) else array.dtype.kind == "f"
        if not floating or array.ndim != 3 or 0 in array.shape:
            raise AosaError(f"a map holds T×H×W floating numbers, not {array.dtype} {tuple(array.shape)}")
        if not isinstance(array, Tensor):
            # A copy: PyTorch takes no array that is read-only, runs backwards, or has its bytes in another order.
            array = torch.from_numpy(array.astype(np.float32))
        object.__setattr__(self, "values", array.to(torch.float32).contiguous())
        object.__setattr__(self, "target", int(self.target))

    @property
    def shape(self) -> tuple[int, int, int]:
        """T, H, W."""
        frames, height, width = self.values.shape
        return frames, height, width

    def with_values(self, new: Tensor | NDArray[np.floating[Any]]) -> SaliencyMap:
        """The map with other values, such as smoothed ones: of the same class, and signed as before.

        Args:
            new: T×H×W floating numbers.
        """
        return replace(self, values=new)  # type: ignore[arg-type]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.array(self.values.numpy(), dtype, copy=copy)

    def __repr__(self) -> str:
        low, high = self.values.aminmax()
        size = "×".join(map(str, self.shape))
        return f"SaliencyMap({size}, {low:.3g} to {high:.3g}, target={self.target}, signed={self.signed})"


def as_array(saliency: SaliencyMap | Tensor | NDArray[Any]) -> NDArray[Any]:
    """The values of a map, or of a bare tensor or array, as they are; no copy where none is needed."""
    return saliency.detach().cpu().numpy() if isinstance(saliency, Tensor) else np.asarray(saliency)
