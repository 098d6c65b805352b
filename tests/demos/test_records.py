import json
from pathlib import Path

import pytest

from demos.records import fact_coverage, read_records, record_values

RECORD = "name[Tea, for Two], date[2 May], price[£3]"


def test_values_are_what_is_in_brackets() -> None:
    assert record_values(RECORD) == ["Tea, for Two", "2 May", "£3"]


def test_a_file_gives_records_with_their_texts(tmp_path: Path) -> None:
    file = tmp_path / "one.jsonl"
    file.write_text(json.dumps({"input": RECORD, "target": "It costs £3."}) + "\n", encoding="utf-8")
    (record,) = read_records(file)
    assert (record.target, record.values) == ("It costs £3.", ["Tea, for Two", "2 May", "£3"])


def test_coverage_counts_values_over_all_records_in_any_case() -> None:
    texts = ["TEA, FOR TWO is on 2 May and free.", "Nothing is said."]
    assert fact_coverage(texts, [RECORD, "kind[fair]"]) == pytest.approx(2 / 4)
