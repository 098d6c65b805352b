from collections import Counter
from pathlib import Path

import pytest

from adamix_train.data.examples import Example, label_names, read_examples
from adamix_train.data.sampling import split_off
from adamix_train.errors import DataError
from adamix_train.readers.files import READERS, read_rows
from adamix_train.tasks.kinds import TASK_KINDS
from adamix_train.tasks.table import TASKS

PLAIN = TASKS["classification"]


def one(text: str, target: str) -> Example:
    return Example((text,), target)


def write(folder: Path, name: str, content: str | bytes) -> Path:
    file = folder / name
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return file


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", 'text,label\n"one, two",x\n"say ""hi""",y\n'),
        ("a.tsv", 'text\tlabel\none, two\tx\n"say ""hi"""\ty\n'),
        ("a.jsonl", '{"text": "one, two", "label": "x"}\n\n{"text": "say \\"hi\\"", "label": "y"}\n'),
        ("a.CSV", '\ufefftext,label\r\n"one, two",x\r\n"say ""hi""",y\r\n'),
    ],
)
def test_the_same_rows_from_every_format(tmp_path: Path, name: str, content: str) -> None:
    assert read_examples(write(tmp_path, name, content), PLAIN) == [one("one, two", "x"), one('say "hi"', "y")]


def test_sst2_has_no_header_and_its_quotes_are_text(tmp_path: Path) -> None:
    file = write(tmp_path, "dev.tsv", 'a " lone quote\t0\nfine\t1\n')
    assert read_examples(file, TASKS["sst2"]) == [one('a " lone quote', "negative"), one("fine", "positive")]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", "", "has no rows"),
        ("a.csv", "text,label\n", "has no rows"),
        ("a.doc", "x", r"ends in \.doc; data files end in \.csv, \.tsv, \.txt, \.jsonl"),
        ("a.csv", "message,label\nx,y\n", "no column 'text' in row 1; its columns are message, label"),
        ("a.csv", "text,label\nx,y\n ,z\n", "the text of row 2 is empty"),
        ("a.csv", "text,label\nx,y\nx, \n", "the label of row 2 is empty"),
        ("a.csv", "text,label\nx,y,z\n", "line 2 has 3 fields, not 2"),
        ("a.csv", 'text,label\n"never closed,y\n', "line 2"),
        ("a.jsonl", '{"text": "x", "label": "y"}\n{oops\n', "line 2 is not JSON"),
        ("a.jsonl", "[1]\n", "line 1 is not a JSON object"),
        ("a.jsonl", '{"text": "x", "label": null}\n', "line 1 has null for label"),
        ("a.csv", "text,label,label\nx,y,z\n", "names a column twice: text, label, label"),
        ("a.csv", b"text,label\n\xff\xfe,y\n", "is not UTF-8"),
    ],
)
def test_bad_files_are_told_what_is_wrong(tmp_path: Path, name: str, content: str | bytes, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_examples(write(tmp_path, name, content), PLAIN)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no data file"):
        read_rows(tmp_path / "a.csv", readers=READERS, header=None, quoted=True)


def test_a_label_outside_the_table_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="label '2' is not one of 0 to 1"):
        read_examples(write(tmp_path, "a.tsv", "x\t2\n"), TASKS["sst2"])


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


@pytest.mark.parametrize(
    ("task", "name", "content", "message"),
    [
        ("regression", "a.csv", "text,score\nA,high\n", "row 1: score 'high' is not a finite number"),
        ("regression", "a.csv", "text,score\nA,nan\n", "row 1: score 'nan' is not a finite number"),
        ("generation", "a.csv", "input,target\nA,B\nC, \n", "the target of row 2 is empty"),
        ("web_nlg", "a.json", '{"entries": [{"1": {}}]}', "the file does not have the structure of WebNLG"),
        ("dart", "a.json", "[1]", "the file does not have the structure of DART"),
        ("dart", "a.json", "[", "Expecting value"),
        ("mrpc", "a.txt", "label\tsentence1\nx\ty\n", "no column 'sentence2' in row 1"),
    ],
)
def test_bad_targets_are_told(tmp_path: Path, task: str, name: str, content: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_examples(write(tmp_path, name, content), TASKS[task])


def test_a_label_in_one_split_only_is_refused() -> None:
    both = [one("a", "x"), one("b", "y")]
    with pytest.raises(DataError, match="in the training data only: 'z'"):
        label_names([*both, one("c", "z")], both, None)
    with pytest.raises(DataError, match="in the validation data only: 'z'"):
        label_names(both, [*both, one("c", "z")], None)


def test_one_label_is_no_task() -> None:
    with pytest.raises(DataError, match="one label only, 'x'"):
        label_names([one("a", "x")], [one("b", "x")], None)


def test_a_draw_is_stratified_seeded_and_loses_nothing() -> None:
    examples = [one(f"{label}{index}", label) for label in "xyz" for index in range(20)]

    def draw(seed: int) -> tuple[list[Example], list[Example]]:
        return split_off(examples, TASK_KINDS["classification"], count=lambda size: size // 10, seed=seed, what="test")

    kept, drawn = draw(0)
    assert Counter(example.target for example in drawn) == {"x": 2, "y": 2, "z": 2}
    assert sorted((*kept, *drawn), key=str) == sorted(examples, key=str)
    assert draw(0) == (kept, drawn)
    assert draw(1)[1] != drawn


def test_wordings_of_one_input_stay_together() -> None:
    examples = [one(f"input {index}", f"wording {number}") for index in range(10) for number in range(3)]
    kept, drawn = split_off(examples, TASK_KINDS["generation"], count=lambda size: 4, seed=0, what="test")
    assert len(drawn) == 12
    assert not {example.texts for example in drawn} & {example.texts for example in kept}


def test_too_few_examples_for_a_draw_are_told() -> None:
    with pytest.raises(DataError, match="label 'x' has one example; --shots takes 1 of them and must leave some"):
        split_off(
            [one("a", "x"), one("b", "y"), one("c", "y")],
            TASK_KINDS["classification"],
            count=lambda _: 1,
            seed=0,
            what="--shots",
        )
