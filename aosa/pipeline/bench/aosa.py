"""AOSA and AOSA-approx in full, against the passes that they cannot do without."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from omegaconf import DictConfig

from aosa.clip import Clip
from aosa.explainers import AOSA, AOSAApprox
from aosa.models.base import VideoModel
from aosa.pipeline.bench.explainers import first_masks, without_setup
from aosa.pipeline.bench.passes import Pass, replay
from aosa.pipeline.bench.timing import in_turn, warm

Row = dict[str, Any]


def rows(config: DictConfig, model: VideoModel, clip: Clip) -> Iterator[Row]:
    """Seconds of each and their ratios, flow and tracking apart."""
    explainer = AOSA(stride=config.stride, box=config.box, neighbours=config.neighbours)
    setup = without_setup(explainer, model, clip)
    n, size = len(explainer.masks(clip, model.spec)), model.batch_size
    bare = [Pass(min(size, n - start), None) for start in range(0, n, size)]
    with first_masks(size):
        explainer(model, clip)  # warms up
    floor, whole = in_turn([lambda: replay(model, bare), lambda: explainer(model, clip)], model, config.repeats)
    yield {"what": f"{n} bare forward passes", "value": floor, "unit": "s"}
    yield {"what": f"AOSA, N = {n}, K = {config.neighbours}, without flow and tracking", "value": whole, "unit": "s"}
    yield {"what": "flow and tracking", "value": setup, "unit": "s"}
    yield {"what": f"AOSA / {n} bare forward passes", "value": whole / floor, "unit": "×", "limit": 1.10}

    approx = AOSAApprox(stride=config.stride, box=config.box, neighbours=config.neighbours)
    without_setup(approx, model, clip)
    both = [lambda: replay(model, [Pass(1, "clip")]), lambda: approx(model, clip)]
    floor, whole = warm(both, model, 3 * config.repeats)
    yield {"what": "one forward and backward pass", "value": floor, "unit": "s"}
    yield {"what": f"AOSA-approx, N = {n}, without flow and tracking", "value": whole, "unit": "s"}
    yield {"what": "AOSA-approx / one forward and backward pass", "value": whole / floor, "unit": "×", "limit": 1.5}


def line(row: Row) -> str:
    """A row as it is printed."""
    limit = f"  (at most {row['limit']:g})" if "limit" in row else ""
    return f"  {row['what']:<72} {row['value']:>9.3f} {row['unit']}{limit}"
