"""Checkpoints that fit, those that don't, and those that must not be run; the models that configs build from them."""

from __future__ import annotations

import json
import os
import pickle
import sys
import zipfile
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
    assert set(tensors) == {f"module.{k}" for k in trained()}
    assert (extra["arch"], extra["epoch"]) == ("resnet-50", 200)
    network = Network()
    load_weights(network, tmp_path / "all.pth")
    assert same(network, trained())
    torch.save({f"module.{k}" if k == "fc.bias" else k: v for k, v in trained().items()}, tmp_path / "some.pth")
    with pytest.raises(CheckpointError, match=r"missing \(1\): fc\.bias\s+extra \(1\): module\.fc\.bias"):
        load_weights(Network(), tmp_path / "some.pth")


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


def prefixed(prefix: str, state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {f"{prefix}{key}": value for key, value in state.items()}


def averaged_by_swa() -> dict[str, Tensor]:
    network = Network()
    network.load_state_dict(trained())
    return torch.optim.swa_utils.AveragedModel(network).state_dict()


WRAPPED: dict[str, Callable[[], Any]] = {
    **{
        key: lambda key=key: {key: trained(), "epoch": 3}
        for key in ("module", "ema", "state_dict_ema", "model_ema", "ema_model", "net", "network", "model_state")
    },
    "nested": lambda: {"model": {"module": {"state_dict": prefixed("module.", trained())}}, "optimizer": {"state": {}}},
    "ema nested": lambda: {"ema": {"module": trained(), "updates": 7}, "model": None},
    **{
        prefix: lambda prefix=prefix: prefixed(prefix, trained())
        for prefix in ("model.", "net.", "network.", "_orig_mod.", "module._orig_mod.", "model.module._orig_mod.net.")
    },
    "encoder.": lambda: {"state_dict": prefixed("encoder.", trained())},
    "swa": averaged_by_swa,
}


@pytest.mark.parametrize("form", WRAPPED)
def test_weights_are_found_in_what_training_keeps_and_under_any_prefix(form: str, tmp_path: Path) -> None:
    torch.save(WRAPPED[form](), tmp_path / "weights.pth")
    network = Network()
    load_weights(network, tmp_path / "weights.pth")
    assert same(network, trained())


def test_a_networks_own_prefix_stays_and_is_put_on_where_the_file_lacks_it(tmp_path: Path) -> None:
    torch.save(prefixed("model.", trained()), tmp_path / "with.pth")
    torch.save(trained(), tmp_path / "without.pth")
    for name in ("with.pth", "without.pth"):
        wrapper = nn.ModuleDict({"model": Network()})
        load_weights(wrapper, tmp_path / name)
        assert same(wrapper["model"], trained())


def test_plain_weights_go_before_averaged_ones_which_an_option_takes(tmp_path: Path) -> None:
    content = {"model": trained(1), "model_ema": {"module": trained(2)}, "teacher": trained(3)}
    torch.save(content, tmp_path / "both.pth")
    network = Network()
    with pytest.warns(UserWarning, match=r"both\.pth: beside plain weights model it holds averaged ones: model_ema;"):
        load_weights(network, tmp_path / "both.pth")
    assert same(network, trained(1))
    for key, seed in (("model_ema", 2), ("model_ema.module", 2), ("teacher", 3)):
        model = build(checkpoint=str(tmp_path / "both.pth"), weights_key=key)
        assert same(model.network, trained(seed))
    with pytest.raises(CheckpointError, match=r"model\.weights_key=emma: .* holds model, model_ema, teacher"):
        build(checkpoint=str(tmp_path / "both.pth"), weights_key="emma")
    torch.save({"student": trained(1), "teacher": trained(2)}, tmp_path / "names.pth")
    with pytest.raises(CheckpointError, match=r"no tensors by name.*it holds student, teacher.*model\.weights_key"):
        load_weights(network, tmp_path / "names.pth")
    torch.save({"state_dict": trained(1), "network": trained(2)}, tmp_path / "two.pth")
    with pytest.raises(CheckpointError, match=r"several sets of weights: state_dict, network; set model\.weights_key"):
        load_weights(network, tmp_path / "two.pth")


def test_a_prefix_of_some_keys_is_pointed_out(tmp_path: Path) -> None:
    torch.save(prefixed("encoder.", trained()) | {"decoder.weight": torch.ones(2)}, tmp_path / "both.pth")
    with pytest.raises(CheckpointError) as caught:
        load_weights(Network(), tmp_path / "both.pth")
    message = str(caught.value)
    assert "of its keys begin with 'encoder.' and fit without it, which also holds 1 others (decoder.weight)" in message
    assert "missing (" not in message


def sharded(folder: Path, kind: str) -> Path:
    """The weights in two files with their index, as Hugging Face has them."""
    state, suffix = trained(), "safetensors" if kind == "model" else "bin"
    names = [f"{kind}-0000{i}-of-00002.{suffix}" for i in (1, 2)]
    of = {key: names[i % 2] for i, key in enumerate(state)}
    for name in names:
        part = {key: value for key, value in state.items() if of[key] == name}
        (save_file if suffix == "safetensors" else torch.save)(part, folder / name)
    index = folder / f"{kind}.{suffix}.index.json"
    index.write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": of}))
    return index


@pytest.mark.parametrize("kind", ["model", "pytorch_model"])
def test_a_checkpoint_in_several_files_is_read_by_its_index(kind: str, tmp_path: Path) -> None:
    index, network = sharded(tmp_path, kind), Network()
    load_weights(network, index)
    assert same(network, trained())
    shard = next(tmp_path.glob("*-00002-of-00002.*"))
    with pytest.raises(CheckpointError, match=rf"a folder; give the file in it, such as {kind}.*index\.json"):
        load_weights(network, tmp_path)
    with pytest.raises(CheckpointError, match=rf"{shard.name}: one file of several; give the index beside it"):
        load_weights(network, shard)
    shard.unlink()
    with pytest.raises(CheckpointError, match=rf"{shard.name} is missing; it must lie beside the index"):
        load_weights(network, index)


@pytest.mark.parametrize("name", ["../secret.bin", "/etc/passwd", "..", "", "sub/part.bin", "..\\part.bin"])
def test_an_index_that_leaves_its_folder_is_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    torch.save(trained(), tmp_path / "secret.bin")
    index = tmp_path / "in" / "pytorch_model.bin.index.json"
    index.write_text(json.dumps({"weight_map": dict.fromkeys(trained(), name)}))
    with pytest.raises(CheckpointError, match=r"index\.json: refused: it names .*not a file beside it"):
        load_weights(Network(), index)


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", '{"weight_map": {}}', '{"weight_map": {"a": 1}}', "[" * 10**5, '{"weight_map": [1]}', "\xff"],
)
def test_an_index_that_is_none_is_refused(text: str, tmp_path: Path) -> None:
    index = tmp_path / "model.safetensors.index.json"
    index.write_bytes(text.encode("latin-1"))
    with pytest.raises(CheckpointError, match=r"index\.json: (not the index of a checkpoint|the file is empty)"):
        read_checkpoint(index)


def test_an_index_whose_file_lacks_a_tensor_is_refused(tmp_path: Path) -> None:
    index = sharded(tmp_path, "model")
    held = json.loads(index.read_text())
    held["weight_map"]["head.weight"] = "model-00001-of-00002.safetensors"
    index.write_text(json.dumps(held))
    with pytest.raises(CheckpointError, match=r"model-00001-of-00002\.safetensors does not hold head\.weight"):
        read_checkpoint(index)


def test_weights_that_are_infinite_in_the_networks_type_are_refused_by_name(tmp_path: Path) -> None:
    state = {k: v.double() if v.is_floating_point() else v for k, v in trained().items()}
    state["fc.weight"][0, 0] = 1e300
    torch.save(state, tmp_path / "wide.pth")
    network = Network()
    with pytest.raises(CheckpointError, match=r"wide\.pth: fc\.weight holds 1e\+300, which is infinite in .*float32"):
        load_weights(network, tmp_path / "wide.pth")
    assert same(network, Network().state_dict())


def test_a_negative_variance_is_refused_by_name(tmp_path: Path) -> None:
    state = trained()
    state["stem.1.running_var"][3] = -0.5
    torch.save(state, tmp_path / "negative.pth")
    with pytest.raises(CheckpointError, match=r"negative\.pth: stem\.1\.running_var holds -0\.5.*not negative"):
        load_weights(Network(), tmp_path / "negative.pth")


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        (lambda t: t.to(torch.float8_e4m3fn), "float8_e4m3fn"),
        (lambda t: t.to("meta"), "without values"),
        (lambda t: torch.quantize_per_tensor(t, 0.1, 0, torch.qint8), "qint8"),
        (lambda t: torch.nested.nested_tensor([t[0], t[1]]), "dense"),
        (lambda t: t.bool(), "bool"),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_tensors_without_plain_values_are_refused_by_name(
    change: Callable[[Tensor], Tensor], kind: str, tmp_path: Path
) -> None:
    torch.save({**trained(), "fc.weight": change(trained()["fc.weight"])}, tmp_path / "odd.pth")
    with pytest.raises(CheckpointError, match=rf"odd\.pth: fc\.weight is .*{kind}.*") as caught:
        load_weights(Network(), tmp_path / "odd.pth")
    assert "should be dense float (float16, bfloat16, float32, float64)" in str(caught.value)


def rewritten(path: Path, compression: int, change: Callable[[str, bytes], bytes]) -> None:
    """The same zip with other content."""
    with zipfile.ZipFile(path) as old:
        parts = {part.filename: old.read(part) for part in old.infolist()}
    with zipfile.ZipFile(path, "w", compression) as new:
        for name, content in parts.items():
            new.writestr(name, change(name, content))


def test_a_packed_checkpoint_is_read_and_one_that_swells_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    torch.save(trained(), path)
    rewritten(path, zipfile.ZIP_DEFLATED, lambda _, content: content)
    network = Network()
    load_weights(network, path)
    assert same(network, trained())
    # A list of 100 million empty lists: 100 MB of pickle, which would be 7 GB of objects, in 100 KB of zip.
    huge = b"\x80\x02](" + b"]" * 10**8 + b"e."
    rewritten(path, zipfile.ZIP_DEFLATED, lambda name, content: huge if name.endswith("data.pkl") else content)
    assert path.stat().st_size < 2**20
    with pytest.raises(CheckpointError, match=r"weights\.pth: refused: a file of \d+ .* unpack to 1\d{8}"):
        read_checkpoint(path)


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"](" + b"]" * 2_100_000 + b"e.", "refused: it holds more than 2000000 objects"),
        (b"cbuiltins\nbytearray\nJ\x00\x00\x00\x7f\x85R.", "refused: the file asks to run builtins.bytearray"),
        (b"c__builtin__\nbytearray\nJ\x00\x00\x00\x7f\x85R.", "refused: the file asks to run builtins.bytearray"),
        (b"X\xff\xff\xff\x7fabc.", "damaged"),
    ],
)
def test_a_pickle_that_makes_memory_at_will_is_refused_before_it_is_followed(
    body: bytes, message: str, zipped: bool, tmp_path: Path
) -> None:
    path = tmp_path / "greedy.pth"
    torch.save([torch.ones(2)], path, _use_new_zipfile_serialization=zipped)
    if zipped:
        rewritten(path, zipfile.ZIP_STORED, lambda name, old: b"\x80\x02" + body if name.endswith("data.pkl") else old)
    else:
        start = path.read_bytes()
        ends = [i for i in range(len(start)) if start.startswith(b"\x80\x02", i)]
        path.write_bytes(start[: ends[3]] + b"\x80\x02" + body)
    with pytest.raises(CheckpointError, match=rf"greedy\.pth: {message}"):
        read_checkpoint(path)


def test_deep_nesting_is_refused(tmp_path: Path) -> None:
    content: Any = trained()
    for _ in range(150):
        content = {"model": content}
    torch.save(content, tmp_path / "deep.pth")
    with pytest.raises(CheckpointError, match=r"deep\.pth: holds no tensors by name"):
        read_checkpoint(tmp_path / "deep.pth")


def test_a_tensor_that_claims_more_than_the_file_holds_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "claim.pth"
    torch.save({"fc.bias": torch.ones(3).expand(2**20, 2**10, 3)}, path)  # 3 numbers, seen as 12 GiB
    with pytest.raises(CheckpointError, match=r"claim\.pth: .*|claim\.pth .*does not fit"):
        load_weights(Network(), path)
    torch.save(trained(), path)
    claimed = b"J\x00\x00\x00\x40t"  # 2**30 numbers in place of 3

    def change(name: str, content: bytes) -> bytes:
        return content.replace(b"K\x03t", claimed) if name.endswith("data.pkl") else content

    rewritten(path, zipfile.ZIP_STORED, change)
    with pytest.raises(CheckpointError, match=r"claim\.pth: damaged"):
        load_weights(Network(), path)
