"""Tables of generated texts; that they come from a server is shown by the demo's own test."""

import json
from pathlib import Path

from demos.records import RecordText
from demos.text_results import as_rows, before_export, format_table

RECORDS = [
    RecordText("name[Owl Night], price[£4]", "The event is called Owl Night and costs £4."),
    RecordText("kind[fair], date[2 May]", "There will be a fair in our town on 2 May."),
]


def generated(folder: Path, *texts: str) -> Path:
    folder.mkdir()
    (folder / "generated.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return folder


def test_texts_of_a_run_are_scored_against_the_records_texts(tmp_path: Path) -> None:
    best = before_export("events", generated(tmp_path / "best", *(record.target for record in RECORDS)), RECORDS)
    assert (round(best.bleu), round(best.chrf), best.fact_coverage) == (100, 100, 1.0)
    half = before_export("events", generated(tmp_path / "half", "Owl Night", "A fair"), RECORDS)
    assert half.bleu < best.bleu
    assert half.fact_coverage == 0.5


def test_rows_have_the_measures_without_the_texts(tmp_path: Path) -> None:
    (row,) = as_rows([before_export("events", generated(tmp_path / "run", "Owl Night", "A fair"), RECORDS)])
    assert set(row) == {"model", "where", "bleu", "chrf", "fact_coverage", "tokens_per_second", "test_texts"}
    assert (row["model"], row["where"], row["test_texts"]) == ("events", "PyTorch", 2)


def test_the_table_has_a_line_for_each_result(tmp_path: Path) -> None:
    result = before_export("events", generated(tmp_path / "run", "Owl Night", "A fair"), RECORDS)
    assert any(line.split()[:3] == ["events", "PyTorch", "2"] for line in format_table([result], RECORDS).splitlines())
