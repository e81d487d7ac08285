"""Checkpoints that fit, those that don't, and those that must not be run; the models that configs build from them."""

from __future__ import annotations

import os
import pickle
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from hydra.core.global_hydra import GlobalHydra
from safetensors.torch import save_file
from torch import Tensor, nn

from aosa.errors import CheckpointError, ConfigError
from aosa.models import VideoModel, build_model, load_model
from aosa.models.checkpoints import load_weights, read_checkpoint
from aosa.models.r3d50 import R3D50
from aosa.models.r3d_tiny import R3DTiny
from tests.helpers import SPEC, Small3D, moving_clip


class Network(Small3D):
    """`Small3D` that says how many classes it has, with weights that no other instance starts from."""

    def __init__(self, num_classes: int = 3) -> None:
        super().__init__(classes=num_classes)
        self.num_classes = num_classes


def trained(seed: int = 1, num_classes: int = 3) -> dict[str, Tensor]:
    """A state dict unlike that of a new network, batch-norm statistics included."""
    generator = torch.Generator().manual_seed(seed)
    state = Network(num_classes).state_dict()
    return {k: torch.rand(v.shape, generator=generator) + 0.1 if v.is_floating_point() else v for k, v in state.items()}


def published(state: dict[str, Tensor], arch: str = "resnet-50") -> dict[str, Any]:
    """As 3D-ResNets writes them: data-parallel names, optimiser and scheduler beside the weights."""
    network = Network()
    optimiser = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9)
    network(torch.zeros(1, 3, 2, 4, 4)).sum().backward()
    optimiser.step()
    scheduler = torch.optim.lr_scheduler.MultiStepLR(optimiser, [50, 100, 150])
    return {
        "epoch": 200,
        "arch": arch,
        "state_dict": {f"module.{k}": v for k, v in state.items()},
        "optimizer": optimiser.state_dict(),
        "scheduler": scheduler.state_dict(),
    }


def same(network: nn.Module, state: dict[str, Tensor]) -> bool:
    own = network.state_dict()
    return all(torch.equal(own[k], v) for k, v in state.items())


def as_published(state: dict[str, Tensor], path: Path) -> None:
    torch.save(published(state), path)


def as_published_before_zip(state: dict[str, Tensor], path: Path) -> None:
    torch.save(published(state), path, _use_new_zipfile_serialization=False)


def as_mmaction(state: dict[str, Tensor], path: Path) -> None:
    torch.save({"meta": {"epoch": 3, "CLASSES": ["a"]}, "state_dict": state}, path)


def under_model(state: dict[str, Tensor], path: Path) -> None:
    torch.save({"model": state, "iteration": 7}, path)


def bare(state: dict[str, Tensor], path: Path) -> None:
    torch.save(state, path)


def as_safetensors(state: dict[str, Tensor], path: Path) -> None:
    save_file(state, path)


FORMATS = [as_published, as_published_before_zip, as_mmaction, under_model, bare, as_safetensors]


@pytest.mark.parametrize(
    ("save", "name"), [*((save, "weights.pth") for save in FORMATS), (as_safetensors, "weights.safetensors")]
)
def test_every_format_gives_the_weights_back(
    save: Callable[[dict[str, Tensor], Path], None], name: str, tmp_path: Path
) -> None:
    path = tmp_path / name
    save(trained(), path)
    network = Network()
    load_weights(network, path)
    assert same(network, trained())


def test_the_digest_is_that_of_the_weights_not_of_the_file(tmp_path: Path) -> None:
    digests = []
    for i, save in enumerate(FORMATS):
        state = trained()
        if save is bare:
            state = {k: v for k, v in state.items() if not k.endswith("num_batches_tracked")}
        save(state, tmp_path / f"{i}.pth")
        digests.append(build_model(Network(), SPEC, name="n", checkpoint=str(tmp_path / f"{i}.pth")).digest())
    torch.save(trained(seed=2), tmp_path / "other.pth")
    other = build_model(Network(), SPEC, name="n", checkpoint=str(tmp_path / "other.pth")).digest()
    assert len(set(digests)) == 1
    assert other not in digests


def test_plain_entries_are_kept_and_the_prefix_goes_only_where_all_have_it(tmp_path: Path) -> None:
    torch.save(published(trained()), tmp_path / "all.pth")
    tensors, extra = read_checkpoint(tmp_path / "all.pth")
    assert set(tensors) == set(trained())
    assert (extra["arch"], extra["epoch"]) == ("resnet-50", 200)
    torch.save({"module.a": torch.ones(1), "b": torch.ones(1)}, tmp_path / "some.pth")
    assert set(read_checkpoint(tmp_path / "some.pth")[0]) == {"module.a", "b"}


def test_half_precision_weights_are_cast(tmp_path: Path) -> None:
    torch.save({k: v.half() if v.is_floating_point() else v for k, v in trained().items()}, tmp_path / "half.pth")
    network = Network()
    load_weights(network, tmp_path / "half.pth")
    assert network.fc.weight.dtype == torch.float32
    assert torch.allclose(network.fc.weight, trained()["fc.weight"], atol=1e-3)


def test_the_log_beside_mmaction2s_weights_is_left_out_unread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class HistoryBuffer:
        """Loses its innocence if it is made or filled on loading."""

        def __init__(self) -> None:
            self.values, self.methods = np.arange(3.0), [MethodOf(HistoryBuffer)]

        def __new__(cls, *arguments: object) -> Any:
            calls.append("new")
            return super().__new__(cls)

        def __setstate__(self, state: object) -> None:
            calls.append("setstate")

        mean = None

    class MethodOf:
        def __init__(self, owner: type) -> None:
            self.owner = owner

        def __reduce__(self) -> tuple[Any, ...]:
            return getattr, (self.owner, "mean")

    calls: list[str] = []
    module = ModuleType("mmengine.logging.history_buffer")
    HistoryBuffer.__module__, HistoryBuffer.__qualname__ = module.__name__, "HistoryBuffer"
    module.HistoryBuffer = HistoryBuffer  # type: ignore[attr-defined]
    for name in ("mmengine", "mmengine.logging"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    content = {
        "meta": {"hook_msgs": {"best": np.float64(0.7)}, "seed": np.int64(3)},
        "state_dict": trained(),
        "message_hub": {"log_scalars": {"loss": HistoryBuffer()}},
        "score": np.float64(0.7),
    }
    torch.save(content, tmp_path / "mmengine.pth")
    calls.clear()
    allowed = set(torch.serialization.get_safe_globals())
    tensors, extra = read_checkpoint(tmp_path / "mmengine.pth")
    assert extra == {}
    assert calls == []
    network = Network()
    network.load_state_dict(tensors)
    assert same(network, trained())
    assert set(torch.serialization.get_safe_globals()) == allowed


class Malicious:
    """Unpickled without care, it makes a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = str(folder)

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (self.folder,)


@pytest.mark.parametrize("kind", ["zip", "before_zip", "pickle", "safetensors"])
def test_a_malicious_pickle_is_refused_and_never_run(kind: str, tmp_path: Path) -> None:
    content = {**published(trained()), "payload": Malicious(tmp_path / "pwned")}
    path = tmp_path / ("evil.safetensors" if kind == "safetensors" else "evil.pth")
    if kind in ("pickle", "safetensors"):
        path.write_bytes(pickle.dumps(content))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=kind == "zip")
    network = Network()
    with pytest.raises(CheckpointError, match=r"evil.*(refused|not safetensors)"):
        load_weights(network, path)
    assert not (tmp_path / "pwned").exists()
    assert same(network, Network().state_dict())


@pytest.mark.parametrize("zipped", [True, False])
def test_a_whole_pickled_model_is_refused_by_the_class_it_asks_for(zipped: bool, tmp_path: Path) -> None:
    torch.save(Network(), tmp_path / "model.pth", _use_new_zipfile_serialization=zipped)
    with pytest.raises(CheckpointError, match=r"refused: the file asks to run \S*Network.*save its state_dict"):
        read_checkpoint(tmp_path / "model.pth")


@pytest.mark.parametrize("share", [0.0005, 0.01, 0.5, 0.97])
@pytest.mark.parametrize("save", [as_published, as_published_before_zip, as_safetensors])
def test_a_truncated_file_is_refused(
    save: Callable[[dict[str, Tensor], Path], None], share: float, tmp_path: Path
) -> None:
    path = tmp_path / ("cut.safetensors" if save is as_safetensors else "cut.pth")
    save(trained(), path)
    os.truncate(path, max(12, int(path.stat().st_size * share)))
    with pytest.raises(CheckpointError, match=r"cut\.\w+: (damaged|refused)"):
        read_checkpoint(path)


def test_one_damaged_byte_is_found(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    bare(trained(), path)
    content = bytearray(path.read_bytes())
    value = trained()["layer4.0.weight"].numpy().tobytes()
    content[bytes(content).index(value) + 5] ^= 1
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"weights\.pth: damaged: weights/data/\d+ in it is not what was written"):
        read_checkpoint(path)


def test_a_file_that_states_no_sums_is_read(tmp_path: Path) -> None:
    stated = torch.serialization.get_crc32_options()
    torch.serialization.set_crc32_options(False)
    try:
        bare(trained(), tmp_path / "weights.pth")
    finally:
        torch.serialization.set_crc32_options(stated)
    assert read_checkpoint(tmp_path / "weights.pth")[0].keys() == trained().keys()


def test_files_that_are_no_checkpoints_are_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"absent\.pth: no such file"):
        read_checkpoint(tmp_path / "absent.pth")
    with pytest.raises(CheckpointError, match=rf"checkpoint {tmp_path}: a folder; give the file in it"):
        read_checkpoint(tmp_path)
    (tmp_path / "empty.pth").touch()
    with pytest.raises(CheckpointError, match=r"empty\.pth: the file is empty"):
        read_checkpoint(tmp_path / "empty.pth")
    (tmp_path / "page.pth").write_text("<!DOCTYPE html><html>404</html>")
    with pytest.raises(CheckpointError, match=r"page\.pth: neither safetensors nor written by torch\.save"):
        read_checkpoint(tmp_path / "page.pth")
    torch.save([torch.ones(2)], tmp_path / "list.pth")
    with pytest.raises(CheckpointError, match=r"list\.pth: holds no tensors by name"):
        read_checkpoint(tmp_path / "list.pth")


def test_another_architecture_is_named_with_the_keys_that_differ(tmp_path: Path) -> None:
    torch.save(published(trained(), arch="resnet-18"), tmp_path / "r18.pth")
    with pytest.raises(CheckpointError) as caught:
        load_weights(R3D50(num_classes=3), tmp_path / "r18.pth")
    message = str(caught.value)
    assert "r18.pth (its arch is 'resnet-18') does not fit R3D50" in message
    own = {k for k in R3D50(3).state_dict() if not k.endswith("num_batches_tracked")}
    missing = len(own - set(trained()))
    assert f"missing ({missing}): conv1.weight, bn1.weight" in message
    assert f"and {missing - 10} more" in message
    assert f"extra ({len(set(trained()) - own)}): stem.0.weight" in message
    assert "other shape (1): fc.weight is 3×12, should be 3×2048" in message


def test_one_missing_one_extra_and_one_wrong_shape_are_all_listed_and_nothing_is_loaded(tmp_path: Path) -> None:
    state = trained()
    del state["layer4.0.bias"]
    state["stem.0.bias"] = torch.ones(5)
    state["extra.weight"] = torch.ones(1)
    torch.save(state, tmp_path / "bad.pth")
    network = Network()
    with pytest.raises(CheckpointError) as caught:
        load_weights(network, tmp_path / "bad.pth")
    message = str(caught.value)
    assert "missing (1): layer4.0.bias" in message
    assert "extra (1): extra.weight" in message
    assert "other shape (1): stem.0.bias is 5, should be 8" in message
    assert same(network, Network().state_dict())


def test_a_head_of_another_size_is_named_as_such(tmp_path: Path) -> None:
    torch.save(published(trained(num_classes=700)), tmp_path / "k700.pth")
    with pytest.raises(CheckpointError, match=r"head has 700 classes.*built for 101.*model\.network\.num_classes=700"):
        load_weights(Network(num_classes=101), tmp_path / "k700.pth")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("key", ["fc.bias", "stem.1.running_var"])
def test_weights_that_are_not_finite_are_refused_by_name(value: float, key: str, tmp_path: Path) -> None:
    state = trained()
    state[key][1] = value
    torch.save(published(state), tmp_path / "nan.pth")
    network = Network()
    with pytest.raises(CheckpointError, match=rf"nan\.pth: {key} holds NaN or infinity"):
        load_weights(network, tmp_path / "nan.pth")
    assert same(network, Network().state_dict())


@pytest.mark.parametrize("change", [Tensor.int, Tensor.to_sparse, lambda t: t.to(torch.complex64)])
def test_tensors_of_another_kind_are_refused(change: Callable[[Tensor], Tensor], tmp_path: Path) -> None:
    torch.save({**trained(), "fc.weight": change(trained()["fc.weight"])}, tmp_path / "odd.pth")
    with pytest.raises(CheckpointError, match=r"odd\.pth: fc\.weight is .*should be dense float"):
        load_weights(Network(), tmp_path / "odd.pth")


def build(**options: Any) -> VideoModel:
    return build_model(Network(), SPEC, name="small", device="cpu", **options)


def test_the_users_checkpoint_goes_before_the_default_weights(tmp_path: Path) -> None:
    torch.save(trained(1), tmp_path / "default.pth")
    torch.save(trained(2), tmp_path / "mine.pth")
    weights = str(tmp_path / "default.pth")
    assert same(build(weights=weights).network, trained(1))
    assert same(build(weights=weights, checkpoint=str(tmp_path / "mine.pth")).network, trained(2))
    with pytest.raises(CheckpointError, match=r"absent\.pth: no such file"):
        build(weights=weights, checkpoint=str(tmp_path / "absent.pth"))


def test_without_weights_the_message_says_how_to_get_them(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"without weights: give checkpoint=<file>\. Ask Ann"):
        build(hint="Ask Ann")
    with pytest.raises(CheckpointError, match=r"not at .*absent\.safetensors\. Ask Ann"):
        build(weights=str(tmp_path / "absent.safetensors"), hint="Ask Ann")


def test_random_weights_depend_on_the_name_alone_and_are_far_from_saturated() -> None:
    networks = [Network(), Network(), Network()]
    nn.init.normal_(networks[1].fc.weight)
    state = torch.get_rng_state()
    first, second, other = (
        build_model(n, SPEC, name=name, checkpoint="random").digest() for n, name in zip(networks, "aab", strict=True)
    )
    assert torch.equal(torch.get_rng_state(), state)
    assert first == second != other
    network = load_model("r3d50", checkpoint="random", device="cpu").network
    norms = [m for m in network.modules() if isinstance(m, nn.BatchNorm3d)]
    assert {m.momentum for m in norms} == {0.1}
    assert not any(m.training for m in network.modules())
    with torch.no_grad():
        assert 0.1 < float(network(torch.randn(1, 3, 16, 112, 112)).std()) < 10


def test_a_spec_may_be_a_mapping_whose_keys_are_checked() -> None:
    model = build_model(Network(), {"frames": 4, "size": [24, 32]}, name="small", checkpoint="random")
    assert (model.spec.frames, model.spec.size) == (4, (24, 32))
    with pytest.raises(ConfigError, match=r"model\.spec: .*framez.*its keys are frames, interval"):
        build_model(Network(), {"framez": 4}, name="small", checkpoint="random")


def test_class_names_come_from_a_list_a_packaged_list_or_a_file(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("one\n\ntwo\nthree \n")
    assert build(class_names=["a", "b", "c"], checkpoint="random").class_names == ["a", "b", "c"]
    assert build(class_names=str(tmp_path / "mine.txt"), checkpoint="random").class_names == ["one", "two", "three"]
    ucf = build_model(Network(101), SPEC, name="n", class_names="ucf101", checkpoint="random")
    assert ucf.class_names is not None
    assert (ucf.class_names[0], ucf.class_names[100]) == ("ApplyEyeMakeup", "YoYo")
    with pytest.raises(ConfigError, match=r"class_names=ucf100: neither a file nor one of .*kinetics400.*ucf101"):
        build(class_names="ucf100", checkpoint="random")
    (tmp_path / "binary.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="its byte-order mark says utf-16-le, and it is not"):
        build(class_names=str(tmp_path / "binary.txt"), checkpoint="random")
    with pytest.raises(ConfigError, match="3 outputs, its class list has 101 names"):
        build(class_names="ucf101", checkpoint="random")


def test_load_model_builds_what_the_config_says_and_what_the_caller_overrides(tmp_path: Path) -> None:
    path = tmp_path / "save (1), x=2.pth"  # a name that Hydra's grammar would trip over
    torch.save(published(R3DTiny(num_classes=5).state_dict()), path)
    before = GlobalHydra.instance().is_initialized()
    model = load_model("r3d_tiny", checkpoint=path, num_classes=5, device="cpu", batch_size=3)
    assert GlobalHydra.instance().is_initialized() is before
    assert (model.name, model.batch_size, model.class_names) == ("r3d_tiny", 3, None)
    assert model.target_layers == ["layer3"]
    with torch.no_grad():
        assert model.logits(torch.zeros(1, 3, 16, 64, 64)).shape == (1, 5)
    names = ["a", "b", "c", "d", "e"]
    again = load_model("r3d_tiny", checkpoint=str(path), num_classes=5, class_names=names, precision="bf16")
    assert (again.class_names, again.precision, again.digest()) == (names, "bf16", model.digest())


def test_load_model_refuses_what_there_is_not(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no model 'r3d500'; choose one of .*r3d50"):
        load_model("r3d500")
    with pytest.raises(ConfigError, match=r"model r3d50 has no option 'chekpoint'; it has .*checkpoint"):
        load_model("r3d50", chekpoint="x")
    with pytest.raises(CheckpointError, match=r"r3d50 comes without weights: give checkpoint=<file>"):
        load_model("r3d50")
    with pytest.raises(CheckpointError, match=r"i3d_kinetics400\.safetensors\. Run: make weights-i3d"):
        load_model("i3d", data_root=tmp_path)
    with pytest.raises(ConfigError, match="5 outputs, its class list has 101 names"):
        load_model("r3d_tiny", checkpoint="random", num_classes=5, class_names="ucf101")


def test_the_logits_are_those_of_the_network_with_the_loaded_weights(tmp_path: Path) -> None:
    torch.save(published(trained()), tmp_path / "x.pth")
    model = build(checkpoint=str(tmp_path / "x.pth"), channels_last=True)
    reference = Network()
    reference.load_state_dict(trained())
    x = moving_clip().tensor(SPEC)[None]
    with torch.no_grad():
        assert torch.allclose(model.logits(x), reference.eval()(x), rtol=1e-4)
