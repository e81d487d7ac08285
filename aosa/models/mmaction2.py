"""The names of tensors in checkpoints of mmaction2."""

from __future__ import annotations


def published_name(key: str) -> str | None:
    """Our name of a tensor of an mmaction2 checkpoint, for `aosa.models.checkpoints.load_weights`.

    Networks here carry the names of mmaction2's without the part a tensor belongs to: ``backbone.conv1.conv.weight``
    is ``conv1.conv.weight``, ``cls_head.fc_cls.weight`` is ``fc_cls.weight``; necks keep theirs. Own names, and those
    of files of the backbone alone, stay as they are. None for auxiliary heads, which only training uses.
    """
    if "aux_head" in key.split("."):
        return None
    return key.removeprefix("backbone.").removeprefix("cls_head.")
