"""R(2+1)D-18: ResNet-18 whose convolutions in space and time are factored, in the layout of torchvision's
``r2plus1d_18``."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn

from aosa.models.r2plus1d50 import mid_channels


class Block(nn.Module):
    """Two factored 3×3×3 convolutions (the first strided) and a shortcut. Both factorings have the middle channels
    that the first one's sizes give."""

    def __init__(self, channels_in: int, channels_out: int, stride: int) -> None:
        super().__init__()
        middle = mid_channels(channels_in, channels_out, 3, 3)
        self.conv1 = nn.Sequential(
            _factored(channels_in, middle, channels_out, stride), nn.BatchNorm3d(channels_out), nn.ReLU(inplace=True)
        )
        self.conv2 = nn.Sequential(_factored(channels_out, middle, channels_out, 1), nn.BatchNorm3d(channels_out))
        self.relu = nn.ReLU(inplace=True)
        self.downsample: nn.Module | None = None
        if stride != 1 or channels_in != channels_out:
            self.downsample = nn.Sequential(
                nn.Conv3d(channels_in, channels_out, 1, stride=stride, bias=False), nn.BatchNorm3d(channels_out)
            )

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        return self.relu(self.conv2(self.conv1(x)) + shortcut)


class R2Plus1D18(nn.Module):
    """Tran et al., CVPR 2018, as torchvision publishes it: first kernels 1×7×7 and 3×1×1 with 45 channels between
    them, no max pooling.

    Input 3×16×112×112; stages at 16×56×56, 8×28×28, 4×14×14, 2×7×7.

    Args:
        num_classes: outputs of the head: 400 for Kinetics-400.
    """

    title: ClassVar[str] = "R(2+1)D-18"

    def __init__(self, num_classes: int = 400) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.stem = nn.Sequential(
            nn.Conv3d(3, 45, (1, 7, 7), stride=(1, 2, 2), padding=(0, 3, 3), bias=False),
            nn.BatchNorm3d(45),
            nn.ReLU(inplace=True),
            nn.Conv3d(45, 64, (3, 1, 1), padding=(1, 0, 0), bias=False),
            nn.BatchNorm3d(64),
            nn.ReLU(inplace=True),
        )
        self.layer1 = nn.Sequential(Block(64, 64, 1), Block(64, 64, 1))
        self.layer2 = nn.Sequential(Block(64, 128, 2), Block(128, 128, 1))
        self.layer3 = nn.Sequential(Block(128, 256, 2), Block(256, 256, 1))
        self.layer4 = nn.Sequential(Block(256, 512, 2), Block(512, 512, 1))
        self.avgpool = nn.AdaptiveAvgPool3d(1)
        self.fc = nn.Linear(512, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """B×3×T×H×W normalised → B×K logits."""
        x = self.layer4(self.layer3(self.layer2(self.layer1(self.stem(x)))))
        return self.fc(self.avgpool(x).flatten(1))


def _factored(channels_in: int, middle: int, channels_out: int, stride: int) -> nn.Sequential:
    """1×3×3 in space, batch norm, ReLU, 3×1×1 in time."""
    return nn.Sequential(
        nn.Conv3d(channels_in, middle, (1, 3, 3), stride=(1, stride, stride), padding=(0, 1, 1), bias=False),
        nn.BatchNorm3d(middle),
        nn.ReLU(inplace=True),
        nn.Conv3d(middle, channels_out, (3, 1, 1), stride=(stride, 1, 1), padding=(1, 0, 0), bias=False),
    )
