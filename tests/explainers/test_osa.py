import math

import pytest
import torch

from aosa.errors import ConfigError
from aosa.explainers import OSA
from aosa.explainers.osa import cuboids
from tests.helpers import SPEC, moving_clip, small_model


def test_the_papers_grids() -> None:
    assert len(cuboids((16, 112, 112), (8, 16, 16), (2, 8, 8))) == 1568
    i3d = cuboids((16, 224, 224), None, (2, 32, 32))
    assert len(i3d) == 8 * 7 * 7
    boxes = i3d.boxes[i3d.boxes[..., 1] > i3d.boxes[..., 0]]
    assert (boxes[:, 1] - boxes[:, 0]).max() == 32  # round(√.02 · 224)
    assert ((i3d.boxes[..., 1] > 0).sum(axis=1)).max() == 8  # half the frames


@pytest.mark.parametrize(("frames", "side", "step", "half"), [(16, 112, 2, 8), (32, 256, 4, 18)])
def test_the_journals_grid_moves_by_an_eighth_of_the_frames_and_half_a_box(
    frames: int, side: int, step: int, half: int
) -> None:
    masks = cuboids((frames, side, side), None, None)
    along = math.ceil(side / half)
    assert len(masks) == 8 * along * along
    occluded = [masks.occluded(i, i + 1)[0] for i in (3 * along * along, 4 * along * along, len(masks) - 1)]
    first = [int(o.any(dim=2).any(dim=1).nonzero()[0, 0]) for o in occluded]
    # Centres at 3, 4 and 7 eighths; half of half the frames lies before each.
    assert first == [max(0, n * step - frames // 4) for n in (3, 4, 7)]
    rows, columns = occluded[1].any(dim=0).nonzero().max(dim=0).values.tolist()
    assert rows == columns == half - 1  # the corner's cuboid, of which a quarter lies in the frame


def test_cuboids_lie_around_their_centres_and_are_clipped() -> None:
    masks = cuboids((4, 24, 32), (2, 6, 8), (2, 12, 16))
    assert len(masks) == 2 * 2 * 2
    last = masks.occluded(7, 8)[0]
    expected = torch.zeros(4, 24, 32, dtype=torch.bool)
    expected[1:3, 9:15, 12:20] = True
    assert (last == expected).all()
    first = masks.occluded(0, 1)[0]
    assert first.nonzero().max(dim=0).values.tolist() == [0, 2, 3]


def test_the_map_by_hand() -> None:
    model, clip = small_model(), moving_clip()
    x = clip.tensor(SPEC)
    masks = cuboids(clip.size, (2, 6, 8), (2, 6, 8))
    total = torch.zeros(clip.size, dtype=torch.float64)
    with torch.no_grad():
        base = model.scores(x[None])[0, 1].double()
        for i in range(len(masks)):
            kept = ~masks.occluded(i, i + 1)[0]
            score = model.scores((x * kept)[None])[0, 1].double()
            total += (score - base) / kept.double().mean() * kept
    got = OSA(box=[2, 6, 8], stride=[2, 6, 8])(model, clip, 1).values.double()
    torch.testing.assert_close(got, total / len(masks), rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize(("key", "value"), [("box", 8), ("box", [8, 16]), ("stride", [2, 0, 8]), ("fill", "none")])
def test_options_out_of_range_name_their_key(key: str, value: object) -> None:
    with pytest.raises(ConfigError, match=rf"explainer\.{key}="):
        OSA(**{key: value})
