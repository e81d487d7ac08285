"""Methods that read the gradient at the input: what their options have in common."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from aosa.explainers.base import Explainer
from aosa.explainers.gradients import OUTPUTS, check_gradient
from aosa.fields import option
from aosa.models.base import VideoModel


@dataclass
class InputGradient(Explainer):
    """A member of the family makes one value for each voxel and channel, and sums them by `over_channels`.

    Raises:
        ConfigError: an option out of its choices, or a network through which no gradient comes.
    """

    absolute: bool = option(True, "magnitudes of the channels; off keeps the sign of their sum")
    output: str = option("logit", "what is differentiated", choices=OUTPUTS)

    @property
    def signed(self) -> bool:  # type: ignore[override]
        """Below 0, more brightness lowers the class; magnitudes have no sign."""
        return not self.absolute

    def check(self, model: VideoModel) -> None:
        """Costs a forward pass."""
        check_gradient(model)

    def over_channels(self, values: Tensor) -> Tensor:
        """3×T×H×W → T×H×W: the sum over the channels, of magnitudes or with their signs."""
        return (values.abs() if self.absolute else values).sum(dim=0)
