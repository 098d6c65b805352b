from pathlib import Path

import pytest

from adamix_export.parity.bounds import Bounds
from adamix_export.parity.report import PERPLEXITY, Parity
from benchmarks.precision import EXACT, PEER, Side, compare_precisions, findings_of
from benchmarks.support.rounds import Pace, Timing
from tests.fixtures.random_checkpoints import make_encoder, mixture
from tests.fixtures.traced_graphs import traced_once


def side(metric: str, pytorch: float, onnx: float) -> Side:
    parity = Parity(
        rows=400,
        data="test.tsv",
        max_difference=0.1,
        equal_labels=0.99,
        metric=metric,
        pytorch=pytorch,
        onnx=onnx,
        provider="CPUExecutionProvider",
        bounds=Bounds(),
    )
    return Side(Path("nowhere"), parity, 10.0)


def test_goals_are_of_what_is_lost_and_of_the_speed_of_int8() -> None:
    sides = {
        "mood": {
            EXACT: side("accuracy", 0.9, 0.9),
            "int8": side("accuracy", 0.9, 0.896),
            PEER: side("accuracy", 0.9, 0.7),
        },
        "menu": {
            EXACT: side(PERPLEXITY, 5.0, 5.0),
            "int4": side(PERPLEXITY, 5.0, 5.2),
            PEER: side(PERPLEXITY, 5.0, 6.0),
        },
    }
    timings = {
        "mood": {EXACT: Timing([2.0]), "int8": Timing([0.8]), PEER: Timing([1.0])},
        "menu": {EXACT: Timing([4.0]), "int4": Timing([2.0]), PEER: Timing([1.5])},
    }
    findings = findings_of(sides, timings)
    assert [(round(goal.value or 0, 4), goal.goal, goal.met) for goal in findings.goals] == [
        (0.004, 0.005, True),
        (2.5, 2.0, True),
        (0.04, 0.03, False),
    ]
    assert findings.worst == "menu in int4 at 0.750 of the speed of ONNX Runtime's own quantised graph"
    assert [(row["checkpoint"], row["precision"], row["speed"]) for row in findings.rows][:3] == [
        ("mood", EXACT, 1.0),
        ("mood", "int8", 2.5),
        ("mood", PEER, 2.0),
    ]


@pytest.mark.slow
def test_every_precision_of_a_checkpoint_is_exported_compared_and_timed(tmp_path: Path) -> None:
    base = make_encoder(tmp_path / "base", "bert", hidden_size=64, intermediate_size=128)
    data = tmp_path / "test.csv"
    rows = ["the parcel was good,positive", "my shop is awful,negative", "it was fine,positive"]
    data.write_text("\n".join(["text,label", *rows * 4]) + "\n")
    run = mixture(tmp_path / "mood", base, kind="lora", train_file=str(data), test_file=str(data))
    pace = Pace(rounds=1, turn_seconds=1e-6, rest_seconds=0.0)
    with traced_once(tmp_path / "graphs"):
        findings = compare_precisions([str(run)], [EXACT, "int8", "int4"], None, pace)
    assert [row["precision"] for row in findings.rows] == [EXACT, "int8", PEER], "int4 is not for classifiers"
    assert all(row["rows"] == 12 + 4 for row in findings.rows)
    sizes = {row["precision"]: row["mib"] for row in findings.rows}
    assert sizes["int8"] < sizes[EXACT]
