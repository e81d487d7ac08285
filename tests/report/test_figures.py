import numpy as np
import pandas as pd
import pytest
from PIL import Image

from aosa.errors import AosaError
from aosa.experiment.titles import titles
from aosa.report.figures import curves, curves_figure, save, scores_figure
from aosa.report.tables import TableSpec, make_table, paper_values

STEPS = np.linspace(0, 1, 29)


def record(explainer, clip, level):
    return {
        "explainer": explainer,
        "clip": clip,
        "deletion": list(level * (1 - STEPS)),
        "insertion": list(level * STEPS),
    }


RECORDS = [
    record("aosa", "a", 0.2),
    record("aosa", "b", 0.6),
    record("random", "a", 0.5),
    record("random", "b", 0.5),
]


def test_lines_are_means_and_bands_hold_them():
    deletion, insertion = curves_figure(RECORDS).axes
    (aosa, random) = deletion.get_lines()
    np.testing.assert_allclose(aosa.get_ydata(), 0.4 * (1 - STEPS))
    np.testing.assert_allclose(random.get_ydata(), 0.5 * (1 - STEPS))
    band = deletion.collections[0].get_paths()[0].vertices[:, 1]
    assert (band.min(), band.max()) == pytest.approx((0, 0.6))
    np.testing.assert_allclose(insertion.get_lines()[0].get_ydata(), 0.4 * STEPS)


def test_legend_is_in_order_of_the_area_better_first():
    texts = [
        [t.get_text() for t in axes.get_legend().get_texts()] for axes in curves_figure(RECORDS, titles=titles()).axes
    ]
    assert texts == [["0.200  AOSA", "0.250  Random"], ["0.250  Random", "0.200  AOSA"]]


def test_each_of_many_explainers_has_its_own_line_style():
    names = [f"method{i}" for i in range(20)]
    axes = curves_figure([record(n, c, 0.5) for n in names for c in "ab"]).axes[0]
    assert len({(line.get_color(), str(line._unscaled_dash_pattern)) for line in axes.get_lines()}) == 20


def test_one_clip_has_a_line_and_no_band():
    axes = curves_figure(RECORDS[:1]).axes[0]
    np.testing.assert_allclose(axes.get_lines()[0].get_ydata(), 0.2 * (1 - STEPS))


def test_writes_a_picture_and_a_vector_file(tmp_path):
    picture, vector = curves(RECORDS, tmp_path / "figures" / "curves.png", title="R3D-50 on UCF101")
    assert Image.open(picture).size == (1650, 540)
    assert vector.read_bytes().startswith(b"%PDF")
    assert sorted(p.name for p in picture.parent.iterdir()) == ["curves.pdf", "curves.png"]


def test_the_same_records_give_the_same_files(tmp_path):
    one, two = (curves(RECORDS, tmp_path / name) for name in ("one", "two"))
    assert all(a.read_bytes() == b.read_bytes() for a, b in zip(one, two, strict=True))


def test_refuses_no_records_and_curves_of_different_lengths(tmp_path):
    with pytest.raises(AosaError, match="no curves"):
        curves([], tmp_path / "x.png")
    short = {**record("aosa", "c", 0.1), "deletion": [1.0, 0.0]}
    with pytest.raises(AosaError, match="deletion curves of aosa"):
        curves([*RECORDS, short], tmp_path / "x.png")


def small_table(printed=None):
    records = pd.DataFrame(
        {"dataset": "ucf101", "model": "r3d50", "explainer": e, "column": c, "clip": f"c{i:02d}", "value": v + i / 100}
        for e, v in (("aosa", 0.2), ("osa", 0.4), ("random", 0.6))
        for c in ("deletion", "insertion")
        for i in range(14)
    )
    return make_table(
        records, TableSpec("t", "T", {"deletion": "lower", "insertion": "higher"}, titles=titles()), printed
    )


def test_scores_are_where_the_table_has_them():
    deletion, insertion = scores_figure(small_table(paper_values("aosa_journal", "I"))).axes
    names = [t.get_text() for t in deletion.get_yticklabels()]
    assert names == ["Grad-CAM", "OSA", "SmoothGrad", "STEP", "AOSA", "AOSA-approx", "Random"]
    ours = {line.get_ydata()[0]: line for line in deletion.get_lines() if line.get_marker() == "o"}
    paper = {line.get_ydata()[0]: line for line in deletion.get_lines() if line.get_marker() == "x"}
    ranges = {line.get_ydata()[0]: line.get_xdata() for line in deletion.get_lines() if line.get_marker() == "None"}
    assert {names[y]: line.get_xdata()[0] for y, line in ours.items()} == pytest.approx(
        {"OSA": 0.465, "AOSA": 0.265, "Random": 0.665}
    )
    assert {names[y]: line.get_xdata()[0] for y, line in paper.items()}["AOSA"] == 0.158
    assert ranges[4][0] < 0.265 < ranges[4][1]
    filled = {names[y] for y, line in ours.items() if line.get_markerfacecolor() != "white"}
    assert filled == {"AOSA", "OSA"}
    assert insertion.get_title(loc="left") == "Insertion ↑"


def test_saved_as_picture_and_vector_file(tmp_path):
    picture, vector = save(scores_figure(small_table()), tmp_path / "t.png")
    assert Image.open(picture).size[0] > 500
    assert vector.read_bytes().startswith(b"%PDF")
