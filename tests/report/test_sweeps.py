"""Settings of a sweep: table and plot."""

from __future__ import annotations

import io

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from aosa.errors import AosaError
from aosa.experiment.titles import titles
from aosa.report.sweeps import Setting, draw, to_csv, to_markdown, varying
from aosa.report.tables import MISSING


def setting(values, direction="higher", column="overall", **options):
    clips = {f"clip{i}": (float(v), 1.0, f"group{i}") for i, v in enumerate(values)}
    about = {"explainer": "aosa", "model": "i3d", "dataset": "ucf101", "metric": "m", "commit": "c", "records": "r"}
    mean = float(np.mean(values))
    return Setting(options, column, direction, mean, mean - 0.1, mean + 0.1, clips, about)


def table(settings):
    return pd.read_csv(io.StringIO(to_csv(settings)))


BASE = np.linspace(0, 1, 12)
GRID = [setting(BASE + 0.2 * (stride == 8) + 0.01 * box, stride=stride, box=box) for stride in (4, 8) for box in (1, 2)]


@pytest.mark.parametrize(("direction", "order"), [("higher", [3, 2, 1]), ("lower", [1, 2, 3])])
def test_best_comes_first(direction, order):
    settings = [setting([k, k], direction, stride=k) for k in (2, 1, 3)]
    assert table(settings)["stride"].tolist() == order
    assert f"| {order[0]} | **" in to_markdown(settings)


def test_difference_to_the_best_is_on_the_same_videos():
    ours, best = setting(BASE, stride=4), setting(BASE[:6] + 2, stride=8)
    row = table([ours, best]).iloc[1]
    assert row["stride"] == 4
    # On the six shared videos all differ by 2, whatever the others are.
    assert (row["difference"], row["difference_low"], row["difference_high"]) == pytest.approx((-2, -2, -2))
    assert row["n"] == 12
    assert row["p"] == pytest.approx(2 / 2**6)


def test_p_is_corrected_for_the_number_of_settings():
    rows = table([setting(BASE[:6] + shift, stride=k) for k, shift in ((1, 0.5), (2, 0.2), (3, 0.1))])
    assert rows["p"].tolist()[1:] == pytest.approx([2 * 2 / 2**6] * 2)


def test_settings_without_a_video_in_common_are_not_compared():
    apart = setting(BASE, stride=4)
    apart = Setting(**{**vars(apart), "clips": {f"other{k}": v for k, v in apart.clips.items()}})
    text = to_markdown([setting(BASE + 1, stride=8), apart])
    assert text.splitlines()[-1].endswith(f"| {MISSING} | {MISSING} |")


def test_only_what_varies_is_a_column_and_the_rest_is_in_the_caption():
    settings = [setting(BASE, explainer="aosa", stride=s, relu=True) for s in (4, 8)]
    assert varying(settings) == ["stride"]
    caption, _, header = to_markdown(settings, titles()).splitlines()[:3]
    assert caption.startswith("2 settings: AOSA, I3D, UCF101, m, relu=true.")
    assert header.split("|")[1].strip() == "stride"


def test_one_setting_has_no_rival():
    assert to_markdown([setting(BASE, stride=4)]).splitlines()[-1].endswith(f"| best | {MISSING} |")


def test_different_columns_are_refused():
    with pytest.raises(AosaError, match="compares one column, these settings have overall, truth"):
        to_markdown([setting(BASE), setting(BASE, column="truth")])


def lines(path):
    return np.asarray(Image.open(path).convert("RGB")).reshape(-1, 3)


def share(pixels, colour):
    return (np.abs(pixels.astype(int) - colour) < 20).all(axis=1).mean()


def test_a_grid_has_a_panel_per_option_and_a_line_per_value_of_the_other(tmp_path):
    png, pdf = draw(GRID, tmp_path / "sweep")
    assert (png.name, pdf.name) == ("sweep.png", "sweep.pdf")
    assert pdf.read_bytes().startswith(b"%PDF")
    pixels = lines(png)
    assert share(pixels, (0, 114, 178)) > 1e-4
    assert share(pixels, (213, 94, 0)) > 1e-4
    (one, _) = draw(GRID[:1], tmp_path / "one")
    with Image.open(one) as narrow, Image.open(png) as wide:
        assert wide.width == 2 * narrow.width


def test_values_that_are_no_numbers_stand_side_by_side(tmp_path):
    png, _ = draw([setting(BASE, fill=f) for f in ("zero", None, "blur")], tmp_path / "fills")
    assert share(lines(png), (0, 114, 178)) > 1e-4


def test_a_setting_without_an_interval_is_drawn(tmp_path):
    bare = Setting(**{**vars(setting([0.5], stride=4)), "low": None, "high": None})
    draw([bare, setting(BASE, stride=8)], tmp_path / "bare")
    assert "| 0.5000 |" in to_markdown([bare, setting(BASE + 9, stride=8)])
