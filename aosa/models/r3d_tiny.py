"""A 3D residual network small enough to explain clips on one core."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn


class Block(nn.Module):
    """Two 3×3×3 convolutions with batch norm and a shortcut, 1×1×1 where the shape changes."""

    def __init__(self, channels_in: int, channels_out: int, stride: tuple[int, int, int]) -> None:
        super().__init__()
        self.conv1 = nn.Conv3d(channels_in, channels_out, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm3d(channels_out)
        self.conv2 = nn.Conv3d(channels_out, channels_out, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm3d(channels_out)
        self.relu = nn.ReLU()
        self.shortcut: nn.Module = nn.Identity()
        if stride != (1, 1, 1) or channels_in != channels_out:
            self.shortcut = nn.Sequential(
                nn.Conv3d(channels_in, channels_out, 1, stride=stride, bias=False), nn.BatchNorm3d(channels_out)
            )

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu(self.bn1(self.conv1(x)))
        return self.relu(self.bn2(self.conv2(y)) + self.shortcut(x))


class R3DTiny(nn.Module):
    """R3D of basic blocks (Hara et al., CVPR 2018), one per stage, about 0.25 M weights.

    Args:
        num_classes: outputs of the head.

    A 16×64×64 clip gives 16×32×32 after the stem, 16×16×16 after `layer1`, 8×8×8 after `layer2` and `layer3`.
    """

    title: ClassVar[str] = "R3D-tiny"

    def __init__(self, num_classes: int = 6) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.stem = nn.Sequential(
            nn.Conv3d(3, 16, (3, 5, 5), stride=(1, 2, 2), padding=(1, 2, 2), bias=False),
            nn.BatchNorm3d(16),
            nn.ReLU(),
        )
        self.layer1 = Block(16, 24, (1, 2, 2))
        self.layer2 = Block(24, 40, (2, 2, 2))
        self.layer3 = Block(40, 56, (1, 1, 1))
        self.pool = nn.AdaptiveAvgPool3d(1)
        self.fc = nn.Linear(56, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """B×3×T×H×W normalised → B×K logits."""
        x = self.layer3(self.layer2(self.layer1(self.stem(x))))
        return self.fc(self.pool(x).flatten(1))
