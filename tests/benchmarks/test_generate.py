import pytest

from benchmarks.generate import (
    GENAI,
    GENAI_INT4,
    GOALS,
    LLAMA,
    NEW,
    OURS,
    OURS_INT4,
    TRANSFORMERS,
    case_of,
    disagreeing,
    findings_of,
    ratio,
    timed,
    tokens_of,
)
from benchmarks.support.generation_sides import Write
from benchmarks.support.report import Absent
from benchmarks.support.rounds import Reported, Timing

pytestmark = pytest.mark.usefixtures("peer_versions")


def test_figures_are_tokens_a_second() -> None:
    assert (tokens_of(case_of(4)), tokens_of("read 128")) == (4 * NEW, 128)
    timings = {case_of(4): {"ours": Timing([1.0]), "theirs": Timing([3.0])}}
    assert ratio(timings, "ours", "theirs", 4) == 3.0
    assert ratio(timings, "ours", "absent", 4) is None
    call = timed(lambda job: {"decode": len(job["rows"])}, [[1], [2]], 5, "decode")
    assert call() == Reported(2)


def test_sides_that_write_other_tokens_are_named() -> None:
    def side(token: int) -> Write:
        return lambda job: {"tokens": [[token]]}

    found = disagreeing({OURS: side(1), "genai fp32": side(2), "optimum fp32": side(1), "genai int4": side(3)}, [[3]])
    assert found == {"genai fp32": "it generates other tokens than ours in 1 of 1 rows: times do not compare"}


def test_the_worst_ratio_is_the_one_furthest_below_its_goal() -> None:
    timings = {
        case_of(1): {
            OURS: Timing([1.0]),
            OURS_INT4: Timing([2.0]),
            GENAI: Timing([1.25]),
            GENAI_INT4: Timing([2.0]),
            LLAMA: Timing([3.0]),
        },
        case_of(8): {OURS: Timing([1.0]), OURS_INT4: Timing([2.0]), GENAI: Timing([1.5]), GENAI_INT4: Timing([2.5])},
    }
    findings = findings_of(timings, [GENAI, GENAI_INT4, LLAMA, TRANSFORMERS], [])
    assert [(goal.value, goal.met) for goal in findings.goals] == [
        (1.0, True),
        (1.5, True),
        (1.25, False),
        (1.25, True),
        (1.5, True),
    ]
    assert findings.worst == "1.250 of genai int4, adamix int4 with 8 rows"
    assert findings.rows[-2] == {"case": "write 8 rows", "side": GENAI, "tokens_per_second": 128.0, "noise": 0.0}
    assert {name for name in findings.versions if "/" in name} == {"genai/package", "llama/package"}


def test_without_peers_no_goal_is_met() -> None:
    ours = {OURS: Timing([1.0]), OURS_INT4: Timing([1.0])}
    missing = [Absent(peer=LLAMA, reason="not installed: make peers")]
    findings = findings_of({case_of(1): ours, case_of(8): ours}, [], missing)
    assert [(goal.value, goal.met) for goal in findings.goals] == [(None, False)] * len(GOALS)
    assert (findings.worst, findings.absent) == ("no peer was there", missing)
