"""VGG16-LSTM: VGG-16 on every frame, an LSTM over their features, in the layout of the checkpoints of STEP."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor, nn

from aosa.errors import ConfigError

# Names and output channels of the 3×3 convolutions; max pooling after each group.
_GROUPS = (
    (("conv1_1", 64), ("conv1_2", 64)),
    (("conv2_1", 128), ("conv2_2", 128)),
    (("conv3_1", 256), ("conv3_2", 256), ("conv3_3", 256)),
    (("conv4_1", 512), ("conv4_2", 512), ("conv4_3", 512)),
    (("conv5_1", 512), ("conv5_2", 512), ("conv5_3", 512)),
)
_SIDE = 224


class ReLULSTMCell(nn.Module):
    """An LSTM step with ReLU in place of tanh, for the candidate as for the cell's output, and one bias.

    Args:
        inputs, hidden: sizes of the input and of the state.
    """

    def __init__(self, inputs: int, hidden: int) -> None:
        super().__init__()
        self.hidden = hidden
        self.fc_x = nn.Linear(inputs, 4 * hidden)
        self.fc_h = nn.Linear(hidden, 4 * hidden, bias=False)

    def gates(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Input B×D and hidden state B×H → input, forget and output gate and candidate, each B×H."""
        i, f, o, g = (self.fc_x(x) + self.fc_h(h)).chunk(4, dim=1)
        return i.sigmoid(), f.sigmoid(), o.sigmoid(), g.relu()

    def forward(self, x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        """Input B×D, hidden and cell state B×H → the new hidden and cell state."""
        i, f, o, g = self.gates(x, h)
        c = f * c + i * g
        return o * c.relu(), c


class VGG16LSTM(nn.Module):
    """The CNN-RNN that STEP explains (Li et al., WACV 2021, section 4.1; the network of Adel Bargal et al., CVPR 2018).

    Input 3×T×224×224; ``conv5_3`` at 14×14 and ``pool5`` at 7×7 per frame; 4096 features a frame, 256 hidden units.
    No gradient passes from one step to those before it. The prediction is the mean of the steps' softmax
    probabilities.

    Args:
        num_classes: outputs of the head: 24 for UCF101-24, 101 for UCF101, 20 for EPIC-Object.
    """

    title: ClassVar[str] = "VGG16-LSTM"

    def __init__(self, num_classes: int = 24) -> None:
        super().__init__()
        self.num_classes = num_classes
        channels = 3
        for number, group in enumerate(_GROUPS, start=1):
            for name, width in group:
                self.add_module(name, nn.Conv2d(channels, width, 3, padding=1))
                channels = width
            self.add_module(f"pool{number}", nn.MaxPool2d(2))
        self.fc6 = nn.Linear(512 * 7 * 7, 4096)
        self.fc7 = nn.Linear(4096, 4096)
        self.lstm1 = ReLULSTMCell(4096, 256)
        self.fc8_final = nn.Linear(256, num_classes)
        self.relu = nn.ReLU(inplace=True)
        self.dropout = nn.Dropout(0.5)

    def features(self, frames: Tensor) -> Tensor:
        """N×3×224×224 → N×512×7×7, after the last pooling."""
        x = frames.contiguous(memory_format=torch.channels_last)
        for number, group in enumerate(_GROUPS, start=1):
            for name, _ in group:
                x = self.relu(self.get_submodule(name)(x))
            x = self.get_submodule(f"pool{number}")(x)
        return x

    def embed(self, frames: Tensor) -> Tensor:
        """N×3×224×224 → N×4096, the input of the LSTM."""
        x = self.features(frames).flatten(1)
        x = self.dropout(self.relu(self.fc6(x)))
        return self.dropout(self.relu(self.fc7(x)))

    def steps(self, embedded: Tensor) -> Tensor:
        """B×T×4096 → B×T×K, the logits of every step."""
        h = c = embedded.new_zeros(len(embedded), self.lstm1.hidden)
        outputs = []
        for x in embedded.unbind(dim=1):
            h, c = self.lstm1(x, h.detach(), c.detach())
            outputs.append(self.fc8_final(self.dropout(h)))
        return torch.stack(outputs, dim=1)

    def forward(self, x: Tensor) -> Tensor:
        """B×3×T×224×224 normalised → B×K: the logarithm of the mean of the steps' probabilities, whose softmax is that
        mean.

        Raises:
            ConfigError: frames of another size.
        """
        if x.shape[3:] != (_SIDE, _SIDE):
            raise ConfigError(
                f"VGG16-LSTM needs frames of {_SIDE}×{_SIDE}, got {'×'.join(map(str, x.shape[3:]))}: "
                f"set model.spec.size to [{_SIDE}, {_SIDE}]"
            )
        # One clip at a time: the first layers take 200 MB each for 16 frames.
        embedded = torch.stack([self.embed(clip.transpose(0, 1)) for clip in x])
        return self.steps(embedded).log_softmax(dim=2).logsumexp(dim=1) - math.log(x.shape[2])
