"""SlowFast with ResNet-50 pathways (8×8), in the layout of mmaction2's checkpoints."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from aosa.models import mmaction2
from aosa.models.pathway import ConvUnit, Pathway

ALPHA, BETA = 4, 8  # the fast pathway has α times the frames and 1/β of the channels
_FUSION = 7  # temporal extent of the lateral connections; the paper has 5


class SlowPathway(Pathway):
    """The pathway of few frames, with the connections that bring the fast one's features into it.

    Each is a 7×1×1 convolution of stride α to twice the channels, without norm or activation; what it gives joins the
    input of the next stage.
    """

    def __init__(self) -> None:
        super().__init__(joined=(16, 64, 128, 256))
        self.conv1_lateral = _lateral(8)
        self.layer1_lateral = _lateral(32)
        self.layer2_lateral = _lateral(64)
        self.layer3_lateral = _lateral(128)


class SlowFastR50(nn.Module):
    """Feichtenhofer et al., ICCV 2019: SlowFast 8×8, R50, as mmaction2 trains it on Kinetics-400.

    One clip goes in; the slow pathway takes every fourth of its frames. Input 3×32×256×256: the last stages are
    2048×8×8×8 (``slow_path.layer4``) and 256×32×8×8 (``fast_path.layer4``).

    Deviation from the paper, as published: lateral kernels 7×1×1.

    Args:
        num_classes: outputs of the head.
    """

    title: ClassVar[str] = "SlowFast-R50"

    def __init__(self, num_classes: int = 400) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.slow_path = SlowPathway()
        self.fast_path = Pathway(base=64 // BETA, stem_frames=5, inflate=(True, True, True, True))
        self.dropout = nn.Dropout(0.5)
        self.fc_cls = nn.Linear(2048 + 2048 // BETA, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """B×3×T×H×W normalised → B×K logits."""
        slow, fast = self.slow_path, self.fast_path
        y = slow.maxpool(slow.conv1(x[:, :, ::ALPHA]))
        x = fast.maxpool(fast.conv1(x))
        y = torch.cat([y, slow.conv1_lateral(x)], dim=1)
        y, x = slow.layer1(y), fast.layer1(x)
        y = torch.cat([y, slow.layer1_lateral(x)], dim=1)
        y, x = slow.layer2(y), fast.layer2(x)
        y = torch.cat([y, slow.layer2_lateral(x)], dim=1)
        y, x = slow.layer3(y), fast.layer3(x)
        y = torch.cat([y, slow.layer3_lateral(x)], dim=1)
        y, x = slow.layer4(y), fast.layer4(x)
        features = torch.cat([x.mean(dim=(2, 3, 4)), y.mean(dim=(2, 3, 4))], dim=1)
        return self.fc_cls(self.dropout(features))

    @staticmethod
    def published_name(key: str) -> str | None:
        """Our name of a tensor of mmaction2's checkpoint."""
        return mmaction2.published_name(key)


def _lateral(channels: int) -> ConvUnit:
    return ConvUnit(channels, 2 * channels, (_FUSION, 1, 1), (ALPHA, 1, 1), norm=False, relu=False)
