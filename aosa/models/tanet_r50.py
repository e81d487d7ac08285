"""TANet-50: ResNet-50 on single frames, with a temporal adaptive module in each block."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from aosa.errors import ConfigError
from aosa.models import mmaction2


class ConvNorm(nn.Module):
    """A convolution of frames and its batch norm."""

    def __init__(self, channels_in: int, channels_out: int, kernel: int, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels_in, channels_out, kernel, stride=stride, padding=kernel // 2, bias=False)
        self.bn = nn.BatchNorm2d(channels_out)

    def forward(self, x: Tensor) -> Tensor:
        return self.bn(self.conv(x))


class TemporalAdaptiveModule(nn.Module):
    """A convolution over time whose kernel depends on the clip (Liu et al., ICCV 2021).

    Both branches see the channels' means over each frame. ``L``, the local one, weighs each channel of each frame;
    ``G``, the global one, gives each channel its temporal kernel of three taps, the same for all frames.
    """

    def __init__(self, channels: int, frames: int) -> None:
        super().__init__()
        self.frames = frames
        self.G = nn.Sequential(
            nn.Linear(frames, 2 * frames, bias=False),
            nn.BatchNorm1d(2 * frames),
            nn.ReLU(inplace=True),
            nn.Linear(2 * frames, 3, bias=False),
            nn.Softmax(dim=-1),
        )
        self.L = nn.Sequential(
            nn.Conv1d(channels, channels // 4, 3, padding=1, bias=False),
            nn.BatchNorm1d(channels // 4),
            nn.ReLU(inplace=True),
            nn.Conv1d(channels // 4, channels, 1, bias=False),
            nn.Sigmoid(),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B·T)×C×H×W → the same."""
        x = x.unflatten(0, (-1, self.frames))
        means = x.mean(dim=(3, 4)).transpose(1, 2)  # B×C×T
        kernel = self.G(means.flatten(0, 1)).view(*means.shape[:2], 3)
        weights = self.L(means)[..., None] * kernel[:, :, None]  # B×C×T×3: of frame t in frames t + 1, t, t − 1
        before, same, after = weights.transpose(1, 2)[..., None, None].unbind(dim=3)
        # Broadcast products: a convolution in B·C groups is several times slower on a CPU.
        y = x * same
        y[:, 1:] += x[:, :-1] * before[:, :-1]
        y[:, :-1] += x[:, 1:] * after[:, 1:]
        return y.flatten(0, 1)


class Bottleneck(nn.Module):
    """1×1, temporal adaptive module, 3×3 (strided), 1×1 convolutions and a shortcut."""

    def __init__(self, channels_in: int, width: int, stride: int, frames: int) -> None:
        super().__init__()
        channels_out = 4 * width
        self.conv1 = ConvNorm(channels_in, width, 1)
        self.tam = TemporalAdaptiveModule(width, frames)
        self.conv2 = ConvNorm(width, width, 3, stride)
        self.conv3 = ConvNorm(width, channels_out, 1)
        self.relu = nn.ReLU(inplace=True)
        self.downsample: nn.Module | None = None
        if stride != 1 or channels_in != channels_out:
            self.downsample = ConvNorm(channels_in, channels_out, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        y = self.tam(self.relu(self.conv1(x)))
        y = self.relu(self.conv2(y))
        return self.relu(self.conv3(y) + shortcut)


class FramesToTime(nn.Module):
    """(B·T)×C×H×W → B×C×T×H×W, the layout in which Grad-CAM reads features."""

    def __init__(self, frames: int) -> None:
        super().__init__()
        self.frames = frames

    def forward(self, x: Tensor) -> Tensor:
        return x.unflatten(0, (-1, self.frames)).transpose(1, 2)


class TANet50(nn.Module):
    """Liu, Wang, Wu, Qian and Lu, "TAM: Temporal Adaptive Module for Video Recognition", ICCV 2021.

    Input 3×8×256×256; stages at 64×64, 32×32, 16×16, 8×8, all of 8 frames; the frames' logits are averaged.

    Args:
        num_classes: outputs of the head.
        frames: T; the temporal modules' layers depend on it.
    """

    title: ClassVar[str] = "TANet-R50"

    def __init__(self, num_classes: int = 400, frames: int = 8) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.frames = frames
        self.conv1 = ConvNorm(3, 64, 7, 2)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        self.layer1 = _stage(64, 64, 3, 1, frames)
        self.layer2 = _stage(256, 128, 4, 2, frames)
        self.layer3 = _stage(512, 256, 6, 2, frames)
        self.layer4 = _stage(1024, 512, 3, 2, frames)
        self.features = FramesToTime(frames)
        self.dropout = nn.Dropout(0.5)
        self.fc_cls = nn.Linear(2048, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """B×3×T×H×W normalised → B×K logits.

        Raises:
            ConfigError: a number of frames other than the temporal modules are for.
        """
        if x.shape[2] != self.frames:
            raise ConfigError(
                f"this TANet is built for {self.frames} frames, got {x.shape[2]}: model.spec.frames must agree with "
                f"model.network.frames"
            )
        x = x.transpose(1, 2).flatten(0, 1).contiguous(memory_format=torch.channels_last)
        x = self.maxpool(self.relu(self.conv1(x)))
        x = self.features(self.layer4(self.layer3(self.layer2(self.layer1(x)))))
        # The mean over time before the linear layer: the same as averaged logits.
        return self.fc_cls(self.dropout(x.mean(dim=(3, 4))).mean(dim=2))

    @staticmethod
    def published_name(key: str) -> str | None:
        """Our name of a tensor of an mmaction2 checkpoint, where a block's convolutions are one level deeper."""
        name = mmaction2.published_name(key)
        return None if name is None else name.replace(".block.", ".", 1)


def _stage(channels_in: int, width: int, blocks: int, stride: int, frames: int) -> nn.Sequential:
    rest = [Bottleneck(4 * width, width, 1, frames) for _ in range(blocks - 1)]
    return nn.Sequential(Bottleneck(channels_in, width, stride, frames), *rest)
