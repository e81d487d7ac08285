"""Temporal Pyramid Network over a SlowOnly ResNet-50, in the layout of mmaction2's checkpoints."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from aosa.models import mmaction2
from aosa.models.pathway import ConvUnit, Pathway

_GROUPS = 32


class SpatialModulation(nn.Module):
    """Brings the features of the third stage to the channels and size of the fourth's."""

    def __init__(self) -> None:
        super().__init__()
        strided = ConvUnit(1024, 2048, (1, 3, 3), (1, 2, 2))
        self.spatial_modulation = nn.ModuleList([nn.Sequential(strided), nn.Identity()])

    def forward(self, levels: list[Tensor]) -> list[Tensor]:
        return [modulate(level) for modulate, level in zip(self.spatial_modulation, levels, strict=True)]


class TemporalModulation(nn.Module):
    """A grouped 3×1×1 convolution, then the maximum over every eight frames."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = ConvUnit(2048, 1024, (3, 1, 1), groups=_GROUPS, norm=False, relu=False)
        self.pool = nn.MaxPool3d((8, 1, 1), ceil_mode=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.pool(self.conv(x))


class Downsample(nn.Module):
    """A convolution alone: both levels have one size in this network, so nothing is left to pool."""

    def __init__(self, kernel: tuple[int, int, int], *, groups: int = 1, norm: bool = False) -> None:
        super().__init__()
        self.conv = ConvUnit(1024, 1024, kernel, groups=groups, norm=norm, relu=norm)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)


class LevelFusion(nn.Module):
    """Both levels, each through a grouped convolution, side by side and mixed."""

    def __init__(self) -> None:
        super().__init__()
        self.downsamples = nn.ModuleList(Downsample((1, 1, 1), groups=_GROUPS, norm=True) for _ in range(2))
        self.fusion_conv = ConvUnit(2048, 2048, (1, 1, 1))

    def forward(self, levels: list[Tensor]) -> Tensor:
        return self.fusion_conv(torch.cat([f(x) for f, x in zip(self.downsamples, levels, strict=True)], dim=1))


class TemporalPyramid(nn.Module):
    """The neck: two levels exchange features top-down, then bottom-up ("cascade"), and both results are fused."""

    def __init__(self) -> None:
        super().__init__()
        self.temporal_modulation_ops = nn.ModuleList(TemporalModulation() for _ in range(2))
        self.downsample_ops = nn.ModuleList([Downsample((3, 1, 1))])
        self.level_fusion_1 = LevelFusion()
        self.spatial_modulation = SpatialModulation()
        self.level_fusion_2 = LevelFusion()
        self.pyramid_fusion = ConvUnit(4096, 2048, (1, 1, 1))

    def forward(self, levels: list[Tensor]) -> Tensor:
        levels = self.spatial_modulation(levels)
        low, high = (f(x) for f, x in zip(self.temporal_modulation_ops, levels, strict=True))
        low = low + high
        top_down = self.level_fusion_1([low, high])
        high = high + self.downsample_ops[0](low)
        bottom_up = self.level_fusion_2([low, high])
        return self.pyramid_fusion(torch.cat([top_down, bottom_up], dim=1))


class TPNR50(Pathway):
    """Yang et al., CVPR 2020: TPN on SlowOnly R50, 8 frames, as mmaction2 trains it on Kinetics-400.

    Input 3×8×224×224: ``layer3`` and ``layer4`` are 1024×8×14×14 and 2048×8×7×7, the neck gives 2048×1×7×7
    (``neck.pyramid_fusion``). The auxiliary head on ``layer3`` serves training alone and is left out.

    Args:
        num_classes: outputs of the head.
    """

    title: ClassVar[str] = "TPN-R50"

    def __init__(self, num_classes: int = 400) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.neck = TemporalPyramid()
        self.dropout = nn.Dropout(0.5)
        self.fc_cls = nn.Linear(2048, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """B×3×T×H×W normalised → B×K logits."""
        x = self.layer2(self.layer1(self.maxpool(self.conv1(x))))
        low = self.layer3(x)
        x = self.neck([low, self.layer4(low)])
        return self.fc_cls(self.dropout(x.mean(dim=(2, 3, 4))))

    @staticmethod
    def published_name(key: str) -> str | None:
        """Our name of a tensor of mmaction2's checkpoint; None for what only training uses, and for the copy of the
        classifier that mmaction2's validation adds (``new_cls``; it makes its own anew each time)."""
        return None if "new_cls" in key.split(".") else mmaction2.published_name(key)
