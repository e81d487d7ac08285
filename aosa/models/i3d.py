"""I3D: Inception-v1 inflated to three dimensions (Carreira and Zisserman, CVPR 2017)."""

from __future__ import annotations

from collections import OrderedDict
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from aosa.errors import ConfigError

Triple = tuple[int, int, int]

# Output channels of the branches: 1×1×1; 1×1×1 then 3×3×3; 1×1×1 then 3×3×3; max pool then 1×1×1.
_MIXED = {
    "mixed_3b": (64, 96, 128, 16, 32, 32),
    "mixed_3c": (128, 128, 192, 32, 96, 64),
    "mixed_4b": (192, 96, 208, 16, 48, 64),
    "mixed_4c": (160, 112, 224, 24, 64, 64),
    "mixed_4d": (128, 128, 256, 24, 64, 64),
    "mixed_4e": (112, 144, 288, 32, 64, 64),
    "mixed_4f": (256, 160, 320, 32, 128, 128),
    "mixed_5b": (256, 160, 320, 32, 128, 128),
    "mixed_5c": (384, 192, 384, 48, 128, 128),
}


def pad_same(x: Tensor, kernel: Triple, stride: Triple, value: float) -> Tensor:
    """TensorFlow's SAME padding: ⌈size / stride⌉ outputs, the odd one of the padding at the end."""
    padding: list[int] = []
    for size, k, s in zip(reversed(x.shape[2:]), reversed(kernel), reversed(stride), strict=True):
        total = max((-(-size // s) - 1) * s + k - size, 0)
        padding += [total // 2, total - total // 2]
    return F.pad(x, padding, value=value) if any(padding) else x


class Unit3D(nn.Module):
    """Convolution, batch norm, ReLU. The published batch norm has no scale: it is 1 in the converted weights."""

    def __init__(self, channels_in: int, channels_out: int, kernel: Triple, stride: Triple = (1, 1, 1)) -> None:
        super().__init__()
        # At stride 1 an odd kernel's SAME padding is symmetric, and the convolution can do it itself.
        self.pads_itself = stride == (1, 1, 1)
        padding = (kernel[0] // 2, kernel[1] // 2, kernel[2] // 2) if self.pads_itself else (0, 0, 0)
        self.conv = nn.Conv3d(channels_in, channels_out, kernel, stride=stride, padding=padding, bias=False)
        self.bn = nn.BatchNorm3d(channels_out, eps=1e-3, momentum=1e-3)
        self.kernel, self.stride = kernel, stride

    def forward(self, x: Tensor) -> Tensor:
        if not self.pads_itself:
            x = pad_same(x, self.kernel, self.stride, 0.0)
        return torch.relu(self.bn(self.conv(x)))


class MaxPool3D(nn.Module):
    """Max pooling with SAME padding that never wins."""

    def __init__(self, kernel: Triple, stride: Triple) -> None:
        super().__init__()
        self.kernel, self.stride = kernel, stride

    def forward(self, x: Tensor) -> Tensor:
        return F.max_pool3d(pad_same(x, self.kernel, self.stride, float("-inf")), self.kernel, self.stride)


class Mixed(nn.Module):
    """An Inception block: four branches side by side."""

    def __init__(self, channels_in: int, channels: tuple[int, int, int, int, int, int]) -> None:
        super().__init__()
        one, three = (1, 1, 1), (3, 3, 3)
        self.branch_0 = Unit3D(channels_in, channels[0], one)
        self.branch_1a = Unit3D(channels_in, channels[1], one)
        self.branch_1b = Unit3D(channels[1], channels[2], three)
        self.branch_2a = Unit3D(channels_in, channels[3], one)
        self.branch_2b = Unit3D(channels[3], channels[4], three)
        self.pool_3 = MaxPool3D(three, one)
        self.branch_3 = Unit3D(channels_in, channels[5], one)

    def forward(self, x: Tensor) -> Tensor:
        branches = [
            self.branch_0(x),
            self.branch_1b(self.branch_1a(x)),
            self.branch_2b(self.branch_2a(x)),
            self.branch_3(self.pool_3(x)),
        ]
        return torch.cat(branches, dim=1)


class I3D(nn.Module):
    """The RGB stream of I3D.

    Args:
        num_classes: outputs of the head.

    The input lies in [−1, 1] and has at least 9 frames of 193×193 (16 of 224×224 by default, of which the
    last blocks see 2×7×7); the logits are averaged over time. A larger image gives several spatial positions,
    which are averaged too (the original fails there).
    """

    title: ClassVar[str] = "I3D"

    def __init__(self, num_classes: int = 400) -> None:
        super().__init__()
        self.num_classes = num_classes
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        layers["conv3d_1a_7x7"] = Unit3D(3, 64, (7, 7, 7), (2, 2, 2))
        layers["pool_2a"] = MaxPool3D((1, 3, 3), (1, 2, 2))
        layers["conv3d_2b_1x1"] = Unit3D(64, 64, (1, 1, 1))
        layers["conv3d_2c_3x3"] = Unit3D(64, 192, (3, 3, 3))
        layers["pool_3a"] = MaxPool3D((1, 3, 3), (1, 2, 2))
        channels = 192
        for name, branches in _MIXED.items():
            if name == "mixed_4b":
                layers["pool_4a"] = MaxPool3D((3, 3, 3), (2, 2, 2))
            if name == "mixed_5b":
                layers["pool_5a"] = MaxPool3D((2, 2, 2), (2, 2, 2))
            layers[name] = Mixed(channels, branches)
            channels = branches[0] + branches[2] + branches[4] + branches[5]
        for name, layer in layers.items():
            self.add_module(name, layer)
        self._order = tuple(layers)
        self.dropout = nn.Dropout(0.5)
        self.logits = nn.Conv3d(channels, num_classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        """B×3×T×H×W in [−1, 1] → B×K logits.

        Raises:
            ConfigError: fewer frames or pixels than the last pooling needs.
        """
        if x.shape[2] < 9 or min(x.shape[3:]) < 193:
            raise ConfigError(
                f"I3D needs at least 9 frames of 193×193, got {'×'.join(map(str, x.shape[2:]))}: "
                f"set model.spec.frames and model.spec.size (16 and [224, 224] are its own)"
            )
        for name in self._order:
            x = self.get_submodule(name)(x)
        x = F.avg_pool3d(x, (2, 7, 7), stride=1)
        return self.logits(self.dropout(x)).mean(dim=(2, 3, 4))
