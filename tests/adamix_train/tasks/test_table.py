from pathlib import Path

import pytest

from adamix_train.data.examples import Example, read_examples
from adamix_train.metrics.table import METRICS
from adamix_train.tasks.table import TASKS
from adamix_train.training.objectives import OBJECTIVES
from tests.fixtures.example_files import one, write


def test_sst2_has_no_header_and_its_quotes_are_text(tmp_path: Path) -> None:
    file = write(tmp_path, "dev.tsv", 'a " lone quote\t0\nfine\t1\n')
    assert read_examples(file, TASKS["sst2"]) == [one('a " lone quote', "negative"), one("fine", "positive")]


def test_a_header_line_in_a_file_that_has_none_officially_is_no_example(tmp_path: Path) -> None:
    file = write(tmp_path, "dev.tsv", "sentence\tlabel\nfine\t1\n")
    assert read_examples(file, TASKS["sst2"]) == [one("fine", "positive")]


@pytest.mark.parametrize(
    ("task", "name", "content", "expected"),
    [
        ("cola", "a.tsv", "gj04\t0\t*\tHe go.\n", Example(("He go.",), "unacceptable")),
        (
            "mrpc",
            "a.txt",
            '\ufeffQuality\t#1 ID\t#2 ID\t#1 String\t#2 String\r\n1\t7\t8\tA "b.\tB.\r\n',
            Example(('A "b.', "B."), "equivalent"),
        ),
        ("stsb", "a.tsv", "index\tsentence1\tsentence2\tscore\n0\tA.\tB.\t3.25\n", Example(("A.", "B."), "3.25")),
        ("qqp", "a.tsv", "id\tquestion1\tquestion2\tis_duplicate\n0\tA?\tB?\t1\n", Example(("A?", "B?"), "duplicate")),
        ("mnli", "a.tsv", "sentence1\tsentence2\tgold_label\nA.\tB.\tneutral\n", Example(("A.", "B."), "neutral")),
        ("rte", "a.csv", "sentence1,sentence2,label\nA,B,not_entailment\n", Example(("A", "B"), "not_entailment")),
        ("qnli", "a.tsv", "question\tsentence\tlabel\nA?\tB.\tentailment\n", Example(("A?", "B."), "entailment")),
        ("e2e_nlg", "a.csv", 'mr,ref\n"name[X], area[Y]",X is in Y.\n', Example(("name[X], area[Y]",), "X is in Y.")),
        (
            "web_nlg",
            "a.json",
            '{"entries": [{"1": {"modifiedtripleset": [{"subject": "A_B", "property": "p", "object": "C"}], '
            '"lexicalisations": [{"comment": "good", "lex": "A B p C."}, {"comment": "bad", "lex": "No."}]}}]}',
            Example(("A B : p : C",), "A B p C."),
        ),
        (
            "dart",
            "a.json",
            '[{"tripleset": [["A", "p", "B"], ["B", "q", "C"]], "annotations": [{"source": "s", "text": "A p B."}]}]',
            Example(("A : p : B | B : q : C",), "A p B."),
        ),
        ("pair-regression", "a.csv", "text,pair,score\nA,B,-1.5\n", Example(("A", "B"), "-1.5")),
        ("generation", "a.jsonl", '{"input": "A", "target": "B"}\n', Example(("A",), "B")),
    ],
)  # fmt: skip
def test_official_files_are_read_as_they_are(
    tmp_path: Path, task: str, name: str, content: str, expected: Example
) -> None:
    assert read_examples(write(tmp_path, name, content), TASKS[task]) == [expected]


def test_every_task_names_known_metrics_and_kinds() -> None:
    for task in TASKS.values():
        assert set(task.metrics) <= METRICS.keys()
        assert task.kind in OBJECTIVES
