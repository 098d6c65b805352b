import json

from benchmarks.gpu.outcome import Outcome
from benchmarks.support.report import Absent


def test_an_outcome_is_json() -> None:
    outcome = Outcome(rows=[{"case": "1x16", "ms": 0.5}], absent=[Absent(peer="one", reason="no")], figures={"a": 1.0})
    assert json.loads(json.dumps(outcome.as_dict())) == {
        "rows": [{"case": "1x16", "ms": 0.5}],
        "figures": {"a": 1.0},
        "absent": [{"peer": "one", "reason": "no"}],
        "notes": [],
        "versions": {},
    }
