from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from adamix_export.parity.bounds import Bounds
from adamix_export.parity.report import Parity
from benchmarks.int8 import difference, findings_of, main, row_of
from benchmarks.support.adapters import ADAPTERS, Foreign, Trained

REPORT = Parity(
    rows=104,
    labelled=100,
    data="test.csv",
    max_difference=0.1,
    equal_labels=0.99,
    metric="accuracy",
    pytorch=0.9,
    onnx=0.89,
    provider="CPUExecutionProvider",
    bounds=Bounds(),
)


def test_an_adapter_may_lose_half_a_point_or_one_row() -> None:
    reports = {
        "one row": REPORT,
        "two rows": replace(REPORT, onnx=0.88),
        "half a point": replace(REPORT, labelled=1000, onnx=0.895),
        "more": replace(REPORT, labelled=1000, onnx=0.894),
        "a gain": replace(REPORT, onnx=0.95),
    }
    findings = findings_of([row_of(name, report, 0.99, 5e-7) for name, report in reports.items()])
    assert {row["adapter"]: row["within"] for row in findings.rows} == {
        "one row": True, "two rows": False, "half a point": True, "more": False, "a gain": True,
    }  # fmt: skip
    within, batch = findings.goals
    assert (within.value, within.met) == (pytest.approx(0.6), False)
    assert (batch.value, batch.met) == (5e-7, True)
    assert findings.worst == "two rows loses 0.0200"


def test_texts_are_compared_between_alone_and_in_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    class Shared:
        """A classifier whose scores depend on the size of the batch."""

        def __init__(self, *given: object, **options: object) -> None: ...

        def encode(self, text: str, *given: object, **options: object) -> str:
            return text

        def run(self, rows: list[str]) -> list[object]:
            return [Found(np.array([len(rows) * 0.1, 0.0])) for _ in rows]

    class Found:
        def __init__(self, scores: np.ndarray) -> None:
            self.scores = scores

    monkeypatch.setattr("benchmarks.int8.Classifier", Shared)
    monkeypatch.setattr("benchmarks.int8.Prediction", Found)
    assert difference(Path("bundle"), ["a", "b", "c"]) == pytest.approx(0.2)


def test_there_are_twenty_adapters_of_both_kinds() -> None:
    own = {name: one for name, one in ADAPTERS.items() if isinstance(one, Trained)}
    assert (len(ADAPTERS), len(own)) == (20, 10)
    assert {one.settings.get("kind") for one in own.values()} == {None, "houlsby", "lora"}
    methods = [one.config() for one in ADAPTERS.values() if isinstance(one, Foreign)]
    assert len({(method.peft_type, str(sorted(map(str, method.to_dict().items())))) for method in methods}) == 10


def test_an_unknown_adapter_is_one_error(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["folder", "--only", "nobody"])
    assert "unknown adapter 'nobody'; known are tone, intent, " in capsys.readouterr().err
