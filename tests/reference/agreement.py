"""Prints how far each network's logits are from those of its published implementation, for docs/agreement.md: of the
real clip, its mirror image and noise. The argument is the folder that holds ``ucf101``."""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from aosa.models.r2plus1d18 import R2Plus1D18
from aosa.models.r2plus1d50 import R2Plus1D50
from aosa.models.r3d50 import R3D50
from aosa.models.slowfast_r50 import SlowFastR50
from aosa.models.tpn_r50 import TPNR50
from aosa.models.vgg16_lstm import VGG16LSTM
from tests.models import test_tanet_r50 as tanet
from tests.models import test_timesformer as timesformer
from tests.reference import formula, mmaction2
from tests.reference.parity import Reference, distance, fixture_inputs


@torch.no_grad()
def main(data: Path) -> None:
    torch.set_num_threads(1)
    resnets = {"r3d50": R3D50, "r2plus1d50": R2Plus1D50, "r2plus1d18": R2Plus1D18, "vgg16_lstm": VGG16LSTM}
    for name, kind in resnets.items():
        reference = Reference(name)
        network = reference.fill(kind(len(reference.values["noise"])))
        show(name, [reference.distance(network, part, data) for part in ("clip", "mirror", "noise")])
    for name, kind in (("slowfast_r50", SlowFastR50), ("tpn_r50", TPNR50)):
        values = mmaction2.read(name)
        network = mmaction2.filled(kind(len(values["noise"])), values)
        inputs = {part: mmaction2.real(values, name, data, part) for part in ("clip", "mirror")}
        inputs["noise"] = mmaction2.made(values, "noise")
        show(name, [mmaction2.distance(network, x, values[part]) for part, x in inputs.items()])
    parts = ("real", "mirror", "noise")
    values, network = timesformer.REFERENCE, timesformer.TimeSformer()
    formula.fill(network, offset=values["offset"])
    inputs = fixture_inputs("timesformer", values, data)
    logits = [network(inputs[part][None])[0] for part in parts]
    for source in timesformer.SOURCES:
        found = zip(logits, parts, strict=True)
        show(f"timesformer, {source}", [distance(these, values[source][part]) for these, part in found])
    values, network = tanet.REFERENCE, tanet.TANet50()
    formula.fill(network, offset=values["offset"], centred=values["centred"])
    inputs = fixture_inputs("tanet_r50", values, data)
    show("tanet_r50", [tanet.distance(network, inputs[part], values["logits"][part]) for part in parts])


def show(name: str, distances: list[float]) -> None:
    print(name.ljust(28), *(f"{value:.1e}" for value in distances), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
