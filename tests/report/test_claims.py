import numpy as np
import pandas as pd
import pytest

from aosa.errors import ConfigError
from aosa.report.claims import Claim, judge, read_claims, rivals, verdicts_csv, verdicts_markdown
from aosa.report.statistics import Comparison
from aosa.report.tables import TableSpec, make_table, paper_values

KNOWN = {
    "column": ["overall", "deletion"],
    "explainer": ["aosa", "osa", "grad_cam", "random"],
    "dataset": ["ucf101"],
    "model": ["r3d50", "r2plus1d50"],
}
BEST = Claim("AOSA has the best over-all score", "overall", "aosa")


def pair(first, second, difference, adjusted, n=30):
    return Comparison(first, second, difference, difference - 0.1, difference + 0.1, adjusted / 3, adjusted, n)


def verdict(*pairs, claim=BEST, direction="higher", others=("aosa", "osa", "grad_cam")):
    return judge(claim, pairs, direction, others, "ucf101", "r3d50")


SAME = pair("osa", "grad_cam", 0.01, 1.0)


@pytest.mark.parametrize(
    ("pairs", "outcome", "reason"),
    [
        (
            [pair("aosa", "osa", 0.2, 0.01), pair("grad_cam", "aosa", -0.2, 0.04)],
            "holds",
            "better beyond noise than OSA, Grad-CAM",
        ),
        (
            [pair("aosa", "osa", 0.2, 0.01), pair("grad_cam", "aosa", 0.2, 0.04)],
            "does not hold",
            "Grad-CAM better beyond noise",
        ),
        (
            [pair("aosa", "osa", 0.2, 0.05), pair("grad_cam", "aosa", -0.2, 0.04)],
            "undecided",
            "no difference beyond noise from OSA",
        ),
        (
            [pair("aosa", "osa", -0.2, 0.01), pair("grad_cam", "aosa", -0.2, 0.9)],
            "does not hold",
            "OSA better beyond noise",
        ),
        ([pair("aosa", "osa", 0.2, 0.01)], "undecided", "not run: Grad-CAM"),
        ([], "undecided", "not run: AOSA"),
    ],
)
def test_verdicts(pairs, outcome, reason):
    found = verdict(*pairs, SAME)
    assert (found.outcome, found.reason) == (outcome, reason)
    assert found.n == (30 if pairs else 0)


def test_lower_is_better():
    pairs = [pair("aosa", "osa", 0.2, 0.01), pair("aosa", "grad_cam", 0.2, 0.01)]
    assert verdict(*pairs, direction="lower").outcome == "does not hold"
    assert verdict(*pairs, direction="higher").outcome == "holds"


def test_only_those_that_the_claim_names_count():
    claim = Claim("AOSA improves on OSA", "overall", "aosa", than=("osa",))
    pairs = [pair("aosa", "osa", 0.2, 0.01), pair("aosa", "grad_cam", -0.2, 0.01)]
    assert verdict(*pairs, claim=claim).outcome == "holds"
    assert verdict(*pairs).outcome == "does not hold"


def test_rivals_are_those_printed_or_else_all_but_random():
    records = pd.DataFrame(
        {"dataset": "ucf101", "model": "r3d50", "explainer": e, "column": "overall", "clip": f"c{i}", "value": v}
        for e in ("aosa", "osa", "random")
        for i, v in enumerate(np.random.default_rng(0).random(3))
    )
    spec = TableSpec("table1", "Scores", {"overall": "higher"})
    (block,) = make_table(records, spec).blocks
    assert rivals(block, "overall") == ["aosa", "osa"]
    (block,) = make_table(records, spec, paper_values("aosa_journal", "I")).blocks
    assert rivals(block, "overall") == ["grad_cam", "osa", "smooth_grad", "step", "aosa", "aosa_approx"]


def test_reads_both_forms():
    best, better = read_claims(
        [
            {"text": "best", "column": "overall", "best": "aosa", "than": ["osa", "grad_cam"], "model": "r3d50"},
            {"text": "better", "column": "deletion", "better": ["osa", "aosa (stride=8)"]},
        ],
        KNOWN,
    )
    assert best == Claim("best", "overall", "aosa", ("osa", "grad_cam"), None, "r3d50")
    assert better == Claim("better", "deletion", "osa", ("aosa (stride=8)",))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"bset": "aosa"}, r"claims\[0\]: there is no key bset; did you mean best"),
        ({"better": ["aosa", "osa"]}, "either best or better"),
        ({"best": "asoa"}, "there is no explainer asoa in this experiment; did you mean aosa"),
        ({"than": ["sos"]}, "there is no explainer sos"),
        ({"than": "osa"}, "than=osa: give a list"),
        ({"column": "truth"}, r"there is no column truth in this experiment \(it has overall, deletion\)"),
        ({"dataset": "ucf"}, "there is no dataset ucf in this experiment; did you mean ucf101"),
        ({"model": "i3d"}, "there is no model i3d"),
    ],
)
def test_refuses(change, message):
    with pytest.raises(ConfigError, match=message):
        read_claims([{"text": "t", "column": "overall", "best": "aosa", **change}], KNOWN)


@pytest.mark.parametrize("value", ["aosa", ["aosa"], ["aosa", "osa", "grad_cam"]])
def test_better_takes_two(value):
    with pytest.raises(ConfigError, match=r"claims\[0\]\.better=.*give two explainers"):
        read_claims([{"text": "t", "column": "overall", "better": value}], KNOWN)


def test_written_as_tables():
    found = [verdict(pair("aosa", "osa", 0.2, 0.9), SAME, others=("osa",))]
    assert verdicts_markdown(found).splitlines()[2] == (
        "| AOSA has the best over-all score | R3D-50 on UCF101 | undecided | 30 | no difference beyond noise from OSA |"
    )
    assert verdicts_csv(found).splitlines() == [
        "claim,dataset,model,column,verdict,n,reason",
        "AOSA has the best over-all score,ucf101,r3d50,overall,undecided,30,no difference beyond noise from OSA",
    ]
