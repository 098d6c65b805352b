import pytest

from benchmarks.generate import (
    GENAI,
    GENAI_INT4,
    GOALS,
    LLAMA,
    NEW,
    OPENVINO_INT4,
    OURS,
    OURS_INT4,
    OURS_W8A8,
    TRANSFORMERS,
    VLLM,
    WHOLE_NEW,
    disagreeing,
    equal_beginnings,
    findings_of,
    ratio,
    seconds_of,
    timed,
    tokens_of,
)
from benchmarks.support.generation_sides import Write
from benchmarks.support.report import Absent
from benchmarks.support.rounds import Reported, Timing

pytestmark = pytest.mark.usefixtures("peer_versions")


def test_figures_are_tokens_a_second() -> None:
    counts = (tokens_of("write 4 rows"), tokens_of("read 128"), tokens_of("whole 4 rows"))
    assert counts == (4 * NEW, 128, 4 * (1 + WHOLE_NEW))
    timings = {"write 4 rows": {"ours": Timing([1.0]), "theirs": Timing([3.0])}}
    assert ratio(timings, "ours", "theirs", "write 4 rows") == 3.0
    assert ratio(timings, "ours", "absent", "write 4 rows") is None
    call = timed(lambda job: {"decode": len(job["rows"])}, [[1], [2]], 5, "decode")
    assert call() == Reported(2)


def test_a_whole_call_is_its_parts_unless_a_side_times_it_itself() -> None:
    assert seconds_of({"prefill": 1.0, "decode": 2.0}, "whole") == 3.0
    assert seconds_of({"whole": 4.0}, "whole") == 4.0
    assert seconds_of({"prefill": 1.0, "decode": 2.0}, "prefill") == 1.0


def test_sides_that_write_other_tokens_are_named() -> None:
    def side(token: int) -> Write:
        return lambda job: {"tokens": [[token]]}

    found = disagreeing({OURS: side(1), "genai fp32": side(2), "optimum fp32": side(1), "genai int4": side(3)}, [[3]])
    assert found == {"genai fp32": "it generates other tokens than ours in 1 of 1 rows: times do not compare"}


def test_tokens_count_until_the_first_that_differs_from_fp32() -> None:
    def side(*rows: list[int]) -> Write:
        return lambda job: {"tokens": list(rows)}

    sides = {OURS: side([1, 2, 3, 4], [5, 6, 7, 8]), OURS_INT4: side([1, 2, 0, 4], [5, 6, 7, 8]), VLLM: side([0] * 4)}
    assert equal_beginnings(sides, [[1], [2]]) == {OURS_INT4: 3.0}


def test_the_worst_ratio_is_the_one_furthest_below_its_goal() -> None:
    timings = {
        "write 1 rows": {
            OURS: Timing([1.0]),
            OURS_INT4: Timing([2.0]),
            GENAI: Timing([1.25]),
            GENAI_INT4: Timing([2.0]),
        },
        "write 8 rows": {
            OURS: Timing([1.0]),
            OURS_INT4: Timing([2.0]),
            GENAI: Timing([1.5]),
            GENAI_INT4: Timing([2.5]),
        },
        "whole 32 rows": {
            OURS: Timing([7.0]),
            OURS_INT4: Timing([4.0]),
            OPENVINO_INT4: Timing([3.2]),
            VLLM: Timing([10.5]),
            LLAMA: Timing([6.0]),
        },
    }
    equal = {OURS_W8A8: 20.0, OURS_INT4: 7.0, OPENVINO_INT4: 9.5}
    findings = findings_of(timings, [GENAI, GENAI_INT4, LLAMA, OPENVINO_INT4, VLLM, TRANSFORMERS], [], equal)
    assert [(goal.value, goal.met) for goal in findings.goals[:4]] == [
        (1.0, True),
        (1.25, False),
        (1.25, True),
        (1.5, True),
    ]
    assert {goal.what: (goal.value, goal.met) for goal in findings.goals[4:] if goal.value is not None} == {
        "adamix int4 by openvino_genai int4, tokens a second, whole 32 rows": (0.8, False),
        "adamix fp32 by vllm fp32, tokens a second, whole 32 rows": (1.5, True),
        "adamix int4 by llama.cpp, tokens a second, whole 32 rows": (1.5, True),
        "tokens as in fp32 before the first other one, of 49, adamix w8a8 (goal: openvino_genai int4)": (20.0, True),
        "tokens as in fp32 before the first other one, of 49, adamix int4 (goal: openvino_genai int4)": (7.0, False),
    }
    assert findings.worst == "0.800 of openvino_genai int4, adamix int4, whole 32 rows"
    assert findings.rows[-1] == {"case": "whole 32 rows", "side": LLAMA, "tokens_per_second": 32 * 49 / 6.0, "noise": 0}
    assert {name.split("/")[0] for name in findings.versions if "/" in name} == {
        "genai", "llama", "openvino_genai", "vllm",
    }  # fmt: skip


def test_without_peers_no_goal_is_met() -> None:
    ours = {OURS: Timing([1.0]), OURS_INT4: Timing([1.0])}
    missing = [Absent(peer=LLAMA, reason="not installed: make peers")]
    findings = findings_of({"write 1 rows": ours, "write 8 rows": ours}, [], missing, {})
    assert [(goal.value, goal.met) for goal in findings.goals] == [(None, False)] * len(GOALS)
    assert (findings.worst, findings.absent) == ("no peer was there", missing)
