"""A network together with all that is needed to feed and to explain it."""

from __future__ import annotations

import contextlib
import copy
import hashlib
import warnings
from collections.abc import Iterator, Sequence
from functools import cached_property

import torch
from torch import Tensor, nn

from aosa.clip import Clip, InputSpec, check_class_names
from aosa.errors import AosaError, ConfigError
from aosa.memory import is_out_of_memory
from aosa.models.outputs import HEADS, OUTPUT_LAYOUTS, Ending, activate, as_rows, check_values, pick, sizes
from aosa.options import check_choice, is_whole
from aosa.rng import generator, key_seed

LAYOUTS = ("BCTHW", "BTCHW")
# How most networks are called and read; an identity holds what differs, so that a new option changes no older one.
PLAIN_CALL = {"head": "softmax", "layout": "BCTHW", "output": None, "output_layout": "BK"}
_AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}
_AUTO_BATCH = {"cpu": 8, "cuda": 32}
MOST_CLIPS = 65_536  # of a forward pass: beyond it, CUDA's grids end, and so does any memory


class VideoModel:
    """A network over video: network + input spec + head + class names + default target layer.

    The first pass is a trial, see `trial`: what the network gives is then checked, and what is wrong is said in one
    sentence with the option that mends it.

    Args:
        network: maps clips, as `layout` says, to class scores: a B×K tensor, or what holds one, see `output`.
        spec: how the network wants its input.
        name: what tables call it.
        class_names: K names in the order of the logits; None when unknown.
        target_layer: dotted module name(s) whose output Grad-CAM reads.
        device: ``auto`` takes the GPU when there is one.
        precision: ``fp32``, or ``bf16`` / ``fp16`` by autocast. Probabilities are float32 always.
        batch_size: clips per forward pass; ``auto`` depends on the device alone (8 on a CPU, 32 on
            a GPU) so that a run can be repeated elsewhere.
        channels_last: run in channels_last_3d, the faster layout for 3D convolutions.
        head: what turns the outputs into scores, which is what methods explain and metrics measure. ``softmax``: one
            class of K. ``sigmoid``: several classes at once, or with one output a single one, there or not; its score
            is the probability that it is there, and no class is made up for the contrary. ``identity``: numbers
            (regression), taken as they are. ``probabilities``: the network ends in a softmax or sigmoid itself.
        layout: of the network's input, ``BCTHW`` or ``BTCHW``; `logits` and `scores` take B×C×T×H×W always.
        output: name or index of the class scores where the network gives several tensors; None finds them, see
            `aosa.models.outputs.pick`.
        output_layout: ``BK``; or ``BTK``, ``BKT`` for outputs per frame, which are averaged before the head.

    Raises:
        ConfigError: an unknown device, precision, head or layout, a missing GPU, names that do not fit the head.
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
        head: str = "softmax",
        layout: str = "BCTHW",
        output: str | int | None = None,
        output_layout: str = "BK",
    ) -> None:
        check_choice(
            "model", head=(head, HEADS), layout=(layout, LAYOUTS), output_layout=(output_layout, OUTPUT_LAYOUTS)
        )
        if output is not None and (isinstance(output, bool) or not isinstance(output, str | int)):
            raise ConfigError(f"model.output={output}: give the name or the index of one of the network's outputs")
        self.head, self.layout, self.output, self.output_layout = head, layout, output, output_layout
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
        self._tried = False
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
        """B×3×T×H×W normalised → B×K float32, what the network gives before its head; of a head ``probabilities`` their
        logarithms (0 as the least positive number). Differentiable.

        Raises:
            ConfigError: K is not the number of class names; at the first pass, see `trial`.
        """
        rows = self._rows(x)
        return rows.clamp(min=torch.finfo(rows.dtype).tiny).log() if self.head == "probabilities" else rows

    def scores(self, x: Tensor) -> Tensor:
        """B×3×T×H×W normalised → B×K float32 scores by the head: probabilities, or with ``identity`` the numbers that
        the network gives. Differentiable; the head itself is float64, so that the gradient of a nearly certain class is
        more than rounding.

        Raises:
            ConfigError: as `logits`.
        """
        rows = self._rows(x)
        return rows if self.head == "probabilities" else activate(rows.double(), self.head).float()

    def log_scores(self, x: Tensor) -> Tensor:
        """B×3×T×H×W normalised → B×K float32, the logarithms of the probabilities, also where these are 0 to rounding.
        Differentiable. Not for ``identity``, whose scores may be negative."""
        logits = self.logits(x)
        match self.head:
            case "softmax":
                return logits.log_softmax(dim=1)
            case "sigmoid":
                return nn.functional.logsigmoid(logits)
        return logits

    @torch.no_grad()
    def trial(self) -> None:
        """One pass of noise before the first clip: that the network takes clips, gives class scores that go with its
        head, and the same for a clip alone and among others. Nothing is changed by it; only the first call does
        anything.

        Raises:
            ConfigError: what is wrong, in a sentence, with the option that mends it.
        """
        if self._tried:
            return
        noise = torch.rand(2, 3, self.spec.frames, *self.spec.size, generator=generator("trial"))
        mean, std = self.spec.stats()
        x = (noise - mean) / std
        cuda = [self.device] if self.device.type == "cuda" else []
        with self.frozen(), torch.random.fork_rng(devices=cuda):
            torch.manual_seed(key_seed("trial"))  # a dropout that stays on shows itself in every process or in none
            alone, remark = self._first_pass(x[:1])
            together, _ = self._first_pass(x if self.batch_size > 1 else x[:1])
            if not self._same(alone, together[:1]):
                if not self._same(alone, self._rows(x[:1])):
                    raise ConfigError(
                        f"model {self.name}: the network gives other outputs for the same clip each time, also in "
                        f"evaluation mode; a dropout must follow its mode (nn.Dropout, or training=self.training)"
                    )
                raise ConfigError(
                    f"model {self.name}: the network gives another output for a clip among others than for the clip "
                    f"alone; set batch_size=1"
                )
        if remark:
            warnings.warn(f"model {self.name}: {remark}", stacklevel=2)

    @cached_property
    def differentiable(self) -> bool:
        """Whether gradients of the outputs reach the clip; asking for it costs a forward pass, once."""
        x = torch.zeros(1, 3, self.spec.frames, *self.spec.size, requires_grad=True)
        try:
            with self.frozen(), torch.enable_grad():
                return self.logits(x).requires_grad
        except RuntimeError as error:
            if leaves_autograd(error):
                return False
            raise

    def arranged(self, x: Tensor) -> Tensor:
        """B×3×T×H×W as the network takes it: on its device, in its layout."""
        x = x.to(self.device)
        if self.layout == "BTCHW":
            return x.transpose(1, 2).contiguous()
        return x.contiguous(memory_format=self.memory_format)

    def _rows(self, x: Tensor) -> Tensor:
        """B×3×T×H×W → B×K float32 as the network gives them."""
        if not self._tried:
            return self._first_pass(x)[0]
        rows = self._pass(x)
        self._check_head(rows.shape[1])
        return rows

    def _pass(self, x: Tensor) -> Tensor:
        inputs = self.arranged(x)
        if self.precision == "fp32":
            outputs = self.network(inputs)
        else:
            with torch.autocast(self.device.type, dtype=_AUTOCAST[self.precision]):
                outputs = self.network(inputs)
        classes = self._classes()
        found = pick(outputs, self.output, len(x), classes)
        rows = as_rows(found, self.output_layout, len(x), self.spec.frames, classes)
        return rows.float() if rows.is_floating_point() else rows

    def _first_pass(self, x: Tensor) -> tuple[Tensor, str]:
        """A pass whose failures and outputs are explained; returns the outputs and a remark on them."""
        ending = Ending()
        try:
            with ending:
                rows = self._pass(x)
            remark = check_values(rows, self.head, ending.of(rows), self.precision == "fp32")
        except ConfigError as error:
            raise ConfigError(f"model {self.name}: {error}") from None
        except Exception as error:
            if isinstance(error, AosaError) or is_out_of_memory(error):
                raise
            raise ConfigError(f"model {self.name}: {failed_pass(x, self.layout, error)}{self._mend(x)}") from error
        self._check_head(rows.shape[1])
        self._tried = True
        return rows, remark

    def _mend(self, x: Tensor) -> str:
        """The option with which a pass that fails succeeds, or those to look at."""
        other = copy.copy(self)
        other.layout = next(layout for layout in LAYOUTS if layout != self.layout)
        tries = [(other, x[:1], f"; set model.layout={other.layout}")]
        if len(x) > 1:
            tries.insert(0, (self, x[:1], "; it takes a single clip: set batch_size=1"))
        for model, inputs, mend in tries:
            with torch.no_grad(), contextlib.suppress(Exception):
                model._pass(inputs)
                return mend
        return "; see that model.spec (frames, size) and model.layout are the network's own"

    def _same(self, one: Tensor, other: Tensor) -> bool:
        """Whether two outputs for the same clip agree, but for the rounding of another batch."""
        slack = 1e-3 if self.precision == "fp32" else 0.1
        return one.shape == other.shape and bool((one - other).abs().max() <= slack * one.abs().max())

    def _classes(self) -> int | None:
        """K, where it is known without a pass."""
        return getattr(self.network, "num_classes", None) if self.class_names is None else len(self.class_names)

    def _check_head(self, outputs: int | None) -> None:
        if outputs is not None and self.class_names is not None and outputs != len(self.class_names):
            alone = "; with a single output, name the class that it is for alone" if outputs == 1 else ""
            raise ConfigError(
                f"model {self.name} has {outputs} outputs, its class list has {len(self.class_names)} names: give "
                f"model.class_names the checkpoint's list, or null, or set model.network.num_classes{alone}"
            )

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
        """What of the model changes a map (not the device, not the batch size). A network is told by the name of its
        class and, where that has one, its ``version``: raise it when a fix changes what the network gives."""
        kind = type(self.network)
        return {
            "name": self.name,
            "network": {"name": kind.__name__, "version": getattr(kind, "version", 1)},
            "weights": self.digest(),
            "class_names": self.class_names,
            "spec": {k: list(v) if isinstance(v, tuple) else v for k, v in vars(self.spec).items()},
            "target_layers": self.target_layers,
            "precision": self.precision,
            **{key: getattr(self, key) for key, plain in PLAIN_CALL.items() if getattr(self, key) != plain},
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


def leaves_autograd(error: RuntimeError) -> bool:
    """Whether a pass failed because the network takes its tensors where gradients cannot follow, to numpy say."""
    return "requires grad" in str(error) or "Inference tensors" in str(error)


def failed_pass(x: Tensor, layout: str, error: Exception) -> str:
    """One sentence on a pass that failed.

    Args:
        x: B×3×T×H×W.
        layout: in which the network got it.
    """
    shape = x.shape if layout == "BCTHW" else x.transpose(1, 2).shape
    reason = f"{type(error).__name__}: {str(error).strip().splitlines()[0]}" if str(error) else type(error).__name__
    return f"the network fails on an input of {sizes(shape)} ({layout}) with {reason}"


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
