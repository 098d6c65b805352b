from typing import Any

from adamix_train.run.summary import summary

ROW = {"precision": 1.0, "recall": 0.5, "f1": 2 / 3, "examples": 12}
RESULTS: dict[str, Any] = {
    "loss": 0.5,
    "accuracy": 0.75,
    "test_accuracy": 0.25,
    "steps": 3,
    "classes": {"data": "test", "labels": {"a": ROW}},
    "history": [],
}


def test_a_metric_says_which_data_it_was_measured_on() -> None:
    lines = [line.split() for line in summary(RESULTS)]
    assert lines[:4] == [
        ["validation_loss", "0.5000"],
        ["validation_accuracy", "0.7500"],
        ["test_accuracy", "0.2500"],
        ["steps", "3"],
    ]


def test_labels_are_a_table() -> None:
    *_, header, row = summary(RESULTS)
    assert header.split() == ["test", "label", "precision", "recall", "f1", "examples"]
    assert row.split() == ["a", "1.0000", "0.5000", "0.6667", "12"]
    assert len(header) == len(row)


def test_many_labels_are_left_to_the_file() -> None:
    many = {**RESULTS, "classes": {"data": "test", "labels": {str(index): ROW for index in range(21)}}}
    assert not any("precision" in line for line in summary(many))


def test_advice_comes_last() -> None:
    *_, first, second = summary({**RESULTS, "advice": ["Try more.", "Try less."]})
    assert (first, second) == ("\nTry more.", "\nTry less.")
