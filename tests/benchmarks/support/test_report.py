import json
from dataclasses import replace

import pytest

from benchmarks.support.report import Absent, Findings, Goal, Report, table

FINDINGS = Findings(
    goals=[
        Goal(what="ratio", value=0.5, goal=1.0),
        Goal(what="seconds", value=None, goal=2.5, better="lower"),
    ],
    rows=[{"case": "small", "ours_ms": 1.25, "rows": 3}, {"case": "large", "ours_ms": 100.0, "rows": 12}],
    versions={"python": "3.11", "numpy": "2.4"},
    worst="0.500 at small against quick",
    absent=[Absent(peer="optimum", reason="not installed: make peers")],
)
REPORT = Report(name="fake", command="python -m benchmarks.fake", machine={"cores": 2}, findings=FINDINGS)


@pytest.mark.parametrize(
    ("value", "better", "met"), [(1.0, "higher", True), (1.0, "lower", True), (None, "lower", False)]
)
def test_a_goal_is_met_at_its_bound_and_never_without_a_value(value, better, met):
    assert Goal(what="it", value=value, goal=1.0, better=better).met is met


@pytest.mark.parametrize(("value", "better"), [(0.999, "higher"), (1.001, "lower")])
def test_a_goal_is_missed_beyond_its_bound(value, better):
    assert not Goal(what="it", value=value, goal=1.0, better=better).met


def test_people_read_everything_and_the_worst_ratio_last() -> None:
    assert (
        REPORT.as_text()
        == """\
python -m benchmarks.fake

machine: cores 2

versions: python 3.11, numpy 2.4

|  case | ours_ms | rows |
|------:|--------:|-----:|
| small |   1.250 |    3 |
| large | 100.000 |   12 |

goal MISSED: ratio: 0.500 (goal: at least 1)
goal MISSED: seconds: not measured (goal: at most 2.5)

ABSENT: optimum: not installed: make peers

worst ratio: 0.500 at small against quick
"""
    )


def test_what_there_is_nothing_of_leaves_no_gap() -> None:
    assert table([]) == ""
    bare = replace(REPORT, findings=replace(FINDINGS, goals=[], rows=[], absent=[]))
    assert bare.as_text().split("\n\n")[2:] == [
        "versions: python 3.11, numpy 2.4",
        "worst ratio: 0.500 at small against quick\n",
    ]


def test_programs_read_one_object_with_figures_that_are_not_rounded() -> None:
    findings = replace(FINDINGS, rows=[{"case": "größer", "ours_ms": 1 / 3}])
    text = replace(REPORT, findings=findings).as_json()
    assert text.endswith("}\n") and "größer" in text
    assert json.loads(text) == {
        "name": "fake",
        "machine": {"cores": 2},
        "versions": {"python": "3.11", "numpy": "2.4"},
        "command": "python -m benchmarks.fake",
        "goals": [
            {"what": "ratio", "value": 0.5, "goal": 1.0, "better": "higher", "met": False},
            {"what": "seconds", "value": None, "goal": 2.5, "better": "lower", "met": False},
        ],
        "rows": [{"case": "größer", "ours_ms": 1 / 3}],
        "absent": [{"peer": "optimum", "reason": "not installed: make peers"}],
    }
