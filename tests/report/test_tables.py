import csv
import io
import re

import numpy as np
import pandas as pd
import pytest

from aosa.config import build, compose, config_dir
from aosa.engine.clock import TIMES
from aosa.errors import AosaError, ConfigError
from aosa.experiment.titles import titles
from aosa.report.statistics import bootstrap_interval, compare
from aosa.report.tables import TableSpec, make_table, paper_values
from aosa.report.titles import UNTITLED

COLUMNS = {"deletion": "lower", "insertion": "higher"}


def record(explainer="aosa", column="deletion", clip="c0", value=0.5, **other):
    return {"dataset": "ucf101", "model": "r3d50", "explainer": explainer, "metric": "deletion_insertion"} | {
        "column": column, "clip": clip, "value": value, **other
    }  # fmt: skip


def frame(*records):
    return pd.DataFrame(list(records))


def several(explainer="aosa", column="deletion", values=(0.1, 0.2, 0.6), **other):
    return [record(explainer, column, f"c{i}", v, **other) for i, v in enumerate(values)]


def spec(**options):
    return TableSpec(**({"name": "table1", "title": "Scores", "columns": COLUMNS, "titles": titles()} | options))


def lines(table):
    return list(csv.DictReader(io.StringIO(table.to_csv())))


def test_a_cell_holds_the_printed_value_the_mean_its_interval_and_n():
    values = np.array([0.1, 0.2, 0.6])
    table = make_table(frame(*several(values=values)), spec(), paper_values("aosa_journal", "I"))
    row = next(r for r in lines(table) if r["explainer"] == "aosa" and r["column"] == "deletion")
    low, high = bootstrap_interval(values)
    assert (float(row["paper"]), int(row["n"])) == (0.158, 3)
    assert [float(row[k]) for k in ("ours", "low", "high")] == pytest.approx([0.3, low, high], abs=1e-5)
    text = f"0.300 ± {(high - low) / 2:.3f} [{low:.3f}, {high:.3f}]"
    assert f"| AOSA | 0.158 | {text} | 0.646 | – | 3 |" in table.to_markdown()


def test_rows_that_were_printed_and_not_run_are_dashes():
    table = make_table(frame(*several()), spec(), paper_values("aosa_journal", "I"))
    assert "| SmoothGrad | 0.058 | – | 0.357 | – | – |" in table.to_markdown()


def test_micro_average_is_hits_over_frames():
    shares = {"c0": (1.0, 2), "c1": (0.0, 10), "c2": (0.5, 4)}
    records = [record(column="spt", clip=c, value=share, weight=frames) for c, (share, frames) in shares.items()]
    # A clip without an annotated frame does not count.
    records.append(record(column="spt", clip="c9", value=float("nan"), weight=0))
    table = make_table(frame(*records), spec(columns={"spt": "higher"}))
    (row,) = lines(table)
    assert (float(row["ours"]), int(row["n"])) == (0.25, 3)
    assert "S-PT: ratio of sums" in table.caption


def test_groups_make_the_interval_wider_and_are_named():
    values = np.random.default_rng(0).normal(size=12).repeat(3)
    alone = make_table(frame(*several(values=values)), spec())
    records = frame(*several(values=values)).assign(group=[f"g{i // 3}" for i in range(36)])
    together = make_table(records, spec())
    width = [float(lines(t)[0]["high"]) - float(lines(t)[0]["low"]) for t in (alone, together)]
    assert width[1] > 1.4 * width[0]
    assert "36 videos in 12 groups" in together.caption
    assert "36 videos." in alone.caption


def test_accuracy_is_over_clips_not_over_records():
    records = frame(*several(), *several(column="insertion"), *several("osa"))
    records["correct"] = records["clip"] != "c0"
    table = make_table(records, spec())
    assert {r["accuracy"] for r in lines(table)} == {"0.666667"}
    assert "accuracy 0.667" in table.caption


def test_each_score_says_its_n_when_they_differ():
    records = frame(*several(), *several(column="insertion", values=(0.4, 0.5)))
    top, bottom = make_table(records, spec()).header()
    assert top == [("Deletion ↓", 2), ("Insertion ↑", 2)]
    assert bottom == ["ours", "n", "ours", "n"]
    same = make_table(frame(*several(), *several(column="insertion")), spec())
    assert same.header()[1] == ["ours", "ours", "n"]


def test_blocks_per_data_set_and_model():
    records = pd.concat([frame(*several()), frame(*several()).assign(model="r2plus1d50")])
    table = make_table(records, spec(), paper_values("aosa_journal", "I"))
    headings = [heading for heading, _ in table.body()]
    assert headings == ["R3D-50 on UCF101 (3 videos)", "R(2+1)D-50 on UCF101 (3 videos)"]
    printed = {r["model"]: r["paper"] for r in lines(table) if r["explainer"] == "aosa" and r["column"] == "deletion"}
    assert printed == {"r3d50": "0.158", "r2plus1d50": "0.182"}


def test_variants_of_one_explainer_are_rows_of_their_own():
    records = frame(
        *several(column="seconds", variant="stride=8"), *several(column="seconds", variant="stride=4 box=8")
    )
    table = make_table(records, spec(columns={"seconds": "lower"}), paper_values("aosa_journal", "V"))
    names = [row[0].main for _, rows in table.body() for row in rows]
    assert "AOSA (stride=8)" in names
    assert "AOSA (stride=4 box=8)" in names


def test_each_form_carries_n_interval_and_settings():
    table = make_table(frame(*several()), spec(settings="Stride 8, box 16."), paper_values("aosa_journal", "I"))
    (row,) = [r for r in lines(table) if r["explainer"] == "aosa" and r["column"] == "deletion"]
    assert (row["n"], row["statistic"], row["settings"]) == ("3", "mean", "Stride 8, box 16.")
    low, high = (f"{float(row[k]):.3f}" for k in ("low", "high"))
    for text in (table.to_markdown(), table.to_latex(), table.to_html()):
        assert f"[{low}, {high}]" in text
        assert "Stride 8, box 16." in text
        assert "3 videos" in text
        assert "0.158" in text


def test_a_cell_gives_its_videos():
    records = frame(*several(), *several("osa"), *several(column="insertion", values=(0.4, float("nan"))))
    table = make_table(records.assign(variant=["stride=8"] * 3 + [""] * 5), spec())
    (block,) = table.blocks
    assert list(table.videos(block, "deletion", "aosa (stride=8)")["value"]) == [0.1, 0.2, 0.6]
    assert table.videos(block, "insertion", "aosa")["value"].to_dict() == {"c0": 0.4}
    assert table.videos(block, "deletion", "aosa").empty


def test_median():
    table = make_table(frame(*several(values=(1.0, 2.0, 9.0))), spec(statistic="median"))
    assert float(lines(table)[0]["ours"]) == 2.0
    assert "median ±" in table.caption


def test_one_video_has_a_value_without_an_interval():
    table = make_table(frame(record()), spec())
    assert "| AOSA | 0.500 | – | 1 |" in table.to_markdown()
    assert lines(table)[0]["low"] == ""


def test_explainers_are_in_the_order_of_the_spec():
    records = frame(*several(), *several("osa"), *several("mine"))
    table = make_table(records, spec(explainers=["mine", "aosa"]))
    assert [row[0].main for _, rows in table.body() for row in rows] == ["mine", "AOSA"]


def test_latex_has_balanced_braces_equal_columns_and_no_bare_specials():
    records = pd.concat(
        [
            frame(*several("my_method & 100%"), *several(column="insertion", values=(-0.4, 0.1, 0.2))),
            frame(*several()).assign(model="a_b#1"),
        ]
    )
    settings = "All clips, 5 % {x} ~ y^2 <50 |d|"
    latex = make_table(records, spec(settings=settings), paper_values("aosa_journal", "I")).to_latex()
    plain = re.sub(r"\\[\\&%$#_{}]", "", latex)  # what stays is syntax
    assert plain.count("{") == plain.count("}")
    rows = [line for line in latex.splitlines() if line.endswith(r"\\") and "multicolumn" not in line]
    columns = re.search(r"\\begin\{tabular\}\{(\w+)\}", latex)
    assert {len(re.findall(r"(?<!\\)&", row)) + 1 for row in rows} == {len(columns[1])}
    assert not re.search(r"(?<!\\)[%#_]", latex)
    assert r"my\_method \& 100\%" in latex
    assert r"[$-$0.4" in latex
    assert "$<$50 $|$d$|$" in latex  # bare, the usual fonts make an exclamation mark and dashes of them
    assert latex.isascii()
    for rule in ("toprule", "midrule", "bottomrule", r"cmidrule(lr){2-3}"):
        assert rule in latex


def test_markdown_has_equal_columns_whatever_the_names():
    table = make_table(frame(*several("a|b*c_d")), spec())
    rows = [line for line in table.to_markdown().splitlines() if line.startswith("|")]
    assert {len(re.findall(r"(?<!\\)\|", row)) for row in rows} == {5}
    assert r"a\|b\*c\_d" in rows[2]


def test_refuses_two_records_of_one_clip():
    with pytest.raises(AosaError, match=r"two records of deletion for aosa on clip 'c0'"):
        make_table(frame(record(), record(value=0.7)), spec())


def test_refuses_records_without_a_column_or_without_rows():
    with pytest.raises(AosaError, match="no column clip"):
        make_table(frame(record()).drop(columns="clip"), spec())
    with pytest.raises(AosaError, match="no record of deletion, insertion"):
        make_table(frame(record(column="truth")), spec())


def test_refuses_an_unknown_direction():
    with pytest.raises(ConfigError, match=r"columns\.deletion=down: choose higher or lower"):
        spec(columns={"deletion": "down"})


def test_what_has_no_title_is_called_by_its_name():
    assert titles()("aosa_approx_iqr") == "AOSA-approx (IQR, WACV)"
    assert titles()("my_method") == "my_method"
    assert titles().row("my_method (my_option=a_b)") == "my_method (my_option=a_b)"
    assert titles().column("my_column") == "my_column"
    assert titles().column("my_column_class") == "my_column_class"
    untitled = make_table(frame(*several()), spec(titles=UNTITLED))
    assert untitled.header()[0][0] == ("deletion ↓", 1)
    assert "| aosa |" in untitled.to_markdown()


def names_of(group):
    return sorted(path.stem for path in (config_dir() / group).glob("*.yaml"))


def columns():
    for name in names_of("metric"):
        metric = build(compose("evaluate", ["explainer=ep3d", f"metric={name}"]).metric)
        yield from metric.columns
        # A ratio of sums comes in two further averages.
        yield from (f"{c}_{average}" for c in getattr(metric, "weights", {}) for average in ("class", "video"))


@pytest.mark.parametrize("group", ["explainer", "model", "dataset", "columns", "printed"])
def test_whatever_a_table_shows_has_a_title(group):
    printed = paper_values()
    keys = {
        "columns": lambda: [*columns(), *TIMES],
        "printed": lambda: [*printed["explainer"], *printed["column"], *printed["paper"]],
    }.get(group, lambda: names_of(group))()
    assert len(keys) > 5
    for key in keys:
        title = titles()(key)
        title = titles().column(key) if title == key else title
        assert "_" not in title, key
        assert title != key, f"{key} has no title: give its class one"
    assert not any("_" in titles().row(f"aosa ({variant})") for variant in printed["variant"])


def test_names_of_thresholds_and_of_options():
    assert titles().column("minimal_deletion_0.05") == "Minimal mask, deletion to 0.05"
    assert titles().column("minimal_insertion_1") == "Minimal mask, insertion to 1"
    assert titles().column("spt_class") == "S-PT (over classes)"
    assert titles().column("minimal_insertion") == "Minimal mask, insertion"
    assert titles().row("ep3d_gaussian (delta_t=2)") == "EP-3D (Gaussian) (Δt=2)"


def test_printed_values_are_consistent():
    values = paper_values()
    assert not values.duplicated(["paper", "table", "dataset", "model", "explainer", "column", "variant"]).any()
    wide = values[values["table"].isin(["I", "II", "III"])].pivot(
        index=["table", "dataset", "model", "explainer"], columns="column", values="value"
    )
    # The papers round each score by itself.
    assert ((wide["insertion"] - wide["deletion"] - wide["overall"]).abs() < 0.0021).all()
    ours = values[(values["explainer"] == "aosa") & (values["column"] == "overall") & (values["table"] == "VI")]
    assert list(ours["value"]) == [0.489, 0.507, 0.282, 0.312, 0.076, 0.069]


def test_refuses_an_unknown_table():
    with pytest.raises(ConfigError, match="table=IX: there are printed values for I, II, III"):
        paper_values("aosa_journal", "IX")
    with pytest.raises(ConfigError, match="paper=nature: there are printed values for aosa_journal"):
        paper_values("nature")


def ranked(gaps, videos=14, column="deletion", **other):
    """Records of explainers whose scores are these distances above their common videos', give or take a little."""
    rng = np.random.default_rng(1)
    video = rng.random(videos)
    return frame(
        *(
            record(name, column, f"c{i:02d}", value, **other)
            for name, gap in gaps.items()
            for i, value in enumerate(video + gap + rng.normal(0, 0.01, videos))
        )
    )


def marks(table):
    return {r["explainer"]: r["mark"] for r in lines(table) if r["ours"]}


@pytest.mark.parametrize(
    ("gaps", "direction", "expected"),
    [
        ({"aosa": 0.2, "osa": 0.5, "random": 0.9}, "lower", {"aosa": "best", "osa": "second", "random": ""}),
        ({"aosa": 0.2, "osa": 0.5, "random": 0.9}, "higher", {"aosa": "", "osa": "second", "random": "best"}),
        # The first two cannot be told apart, so that neither is the best; nor is the third the second.
        ({"aosa": 0.2, "osa": 0.2, "random": 0.9}, "lower", {"aosa": "", "osa": "", "random": ""}),
        ({"aosa": 0.2, "osa": 0.9, "random": 0.9}, "lower", {"aosa": "best", "osa": "", "random": ""}),
        # The worse of two is not the second best.
        ({"aosa": 0.2, "random": 0.9}, "lower", {"aosa": "best", "random": ""}),
        ({"aosa": 0.2}, "lower", {"aosa": ""}),
    ],
)
def test_marks_only_what_differs_beyond_noise(gaps, direction, expected):
    assert marks(make_table(ranked(gaps), spec(columns={"deletion": direction}))) == expected


def test_nothing_is_marked_on_too_few_videos():
    table = make_table(ranked({"aosa": 0.2, "osa": 0.5, "random": 0.9}, videos=4), spec(columns={"deletion": "lower"}))
    assert set(marks(table).values()) == {""}


def test_marks_are_bold_and_underlined():
    records = ranked({"aosa": 0.0, "osa": 0.5, "random": 0.9})
    table = make_table(records, spec(columns={"deletion": "lower"}), paper_values("aosa_journal", "I"))
    number = {r["explainer"]: f"{float(r['ours']):.3f}" for r in lines(table) if r["ours"]}
    assert f"| AOSA | 0.158 | **{number['aosa']}** ± " in table.to_markdown()
    assert f"| OSA | 0.160 | <ins>{number['osa']}</ins> ± " in table.to_markdown()
    assert rf"AOSA & 0.158 & \textbf{{{number['aosa']}}} $\pm$ " in table.to_latex()
    assert rf"OSA & 0.160 & \underline{{{number['osa']}}} $\pm$ " in table.to_latex()
    assert f"<b>{number['aosa']}</b> ± " in table.to_html()
    assert f"<ins>{number['osa']}</ins> ± " in table.to_html()
    assert "Bold: best; underlined: second best" in table.caption


def test_pairs_are_those_of_the_statistics():
    records = ranked({"aosa": 0.0, "osa": 0.005, "random": 0.9}).assign(group=[f"g{i % 14 // 2}" for i in range(42)])
    table = make_table(records, spec(columns={"deletion": "lower"}))
    pairs = list(csv.DictReader(io.StringIO(table.pairs_csv())))
    scores = {name: part["value"].to_numpy() for name, part in records.groupby("explainer", sort=False)}
    expected = compare(scores, [f"g{i // 2}" for i in range(14)])
    assert len(pairs) == 3
    for row, pair in zip(pairs, expected, strict=True):
        assert (row["dataset"], row["model"], row["column"]) == ("ucf101", "r3d50", "deletion")
        assert (row["first"], row["second"], int(row["n"])) == (pair.first, pair.second, 14)
        for key in ("difference", "low", "high", "p", "adjusted"):
            assert float(row[key]) == pytest.approx(getattr(pair, key), rel=1e-4)


def test_variants_are_compared_as_rows_of_their_own():
    records = frame(*several(variant="stride=8"), *several(values=(0.5, 0.6, 0.9), variant="stride=4"))
    (pair,) = make_table(records, spec(columns={"deletion": "lower"})).blocks[0].comparisons["deletion"]
    assert (pair.first, pair.second) == ("aosa (stride=8)", "aosa (stride=4)")
    assert pair.difference == pytest.approx(-0.11 / 0.3)


def test_average_over_strata():
    shares = {"c0": ("a", 1.0, 2), "c1": ("a", 0.0, 8), "c2": ("b", 0.5, 4)}
    records = [
        record(column="spt_class", clip=c, value=share, weight=frames, stratum=name)
        for c, (name, share, frames) in shares.items()
    ]
    table = make_table(frame(*records), spec(columns={"spt_class": "higher"}))
    assert float(lines(table)[0]["ours"]) == pytest.approx((2 / 10 + 1 / 2) / 2)
    assert "ratio of sums" not in table.caption


def test_parts_are_blocks_of_their_own():
    records = frame(*several()).assign(part=["class x", "class y", "class y"])
    table = make_table(records, spec(columns={"deletion": "lower"}))
    assert [h for h, _ in table.body()] == [
        "R3D-50 on UCF101, class x (1 video)",
        "R3D-50 on UCF101, class y (2 videos)",
    ]
    assert [(r["part"], float(r["ours"])) for r in lines(table)] == [("class x", 0.1), ("class y", 0.4)]


def test_page_of_a_table_escapes_text_and_asks_no_outside_host():
    page = make_table(frame(*several("<b>&mine")), spec(title="A <title>")).to_html()
    assert "<title>A &lt;title&gt;</title>" in page
    assert "&lt;b&gt;&amp;mine" in page
    assert not re.search(r"https?:|//[a-z]|@import|url\(", page)


def test_latex_compiles(typeset):
    records = pd.concat(
        [ranked({"aosa": 0.0, "osa": 0.5, "a_b & 100% #{}~^\\": 0.9}), frame(*several()).assign(model="m_1")]
    )
    table = make_table(records, spec(settings="K ≥ 3, 8×16, σ − τ – “x”"), paper_values("aosa_journal", "I"))
    typeset(r"\usepackage[landscape,margin=1cm]{geometry}\usepackage{booktabs}", table.to_latex())


def test_decimals():
    table = make_table(frame(*several()), spec(decimals=1), paper_values("aosa_journal", "I"))
    assert "| AOSA | 0.2 | 0.3 ± 0.2 [0.1, 0.6] |" in table.to_markdown()


def test_refuses_statistic_and_decimals_that_there_are_not():
    with pytest.raises(ConfigError, match=r"experiment\.statistic=mode: choose one of mean, median"):
        spec(statistic="mode")
    with pytest.raises(ConfigError, match=r"experiment\.decimals=-1"):
        spec(decimals=-1)


def test_refuses_weights_that_differ_between_explainers():
    records = frame(*several(column="spt", weight=2), *several("osa", "spt", weight=3))
    with pytest.raises(AosaError, match="column spt: the weight of a clip differs between explainers"):
        make_table(records, spec(columns={"spt": "higher"}))
