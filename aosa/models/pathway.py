"""A ResNet-50 over video whose early stages may have no temporal extent: a pathway of SlowFast, the backbone of TPN.

The names of the modules are those of mmaction2's.
"""

from __future__ import annotations

from torch import Tensor, nn

Triple = tuple[int, int, int]


class ConvUnit(nn.Module):
    """Convolution without bias, batch norm and ReLU as asked; it keeps the size at stride 1."""

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        kernel: Triple,
        stride: Triple = (1, 1, 1),
        *,
        groups: int = 1,
        norm: bool = True,
        relu: bool = True,
    ) -> None:
        super().__init__()
        padding = (kernel[0] // 2, kernel[1] // 2, kernel[2] // 2)
        self.conv = nn.Conv3d(channels_in, channels_out, kernel, stride, padding, groups=groups, bias=False)
        self.bn = nn.BatchNorm3d(channels_out) if norm else None
        self.relu = nn.ReLU(inplace=True) if relu else None

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        x = x if self.bn is None else self.bn(x)
        return x if self.relu is None else self.relu(x)


class Bottleneck(nn.Module):
    """t×1×1, 1×3×3 (strided), 1×1×1 convolutions and a shortcut; t is 3 in an inflated stage, else 1."""

    def __init__(self, channels_in: int, width: int, stride: int, inflate: bool) -> None:
        super().__init__()
        channels_out, strides = 4 * width, (1, stride, stride)
        self.conv1 = ConvUnit(channels_in, width, (3 if inflate else 1, 1, 1))
        self.conv2 = ConvUnit(width, width, (1, 3, 3), strides)
        self.conv3 = ConvUnit(width, channels_out, (1, 1, 1), relu=False)
        self.downsample: nn.Module | None = None
        if stride != 1 or channels_in != channels_out:
            self.downsample = ConvUnit(channels_in, channels_out, (1, 1, 1), strides, relu=False)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        return self.relu(self.conv3(self.conv2(self.conv1(x))) + shortcut)


class Pathway(nn.Module):
    """Stem ``conv1``, ``maxpool`` and the stages ``layer1`` … ``layer4`` at 1/4, 1/8, 1/16 and 1/32 of the image; the
    number of frames stays. Whoever holds it calls them in turn.

    Args:
        base: channels after the stem; stage i gives base·4·2^(i−1).
        stem_frames: temporal extent of the first convolution.
        inflate: per stage, whether its first 1×1×1 convolutions become 3×1×1.
        joined: per stage, channels that another pathway adds to its input.
    """

    def __init__(
        self,
        *,
        base: int = 64,
        stem_frames: int = 1,
        inflate: tuple[bool, bool, bool, bool] = (False, False, True, True),
        joined: tuple[int, int, int, int] = (0, 0, 0, 0),
    ) -> None:
        super().__init__()
        self.conv1 = ConvUnit(3, base, (stem_frames, 7, 7), (1, 2, 2))
        self.maxpool = nn.MaxPool3d((1, 3, 3), (1, 2, 2), (0, 1, 1))
        self.layer1 = _stage(base + joined[0], base, 3, 1, inflate[0])
        self.layer2 = _stage(4 * base + joined[1], 2 * base, 4, 2, inflate[1])
        self.layer3 = _stage(8 * base + joined[2], 4 * base, 6, 2, inflate[2])
        self.layer4 = _stage(16 * base + joined[3], 8 * base, 3, 2, inflate[3])


def _stage(channels_in: int, width: int, blocks: int, stride: int, inflate: bool) -> nn.Sequential:
    rest = [Bottleneck(4 * width, width, 1, inflate) for _ in range(blocks - 1)]
    return nn.Sequential(Bottleneck(channels_in, width, stride, inflate), *rest)
