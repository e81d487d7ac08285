"""AOSA and AOSA-approx in full, against the passes that they cannot do without."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

from omegaconf import DictConfig

from aosa.bench.passes import Pass, replay
from aosa.bench.timing import Act, in_turn, warm
from aosa.clip import Clip
from aosa.explainers import AOSA, AOSAApprox
from aosa.models.base import VideoModel

Row = dict[str, Any]


def rows(config: DictConfig, model: VideoModel, clip: Clip) -> Iterator[Row]:
    """Seconds of each and their ratios, flow and tracking apart."""
    explainer = AOSA(stride=config.stride, box=config.box, neighbours=config.neighbours)
    masks = explainer.prepare(clip, model.spec)
    (setup,) = warm([partial(explainer.prepare, clip, model.spec)], model, 3)
    n, size = len(masks), model.batch_size
    bare = partial(replay, model, [Pass(min(size, n - start), None) for start in range(0, n, size)])
    replay(model, [Pass(size, None)])  # warms up
    floor, whole = in_turn([bare, partial(explainer, model, clip, None, masks)], model, config.repeats)
    yield {"what": f"{n} bare forward passes", "value": floor, "unit": "s"}
    yield {"what": f"AOSA, N = {n}, K = {config.neighbours}, without flow and tracking", "value": whole, "unit": "s"}
    yield {"what": "flow and tracking", "value": setup, "unit": "s"}
    yield {"what": f"AOSA / {n} bare forward passes", "value": whole / floor, "unit": "×", "limit": 1.10}

    approx = AOSAApprox(stride=config.stride, box=config.box, neighbours=config.neighbours)
    both: list[Act] = [partial(replay, model, [Pass(1, "clip")]), partial(approx, model, clip, None, masks)]
    floor, whole = warm(both, model, 3 * config.repeats)
    yield {"what": "one forward and backward pass", "value": floor, "unit": "s"}
    yield {"what": f"AOSA-approx, N = {n}, without flow and tracking", "value": whole, "unit": "s"}
    yield {"what": "AOSA-approx / one forward and backward pass", "value": whole / floor, "unit": "×", "limit": 1.5}


def line(row: Row) -> str:
    """A row as it is printed."""
    limit = f"  (at most {row['limit']:g})" if "limit" in row else ""
    return f"  {row['what']:<72} {row['value']:>9.3f} {row['unit']}{limit}"
