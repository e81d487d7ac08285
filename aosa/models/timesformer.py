"""TimeSformer: a vision transformer with divided space-time attention."""

from __future__ import annotations

import re
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from aosa.errors import ConfigError
from aosa.models import mmaction2
from aosa.rng import generator

# Names of a block's parts: in mmaction2, in Hugging Face, here.
_MMACTION2 = {
    "attentions.0.norm": "temporal.norm",
    "attentions.0.attn.in_proj_": "temporal.qkv.",
    "attentions.0.attn.out_proj": "temporal.proj",
    "attentions.0.temporal_fc": "temporal_fc",
    "attentions.1.norm": "spatial.norm",
    "attentions.1.attn.in_proj_": "spatial.qkv.",
    "attentions.1.attn.out_proj": "spatial.proj",
    "ffns.0.norm": "ffn.norm",
    "ffns.0.layers.0.0": "ffn.fc1",
    "ffns.0.layers.1": "ffn.fc2",
}
_HUGGING_FACE = {
    "temporal_layernorm": "temporal.norm",
    "temporal_attention.attention.qkv": "temporal.qkv",
    "temporal_attention.output.dense": "temporal.proj",
    "temporal_dense": "temporal_fc",
    "layernorm_before": "spatial.norm",
    "attention.attention.qkv": "spatial.qkv",
    "attention.output.dense": "spatial.proj",
    "layernorm_after": "ffn.norm",
    "intermediate.dense": "ffn.fc1",
    "output.dense": "ffn.fc2",
}
_HUGGING_FACE_ENDS = {
    "timesformer.embeddings.cls_token": "cls_token",
    "timesformer.embeddings.position_embeddings": "pos_embed",
    "timesformer.embeddings.time_embeddings": "time_embed",
    "timesformer.embeddings.patch_embeddings.projection": "patch_embed.projection",
    "timesformer.layernorm": "norm",
    "classifier": "fc_cls",
}


class Attention(nn.Module):
    """Layer norm and multi-head self-attention: N×L×C → N×L×C, the shortcut left to the caller.

    ``qkv`` gives N×L×3C, along the last axis queries, keys, values, each with its heads one after another: whoever
    wants the attention weights, which the fused attention does not return, takes ``softmax(q·kᵀ / √(C / heads))`` of
    its ``unflatten(-1, (3, heads, -1))``.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(self.norm(x)).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        return self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class FeedForward(nn.Module):
    """Layer norm and two linear layers, the shortcut left to the caller."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.fc1 = nn.Linear(width, 4 * width)
        self.fc2 = nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(self.norm(x))))


class Block(nn.Module):
    """Attention over time, then over space, then the feed-forward layers, each around a shortcut."""

    def __init__(self, width: int, heads: int, frames: int) -> None:
        super().__init__()
        self.frames = frames
        self.temporal = Attention(width, heads)
        self.temporal_fc = nn.Linear(width, width)
        self.spatial = Attention(width, heads)
        self.ffn = FeedForward(width)

    def forward(self, x: Tensor) -> Tensor:
        """B×(1 + P·T)×C → the same: the class token, then the patches' tokens, time innermost."""
        token, patches = x[:, :1], x[:, 1:].unflatten(1, (-1, self.frames))

        # Each patch attends to itself at all times: B·P sequences of T. The class token takes no part.
        update = self.temporal_fc(self.temporal(patches.flatten(0, 1)))
        patches = patches + update.view_as(patches)

        # All patches of a frame and the class token attend to each other: B·T sequences of 1 + P.
        space = torch.cat([token[:, None].expand(-1, self.frames, -1, -1), patches.transpose(1, 2)], dim=2)
        update = self.spatial(space.flatten(0, 1)).view_as(space)
        token = token + update[:, :, 0].mean(dim=1, keepdim=True)
        patches = patches + update[:, :, 1:].transpose(1, 2)

        x = torch.cat([token, patches.flatten(1, 2)], dim=1)
        return x + self.ffn(x)


class PatchEmbedding(nn.Module):
    """Each patch of each frame as one token: B×3×T×H×W → (B·T)×P×C, patches row by row."""

    def __init__(self, patch: int, width: int) -> None:
        super().__init__()
        self.projection = nn.Conv2d(3, width, patch, stride=patch)

    def forward(self, x: Tensor) -> Tensor:
        return self.projection(x.transpose(1, 2).flatten(0, 1)).flatten(2).transpose(1, 2)


class TimeSformer(nn.Module):
    """Bertasius, Wang and Torresani, ICML 2021: divided space-time attention, ViT-B/16 by default.

    Tokens: the class token, then the patches in the order (p, t): token 1 + p·T + t is patch p (row by row) of frame
    t. In each block the spatial attention follows the temporal one: ``blocks.i.temporal`` sees (B·P)×T×C, without
    the class token; ``blocks.i.spatial`` sees (B·T)×(1 + P)×C with the class token first, whose updates are averaged
    over the frames. `Attention` tells how to read the attention weights. What an explainer needs: ``heads``,
    ``frames`` (T), ``grid`` (rows and columns of patches), ``blocks``.

    Args:
        num_classes: outputs of the head.
        frames: T.
        size: height and width of the input in pixels.
        patch: side of a patch in pixels.
        width: C.
        heads: of each attention.
        depth: number of blocks.

    Raises:
        ConfigError: a size that is no multiple of the patch, a width that is none of the heads.
    """

    title: ClassVar[str] = "TimeSformer"
    titles: ClassVar[dict[str, str]] = {"timesformer_hf": "TimeSformer (Hugging Face)"}

    def __init__(
        self,
        num_classes: int = 400,
        frames: int = 8,
        size: tuple[int, int] = (224, 224),
        patch: int = 16,
        width: int = 768,
        heads: int = 12,
        depth: int = 12,
    ) -> None:
        super().__init__()
        if size[0] % patch or size[1] % patch:
            raise ConfigError(f"model.network.size={list(size)}: must be multiples of model.network.patch={patch}")
        if width % heads:
            raise ConfigError(f"model.network.width={width}: must be a multiple of model.network.heads={heads}")
        self.num_classes = num_classes
        self.frames, self.size, self.heads = frames, tuple(size), heads
        self.grid = (size[0] // patch, size[1] // patch)
        self.patch_embed = PatchEmbedding(patch, width)
        self.cls_token = _embedding("cls_token", 1, width)
        self.pos_embed = _embedding("pos_embed", 1 + self.grid[0] * self.grid[1], width)
        self.time_embed = _embedding("time_embed", frames, width)
        self.blocks = nn.ModuleList(Block(width, heads, frames) for _ in range(depth))
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.fc_cls = nn.Linear(width, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """B×3×T×H×W normalised → B×K logits.

        Raises:
            ConfigError: a T×H×W other than the embeddings are for.
        """
        if x.shape[2:] != (self.frames, *self.size):
            raise ConfigError(
                f"this TimeSformer is built for {self.frames}×{self.size[0]}×{self.size[1]} (T×H×W), "
                f"got {'×'.join(map(str, x.shape[2:]))}: model.spec must agree with model.network"
            )
        x = self.patch_embed(x) + self.pos_embed[:, 1:]
        x = x.unflatten(0, (-1, self.frames)).transpose(1, 2) + self.time_embed
        token = (self.cls_token + self.pos_embed[:, :1]).expand(len(x), -1, -1)
        x = torch.cat([token, x.flatten(1, 2)], dim=1)
        for block in self.blocks:
            x = block(x)
        return self.fc_cls(self.norm(x[:, 0]))

    @staticmethod
    def published_name(key: str) -> str | None:
        """Our name of a tensor of a checkpoint of mmaction2 or Hugging Face."""
        if found := re.fullmatch(r"timesformer\.encoder\.layer\.(\d+)\.(.+)", key):
            return f"blocks.{found[1]}.{_replaced(found[2], _HUGGING_FACE)}"
        if key.startswith(("timesformer.", "classifier.")):
            return _replaced(key, _HUGGING_FACE_ENDS)
        name = mmaction2.published_name(key)
        if name is not None and (found := re.fullmatch(r"transformer_layers\.layers\.(\d+)\.(.+)", name)):
            return f"blocks.{found[1]}.{_replaced(found[2], _MMACTION2)}"
        return name


def _embedding(name: str, tokens: int, width: int) -> nn.Parameter:
    # From a seed of its own: weights drawn anew for tests and benchmarks leave the embeddings as they are.
    values = torch.randn(1, tokens, width, generator=generator("timesformer", name))
    return nn.Parameter(0.02 * values)


def _replaced(key: str, names: dict[str, str]) -> str:
    """The key with its beginning renamed; unknown ones stay, to be listed by the loader."""
    for published, own in names.items():
        if key.startswith(published):
            return own + key.removeprefix(published)
    return key
