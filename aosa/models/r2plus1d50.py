"""R(2+1)D-50: ResNet-50 whose convolutions in space and time are factored, in the layout of the published 3D-ResNets
checkpoints."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn


def mid_channels(channels_in: int, channels_out: int, time: int, space: int) -> int:
    """Channels between the two factors, so that they have as many weights as the time×space×space convolution that
    they replace (Tran et al., CVPR 2018, section 3.5)."""
    weights = channels_in * channels_out * time * space**2
    return weights // (channels_in * space**2 + channels_out * time)


class Bottleneck(nn.Module):
    """1×1×1, 1×3×3 (strided in space), 3×1×1 (strided in time), 1×1×1 convolutions and a shortcut."""

    def __init__(self, channels_in: int, width: int, stride: int) -> None:
        super().__init__()
        channels_out, middle = 4 * width, mid_channels(width, width, 3, 3)
        self.conv1 = nn.Conv3d(channels_in, width, 1, bias=False)
        self.bn1 = nn.BatchNorm3d(width)
        self.conv2_s = nn.Conv3d(width, middle, (1, 3, 3), stride=(1, stride, stride), padding=(0, 1, 1), bias=False)
        self.bn2_s = nn.BatchNorm3d(middle)
        self.conv2_t = nn.Conv3d(middle, width, (3, 1, 1), stride=(stride, 1, 1), padding=(1, 0, 0), bias=False)
        self.bn2_t = nn.BatchNorm3d(width)
        self.conv3 = nn.Conv3d(width, channels_out, 1, bias=False)
        self.bn3 = nn.BatchNorm3d(channels_out)
        self.relu = nn.ReLU(inplace=True)
        self.downsample: nn.Module | None = None
        if stride != 1 or channels_in != channels_out:
            # Shortcut type B of He et al. 2016: a projection where the shape changes.
            self.downsample = nn.Sequential(
                nn.Conv3d(channels_in, channels_out, 1, stride=stride, bias=False), nn.BatchNorm3d(channels_out)
            )

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.relu(self.bn2_s(self.conv2_s(y)))
        y = self.relu(self.bn2_t(self.conv2_t(y)))
        return self.relu(self.bn3(self.conv3(y)) + shortcut)


class R2Plus1D50(nn.Module):
    """Kataoka et al. 2020; first kernels 1×7×7 and 7×1×1 with stride 1 in time, batch norm and ReLU between them.

    Input 3×16×112×112; stages at 8×28×28, 4×14×14, 2×7×7, 1×4×4.

    Args:
        num_classes: outputs of the head: 700 for Kinetics-700, 101 for UCF101.
    """

    title: ClassVar[str] = "R(2+1)D-50"

    def __init__(self, num_classes: int = 101) -> None:
        super().__init__()
        self.num_classes = num_classes
        middle = mid_channels(3, 64, 7, 7)
        self.conv1_s = nn.Conv3d(3, middle, (1, 7, 7), stride=(1, 2, 2), padding=(0, 3, 3), bias=False)
        self.bn1_s = nn.BatchNorm3d(middle)
        self.conv1_t = nn.Conv3d(middle, 64, (7, 1, 1), padding=(3, 0, 0), bias=False)
        self.bn1_t = nn.BatchNorm3d(64)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool3d(3, stride=2, padding=1)
        self.layer1 = _stage(64, 64, 3, 1)
        self.layer2 = _stage(256, 128, 4, 2)
        self.layer3 = _stage(512, 256, 6, 2)
        self.layer4 = _stage(1024, 512, 3, 2)
        self.avgpool = nn.AdaptiveAvgPool3d(1)
        self.fc = nn.Linear(2048, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """B×3×T×H×W normalised → B×K logits."""
        x = self.relu(self.bn1_s(self.conv1_s(x)))
        x = self.maxpool(self.relu(self.bn1_t(self.conv1_t(x))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(self.avgpool(x).flatten(1))


def _stage(channels_in: int, width: int, blocks: int, stride: int) -> nn.Sequential:
    rest = [Bottleneck(4 * width, width, 1) for _ in range(blocks - 1)]
    return nn.Sequential(Bottleneck(channels_in, width, stride), *rest)
