import json
from pathlib import Path

from adamix_train.evaluation.generate import GeneratedText
from adamix_train.evaluation.save_jsonl import save_jsonl

TEXTS = [
    GeneratedText(input="name[Zoë]", text='a "quoted"\nanswer', references=["one", "two"]),
    GeneratedText(input="", text="", references=[]),
]


def test_each_text_is_one_line_with_its_references(tmp_path: Path) -> None:
    save_jsonl(TEXTS, tmp_path / "texts.jsonl")
    lines = (tmp_path / "texts.jsonl").read_text("utf-8").splitlines()
    assert [json.loads(line) for line in lines] == [
        {"input": "name[Zoë]", "text": 'a "quoted"\nanswer', "references": ["one", "two"]},
        {"input": "", "text": "", "references": []},
    ]
    assert "Zoë" in lines[0]


def test_an_older_file_is_replaced(tmp_path: Path) -> None:
    file = tmp_path / "texts.jsonl"
    save_jsonl(TEXTS, file)
    save_jsonl([], file)
    assert file.read_text("utf-8") == ""
    assert list(tmp_path.iterdir()) == [file]
