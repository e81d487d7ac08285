"""A network together with all that is needed to feed and to explain it."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from aosa.clip import Clip, InputSpec, check_class_names
from aosa.errors import ConfigError
from aosa.options import is_whole

_AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}
_AUTO_BATCH = {"cpu": 8, "cuda": 32}
MOST_CLIPS = 65_536  # of a forward pass: beyond it, CUDA's grids end, and so does any memory


class VideoModel:
    """A video classifier: network + input spec + class names + default target layer.

    Args:
        network: maps B×3×T×H×W (normalised) to B×K logits.
        spec: how the network wants its input.
        name: what tables call it.
        class_names: K names in the order of the logits; None when unknown.
        target_layer: dotted module name(s) whose output Grad-CAM reads.
        device: ``auto`` takes the GPU when there is one.
        precision: ``fp32``, or ``bf16`` / ``fp16`` by autocast. Probabilities are float32 always.
        batch_size: clips per forward pass; ``auto`` depends on the device alone (8 on a CPU, 32 on
            a GPU) so that a run can be repeated elsewhere.
        channels_last: run in channels_last_3d, the faster layout for 3D convolutions.

    Raises:
        ConfigError: an unknown device or precision, a missing GPU, names that do not fit the head.
    """

    def __init__(
        self,
        network: nn.Module,
        spec: InputSpec,
        *,
        name: str = "model",
        class_names: Sequence[str] | None = None,
        target_layer: str | Sequence[str] | None = None,
        device: str = "auto",
        precision: str = "fp32",
        batch_size: int | str = "auto",
        channels_last: bool = False,
    ) -> None:
        self.name = name
        self.spec = spec
        self.class_names = None if class_names is None else check_class_names(class_names, f"model {name}")
        self.target_layers = [target_layer] if isinstance(target_layer, str) else list(target_layer or [])
        self.device = pick_device(device)
        if precision not in ("fp32", *_AUTOCAST):
            raise ConfigError(f"precision={precision}: choose fp32, bf16 or fp16")
        self.precision = precision
        if batch_size == "auto":
            batch_size = _AUTO_BATCH.get(self.device.type, 8)
        if not is_whole(batch_size) or not 1 <= batch_size <= MOST_CLIPS:
            raise ConfigError(f"batch_size={batch_size}: give auto or a whole number from 1 to {MOST_CLIPS}")
        self.batch_size = batch_size
        self.memory_format = torch.channels_last_3d if channels_last else torch.contiguous_format
        self._check_head(getattr(network, "num_classes", None))
        if self.device.type == "cuda":
            # fp32 means fp32, and forward passes give the same bytes each time; gradients do to rounding, since CUDA's
            # backward of 3D pooling is not deterministic.
            torch.backends.cudnn.allow_tf32 = False
            torch.backends.cudnn.deterministic = True
            torch.backends.cudnn.benchmark = False
        self.network = network.to(self.device).eval()
        if channels_last:
            self.network = self.network.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]

    def logits(self, x: Tensor) -> Tensor:
        """B×3×T×H×W normalised → B×K float32 logits. Differentiable.

        Raises:
            ConfigError: K is not the number of class names.
        """
        x = x.to(self.device).contiguous(memory_format=self.memory_format)
        if self.precision == "fp32":
            logits = self.network(x)
        else:
            with torch.autocast(self.device.type, dtype=_AUTOCAST[self.precision]):
                logits = self.network(x).float()
        self._check_head(logits.shape[1])
        return logits

    def _check_head(self, outputs: int | None) -> None:
        if outputs is not None and self.class_names is not None and outputs != len(self.class_names):
            raise ConfigError(
                f"model {self.name} has {outputs} outputs, its class list has {len(self.class_names)} names: give "
                f"model.class_names the checkpoint's list, or null, or set model.network.num_classes"
            )

    def probabilities(self, x: Tensor) -> Tensor:
        """B×3×T×H×W normalised → B×K float32 softmax probabilities. Differentiable; the softmax itself is float64, so
        that the gradient of a nearly certain class is more than rounding."""
        return self.logits(x).double().softmax(dim=1).float()

    def module(self, name: str) -> nn.Module:
        """The submodule of that dotted name.

        Raises:
            ConfigError: there is none; the message lists the top-level names.
        """
        try:
            return self.network.get_submodule(name)
        except AttributeError:
            names = ", ".join(n for n, _ in self.network.named_children())
            raise ConfigError(f"model {self.name} has no layer {name!r}; it has: {names}") from None

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        """Evaluation mode and no parameter gradients inside; everything as it was afterwards,
        also when the body raises (modes, ``requires_grad``, ``grad``)."""
        modes = [(m, m.training) for m in self.network.modules()]
        flags = [(p, p.requires_grad, p.grad) for p in self.network.parameters()]
        try:
            self.network.eval()
            for p, _, _ in flags:
                p.requires_grad_(False)
            yield
        finally:
            for m, training in modes:
                m.training = training
            for p, flag, grad in flags:
                p.requires_grad_(flag)
                p.grad = grad

    def digest(self) -> str:
        """sha256 over the names, shapes and bytes of all weights and buffers: two files of different format
        that hold the same weights have the same digest. The counters of batch norm, which some formats leave
        out and no prediction depends on, don't count."""
        h = hashlib.sha256()
        for key, value in sorted(self.network.state_dict().items()):
            if key.endswith("num_batches_tracked"):
                continue
            h.update(f"{key}{tuple(value.shape)}{value.dtype}".encode())
            h.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
        return h.hexdigest()

    def identity(self) -> dict[str, object]:
        """What of the model changes a map (not the device, not the batch size)."""
        return {
            "name": self.name,
            "network": f"{type(self.network).__module__}.{type(self.network).__qualname__}",
            "weights": self.digest(),
            "class_names": self.class_names,
            "spec": {k: list(v) if isinstance(v, tuple) else v for k, v in vars(self.spec).items()},
            "target_layers": self.target_layers,
            "precision": self.precision,
        }

    def resolve_target(self, clip: Clip, target: int | None) -> int:
        """The class to explain: `target`, else the clip's label, else the top class.

        Raises:
            ConfigError: a class that the model does not have.
        """
        target = clip.label if target is None else target
        classes = None if self.class_names is None else len(self.class_names)
        if target is None or classes is None:
            with torch.no_grad(), self.frozen():
                logits = self.logits(clip.tensor(self.spec)[None])
            classes = logits.shape[1]
            target = int(logits.argmax()) if target is None else target
        if not 0 <= target < classes:
            raise ConfigError(f"target={target} is out of range: model {self.name} has classes 0 to {classes - 1}")
        return int(target)

    def class_index(self, class_name: str) -> int:
        """Index of a class by its exact name.

        Raises:
            ConfigError: not in the list; a name that differs only in case is pointed out.
        """
        if self.class_names is None:
            raise ConfigError(
                f"model {self.name} has no class names, so class {class_name!r} cannot be found among its "
                f"outputs; set model.class_names, or use target=predicted"
            )
        if class_name in self.class_names:
            return self.class_names.index(class_name)
        close = [n for n in self.class_names if n.casefold() == class_name.casefold()]
        hint = f"; it differs only in case from {close[0]!r}" if close else ""
        raise ConfigError(
            f"class {class_name!r} is not among the {len(self.class_names)} classes of model {self.name}{hint}. "
            f"Map it with dataset.class_map, or use target=predicted"
        )


def pick_device(name: str) -> torch.device:
    """The device of that name; ``auto`` takes the GPU when there is one.

    Raises:
        ConfigError: an unknown name, or no GPU.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ConfigError(f"device={name}: choose auto, cpu, cuda or cuda:<index>") from None
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ConfigError(f"device={name}: no CUDA GPU is available here; use device=cpu")
    if device.type not in ("cpu", "cuda"):
        raise ConfigError(f"device={name}: choose auto, cpu, cuda or cuda:<index>")
    return device
