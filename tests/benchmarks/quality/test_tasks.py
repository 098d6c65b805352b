from pathlib import Path

import pytest

from adamix_train.tasks.table import TASKS
from benchmarks.quality.tasks import SUBJECTS, Subject
from benchmarks.support import data
from benchmarks.support.errors import BenchmarkError


def test_files_are_those_of_the_data_folder_and_a_missing_one_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(data, "DATA", tmp_path)
    train, first, second = (
        tmp_path / "cola" / name for name in ("in_domain_train.tsv", "in_domain_dev.tsv", "out_of_domain_dev.tsv")
    )
    train.parent.mkdir()
    train.touch()
    first.touch()
    with pytest.raises(BenchmarkError, match=r"out_of_domain_dev\.tsv is missing: set ADAMIX_DATA to the folder"):
        SUBJECTS["cola"].files()
    second.touch()
    assert SUBJECTS["cola"].files() == {"train_file": str(train), "test_file": f"{first},{second}"}


@pytest.mark.parametrize("subject", SUBJECTS.values(), ids=SUBJECTS)
def test_the_metric_of_the_table_is_the_one_that_its_task_puts_first(subject: Subject) -> None:
    assert subject.metric == TASKS[subject.task].metrics[0]


@pytest.mark.parametrize("subject", SUBJECTS.values(), ids=SUBJECTS)
def test_methods_that_are_run_by_default_are_in_the_table(subject: Subject) -> None:
    assert set(subject.standard) <= subject.methods.keys()
